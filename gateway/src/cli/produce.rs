//! `headwater produce`: lines of standard input become records; says how many are durable.

use std::{
    io::{self, BufRead, Read},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use krafka::{
    Kafka, Record,
    error::KrafkaError,
    producer::{Acks, DeliveryHandle},
};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::client::{Gateway, Unknown};

/// Longest line: what a topic takes by default, less room for the rest of its batch.
const MAX_LINE_BYTES: usize = 1_000_000;

/// Lines that are read ahead of the sender, and records that wait for their acknowledgement.
const LINES_AHEAD: usize = 1_000;
const UNACKNOWLEDGED: usize = 10_000;

/// How long the topic may take to appear, and a record to become durable: the gateway may be
/// restarting.
const MAX_BLOCK: Duration = Duration::from_secs(10);
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Options of `headwater produce`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  echo hello | headwater produce greetings\n  headwater produce readings \
                  --key-separator : < readings.txt"
)]
pub(super) struct Options {
    #[command(flatten)]
    gateway: Gateway,
    /// Name of the topic
    topic: String,
    /// Text between key and value; without it records have no key
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// Write to this partition instead of the key's
    #[arg(long)]
    partition: Option<i32>,
}

pub(super) async fn run(options: &Options) -> Result<()> {
    if options.key_separator.as_deref() == Some("") {
        bail!("--key-separator needs at least one character");
    }
    let kafka = options.gateway.connect(Unknown::MayBeCreated).await?;
    let (to_count, handles) = mpsc::channel(UNACKNOWLEDGED);
    let counting = tokio::spawn(count(handles));
    let sent = send(options, &kafka, to_count).await;
    let outcome = counting.await.context("the count of acknowledgements is lost")?;
    let topic = &options.topic;
    eprintln!("{} records are durable in {topic}", outcome.durable);
    sent?;
    match outcome.first_error {
        None => Ok(()),
        Some(error) => {
            let cause = options.gateway.explain(error);
            Err(cause.context(format!("{} records are not known to be durable", outcome.failed)))
        }
    }
}

/// What became of the records.
#[derive(Default)]
struct Outcome {
    durable: u64,
    failed: u64,
    first_error: Option<KrafkaError>,
}

/// Reads lines and hands them to the producer; ends when all are acknowledged or failed.
async fn send(
    options: &Options,
    kafka: &Kafka,
    to_count: mpsc::Sender<DeliveryHandle>,
) -> Result<()> {
    let explain = |error| options.gateway.explain(error);
    let producer = kafka
        .producer()
        .acks(Acks::All)
        .max_block(MAX_BLOCK)
        .delivery_timeout(DELIVERY_TIMEOUT)
        .build()
        .await
        .map_err(explain)?;
    if producer.partitions_for(&options.topic).await.is_err() {
        return Err(options.gateway.no_topic(&options.topic));
    }
    let (to_send, mut lines) = mpsc::channel(LINES_AHEAD);
    let reading = spawn_blocking(move || read_lines(io::stdin().lock(), &to_send));
    while let Some(line) = lines.recv().await {
        let record = record(options, line)?;
        let handle = producer.enqueue(record).await.map_err(explain)?;
        if to_count.send(handle).await.is_err() {
            break;
        }
    }
    reading.await.context("reading of standard input was lost")??;
    producer.close().await.map_err(explain)
}

async fn count(mut handles: mpsc::Receiver<DeliveryHandle>) -> Outcome {
    let mut outcome = Outcome::default();
    while let Some(handle) = handles.recv().await {
        match handle.await {
            Ok(metadata) if metadata.is_persisted() => outcome.durable += 1,
            Ok(_) => outcome.failed += 1,
            Err(error) => {
                outcome.failed += 1;
                outcome.first_error.get_or_insert(error);
            }
        }
    }
    outcome
}

/// Hands on every line without its end; the last one needs none.
fn read_lines(mut input: impl BufRead, lines: &mpsc::Sender<Vec<u8>>) -> Result<()> {
    for number in 1_u64.. {
        let mut line = Vec::new();
        let limit = MAX_LINE_BYTES as u64 + 1;
        input.by_ref().take(limit).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        } else if line.len() > MAX_LINE_BYTES {
            bail!("line {number} is longer than {MAX_LINE_BYTES} bytes");
        }
        if lines.blocking_send(line).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn record(options: &Options, line: Vec<u8>) -> Result<Record> {
    let topic = options.topic.as_str();
    let mut record = match &options.key_separator {
        None => Record::new(topic, line),
        Some(separator) => {
            let (key, value) = split(&line, separator.as_bytes()).with_context(|| {
                format!(
                    "the line {:?} has no {separator:?} between key and value",
                    String::from_utf8_lossy(&line)
                )
            })?;
            Record::new(topic, value.to_vec()).key(key.to_vec())
        }
    };
    record.partition = options.partition;
    Ok(record)
}

/// Key and value around the first separator.
fn split<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = line.windows(separator.len()).position(|window| window == separator)?;
    let (key, rest) = line.split_at(at);
    Some((key, rest.get(separator.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(input: &[u8]) -> (Vec<Vec<u8>>, Result<()>) {
        let (sender, mut receiver) = mpsc::channel(100);
        let outcome = read_lines(input, &sender);
        drop(sender);
        let mut lines = Vec::new();
        while let Ok(line) = receiver.try_recv() {
            lines.push(line);
        }
        (lines, outcome)
    }

    #[test]
    fn lines_lose_their_ends_and_nothing_else() {
        let check = |input: &[u8], expect: &[&[u8]]| {
            let (lines, outcome) = lines_of(input);
            outcome.expect("legal lines");
            assert_eq!(lines, expect);
        };
        check(b"", &[]);
        check(b"a\n", &[b"a"]);
        check(b"a\nb", &[b"a", b"b"]);
        check(b"a\r\n\n\xff \n", &[b"a", b"", b"\xff "]);
    }

    #[test]
    fn a_line_without_end_is_refused_at_the_limit() {
        let longest = vec![b'x'; MAX_LINE_BYTES];
        assert!(lines_of(&longest).1.is_ok());
        let too_long = vec![b'x'; MAX_LINE_BYTES + 1];
        let (lines, outcome) = lines_of(&too_long);
        assert!(lines.is_empty());
        assert!(outcome.expect_err("too long").to_string().contains("line 1"));
    }

    #[test]
    fn keys_end_at_the_first_separator() {
        assert_eq!(split(b"k:v:w", b":"), Some((&b"k"[..], &b"v:w"[..])));
        assert_eq!(split(b"k=>v", b"=>"), Some((&b"k"[..], &b"v"[..])));
        assert_eq!(split(b":v", b":"), Some((&b""[..], &b"v"[..])));
        assert_eq!(split(b"kv", b":"), None);
        assert_eq!(split(b"", b":"), None);
    }
}
