//! `cargo xtask bench kafka`: Headwater beside real Apache Kafka 4.3 on the same machine, as ratios.
//!
//! Three brokers take turns: Headwater, Kafka as it comes (it acknowledges before anything is on the disk), and Kafka with
//! `flush.messages=1`, which syncs as Headwater does. Each broker has one core, the client (librdkafka, `client.c`) the other.

mod broker;
mod client;
mod raw;

use std::{path::Path, process::Command, thread, time::Duration};

use anyhow::{Context, Result, bail};
use broker::{Broker, Kind, Usage};
use client::{Client, Outcome};

use crate::{test, workspace};

/// Options of `cargo xtask bench kafka`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask bench kafka --rounds 1 --seconds 4")]
pub(crate) struct Options {
    /// Rounds, each with all brokers one after the other; medians count
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Length of each load
    #[arg(long, value_name = "SECONDS", default_value_t = 8)]
    seconds: u64,
}

const TOPIC: &str = "bench";
/// Record sizes and numbers of producers that load goes at full speed with.
const LOADS: [(usize, usize); 4] = [(100, 1), (100, 8), (1024, 1), (1024, 8)];
/// Records a second for the end-to-end latency.
const STEADY_PER_SECOND: u64 = 1000;
const IDLE_CONNECTIONS: usize = 500;
/// Between two loads.
const SETTLING: Duration = Duration::from_secs(2);

/// What one broker did under one load.
#[derive(Clone, Copy, Debug)]
struct Run {
    outcome: Outcome,
    usage: Usage,
}

/// All runs of one broker in one round.
#[derive(Debug)]
struct Round {
    first_ack: Duration,
    idle_kib: u64,
    connected_kib: u64,
    loads: Vec<Run>,
    half: Outcome,
    consume: Run,
    end_to_end: Outcome,
    peak_kib: u64,
    /// Median and 99th percentile of one write and sync of the bare disk in this minute, microseconds.
    raw: (f64, f64),
}

pub(super) fn run(options: &Options) -> Result<()> {
    if !workspace::cargo(&["build", "--release", "--workspace", "--bins"]).status()?.success() {
        bail!("the release build failed");
    }
    test::provision_for_benches(&[("/usr/include/librdkafka/rdkafka.h", "librdkafka-dev")])?;
    let client = Client::build()?;
    // Below the target folder: a temporary folder may be memory.
    let folder = tempfile::tempdir_in(workspace::target())?;
    let mut rounds: [Vec<Round>; Kind::ALL.len()] = Default::default();
    for round in 0..options.rounds.max(1) {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            println!("round {}: {}", round + 1, kind.name());
            let place = folder.path().join(format!("{round}-{index}"));
            let measured = measure(kind, &client, &place, options.seconds);
            rounds[index].push(measured.with_context(|| kind.name())?);
            std::fs::remove_dir_all(place)?;
        }
    }
    print(&rounds);
    Ok(())
}

/// What a load has left in the page cache and in the broker's queues is not to be paid for by the next.
fn settle() -> Result<()> {
    let synced = Command::new("sync").status().context("cannot start sync")?;
    anyhow::ensure!(synced.success(), "sync ended with {synced}");
    thread::sleep(SETTLING);
    Ok(())
}

fn measure(kind: Kind, client: &Client, folder: &Path, seconds: u64) -> Result<Round> {
    std::fs::create_dir_all(folder)?;
    let (mut broker, first_ack) = Broker::start(kind, folder)?;
    let idle_kib = broker.usage()?.rss_kib;
    let connected_kib = {
        let _connections = broker.connections(IDLE_CONNECTIONS)?;
        broker.usage()?.rss_kib
    };
    // Topics that were just created, and code that was never run, are not to be paid for by a measurement.
    broker.create_topic("warm")?;
    client.produce(broker.address, "warm", 100, 1, 2, None)?;
    settle()?;
    let raw = raw::sync_percentiles(folder)?;
    let mut loads = Vec::new();
    let mut last_topic = String::new();
    for (index, (record_bytes, producers)) in LOADS.into_iter().enumerate() {
        last_topic = format!("{TOPIC}-{index}");
        broker.create_topic(&last_topic)?;
        settle()?;
        let before = broker.usage()?;
        let outcome =
            client.produce(broker.address, &last_topic, record_bytes, producers, seconds, None)?;
        loads.push(Run { outcome, usage: broker.usage()?.since(&before) });
    }
    // Half of what it can do with one producer of 1 KB records: there a queue is no excuse.
    let steady = loads[2].outcome.per_second() / 2.0;
    broker.create_topic("half")?;
    settle()?;
    let half = client.produce(broker.address, "half", 1024, 1, seconds, Some(steady))?;
    let before = broker.usage()?;
    let records = loads[LOADS.len() - 1].outcome.records;
    let outcome = client.consume(broker.address, &last_topic, records)?;
    let consume = Run { outcome, usage: broker.usage()?.since(&before) };
    broker.create_topic("steady")?;
    settle()?;
    let end_to_end =
        client.end_to_end(broker.address, "steady", 100, STEADY_PER_SECOND, seconds)?;
    let peak_kib = broker.usage()?.peak_kib;
    broker.stop()?;
    let consumed = consume.outcome.records;
    anyhow::ensure!(consumed == records, "{records} acknowledged, {consumed} consumed");
    Ok(Round {
        first_ack,
        idle_kib,
        connected_kib,
        loads,
        half,
        consume,
        end_to_end,
        peak_kib,
        raw,
    })
}

fn print(rounds: &[Vec<Round>]) {
    let [ours, default, flushed] = rounds else { return };
    println!(
        "\n{:<52} {:>12} {:>12} {:>12} {:>9} {:>9}",
        "medians", "Headwater", "Kafka", "Kafka flush", "to Kafka", "to flush"
    );
    let row = |name: &str, value: &dyn Fn(&Round) -> f64| {
        let of = |rounds: &[Round]| median(rounds.iter().map(value).collect());
        let (ours, default, flushed) = (of(ours), of(default), of(flushed));
        println!(
            "{name:<52} {ours:>12.2} {default:>12.2} {flushed:>12.2} {:>9.2} {:>9.2}",
            ours / default,
            ours / flushed
        );
    };
    for (index, (bytes, producers)) in LOADS.into_iter().enumerate() {
        let name = |what: &str| format!("produce {bytes} B, {producers} producers: {what}");
        row(&name("records/s"), &|it| it.loads[index].outcome.per_second());
        row(&name("CPU s/million"), &|it| it.loads[index].cpu_s_per_million());
        row(&name("the client's core in use"), &|it| it.loads[index].outcome.busy());
        row(&name("ack p50 ms"), &|it| it.loads[index].outcome.p50_us / 1e3);
        row(&name("ack p99 ms"), &|it| it.loads[index].outcome.p99_us / 1e3);
    }
    row("produce 1024 B at half load: ack p50 ms (linger 5)", &|it| it.half.p50_us / 1e3);
    row("produce 1024 B at half load: ack p99 ms (linger 5)", &|it| it.half.p99_us / 1e3);
    row("raw fdatasync p50 ms", &|it| it.raw.0 / 1e3);
    row("raw fdatasync p99 ms", &|it| it.raw.1 / 1e3);
    row("consume 1024 B: records/s", &|it| it.consume.outcome.per_second());
    row("consume 1024 B: CPU s/million", &|it| it.consume.cpu_s_per_million());
    row("consume 1024 B: the client's core in use", &|it| it.consume.outcome.busy());
    row("end to end at 1,000/s: p50 ms", &|it| it.end_to_end.p50_us / 1e3);
    row("end to end at 1,000/s: p99 ms", &|it| it.end_to_end.p99_us / 1e3);
    row("start to first acknowledgement ms", &|it| it.first_ack.as_secs_f64() * 1e3);
    row("RSS idle MiB", &|it| it.idle_kib as f64 / 1024.0);
    row("RSS with 500 idle connections MiB", &|it| it.connected_kib as f64 / 1024.0);
    row("RSS peak MiB", &|it| it.peak_kib as f64 / 1024.0);
}

impl Run {
    fn cpu_s_per_million(&self) -> f64 {
        self.usage.cpu_s * 1e6 / self.outcome.records.max(1) as f64
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
