//! `headwater-ledger`: produces to a gateway that is killed again and again, notes what was acknowledged, and judges.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use headwater_tests::{
    ledger::{
        book::{Book, Books},
        judge,
        producer::{self, Plan},
        reader,
    },
    random::Random,
};

/// Produces to a broker, notes what was acknowledged, and judges the log by its notes.
#[derive(Debug, Parser)]
#[command(
    name = "headwater-ledger",
    after_help = "Example:\n  headwater-ledger --broker 127.0.0.1:9092 --topic orders --books /tmp/books --until /tmp/stop"
)]
struct Options {
    /// Broker; it may come and go
    #[arg(long, value_name = "ADDR")]
    broker: SocketAddr,
    /// Topic that nobody else writes to
    #[arg(long, value_name = "NAME")]
    topic: String,
    /// Its partitions
    #[arg(long, value_name = "N", default_value_t = 4)]
    partitions: i32,
    /// Idempotent producers
    #[arg(long, value_name = "N", default_value_t = 3)]
    idempotent: u32,
    /// Producers without sequence numbers
    #[arg(long, value_name = "N", default_value_t = 2)]
    plain: u32,
    /// Least time between two batches of a producer, ms
    #[arg(long, value_name = "MS", default_value_t = 10)]
    pause_ms: u64,
    /// Folder of the notes
    #[arg(long, value_name = "DIR")]
    books: PathBuf,
    /// Once this file is there: finish what was begun, compare, and end
    #[arg(long, value_name = "FILE")]
    until: PathBuf,
}

/// How often to look for the file.
const INTERVAL: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("headwater-ledger: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the log is what the notes say.
fn run(options: &Options) -> Result<bool> {
    std::fs::create_dir_all(&options.books).context("the folder of the notes")?;
    let (producing, reading) = (AtomicBool::new(false), AtomicBool::new(false));
    let random = Random::new("ledger");
    let book = |name: &str| {
        let path = options.books.join(format!("{name}.book"));
        Book::create(&path).with_context(|| format!("cannot create {}", path.display()))
    };
    thread::scope(|scope| -> Result<()> {
        let mut producers = Vec::new();
        for number in 0..options.idempotent + options.plain {
            let plan = Plan {
                broker: options.broker,
                topic: options.topic.clone(),
                partitions: options.partitions,
                producer: number,
                is_idempotent: number < options.idempotent,
                pause: Duration::from_millis(options.pause_ms),
            };
            let (book, random) =
                (book(&format!("producer-{number}"))?, random.fork(u64::from(number)));
            let stop = &producing;
            producers.push(scope.spawn(move || producer::run(&plan, book, random, stop)));
        }
        let reader_book = book("reader")?;
        let stop = &reading;
        let (broker, topic, partitions) = (options.broker, &options.topic, options.partitions);
        let reader = scope.spawn(move || reader::run(broker, topic, partitions, reader_book, stop));
        while !options.until.exists() && !producers.iter().any(ScopedJoinHandle::is_finished) {
            thread::sleep(INTERVAL);
        }
        producing.store(true, Ordering::Relaxed);
        let ended: Vec<_> = producers.into_iter().map(ScopedJoinHandle::join).collect();
        reading.store(true, Ordering::Relaxed);
        let reader = reader.join();
        for thread in ended.into_iter().chain([reader]) {
            thread.map_err(|_| anyhow::anyhow!("a thread panicked"))?.context("the notes")?;
        }
        Ok(())
    })?;
    let books = Books::read(&options.books)?;
    let log = judge::read_topic(options.broker, &options.topic, options.partitions)
        .context("the log cannot be read")?;
    let verdict = judge::judge(&books, &log);
    println!("verdict: {verdict}");
    for example in &verdict.examples {
        println!("  {example}");
    }
    Ok(verdict.defects() == 0)
}
