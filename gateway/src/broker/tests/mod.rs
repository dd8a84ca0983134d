//! The broker on a real journal in a temporary folder.

mod appending;
pub(crate) mod full;
mod full_disk;
pub(crate) mod gate;
mod groups;
mod keeping;
mod lookups;
mod model;
mod retention;
mod topics;
mod transactions;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use gate::Gate;

use super::{AppendRequest, Broker, BrokerOptions, FullPolicy, TopicDefaults};
use crate::{
    journal::{self, Disk, JournalOptions, LockError, Offset, PartitionId, RealDisk},
    record::{Batch, BatchBuilder, Record},
};

const BROKER_OPTIONS: BrokerOptions = BrokerOptions {
    default_partitions: 1,
    auto_create_topics: true,
    max_message_bytes: 100_000,
    topic_defaults: TopicDefaults {
        retention_ms: Some(604_800_000),
        retention_bytes: None,
        full: FullPolicy::Block,
    },
};
const T0: i64 = 1_700_000_000_000;

/// Opens or creates a gateway's data; the caller drops every handle before it opens again.
pub(crate) async fn open(folder: &Path) -> Arc<Broker> {
    open_on(disk_of(folder).await).await
}

/// A topic that is being created when its creator goes away is finished first, and holds the journal until then.
async fn disk_of(folder: &Path) -> RealDisk {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match RealDisk::open(folder) {
            Err(LockError::InUse { .. }) if Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            opened => return opened.expect("no other journal is open there"),
        }
    }
}

pub(crate) async fn open_on(disk: impl Disk + 'static) -> Arc<Broker> {
    let options = JournalOptions {
        max_bytes: Some(32 << 20),
        segment_bytes: Some(1 << 20),
        // Those of earlier runs are read again.
        aborted_ranges: 0,
        ..JournalOptions::default()
    };
    let (journal, state) = journal::open(disk, &options).expect("a healthy folder");
    Broker::open(journal, state, BROKER_OPTIONS).await.expect("a healthy journal")
}

/// As [`open`], with a gate before the disk's syncs. The gate comes last, so that it goes first: a
/// journal does not close while its syncs wait.
pub(crate) async fn open_gated(folder: &Path) -> (Arc<Broker>, Gate) {
    let gate = Gate::new();
    let disk = RealDisk::open(folder).expect("no other journal is open there");
    (open_on(gate.before(disk)).await, gate)
}

/// Waits for the journal's threads to let go of the folder, then opens it again.
pub(crate) async fn reopen(broker: Arc<Broker>, folder: &Path) -> Arc<Broker> {
    assert_eq!(Arc::strong_count(&broker), 1, "somebody still holds the broker");
    drop(broker);
    open(folder).await
}

async fn partition_of(broker: &Broker, topic: &str) -> PartitionId {
    broker.ensure_topic(topic).await.expect("created").partitions[0]
}

fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn batch(values: &[&str]) -> Batch {
    let mut builder = BatchBuilder::default();
    for value in values {
        builder.push(T0, None, Some(value.as_bytes()), &[]);
    }
    builder.finish().expect("not empty")
}

fn of_producer(values: &[&str], producer: i64, epoch: i16, sequence: i32) -> Batch {
    batch(values).with_producer(producer, epoch, sequence).expect("legal")
}

fn one(partition: PartitionId, batch: Batch) -> AppendRequest {
    AppendRequest { batches: vec![(partition, batch)], facts: Vec::new() }
}

/// Every durable record of a partition.
async fn records(broker: &Broker, partition: PartitionId) -> Vec<Record> {
    let ends = broker.ends(partition);
    let mut records = Vec::new();
    let mut next = ends.start;
    while next < ends.durable {
        for bytes in broker.read(partition, next, 1 << 20).await.expect("readable") {
            let batch = Batch::parse_stored(bytes).expect("as it was stored");
            records.extend(batch.records(1 << 20).expect("readable"));
            next = Offset(batch.header().last_offset() + 1);
        }
    }
    records
}

async fn values(broker: &Broker, partition: PartitionId) -> Vec<Bytes> {
    let records = records(broker, partition).await;
    records.into_iter().map(|record| record.value.unwrap_or_default()).collect()
}
