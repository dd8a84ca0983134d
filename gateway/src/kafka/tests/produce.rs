//! Produce: what is taken, what is refused, and the order of answers.

use bytes::Bytes;
use kafka_wire::{
    ApiVersionsRequest, ListOffsetsRequest, ListOffsetsResponse,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
};

use super::harness::*;
use crate::{
    kafka::codec::Uuid,
    record::{Batch, BatchBuilder, BatchHeader, Compression, HEADER_BYTES},
};

const ATTRIBUTES_AT: usize = 21;

/// The batch with other attributes and a valid CRC.
fn with_attributes(batch: &Batch, attributes: i16) -> Bytes {
    let mut bytes = batch.bytes().to_vec();
    bytes[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    seal(&mut bytes);
    bytes.into()
}

fn seal(bytes: &mut [u8]) {
    let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[17..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

fn with_base_offset(batch: &Batch, base: i64) -> Bytes {
    let mut bytes = batch.bytes().to_vec();
    BatchHeader::stamp(&mut bytes, base, -1);
    bytes.into()
}

pub(super) async fn latest(wire: &mut Wire, topic: &str, index: i32) -> i64 {
    let mut partition = ListOffsetsPartition::default();
    partition.partition_index = index;
    partition.timestamp = -1;
    let mut asked = ListOffsetsTopic::default();
    asked.name = topic.into();
    asked.partitions = vec![partition];
    let mut request = ListOffsetsRequest::default();
    request.topics = vec![asked];
    let response: ListOffsetsResponse = wire.call(5, &request).await;
    response.topics[0].partitions[0].offset
}

#[tokio::test]
async fn every_version_appends() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 2).await;
    let mut wire = Wire::connect(&gateway).await;
    let mut next = 0;
    for version in 3..=12 {
        for acks in [-1, 1] {
            let records = batch(&["a", "b"]).bytes().clone();
            let response = wire.call(version, &produce_request(acks, &[("t", 1, records)])).await;
            assert_eq!(produced(&response), (0, next), "version {version}, acks {acks}");
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!((partition.index, partition.log_append_time_ms), (1, -1));
            if version >= 5 {
                assert_eq!(partition.log_start_offset, 0);
            }
            next += 2;
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn each_partition_has_its_own_result() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let good = batch(&["a"]);
    let mut crooked = good.bytes().to_vec();
    *crooked.last_mut().expect("bytes") ^= 1;
    let twice = [good.bytes().as_ref(), good.bytes().as_ref()].concat();
    let mut old = good.bytes().to_vec();
    old[16] = 1;
    let cut = good.bytes().slice(..good.bytes().len() - 1);
    let mut miscounted = good.bytes().to_vec();
    miscounted[HEADER_BYTES - 1] = 7;
    seal(&mut miscounted);
    let cases: Vec<(&str, i32, Bytes, i16)> = vec![
        ("unknown topic", 3, good.bytes().clone(), 3),
        ("unknown partition", 3, good.bytes().clone(), 3),
        ("no batch", 0, Bytes::new(), 87),
        ("two batches", 0, twice.into(), 87),
        ("old format", 0, old.into(), 87),
        ("bad CRC", 0, crooked.into(), 2),
        ("cut off", 0, cut, 2),
        ("wrong count", 0, miscounted.into(), 87),
        ("control batch", 0, with_attributes(&good, 0x20), 87),
        ("transactional", 0, with_attributes(&good, 0x10), 48),
        ("unknown codec", 0, with_attributes(&good, 0x05), 76),
        ("base offset", 0, with_base_offset(&good, 5), 87),
    ];
    for (name, index, records, expect) in cases {
        let topic = if name == "unknown topic" { "nowhere" } else { "t" };
        let before = latest(&mut wire, "t", 0).await;
        let parts = [(topic, index, records), ("t", 0, good.bytes().clone())];
        let response = wire.call(8, &produce_request(-1, &parts)).await;
        let bad = &response.responses[0].partition_responses[0];
        assert_eq!(bad.error_code, expect, "{name}");
        assert_eq!(bad.base_offset, -1, "{name}");
        let fine = &response.responses[1].partition_responses[0];
        assert_eq!((fine.error_code, fine.base_offset), (0, before), "{name}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn zstd_needs_its_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let compressed = with_attributes(&batch(&["a"]), 0x04);
    let request = produce_request(-1, &[("t", 0, compressed)]);
    assert_eq!(produced(&wire.call(6, &request).await).0, 76);
    assert_eq!(produced(&wire.call(7, &request).await).0, 0, "the records are not decoded");
    gateway.stop().await;
}

#[tokio::test]
async fn acks_and_transactional_ids_are_judged() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let records = batch(&["a"]).bytes().clone();
    for acks in [2, -2, i16::MAX] {
        let request = produce_request(acks, &[("t", 0, records.clone())]);
        assert_eq!(produced(&wire.call(9, &request).await).0, 21);
    }
    let mut request = produce_request(-1, &[("t", 0, records)]);
    request.transactional_id = Some("tx".into());
    assert_eq!(produced(&wire.call(9, &request).await).0, 48);
    assert_eq!(latest(&mut wire, "t", 0).await, 0, "nothing was appended");
    gateway.stop().await;
}

#[tokio::test]
async fn without_acks_there_is_no_answer_and_an_error_closes() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let records = batch(&["a"]).bytes().clone();
    for version in [3, 9] {
        wire.send(version, &produce_request(0, &[("t", 0, records.clone())])).await;
    }
    // The next answer is the one to the next request, and the records are there before it.
    assert_eq!(latest(&mut wire, "t", 0).await, 2);
    wire.send(9, &produce_request(0, &[("nowhere", 0, records)])).await;
    wire.expect_close().await;
    gateway.stop().await;
}

#[tokio::test]
async fn old_versions_are_listed_but_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    for version in 0..=2 {
        let mut wire = Wire::connect(&gateway).await;
        wire.send_bytes(&raw_frame(0, version, false, &[0; 16])).await;
        wire.expect_close().await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let records = batch(&["a"]).bytes().clone();
    let mut bytes = Vec::new();
    for id in 1..=200 {
        if id % 10 == 0 {
            bytes.extend_from_slice(&frame(2, id, &ApiVersionsRequest::default()));
        } else {
            let request = produce_request(-1, &[("t", 0, records.clone())]);
            bytes.extend_from_slice(&frame(9, id, &request));
        }
    }
    wire.send_bytes(&bytes).await;
    let mut next = 0;
    for id in 1..=200 {
        if id % 10 == 0 {
            wire.receive::<ApiVersionsRequest>(2, id).await;
        } else {
            let response = wire.receive::<kafka_wire::ProduceRequest>(9, id).await;
            assert_eq!(produced(&response), (0, next));
            next += 1;
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn idempotent_batches_land_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let id = producer_id(&mut wire).await;
    assert_ne!(producer_id(&mut wire).await, id, "ids are never given twice");
    let send = async |wire: &mut Wire, epoch: i16, sequence: i32| {
        let batch = batch(&["a", "b"]).with_producer(id, epoch, sequence).expect("a producer");
        let request = produce_request(-1, &[("t", 0, batch.bytes().clone())]);
        produced(&wire.call(9, &request).await)
    };
    assert_eq!(send(&mut wire, 0, 0).await, (0, 0));
    assert_eq!(send(&mut wire, 0, 2).await, (0, 2));
    assert_eq!(send(&mut wire, 0, 0).await, (0, 0), "a duplicate gets the original's offset");
    assert_eq!(send(&mut wire, 0, 8).await, (45, -1), "a gap");
    assert_eq!(send(&mut wire, 1, 0).await, (0, 4), "a new epoch begins at 0");
    assert_eq!(send(&mut wire, 0, 4).await, (47, -1), "the old epoch is fenced");
    assert_eq!(latest(&mut wire, "t", 0).await, 6);
    gateway.stop().await;
}

#[tokio::test]
async fn a_batch_over_the_topic_s_limit_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let settings = [("max.message.bytes".to_owned(), "1000".to_owned())].into();
    gateway.broker.create_topic("small", Some(1), settings).await.expect("a topic");
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    // The frame is larger than what an unproven connection may send.
    producer_id(&mut wire).await;
    let large = |bytes: usize| {
        let mut builder = BatchBuilder::default();
        builder.push(0, None, Some(&vec![b'x'; bytes]), &[]);
        builder.finish().expect("not empty").bytes().clone()
    };
    let request = produce_request(-1, &[("small", 0, large(1000)), ("t", 0, large(1_000_000))]);
    let response = wire.call(9, &request).await;
    assert_eq!(produced(&response).0, 10);
    assert_eq!(response.responses[1].partition_responses[0].error_code, 0);
    let request = produce_request(-1, &[("t", 0, large(1_048_588))]);
    assert_eq!(produced(&wire.call(9, &request).await).0, 10);
    gateway.stop().await;
}

#[tokio::test]
async fn topics_are_named_by_id_from_version_13_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let known = Uuid::from_bytes(gateway.broker.topic("t").expect("a topic").id);
    let records = batch(&["a"]).bytes().clone();
    for (id, index, expect) in [
        (known, 0, (0, 0)),
        (known, 1, (3, -1)),
        (Uuid::from_bytes([9; 16]), 0, (100, -1)),
        (Uuid::ZERO, 0, (100, -1)),
    ] {
        let mut request = produce_request(-1, &[("", index, records.clone())]);
        request.topic_data[0].topic_id = id;
        let response = wire.call(13, &request).await;
        assert_eq!(produced(&response), expect, "{id:?} {index}");
        assert_eq!(response.responses[0].topic_id, id);
    }
    assert_eq!(latest(&mut wire, "t", 0).await, 1);
    gateway.stop().await;
}

/// Code, time of the append, indexes of the records that are to blame.
fn judged(response: &kafka_wire::ProduceResponse) -> (i16, i64, Vec<i32>) {
    let partition = &response.responses[0].partition_responses[0];
    let indexes = partition.record_errors.iter().map(|it| it.batch_index).collect();
    assert_eq!(partition.log_start_offset, 0, "where the log was looked at");
    (partition.error_code, partition.log_append_time_ms, indexes)
}

#[tokio::test]
async fn settings_of_a_topic_hold_for_what_is_sent_to_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    for (topic, setting, value) in [
        ("compacted", "cleanup.policy", "compact"),
        ("stamped", "message.timestamp.type", "LogAppendTime"),
        ("recent", "message.timestamp.before.max.ms", "60000"),
        ("packed", "compression.type", "gzip"),
    ] {
        let settings = [(setting.to_owned(), value.to_owned())].into();
        gateway.broker.create_topic(topic, Some(1), settings).await.expect("a topic");
    }
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    // Without keys, and of 1970.
    let plain = batch(&["a", "b"]);
    let stamped = with_attributes(&plain, 0x08);
    for version in [5, 7, 8, 12] {
        let send = async |wire: &mut Wire, topic: &str, records: &Bytes| {
            let request = produce_request(-1, &[(topic, 0, records.clone())]);
            judged(&wire.call(version, &request).await)
        };
        let told = |indexes: &[i32]| if version < 8 { Vec::new() } else { indexes.to_vec() };
        let expect = (87, -1, told(&[0, 1]));
        assert_eq!(send(&mut wire, "compacted", plain.bytes()).await, expect);
        let expect = (32, -1, told(&[0, 1]));
        assert_eq!(send(&mut wire, "recent", plain.bytes()).await, expect);
        assert_eq!(send(&mut wire, "stamped", &stamped).await, (32, -1, told(&[0])));
        assert_eq!(send(&mut wire, "packed", plain.bytes()).await, (0, -1, vec![]));
        // Such a mark means nothing where producers set the time.
        assert_eq!(send(&mut wire, "t", &stamped).await, (0, -1, vec![]));
        let (code, append_time_ms, _) = send(&mut wire, "stamped", plain.bytes()).await;
        assert_eq!(code, 0);
        assert!(append_time_ms > 1_700_000_000_000, "{append_time_ms}");
    }
    let stored = async |topic: &str| {
        let partition = gateway.broker.topic(topic).expect("a topic").partitions[0];
        let offset = crate::journal::Offset(0);
        let batches = gateway.broker.read(partition, offset, 1).await.expect("a batch");
        Batch::parse_stored(batches[0].clone()).expect("a batch").header()
    };
    assert_eq!(latest(&mut wire, "compacted", 0).await, 0);
    assert_eq!(stored("packed").await.compression().expect("known"), Compression::Gzip);
    assert!(stored("stamped").await.is_log_append_time());
    let plain = stored("t").await;
    assert!(!plain.is_log_append_time() && plain.max_timestamp == 1001);
    gateway.stop().await;
}
