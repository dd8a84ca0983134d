//! Reads the readings' topic from its first to its last record and compares every ledger with it.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use krafka::{
    Kafka,
    consumer::{AutoOffsetReset, Consumer, ConsumerRecord},
};

use crate::{
    compare::{Channel, Comparison, Entry, Logged, Report},
    ledger::{DeviceLedger, parse_stream},
    signal::CLIMATE,
};

/// Compares all ledgers of a folder with a topic.
pub async fn verify(ledgers: &Path, bootstrap: &str, topic: &str) -> Result<Report> {
    let channels = CLIMATE.map(|quantity| Channel {
        name: quantity.name.to_owned(),
        mantissa: 1,
        exponent: quantity.exponent.into(),
    });
    let mut comparison = Comparison::new(read_ledgers(ledgers)?, channels.into());
    let records = read_topic(bootstrap, topic, |record| {
        comparison.observe(&logged(record)?);
        Ok(())
    });
    records.await?;
    Ok(comparison.finish())
}

/// All `*.ledger` files of a folder, by device id.
pub fn read_ledgers(folder: &Path) -> Result<Vec<DeviceLedger>> {
    let mut ledgers = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("ledgers in {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ledger") {
            let device = path.file_stem().unwrap_or_default().to_string_lossy();
            let ledger = DeviceLedger::read(&device, &path);
            ledgers.push(ledger.with_context(|| format!("ledger {}", path.display()))?);
        }
    }
    ensure!(!ledgers.is_empty(), "no ledger in {}", folder.display());
    ledgers.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(ledgers)
}

/// Gives every record that the topic holds now to `each`, in log order per partition.
async fn read_topic(
    bootstrap: &str,
    topic: &str,
    mut each: impl FnMut(&ConsumerRecord) -> Result<()>,
) -> Result<()> {
    let kafka = Kafka::builder(bootstrap).client_id("headwater-sim").connect().await?;
    let consumer = kafka
        .consumer_without_group()
        .auto_offset_reset(AutoOffsetReset::Earliest)
        .fetch_max_wait(Duration::from_millis(100))
        .build()
        .await?;
    let metadata = consumer.fetch_metadata(Some(topic)).await?;
    let topics = metadata.topics.first().with_context(|| format!("no topic {topic:?}"))?;
    let partitions: Vec<i32> = topics.partitions.keys().copied().collect();
    let mut ends = Vec::new();
    for partition in &partitions {
        let (start, end) = consumer.fetch_watermarks(topic, *partition).await?;
        ensure!(start == 0, "records before offset {start} of {topic}-{partition} are gone");
        ends.push((*partition, end));
    }
    consumer.assign(topic, partitions).await?;
    let mut moved = Instant::now();
    while !at_end(&consumer, topic, &ends).await {
        let records = consumer.poll(POLL).await?;
        if records.is_empty() && moved.elapsed() > PATIENCE {
            bail!("{topic}: no record for {} s before its end", PATIENCE.as_secs());
        }
        if !records.is_empty() {
            moved = Instant::now();
        }
        for record in &records {
            each(record)?;
        }
    }
    consumer.close().await?;
    Ok(())
}

async fn at_end(consumer: &Consumer, topic: &str, ends: &[(i32, i64)]) -> bool {
    for (partition, end) in ends {
        if consumer.position(topic, *partition).await.is_none_or(|position| position < *end) {
            return false;
        }
    }
    true
}

/// A record as the comparison takes it.
fn logged(record: &ConsumerRecord) -> Result<Logged> {
    let at = || format!("record {} of partition {}", record.offset, record.partition);
    let number = |name: &str| -> Result<u64> {
        let text = record.header_str(name).with_context(|| format!("{}: no {name}", at()))?;
        text.parse().with_context(|| format!("{}: {name} = {text:?}", at()))
    };
    let device = record.key_str().with_context(|| format!("{}: no key", at()))?.to_owned();
    let stream = record.header_str("stream").and_then(parse_stream);
    let stream = stream.with_context(|| format!("{}: no stream", at()))?;
    let entry = if record.header("gap").is_some() {
        Entry::Gap { count: number("gap")? }
    } else {
        let value = record.value_str().with_context(|| format!("{}: no value", at()))?;
        Entry::Reading(serde_json::from_str(value).with_context(at)?)
    };
    Ok(Logged { device, stream, boot: number("boot")?, seq: number("seq")?, entry })
}

/// One request for records.
const POLL: Duration = Duration::from_millis(500);
/// Without a record, before the read counts as stuck.
const PATIENCE: Duration = Duration::from_secs(20);
