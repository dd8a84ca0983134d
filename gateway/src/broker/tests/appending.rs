//! Appends: offsets, refusals, idempotent producers, durability.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    batch, gate::Sync, of_producer, one, open, open_gated, partition_of, records, reopen, settings,
    values,
};
use crate::{
    broker::{AppendError, AppendRequest, space},
    journal::{AdmitError, Fact, Offset, PartitionId},
};

const SOON: Duration = Duration::from_millis(50);

fn fact(key: &'static str, value: &'static str) -> Fact {
    let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
    Fact { space: space::DEVICE, key, value: Some(value) }
}

#[tokio::test]
async fn offsets_follow_each_other_in_each_partition() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open(folder.path()).await;
    let (a, b) = (partition_of(&broker, "a").await, partition_of(&broker, "b").await);
    let request = AppendRequest {
        batches: vec![(a, batch(&["1", "2"])), (b, batch(&["3"])), (a, batch(&["4"]))],
        facts: vec![fact("k", "v")],
    };
    let commit = broker.append(request.clone()).expect("admitted");
    assert_eq!(commit.base_offsets(), [Offset(0), Offset(0), Offset(2)]);
    assert_eq!(broker.ends(a).written, Offset(3));
    assert_eq!(broker.fact(space::DEVICE, b"k").as_deref(), Some(&b"v"[..]));
    commit.durable().await.expect("durable");
    let ends = broker.ends(a);
    assert_eq!((ends.start, ends.written), (Offset(0), Offset(3)));
    assert_eq!((ends.durable, ends.stable), (Offset(3), Offset(3)));

    let commit = broker.append(request).expect("admitted");
    assert_eq!(commit.base_offsets(), [Offset(3), Offset(1), Offset(5)]);
    commit.durable().await.expect("durable");
    let broker = reopen(broker, folder.path()).await;
    assert_eq!(values(&broker, a).await, ["1", "2", "4", "1", "2", "4"]);
    assert_eq!(values(&broker, b).await, ["3", "3"]);
    let offsets: Vec<i64> = records(&broker, a).await.iter().map(|it| it.offset).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 5]);
    assert_eq!(broker.ends(a).written, Offset(6));
    assert_eq!(broker.facts(space::DEVICE), [(Bytes::from("k"), Bytes::from("v"))]);
    assert_eq!(broker.facts_with_prefix(space::DEVICE, b"x"), []);
}

#[tokio::test]
async fn a_refused_request_leaves_no_trace() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open(folder.path()).await;
    let p = partition_of(&broker, "p").await;
    let limited = settings(&[("max.message.bytes", "100")]);
    let small = broker.create_topic("small", None, limited).await.expect("created").partitions[0];
    let durable = broker.append(one(p, of_producer(&["1"], 7, 3, 0))).expect("admitted");
    durable.durable().await.expect("durable");

    let long = "x".repeat(100_000);
    let stranger = PartitionId(999);
    type Check = fn(&AppendError) -> bool;
    let cases: [(&str, PartitionId, _, Check); 8] = [
        ("partition", stranger, batch(&["x"]), |e| matches!(e, AppendError::UnknownPartition(_))),
        ("gap", p, of_producer(&["x"], 7, 3, 2), |e| {
            matches!(e, AppendError::OutOfOrderSequence { expected: 1, got: 2, .. })
        }),
        ("old epoch", p, of_producer(&["x"], 7, 2, 1), |e| {
            matches!(e, AppendError::ProducerFenced { current: 3, got: 2, .. })
        }),
        ("new epoch, not from 0", p, of_producer(&["x"], 7, 4, 1), |e| {
            matches!(e, AppendError::OutOfOrderSequence { expected: 0, got: 1, .. })
        }),
        ("default limit", p, batch(&[&long]), |e| {
            matches!(e, AppendError::BatchTooLarge { limit: 100_000, .. })
        }),
        ("topic's limit", small, batch(&[&long[..100]]), |e| {
            matches!(e, AppendError::BatchTooLarge { limit: 100, .. })
        }),
        ("second of a request", p, of_producer(&["x"], 8, 0, 1), |e| {
            matches!(e, AppendError::OutOfOrderSequence { expected: 2, got: 1, .. })
        }),
        ("other epoch in a request", p, of_producer(&["x"], 8, 1, 2), |e| {
            matches!(e, AppendError::OutOfOrderSequence { .. })
        }),
    ];
    for (name, partition, bad, is_expected) in cases {
        let request = AppendRequest {
            batches: vec![(p, of_producer(&["a", "b"], 8, 0, 0)), (partition, bad)],
            facts: vec![fact("k", "v")],
        };
        let error = broker.append(request).expect_err(name);
        assert!(is_expected(&error), "{name}: {error}");
        assert_eq!(broker.ends(p).written, Offset(1), "{name}");
        assert_eq!(broker.fact(space::DEVICE, b"k"), None, "{name}");
    }
    // The producer's window was not touched either.
    let commit = broker.append(one(p, of_producer(&["a", "b"], 8, 0, 0))).expect("admitted");
    assert_eq!(commit.base_offsets(), [Offset(1)]);
    let large = Fact { value: Some(Bytes::from(vec![0; 8193])), ..fact("k", "") };
    let request = AppendRequest { batches: Vec::new(), facts: vec![large] };
    let error = broker.append(request).expect_err("facts are bounded");
    assert!(matches!(error, AppendError::Journal(AdmitError::State(_))), "{error}");
}

#[tokio::test]
async fn facts_are_bounded_and_deleting_is_the_way_out() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open(folder.path()).await;
    let facts = |number: u32, value: Option<Bytes>| {
        let key = Bytes::copy_from_slice(&number.to_be_bytes());
        let facts = vec![Fact { space: space::DEVICE, key, value }];
        AppendRequest { batches: Vec::new(), facts }
    };
    // State may take a quarter of a segment of 1 MiB.
    let mut count = 0;
    let error = loop {
        match broker.append(facts(count, Some(Bytes::from(vec![1; 8000])))) {
            Ok(commit) => commit.durable().await.expect("durable"),
            Err(error) => break error,
        }
        count += 1;
        assert!(count < 100, "nothing bounds the state");
    };
    assert!(matches!(error, AppendError::Journal(AdmitError::State(_))), "{error}");
    assert_eq!(broker.facts(space::DEVICE).len(), count as usize);
    broker.append(facts(0, None)).expect("admitted").durable().await.expect("durable");
    let again = broker.append(facts(count, Some(Bytes::from(vec![1; 8000]))));
    again.expect("there is room again").durable().await.expect("durable");
    let broker = reopen(broker, folder.path()).await;
    assert_eq!(broker.facts(space::DEVICE).len(), count as usize);
}

#[tokio::test]
async fn duplicates_are_answered_with_their_originals() {
    let folder = tempfile::tempdir().expect("folder");
    let mut broker = open(folder.path()).await;
    let p = partition_of(&broker, "p").await;
    for sequence in 0..7 {
        let commit = broker.append(one(p, of_producer(&["v"], 5, 0, sequence))).expect("admitted");
        assert_eq!(commit.base_offsets(), [Offset(i64::from(sequence))]);
        commit.durable().await.expect("durable");
    }
    // As well after a restart.
    for _ in 0..2 {
        for sequence in 2..7 {
            let again = broker.append(one(p, of_producer(&["v"], 5, 0, sequence)));
            let again = again.expect("answered");
            assert_eq!(again.base_offsets(), [Offset(i64::from(sequence))]);
            again.durable().await.expect("durable");
        }
        for sequence in 0..2 {
            let error = broker.append(one(p, of_producer(&["v"], 5, 0, sequence)));
            let error = error.expect_err("older than five batches");
            assert!(matches!(error, AppendError::DuplicateSequence { .. }), "{error}");
        }
        assert_eq!(broker.ends(p).written, Offset(7));
        broker = reopen(broker, folder.path()).await;
    }
    // New batches beside a duplicate, and facts, land all the same.
    let request = AppendRequest {
        batches: vec![(p, of_producer(&["v"], 5, 0, 6)), (p, of_producer(&["w"], 5, 0, 7))],
        facts: vec![fact("k", "v")],
    };
    let commit = broker.append(request).expect("admitted");
    assert_eq!(commit.base_offsets(), [Offset(6), Offset(7)]);
    commit.durable().await.expect("durable");
    assert_eq!(broker.fact(space::DEVICE, b"k").as_deref(), Some(&b"v"[..]));
    assert_eq!(values(&broker, p).await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_is_not_acknowledged_before_its_original_is_durable() {
    let folder = tempfile::tempdir().expect("folder");
    let (broker, gate) = open_gated(folder.path()).await;
    let p = partition_of(&broker, "p").await;
    gate.set(Sync::Wait);
    let original = broker.append(one(p, of_producer(&["v"], 5, 0, 0))).expect("admitted");
    // The client lost its connection and asks again.
    drop(original);
    let again = broker.append(one(p, of_producer(&["v"], 5, 0, 0))).expect("answered");
    assert_eq!(again.base_offsets(), [Offset(0)]);
    let durable = again.durable();
    tokio::pin!(durable);
    assert!(tokio::time::timeout(SOON, &mut durable).await.is_err());
    assert_eq!((broker.ends(p).written, broker.ends(p).durable), (Offset(1), Offset(0)));
    gate.set(Sync::Pass);
    durable.await.expect("durable");
    assert_eq!(broker.ends(p).durable, Offset(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_sync_nothing_is_acknowledged() {
    let folder = tempfile::tempdir().expect("folder");
    let (broker, gate) = open_gated(folder.path()).await;
    let p = partition_of(&broker, "p").await;
    gate.set(Sync::Wait);
    let original = broker.append(one(p, of_producer(&["v"], 5, 0, 0))).expect("admitted");
    let duplicate = broker.append(one(p, of_producer(&["v"], 5, 0, 0))).expect("answered");
    let waiting = tokio::spawn(duplicate.durable());
    gate.set(Sync::Fail);
    original.durable().await.expect_err("not durable");
    let told = tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("told in time");
    told.expect("no panic").expect_err("its original never becomes durable");
    assert_eq!(broker.ends(p).durable, Offset(0));
    broker.append(one(p, batch(&["w"]))).map_or_else(
        |error| assert!(matches!(error, AppendError::Journal(AdmitError::Poisoned(_))), "{error}"),
        |_| panic!("nothing is accepted any more"),
    );
    let error = broker.allocate_producer_id().await.expect_err("no block is durable");
    assert!(matches!(error, AppendError::Journal(_) | AppendError::Poisoned(_)), "{error}");
}

/// Eight producers on three partitions, each batch sent twice, the second time while the first may be
/// in flight; then all over again after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_producers_with_retries_write_each_record_once_and_in_order() {
    const PRODUCERS: i64 = 8;
    const BATCHES: i32 = 60;
    let folder = tempfile::tempdir().expect("folder");
    let mut broker = open(folder.path()).await;
    let topic = broker.create_topic("t", Some(3), settings(&[])).await.expect("created");
    let partitions = topic.partitions.clone();
    drop(topic);
    for round in 0..2 {
        let mut tasks = Vec::new();
        for producer in 0..PRODUCERS {
            for &partition in &partitions {
                let broker = Arc::clone(&broker);
                tasks.push(tokio::spawn(async move {
                    for number in round * BATCHES..(round + 1) * BATCHES {
                        let values = [
                            format!("{producer}:{}", number * 2),
                            format!("{producer}:{}", number * 2 + 1),
                        ];
                        let values = [values[0].as_str(), values[1].as_str()];
                        let batch = of_producer(&values, producer, 0, number * 2);
                        let first = broker.append(one(partition, batch.clone())).expect("admitted");
                        let again = broker.append(one(partition, batch)).expect("answered");
                        assert_eq!(first.base_offsets(), again.base_offsets());
                        let (first, again) = tokio::join!(first.durable(), again.durable());
                        first.and(again).expect("durable");
                    }
                }));
            }
        }
        for task in tasks {
            task.await.expect("no panic");
        }
        broker = reopen(broker, folder.path()).await;
    }
    for partition in partitions {
        let records = records(&broker, partition).await;
        assert!(records.iter().enumerate().all(|(index, it)| it.offset == index as i64));
        for producer in 0..PRODUCERS {
            let prefix = format!("{producer}:");
            let numbers: Vec<i32> = records
                .iter()
                .filter_map(|it| std::str::from_utf8(it.value.as_deref()?).ok())
                .filter_map(|it| it.strip_prefix(&prefix)?.parse().ok())
                .collect();
            assert!(numbers.iter().copied().eq(0..BATCHES * 4), "{numbers:?}");
        }
    }
}
