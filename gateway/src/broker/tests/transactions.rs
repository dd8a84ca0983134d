//! Transactions at the broker: what is refused, what lands together, what readers of committed data
//! see.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    T0, batch, gate::Sync, of_producer, one, open, open_gated, partition_of, reopen, settings,
};
use crate::{
    broker::{
        AppendError, AppendRequest, Broker, Commit, EndTransaction, Fetched, Isolation, space,
    },
    journal::{AbortedRange, Fact, Offset, PartitionId},
    record::{
        Batch, TransactionMarker,
        TransactionOutcome::{self, Abort},
    },
};

const SOON: Duration = Duration::from_millis(50);

pub(super) fn in_transaction(values: &[&str], producer: i64, epoch: i16, sequence: i32) -> Batch {
    of_producer(values, producer, epoch, sequence).in_transaction().expect("it has a producer")
}

pub(super) fn end(
    producer_id: i64,
    producer_epoch: i16,
    outcome: TransactionOutcome,
    partitions: &[PartitionId],
) -> EndTransaction {
    EndTransaction {
        producer_id,
        producer_epoch,
        outcome,
        coordinator_epoch: 0,
        partitions: partitions.iter().copied().collect(),
        facts: Vec::new(),
        timestamp_ms: T0,
    }
}

/// What a reader of committed data gets of a whole partition: values, and the end of what it read.
pub(super) async fn committed(broker: &Broker, partition: PartitionId) -> (Vec<Bytes>, Offset) {
    let start = broker.ends(partition).start;
    let mut next = start;
    let mut values = Vec::new();
    loop {
        let read = broker.read_isolated(partition, next, 200, Isolation::Committed);
        let fetched = read.await.expect("readable");
        if fetched.batches.is_empty() {
            return (values, next);
        }
        for bytes in &fetched.batches {
            let batch = Batch::parse_stored(bytes.clone()).expect("as it was stored");
            let header = batch.header();
            assert!(fetched.aborted.iter().all(|it| it.last >= next), "of this read only");
            if fetched.is_visible(&header) {
                let records = batch.records(1 << 20).expect("readable").into_iter();
                let there = records.filter(|record| record.offset >= start.0);
                values.extend(there.map(|it| it.value.unwrap_or_default()));
            }
        }
        let last = fetched.batches.last().cloned().expect("not empty");
        let last = Batch::parse_stored(last).expect("as it was stored").header();
        next = Offset(last.last_offset() + 1);
    }
}

async fn durable(appended: Result<Commit, AppendError>) -> Vec<Offset> {
    let commit = appended.expect("admitted");
    let offsets = commit.base_offsets().to_vec();
    commit.durable().await.expect("durable");
    offsets
}

fn stable(broker: &Broker, partition: PartitionId) -> (i64, i64) {
    let ends = broker.ends(partition);
    (ends.stable.0, ends.durable.0)
}

#[tokio::test]
async fn what_is_open_or_aborted_is_not_committed() {
    let folder = tempfile::tempdir().expect("folder");
    let mut broker = open(folder.path()).await;
    let topic = broker.create_topic("t", Some(2), settings(&[])).await.expect("created");
    let [p, q] = topic.partitions[..] else { panic!("two") };
    drop(topic);
    durable(broker.append(one(p, batch(&["a"])))).await;
    durable(broker.append(one(p, in_transaction(&["b", "c"], 1, 0, 0)))).await;
    durable(broker.append(one(q, in_transaction(&["d"], 1, 0, 0)))).await;
    durable(broker.append(one(p, in_transaction(&["e"], 2, 0, 0)))).await;
    durable(broker.append(one(p, batch(&["f"])))).await;
    // The same after a restart.
    for _ in 0..2 {
        assert_eq!((stable(&broker, p), stable(&broker, q)), ((1, 5), (0, 1)));
        assert_eq!(committed(&broker, p).await, (vec!["a".into()], Offset(1)));
        assert_eq!(committed(&broker, q).await, (vec![], Offset(0)));
        let fetched = broker.read_isolated(p, Offset(0), 1 << 20, Isolation::Uncommitted).await;
        let Fetched { batches, aborted } = fetched.expect("readable");
        assert_eq!((batches.len(), aborted.len()), (4, 0), "everything, if that is what one wants");
        broker = reopen(broker, folder.path()).await;
    }

    let both = BTreeSet::from([p, q]);
    let aborted = EndTransaction { partitions: both, ..end(1, 0, Abort, &[]) };
    assert_eq!(durable(broker.end_transaction(aborted)).await, [Offset(5), Offset(1)]);
    for _ in 0..2 {
        assert_eq!((stable(&broker, p), stable(&broker, q)), ((3, 6), (2, 2)));
        assert_eq!(committed(&broker, p).await, (vec!["a".into()], Offset(3)));
        assert_eq!(committed(&broker, q).await, (vec![], Offset(2)));
        broker = reopen(broker, folder.path()).await;
    }
    durable(broker.end_transaction(end(2, 0, TransactionOutcome::Commit, &[p]))).await;
    for _ in 0..2 {
        assert_eq!(stable(&broker, p), (7, 7));
        let values = vec!["a".into(), "e".into(), "f".into()];
        assert_eq!(committed(&broker, p).await, (values, Offset(7)));
        let range = |first, last| AbortedRange {
            producer_id: 1,
            first: Offset(first),
            last: Offset(last),
            has_marker: true,
        };
        let journal = broker.journal();
        assert_eq!(journal.aborted(p, Offset(0), Offset(1)).unwrap(), []);
        assert_eq!(journal.aborted(p, Offset(6), Offset(7)).unwrap(), []);
        // Once the cleaner took the data there is nothing to tell either.
        let aborted = |partition| journal.aborted(partition, Offset(0), Offset(7)).unwrap();
        assert!([vec![range(1, 5)], vec![]].contains(&aborted(p)));
        assert!([vec![range(0, 1)], vec![]].contains(&aborted(q)));
        broker = reopen(broker, folder.path()).await;
    }
}

#[tokio::test]
async fn a_refused_transaction_leaves_no_trace() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open(folder.path()).await;
    let (p, q) = (partition_of(&broker, "p").await, partition_of(&broker, "q").await);
    durable(broker.append(one(p, in_transaction(&["a"], 1, 3, 0)))).await;
    durable(broker.append(one(q, in_transaction(&["a"], 1, 3, 0)))).await;

    let control = TransactionMarker { outcome: Abort, coordinator_epoch: 0 };
    let control = control.batch(1, 3, T0).expect("legal");
    let mut nobody = batch(&["x"]).bytes().to_vec();
    nobody[22] |= 0x10;
    let crc = crc32c::crc32c(&nobody[21..]);
    nobody[17..21].copy_from_slice(&crc.to_be_bytes());
    let nobody = Batch::parse(nobody.into()).expect("well-formed");
    type Check = fn(&AppendError) -> bool;
    let cases: [(&str, Batch, Check); 6] = [
        ("not in the transaction", of_producer(&["x"], 1, 3, 1), |e| {
            matches!(e, AppendError::InTransaction { producer_id: 1, first: Offset(0) })
        }),
        ("not in it, of a newer epoch", of_producer(&["x"], 1, 4, 0), |e| {
            matches!(e, AppendError::InTransaction { .. })
        }),
        ("gap", in_transaction(&["x"], 1, 3, 2), |e| {
            matches!(e, AppendError::OutOfOrderSequence { expected: 1, .. })
        }),
        ("old epoch", in_transaction(&["x"], 1, 2, 1), |e| {
            matches!(e, AppendError::ProducerFenced { current: 3, .. })
        }),
        ("control batch", control, |e| matches!(e, AppendError::ControlBatch)),
        ("no producer", nobody, |e| matches!(e, AppendError::NoProducer)),
    ];
    let fact = Fact {
        space: space::DEVICE,
        key: Bytes::from_static(b"k"),
        value: Some(Bytes::from_static(b"v")),
    };
    for (name, bad, is_expected) in cases {
        let request = AppendRequest {
            batches: vec![(q, batch(&["y"])), (p, bad)],
            facts: vec![fact.clone()],
        };
        let error = broker.append(request).expect_err(name);
        assert!(is_expected(&error), "{name}: {error}");
        assert_eq!((broker.ends(p).written, broker.ends(q).written), (Offset(1), Offset(1)));
        assert_eq!(broker.fact(space::DEVICE, b"k"), None, "{name}");
    }
    // In one request: the second batch is judged by what the first begins.
    let request = AppendRequest {
        batches: vec![(p, in_transaction(&["x"], 8, 0, 0)), (p, of_producer(&["x"], 8, 0, 1))],
        facts: Vec::new(),
    };
    let error = broker.append(request).expect_err("not in the transaction");
    assert!(matches!(error, AppendError::InTransaction { first: Offset(1), .. }), "{error}");
    // The way into a transaction is free.
    let request = AppendRequest {
        batches: vec![(p, of_producer(&["x"], 8, 0, 0)), (p, in_transaction(&["x"], 8, 0, 1))],
        facts: Vec::new(),
    };
    assert_eq!(durable(broker.append(request)).await, [Offset(1), Offset(2)]);

    // The end of a transaction: all of it or nothing.
    durable(broker.end_transaction(end(1, 4, Abort, &[q]))).await;
    let stranger = PartitionId(999);
    let refused: [(&str, EndTransaction, Check); 3] = [
        ("fenced in one of them", end(1, 3, Abort, &[p, q]), |e| {
            matches!(e, AppendError::ProducerFenced { current: 4, got: 3, .. })
        }),
        ("no such partition", end(1, 4, Abort, &[p, stranger]), |e| {
            matches!(e, AppendError::UnknownPartition(PartitionId(999)))
        }),
        ("nobody's", end(-1, 0, Abort, &[p]), |e| matches!(e, AppendError::NoProducer)),
    ];
    for (name, bad, is_expected) in refused {
        let bad = EndTransaction { facts: vec![fact.clone()], ..bad };
        let error = broker.end_transaction(bad).expect_err(name);
        assert!(is_expected(&error), "{name}: {error}");
        assert_eq!(stable(&broker, p), (0, 3), "{name}");
        assert_eq!(broker.fact(space::DEVICE, b"k"), None, "{name}");
    }
    let ended = EndTransaction { facts: vec![fact], ..end(1, 4, Abort, &[p, q]) };
    durable(broker.end_transaction(ended)).await;
    assert_eq!(stable(&broker, p), (2, 4), "that of the other producer is open");
    assert_eq!(broker.fact(space::DEVICE, b"k").as_deref(), Some(&b"v"[..]));
    // A higher epoch fences.
    let error = broker.append(one(p, in_transaction(&["x"], 1, 3, 1))).expect_err("fenced");
    assert!(matches!(error, AppendError::ProducerFenced { current: 4, .. }), "{error}");
    durable(broker.append(one(p, in_transaction(&["x"], 1, 4, 0)))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stable_before_it_is_durable() {
    let folder = tempfile::tempdir().expect("folder");
    let (broker, gate) = open_gated(folder.path()).await;
    let (p, q) = (partition_of(&broker, "p").await, partition_of(&broker, "q").await);
    durable(broker.append(one(p, in_transaction(&["a"], 1, 0, 0)))).await;
    durable(broker.append(one(q, in_transaction(&["a"], 1, 0, 0)))).await;
    let wants = [(p, Offset(0)), (q, Offset(0))];
    let waiting = {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move { broker.wait_stable(&wants).await })
    };
    // Data that is not stable wakes nobody.
    durable(broker.append(one(p, in_transaction(&["b"], 1, 0, 1)))).await;
    gate.set(Sync::Wait);
    let ended = broker.end_transaction(end(1, 0, Abort, &[p, q])).expect("admitted");
    let mut ended = tokio::spawn(ended.durable());
    assert!(tokio::time::timeout(SOON, &mut ended).await.is_err());
    assert_eq!((stable(&broker, p), stable(&broker, q)), ((0, 2), (0, 1)));
    assert_eq!(broker.journal().aborted(p, Offset(0), Offset(9)).unwrap(), []);
    assert!(!waiting.is_finished());
    gate.set(Sync::Pass);
    ended.await.expect("no panic").expect("durable");
    waiting.await.expect("no panic");
    assert_eq!((stable(&broker, p), stable(&broker, q)), ((3, 3), (2, 2)));
    assert_eq!(broker.journal().aborted(p, Offset(0), Offset(9)).unwrap().len(), 1);
    broker.wait_stable(&wants).await;
}

/// Cleaning takes aborted data and what tells of it at once; whoever reads the one before and the other after would take
/// the data for committed.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_aborted_shows_while_it_is_cleaned_away() {
    let folder = tempfile::tempdir().expect("folder");
    let mut broker = open(folder.path()).await;
    let p = partition_of(&broker, "p").await;
    let mut expected = Vec::new();
    let mut gone = 0;
    for round in 0..20 {
        for sequence in 0..8 {
            let aborted = in_transaction(&["aborted"], 1, 0, 16 * round + 2 * sequence);
            durable(broker.append(one(p, aborted))).await;
            durable(broker.end_transaction(end(1, 0, Abort, &[p]))).await;
            let value = format!("{round} {sequence}");
            let committed = in_transaction(&[&value], 1, 0, 16 * round + 2 * sequence + 1);
            durable(broker.append(one(p, committed))).await;
            durable(broker.end_transaction(end(1, 0, TransactionOutcome::Commit, &[p]))).await;
            expected.push(Bytes::from(value));
        }
        // What an opening left behind can be cleaned.
        broker = reopen(broker, folder.path()).await;
        let reader = tokio::spawn({
            let (broker, expected) = (Arc::clone(&broker), expected.clone());
            async move {
                for _ in 0..20 {
                    assert_eq!(committed(&broker, p).await.0, expected);
                }
            }
        });
        let cleaner = tokio::task::spawn_blocking({
            let broker = Arc::clone(&broker);
            move || {
                let journal = broker.journal();
                let told = || journal.aborted(p, Offset(0), Offset(i64::MAX)).expect("readable");
                let mut changes = 0;
                for _ in 0..9 {
                    let forgotten = journal.forgotten(p);
                    let before = told();
                    // Without space for a copy now, there is later.
                    let _ = journal.clean(9.0);
                    if told() != before {
                        assert_ne!(journal.forgotten(p), forgotten, "nobody could know");
                        changes += 1;
                    }
                }
                changes
            }
        });
        reader.await.expect("only what is committed");
        gone += cleaner.await.expect("cleaned");
    }
    assert!(gone > 0, "nothing was cleaned");
}
