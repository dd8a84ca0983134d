//! Reading committed data: Fetch and ListOffsets of a client that wants no open and no aborted
//! transaction.

use std::{fs, path::Path};

use kafka_wire::{
    FetchRequest, FetchResponse, ListOffsetsRequest,
    fetch_request::{FetchPartition, FetchTopic},
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
};

use super::harness::*;
use crate::{
    broker::{AppendRequest, Broker, EndTransaction},
    journal::PartitionId,
    record::{
        Batch,
        TransactionOutcome::{self, Abort, Commit},
    },
};

const UNCOMMITTED: i8 = 0;
const COMMITTED: i8 = 1;

fn fetch(isolation_level: i8, offset: i64) -> FetchRequest {
    let mut partition = FetchPartition::default();
    partition.fetch_offset = offset;
    partition.partition_max_bytes = 1 << 20;
    partition.current_leader_epoch = -1;
    let mut topic = FetchTopic::default();
    topic.topic = "t".into();
    topic.partitions = vec![partition];
    let mut request = FetchRequest::default();
    request.isolation_level = isolation_level;
    request.max_wait_ms = 0;
    request.min_bytes = 1;
    request.max_bytes = 1 << 20;
    request.topics = vec![topic];
    request
}

fn offsets(isolation_level: i8, timestamp: i64) -> ListOffsetsRequest {
    let mut partition = ListOffsetsPartition::default();
    partition.timestamp = timestamp;
    let mut topic = ListOffsetsTopic::default();
    topic.name = "t".into();
    topic.partitions = vec![partition];
    let mut request = ListOffsetsRequest::default();
    request.isolation_level = isolation_level;
    request.topics = vec![topic];
    request
}

/// Base offsets of the batches, last stable offset, aborted transactions.
type Seen = (Vec<i64>, i64, Vec<(i64, i64)>);

fn seen(response: &FetchResponse) -> Seen {
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    let mut bases = Vec::new();
    let mut rest = partition.records.clone().expect("never null");
    while !rest.is_empty() {
        let (batch, after) = Batch::parse_first(rest).expect("whole batches");
        bases.push(batch.header().base_offset);
        rest = after;
    }
    let aborted = partition.aborted_transactions.iter().flatten();
    let aborted = aborted.map(|it| (it.producer_id, it.first_offset)).collect();
    (bases, partition.last_stable_offset, aborted)
}

/// What a consumer passes to its user, by the rules that Kafka's own follows: it passes over a
/// producer's transactional data from an aborted transaction's start to the abort marker, within
/// one answer.
fn delivered(response: &FetchResponse) -> Vec<String> {
    let partition = &response.responses[0].partitions[0];
    let mut aborted: Vec<_> = partition.aborted_transactions.iter().flatten().collect();
    let mut passed_over = Vec::new();
    let mut values = Vec::new();
    let mut rest = partition.records.clone().expect("never null");
    while !rest.is_empty() {
        let (batch, after) = Batch::parse_first(rest).expect("whole batches");
        rest = after;
        let header = batch.header();
        aborted.retain(|it| {
            let begins = it.first_offset <= header.last_offset();
            if begins {
                passed_over.push(it.producer_id);
            }
            !begins
        });
        if header.is_control() {
            let marker = batch.marker().expect("readable").expect("a marker");
            if marker.outcome == Abort {
                passed_over.retain(|it| *it != header.producer_id);
            }
        } else if !(header.is_transactional() && passed_over.contains(&header.producer_id)) {
            for record in batch.records(1 << 20).expect("records") {
                let value = record.value.expect("a value");
                values.push(String::from_utf8(value.to_vec()).expect("text"));
            }
        }
    }
    values
}

async fn write(broker: &Broker, partition: PartitionId, batch: Batch) {
    let request = AppendRequest { batches: vec![(partition, batch)], facts: Vec::new() };
    broker.append(request).expect("admitted").durable().await.expect("durable");
}

fn in_transaction(values: &[&str], producer: i64, epoch: i16, sequence: i32) -> Batch {
    let batch = batch(values).with_producer(producer, epoch, sequence).expect("legal");
    batch.in_transaction().expect("it has a producer")
}

async fn end(
    broker: &Broker,
    partition: PartitionId,
    producer_id: i64,
    epoch: i16,
    outcome: TransactionOutcome,
) {
    let end = EndTransaction {
        producer_id,
        producer_epoch: epoch,
        outcome,
        coordinator_epoch: 0,
        partitions: [partition].into(),
        facts: Vec::new(),
        timestamp_ms: 9_000,
    };
    broker.end_transaction(end).expect("admitted").durable().await.expect("durable");
}

#[tokio::test]
async fn what_was_aborted_before_a_restart_is_told_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let p = gateway.broker.topic("t").expect("created").partitions[0];
    // 0, 1-2 aborted by 3, 4.
    write(&gateway.broker, p, batch_at(100, &["a"])).await;
    write(&gateway.broker, p, in_transaction(&["b", "c"], 1, 0, 0)).await;
    end(&gateway.broker, p, 1, 0, Abort).await;
    write(&gateway.broker, p, batch_at(3000, &["d"])).await;
    gateway.stop().await;
    let gateway = Gateway::start(folder.path()).await;
    assert_eq!(gateway.broker.journal().status().aborted_ranges, 0, "none in memory");
    let mut wire = Wire::connect(&gateway).await;
    for from in [0, 0, 2] {
        let response = wire.call(12, &fetch(COMMITTED, from)).await;
        let bases = if from == 0 { vec![0, 1, 3, 4] } else { vec![1, 3, 4] };
        assert_eq!(seen(&response), (bases, 5, vec![(1, 1)]), "from {from}");
        let values = if from == 0 { vec!["a", "d"] } else { vec!["d"] };
        assert_eq!(delivered(&response), values, "from {from}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn committed_data_is_what_lies_before_the_first_open_transaction() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let p = gateway.broker.topic("t").expect("created").partitions[0];
    let mut wire = Wire::connect(&gateway).await;
    // 0, 1-2 of one transaction, 3 of another, 4.
    write(&gateway.broker, p, batch_at(100, &["a"])).await;
    write(&gateway.broker, p, in_transaction(&["b", "c"], 1, 0, 0)).await;
    write(&gateway.broker, p, in_transaction(&["d"], 2, 0, 0)).await;
    write(&gateway.broker, p, batch_at(3000, &["e"])).await;
    for version in 4..=12 {
        let response = wire.call(version, &fetch(UNCOMMITTED, 0)).await;
        assert_eq!(seen(&response), (vec![0, 1, 3, 4], 1, vec![]), "version {version}");
        let response = wire.call(version, &fetch(COMMITTED, 0)).await;
        assert_eq!(seen(&response), (vec![0], 1, vec![]), "version {version}");
        let response = wire.call(version, &fetch(COMMITTED, 4)).await;
        assert_eq!(seen(&response), (vec![], 1, vec![]), "in the log, but not stable");
    }
    let mut latest = async |isolation, time| {
        let response = wire.call(9, &offsets(isolation, time)).await;
        let it = &response.topics[0].partitions[0];
        assert_eq!(it.error_code, 0);
        it.offset
    };
    assert_eq!((latest(UNCOMMITTED, -1).await, latest(COMMITTED, -1).await), (5, 1));
    assert_eq!((latest(UNCOMMITTED, -3).await, latest(COMMITTED, -3).await), (4, -1));
    assert_eq!((latest(UNCOMMITTED, 500).await, latest(COMMITTED, 500).await), (1, -1));
    assert_eq!((latest(UNCOMMITTED, 100).await, latest(COMMITTED, 100).await), (0, 0));

    // A consumer that waits for committed data is woken by a marker, not by data.
    let mut waiting = fetch(COMMITTED, 1);
    waiting.max_wait_ms = 60_000;
    let id = wire.send(12, &waiting).await;
    write(&gateway.broker, p, batch_at(4000, &["f"])).await;
    end(&gateway.broker, p, 1, 0, Abort).await;
    let response = wire.receive::<FetchRequest>(12, id).await;
    assert_eq!(seen(&response), (vec![1], 3, vec![(1, 1)]));
    assert_eq!(delivered(&response), [""; 0]);
    end(&gateway.broker, p, 2, 0, Commit).await;
    for version in 4..=12 {
        let response = wire.call(version, &fetch(COMMITTED, 0)).await;
        assert_eq!(seen(&response), (vec![0, 1, 3, 4, 5, 6, 7], 8, vec![(1, 1)]));
        assert_eq!(delivered(&response), ["a", "d", "e", "f"]);
        let response = wire.call(version, &fetch(COMMITTED, 7)).await;
        assert_eq!(seen(&response), (vec![7], 8, vec![]), "aborted before, and over");
    }
    gateway.stop().await;
}

/// Makes the last frame of the log unreadable, as a torn write does.
fn tear_last_frame(folder: &Path) {
    let mut files: Vec<_> = fs::read_dir(folder.join("journal"))
        .expect("a journal")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    for file in files.iter().rev() {
        let mut content = fs::read(file).expect("readable");
        let mut frames = (0..content.len()).step_by(4096);
        let last = frames.rfind(|&at| content[at..].starts_with(b"HWfr"));
        if let Some(at) = last {
            content[at + 64] ^= 1;
            fs::write(file, content).expect("written");
            return;
        }
    }
    panic!("no frame");
}

#[tokio::test]
async fn a_transaction_that_recovery_gave_up_takes_no_later_data_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let p = gateway.broker.topic("t").expect("created").partitions[0];
    write(&gateway.broker, p, in_transaction(&["a"], 1, 0, 0)).await;
    write(&gateway.broker, p, batch(&["b"])).await;
    gateway.stop().await;
    tear_last_frame(folder.path());

    let gateway = Gateway::start(folder.path()).await;
    assert_eq!(gateway.broker.journal().status().recovery.torn_tails, 1);
    let p = gateway.broker.topic("t").expect("still there").partitions[0];
    // What is left of the lost transaction is refused; the producer begins anew and commits.
    let rest =
        AppendRequest { batches: vec![(p, in_transaction(&["rest"], 1, 0, 1))], facts: Vec::new() };
    gateway.broker.append(rest).expect_err("fenced");
    write(&gateway.broker, p, in_transaction(&["c"], 1, 1, 0)).await;
    end(&gateway.broker, p, 1, 1, Commit).await;

    let mut wire = Wire::connect(&gateway).await;
    let response = wire.call(12, &fetch(UNCOMMITTED, 0)).await;
    assert_eq!(seen(&response), (vec![0, 1, 2, 3], 4, vec![]));
    // The answer ends with the range that no marker ends, at once although it is short.
    let mut first = fetch(COMMITTED, 0);
    (first.min_bytes, first.max_wait_ms) = (1 << 20, 60_000);
    let response = wire.call(12, &first).await;
    assert_eq!(seen(&response), (vec![0, 1], 4, vec![(1, 0)]));
    assert_eq!(delivered(&response), ["b"]);
    let response = wire.call(12, &fetch(COMMITTED, 2)).await;
    assert_eq!(seen(&response), (vec![2, 3], 4, vec![]));
    assert_eq!(delivered(&response), ["c"]);
    gateway.stop().await;
}
