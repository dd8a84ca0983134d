//! Fetch and ListOffsets.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::{
    FetchRequest, FetchResponse, ListOffsetsRequest,
    fetch_request::{FetchPartition, FetchTopic},
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
};

use super::harness::*;
use crate::{
    kafka::codec::Uuid,
    record::{Batch, BatchBuilder},
};

/// A request for partitions of one topic from an offset.
pub(super) fn fetch(topic: &str, from: &[(i32, i64)]) -> FetchRequest {
    let mut request = FetchRequest::default();
    request.max_wait_ms = 0;
    request.min_bytes = 1;
    request.max_bytes = 50 << 20;
    let mut wanted = FetchTopic::default();
    wanted.topic = topic.into();
    wanted.partitions = from
        .iter()
        .map(|&(index, offset)| {
            let mut partition = FetchPartition::default();
            partition.partition = index;
            partition.fetch_offset = offset;
            partition.partition_max_bytes = 1 << 20;
            partition.current_leader_epoch = -1;
            partition
        })
        .collect();
    request.topics = vec![wanted];
    request
}

/// Error code and values of one partition of the first topic.
pub(super) fn values(response: &FetchResponse, index: usize) -> (i16, Vec<String>) {
    let partition = &response.responses[0].partitions[index];
    let mut values = Vec::new();
    let mut rest = partition.records.clone().expect("never null");
    while !rest.is_empty() {
        let (batch, after) = Batch::parse_first(rest).expect("whole batches");
        for record in batch.records(1 << 20).expect("records") {
            let value = record.value.expect("a value");
            values.push(String::from_utf8(value.to_vec()).expect("text"));
        }
        rest = after;
    }
    (partition.error_code, values)
}

#[tokio::test]
async fn every_version_reads_whole_batches_from_the_one_with_the_offset() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let id = gateway.broker.topic("t").expect("a topic").id;
    let mut wire = Wire::connect(&gateway).await;
    append(&mut wire, "t", &["a", "b", "c"]).await;
    append(&mut wire, "t", &["d"]).await;
    for version in 4..=18 {
        let mut request = fetch("t", &[(0, 1)]);
        if version >= 13 {
            request.topics[0].topic = "".into();
            request.topics[0].topic_id = Uuid::from_bytes(id);
        }
        let response = wire.call(version, &request).await;
        let expect = (0, ["a", "b", "c", "d"].map(str::to_owned).to_vec());
        assert_eq!(values(&response, 0), expect, "version {version}");
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.high_watermark, partition.last_stable_offset), (4, 4));
        assert_eq!(partition.preferred_read_replica, -1);
        assert_eq!((response.error_code, response.session_id), (0, 0));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn offsets_outside_of_the_log_and_unknown_partitions_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    append(&mut wire, "t", &["a"]).await;
    for (topic, index, offset, expect) in [
        ("t", 0, 1, 0),
        ("t", 0, 2, 1),
        ("t", 0, -1, 1),
        ("t", 0, i64::MAX, 1),
        ("t", 1, 0, 3),
        ("t", -1, 0, 3),
        ("u", 0, 0, 3),
    ] {
        let response = wire.call(12, &fetch(topic, &[(index, offset)])).await;
        assert_eq!(values(&response, 0), (expect, vec![]), "{topic} {index} {offset}");
    }
    let mut request = fetch("", &[(0, 0)]);
    request.topics[0].topic_id = Uuid::from_bytes([7; 16]);
    assert_eq!(values(&wire.call(13, &request).await, 0).0, 100);
    let mut request = fetch("t", &[(0, 0)]);
    // Any negative one is none.
    for (epoch, expect) in [(-1, 0), (-2, 0), (i32::MAX, 75)] {
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(values(&wire.call(12, &request).await, 0).0, expect, "epoch {epoch}");
    }
    gateway.stop().await;
}

/// Indices of the partitions that an answer tells of.
pub(super) fn told(response: &FetchResponse) -> Vec<i32> {
    let topics = response.responses.iter();
    topics.flat_map(|topic| &topic.partitions).map(|it| it.partition_index).collect()
}

#[tokio::test]
async fn a_session_tells_what_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 3).await;
    let mut wire = Wire::connect(&gateway).await;
    append(&mut wire, "t", &["a"]).await;
    let mut request = fetch("t", &[(0, 0), (1, 0), (2, 0)]);
    request.session_epoch = 0;
    let response = wire.call(12, &request).await;
    assert_eq!(told(&response), [0, 1, 2]);
    assert!(response.session_id > 0);
    // Named is what changed alone; nothing is new.
    let mut request = fetch("t", &[(0, 1)]);
    (request.session_id, request.session_epoch) = (response.session_id, 1);
    let response = wire.call(12, &request).await;
    assert_eq!((told(&response), response.session_id), (vec![], request.session_id));
    append(&mut wire, "t", &["b"]).await;
    let mut request = fetch("t", &[]);
    request.topics.clear();
    (request.session_id, request.session_epoch) = (response.session_id, 2);
    let response = wire.call(12, &request).await;
    assert_eq!((told(&response), values(&response, 0)), (vec![0], (0, vec!["b".to_owned()])));
    // It waits for all partitions, not only for those that the request names.
    request.session_epoch = 3;
    (request.max_wait_ms, request.topics) = (60_000, fetch("t", &[(0, 2)]).topics);
    let id = wire.send(12, &request).await;
    let mut other = Wire::connect(&gateway).await;
    append_to(&mut other, "t", 2, &["c"]).await;
    let response = wire.receive::<FetchRequest>(12, id).await;
    assert_eq!((told(&response), values(&response, 0)), (vec![2], (0, vec!["c".to_owned()])));
    gateway.stop().await;
}

#[tokio::test]
async fn sessions_that_are_not_there_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    append(&mut wire, "t", &["a"]).await;
    let mut made = fetch("t", &[(0, 0)]);
    made.session_epoch = 0;
    let made = wire.call(12, &made).await.session_id;
    for (session, epoch, expect) in
        [(0, -1, 0), (made ^ 1, 1, 70), (0, 1, 70), (made, 2, 71), (made, -1, 0), (made, 1, 70)]
    {
        let mut request = fetch("t", &[(0, 0)]);
        (request.session_id, request.session_epoch) = (session, epoch);
        let response = wire.call(12, &request).await;
        assert_eq!((response.error_code, response.session_id), (expect, 0), "{session} {epoch}");
        assert_eq!(response.responses.is_empty(), expect != 0);
    }
    gateway.stop().await;
}

/// One batch of one record of about this size.
fn sized(bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::default();
    builder.push(0, None, Some(&vec![b'x'; bytes]), &[]);
    builder.finish().expect("not empty").bytes().clone()
}

#[tokio::test]
async fn limits_hold_but_one_batch_always_comes() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 2).await;
    let mut wire = Wire::connect(&gateway).await;
    for index in [0, 0, 0, 1, 1] {
        let request = produce_request(-1, &[("t", index, sized(2000))]);
        assert_eq!(produced(&wire.call(9, &request).await).0, 0);
    }
    let counts = |response: &FetchResponse| {
        let partitions = &response.responses[0].partitions;
        let count = |bytes: usize| bytes / 2000;
        partitions
            .iter()
            .map(|it| count(it.records.as_ref().map_or(0, Bytes::len)))
            .collect::<Vec<_>>()
    };
    let cases = [
        // Whole response, each partition, batches that come.
        (1 << 20, 1 << 20, [3, 2]),
        (1 << 20, 5000, [2, 2]),
        (1 << 20, 1, [1, 0]),
        (1, 1 << 20, [1, 0]),
        (0, 0, [1, 0]),
        (-1, -1, [1, 0]),
        (7000, 1 << 20, [3, 0]),
        (9000, 1 << 20, [3, 1]),
    ];
    for (max_bytes, partition_max_bytes, expect) in cases {
        let mut request = fetch("t", &[(0, 0), (1, 0)]);
        request.max_bytes = max_bytes;
        for partition in &mut request.topics[0].partitions {
            partition.partition_max_bytes = partition_max_bytes;
        }
        let response = wire.call(11, &request).await;
        assert_eq!(counts(&response), expect, "{max_bytes} {partition_max_bytes}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_fetch_waits_for_data_on_any_partition() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 3).await;
    let mut consumer = Wire::connect(&gateway).await;
    let mut producer = Wire::connect(&gateway).await;
    let mut request = fetch("t", &[(0, 0), (1, 0), (2, 0)]);
    request.max_wait_ms = 60_000;
    let began = Instant::now();
    let id = consumer.send(11, &request).await;
    let appended = produce_request(-1, &[("t", 1, batch(&["late"]).bytes().clone())]);
    assert_eq!(produced(&producer.call(9, &appended).await).0, 0);
    let response = consumer.receive::<FetchRequest>(11, id).await;
    assert_eq!(values(&response, 0), (0, vec![]));
    assert_eq!(values(&response, 1), (0, vec!["late".to_owned()]));
    assert!(began.elapsed() < Duration::from_secs(30), "woken, not timed out");
    gateway.stop().await;
}

#[tokio::test]
async fn a_fetch_gathers_its_minimum_and_ends_in_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut consumer = Wire::connect(&gateway).await;
    let mut producer = Wire::connect(&gateway).await;
    let mut request = fetch("t", &[(0, 0)]);
    request.min_bytes = 1 << 20;
    request.max_wait_ms = 100;
    let began = Instant::now();
    let response = consumer.call(11, &request).await;
    assert_eq!(values(&response, 0), (0, vec![]));
    assert!(began.elapsed() >= Duration::from_millis(100));

    append(&mut producer, "t", &["a"]).await;
    let response = consumer.call(11, &request).await;
    assert_eq!(values(&response, 0), (0, vec!["a".to_owned()]), "what there is, at the deadline");

    request.min_bytes = 200;
    request.max_wait_ms = 60_000;
    let id = consumer.send(11, &request).await;
    for value in ["b", "c", "d"] {
        append(&mut producer, "t", &[value]).await;
    }
    let response = consumer.receive::<FetchRequest>(11, id).await;
    let (code, got) = values(&response, 0);
    assert_eq!((code, &got[..3]), (0, &["a", "b", "c"].map(str::to_owned)[..]), "no batch twice");
    gateway.stop().await;
}

fn offsets(topic: &str, index: i32, timestamp: i64) -> ListOffsetsRequest {
    let mut partition = ListOffsetsPartition::default();
    partition.partition_index = index;
    partition.timestamp = timestamp;
    let mut wanted = ListOffsetsTopic::default();
    wanted.name = topic.into();
    wanted.partitions = vec![partition];
    let mut request = ListOffsetsRequest::default();
    request.topics = vec![wanted];
    request
}

#[tokio::test]
async fn offsets_by_every_kind_of_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 2).await;
    let mut wire = Wire::connect(&gateway).await;
    for first_ms in [100, 300, 200] {
        let batch = batch_at(first_ms, &["a", "b", "c"]);
        let request = produce_request(-1, &[("t", 0, batch.bytes().clone())]);
        assert_eq!(produced(&wire.call(9, &request).await).0, 0);
    }
    let cases = [
        // Topic, partition, time, lowest version: error, offset, timestamp.
        ("t", 0, -1, 1, (0, 9, -1)),
        ("t", 0, -2, 1, (0, 0, -1)),
        ("t", 0, -3, 7, (0, 5, 302)),
        ("t", 0, -4, 8, (0, 0, -1)),
        ("t", 0, -5, 9, (0, -1, -1)),
        ("t", 0, -6, 11, (0, -1, -1)),
        ("t", 0, 0, 1, (0, 0, 100)),
        ("t", 0, 101, 1, (0, 1, 101)),
        ("t", 0, 103, 1, (0, 3, 300)),
        ("t", 0, 302, 1, (0, 5, 302)),
        ("t", 0, 303, 1, (0, -1, -1)),
        ("t", 0, -9, 1, (35, -1, -1)),
        ("t", 1, -3, 7, (0, -1, -1)),
        ("t", 1, 5, 1, (0, -1, -1)),
        ("t", 1, -1, 1, (0, 0, -1)),
        ("t", 2, -1, 1, (3, -1, -1)),
        ("u", 0, -1, 1, (3, -1, -1)),
    ];
    let topic = gateway.broker.topic("t").expect("it was created");
    let epoch = gateway.broker.ends(topic.partitions[0]).leader_epoch;
    for (topic, index, time, lowest, expect) in cases {
        for version in lowest..=11 {
            let response = wire.call(version, &offsets(topic, index, time)).await;
            let it = &response.topics[0].partitions[0];
            let got = (it.error_code, it.offset, it.timestamp);
            assert_eq!(got, expect, "{topic} {index} at {time}, version {version}");
            // Whatever has an offset has the epoch that it was written under.
            let epoch = if version >= 4 && it.offset >= 0 { epoch } else { -1 };
            assert_eq!(it.leader_epoch, epoch, "{topic} {index} at {time}, version {version}");
        }
    }
    gateway.stop().await;
}

/// Flips a bit of the stored record with this value.
fn rot(folder: &std::path::Path, value: &str) {
    for entry in std::fs::read_dir(folder.join("journal")).expect("a journal") {
        let path = entry.expect("a file").path();
        let mut content = std::fs::read(&path).expect("readable");
        let found = content.windows(value.len()).position(|bytes| bytes == value.as_bytes());
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        if let Some(at) = found.filter(|_| is_segment) {
            content[at] ^= 1;
            std::fs::write(&path, content).expect("writable");
            return;
        }
    }
    panic!("{value:?} is stored nowhere");
}

#[tokio::test]
async fn damage_is_an_error_at_once_or_passed_over_as_the_topic_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "strict", 1).await;
    let skip = [("headwater.damage.policy".to_owned(), "skip".to_owned())];
    gateway.broker.create_topic("lenient", Some(1), skip.into()).await.expect("a topic");
    let mut wire = Wire::connect(&gateway).await;
    for topic in ["strict", "lenient"] {
        for value in ["first", "second", "third"] {
            append(&mut wire, topic, &[&format!("{topic}-{value}")]).await;
        }
    }
    drop(wire);
    gateway.stop().await;
    rot(folder.path(), "strict-second");
    rot(folder.path(), "lenient-second");
    let gateway = Gateway::start(folder.path()).await;
    let mut wire = Wire::connect(&gateway).await;
    for (topic, offset, code, expect) in [
        // What comes before it is served alone, then the error, and what lies behind it to whoever asks.
        ("strict", 0, 0, vec!["strict-first"]),
        ("strict", 1, 2, vec![]),
        ("strict", 2, 0, vec!["strict-third"]),
        ("lenient", 0, 0, vec!["lenient-first"]),
        ("lenient", 1, 0, vec!["lenient-third"]),
    ] {
        let mut request = fetch(topic, &[(0, offset)]);
        request.max_wait_ms = 40_000;
        let begun = Instant::now();
        let found = values(&wire.call(12, &request).await, 0);
        let expect = (code, expect.into_iter().map(str::to_owned).collect());
        assert_eq!(found, expect, "{topic} from {offset}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{topic} from {offset} hangs");
    }
    let status = gateway.broker.journal().status();
    assert_eq!(status.skipped_offsets, 1);
    assert!(status.damaged_reads >= 2, "{}", status.damaged_reads);
    gateway.stop().await;
}
