//! What leaves a topic, and that it stays away.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep};

use super::{batch, full::fill, of_producer, one, open, partition_of, reopen, values};
use crate::{
    broker::{AppendError, AppendRequest, DeleteRecordsError, TopicError, space},
    journal::{Fact, Offset, PartitionId, ReadError},
    record::BatchBuilder,
};

#[tokio::test]
async fn deleted_records_are_gone_and_the_rest_is_not() {
    let folder = tempfile::tempdir().expect("folder");
    let mut broker = open(folder.path()).await;
    let partition = partition_of(&broker, "t").await;
    for value in ["a", "b", "c", "d"] {
        let commit = broker.append(one(partition, batch(&[value]))).expect("taken");
        commit.durable().await.expect("durable");
    }
    assert_eq!(broker.delete_records(partition, Some(Offset(2))).await.expect("done"), Offset(2));
    assert_eq!(values(&broker, partition).await, ["c", "d"]);
    let below = broker.read(partition, Offset(1), 1).await;
    assert!(matches!(below, Err(ReadError::OutOfRange { start: Offset(2), .. })));
    // Back is not possible, past the end neither.
    assert_eq!(broker.delete_records(partition, Some(Offset(1))).await.expect("done"), Offset(2));
    for wrong in [5, -1] {
        let error = broker.delete_records(partition, Some(Offset(wrong))).await.unwrap_err();
        assert!(matches!(error, DeleteRecordsError::OutOfRange { end: Offset(4), .. }), "{error}");
    }
    let unknown = broker.delete_records(PartitionId(77), None).await.unwrap_err();
    let is_unknown = |it: &DeleteRecordsError| {
        matches!(it, DeleteRecordsError::Append(AppendError::UnknownPartition(_)))
    };
    assert!(is_unknown(&unknown), "{unknown}");
    for round in 0..2 {
        broker = reopen(broker, folder.path()).await;
        assert_eq!(broker.ends(partition).start, Offset(2 + 2 * round));
        assert_eq!(broker.ends(partition).durable, Offset(4));
        assert_eq!(broker.delete_records(partition, None).await.expect("done"), Offset(4));
        assert!(values(&broker, partition).await.is_empty());
    }
}

#[tokio::test]
async fn a_deleted_topic_leaves_nothing_and_its_partitions_never_come_back() {
    let folder = tempfile::tempdir().expect("folder");
    let mut broker = open(folder.path()).await;
    let topic = broker.create_topic("t", Some(2), BTreeMap::new()).await.expect("created");
    let other = partition_of(&broker, "other").await;
    let old = topic.partitions[1];
    for (partition, value) in [(old, "x"), (other, "kept")] {
        let commit = broker.append(one(partition, of_producer(&[value], 9, 0, 0))).expect("taken");
        commit.durable().await.expect("durable");
    }
    let offset_of = |topic: &str| {
        // Key of (group, topic, partition): strings with their lengths, then a number.
        let parts = [&[0, 1][..], b"g", &[0, topic.len() as u8], topic.as_bytes(), &[0; 4]];
        let (space, value) = (space::GROUP_OFFSET, Some(vec![1].into()));
        Fact { space, key: parts.concat().into(), value }
    };
    let facts = vec![offset_of("t"), offset_of("other")];
    let commit = broker.append(AppendRequest { batches: Vec::new(), facts }).expect("taken");
    commit.durable().await.expect("durable");

    broker.delete_topic("t").await.expect("deleted");
    let again = broker.delete_topic("t").await.unwrap_err();
    assert!(matches!(again, TopicError::Unknown(name) if name == "t"));
    for round in 0..3 {
        assert!(broker.topic("t").is_none() && broker.topic_by_id(&topic.id).is_none());
        let refused = broker.append(one(old, batch(&["y"]))).unwrap_err();
        assert!(matches!(refused, AppendError::UnknownPartition(id) if id == old), "{round}");
        assert_eq!(broker.ends(old).written, Offset(0), "{round}: the state forgot it");
        assert_eq!(broker.journal().durable_end(old), Offset(0), "{round}: readers too");
        let kept: Vec<_> =
            broker.facts(space::GROUP_OFFSET).into_iter().map(|(key, _)| key).collect();
        assert_eq!(kept, [offset_of("other").key], "{round}");
        assert_eq!(values(&broker, other).await, ["kept"], "{round}");
        broker = reopen(broker, folder.path()).await;
    }
    let new = broker.create_topic("t", Some(2), BTreeMap::new()).await.expect("created");
    assert!(new.partitions.iter().all(|id| !topic.partitions.contains(id) && *id != other));
    assert!(values(&broker, new.partitions[1]).await.is_empty());
    // Nothing is known of the producer any more: any sequence is its first.
    let append = one(new.partitions[1], of_producer(&["z"], 9, 0, 0));
    broker.append(append).expect("taken").durable().await.expect("durable");
    assert_eq!(values(&broker, new.partitions[1]).await, ["z"]);
}

#[tokio::test]
async fn full_storage_is_emptied_by_deleting_and_goes_on_without_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open(folder.path()).await;
    let kept = partition_of(&broker, "kept").await;
    let large = |bytes: usize| {
        let mut builder = BatchBuilder::default();
        builder.push(0, None, Some(&vec![7; bytes]), &[]);
        builder.finish().expect("not empty")
    };
    for round in 0..2 {
        let topic = format!("full-{round}");
        let partition = partition_of(&broker, &topic).await;
        fill(&broker, partition, large).await;
        if round == 0 {
            broker.delete_records(partition, None).await.expect("works on full storage");
        } else {
            broker.delete_topic(&topic).await.expect("works on full storage");
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        let commit = loop {
            match broker.append(one(kept, large(50_000))) {
                Ok(commit) => break commit,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            sleep(Duration::from_millis(5)).await;
        };
        commit.durable().await.expect("durable");
        while broker.journal().status().retired_segments <= 10 * (round + 1) {
            assert!(Instant::now() < deadline, "{round}: {:?}", broker.journal().status());
            sleep(Duration::from_millis(5)).await;
        }
        let status = broker.journal().status();
        assert!(status.used_bytes <= status.max_bytes, "{status:?}");
        assert_eq!(values(&broker, kept).await.len(), 1);
        // It would hold its segment, and all behind it.
        broker.delete_records(kept, None).await.expect("done");
    }
}
