//! Topics, ids and the gateway's identity, over restarts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{BROKER_OPTIONS, gate::Sync, open, open_gated, reopen, settings};
use crate::{
    broker::{AppendRequest, Broker, FullPolicy, OpenError, TopicError, Uuid, space},
    journal::{self, Fact, JournalOptions, RealDisk},
};

#[tokio::test]
async fn the_gateway_keeps_its_identity() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open(folder.path()).await;
    let id = broker.gateway_id();
    assert_ne!(id, [0; 16]);
    assert_eq!(broker.cluster_id(), Uuid(id).base64_url());
    assert_eq!(broker.cluster_id().len(), 22);
    let broker = reopen(broker, folder.path()).await;
    assert_eq!(broker.gateway_id(), id);
}

#[tokio::test]
async fn topics_survive_and_partition_ids_are_unique() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open(folder.path()).await;
    let retention = settings(&[("retention.ms", "1000"), ("headwater.full.policy", "drop-oldest")]);
    let one = broker.create_topic("one", Some(3), retention).await.expect("created");
    let two = broker.create_topic("two", None, BTreeMap::new()).await.expect("created");
    assert_eq!((one.partitions.len(), two.partitions.len()), (3, 1));
    assert_ne!(one.id, two.id);
    assert_eq!(broker.topic("one").as_deref(), Some(&*one));
    assert_eq!(broker.topic("three"), None);

    let broker = reopen(broker, folder.path()).await;
    assert_eq!(broker.topics(), [Arc::clone(&one), Arc::clone(&two)]);
    let of_partition =
        broker.settings_of(&broker.topic_of(one.partitions[2]).expect("still there"));
    assert_eq!(
        (of_partition.retention_ms, of_partition.full),
        (Some(1000), FullPolicy::DropOldest)
    );
    assert_eq!(broker.settings_of(&two).full, FullPolicy::Block);
    let three = broker.ensure_topic("three").await.expect("created");
    let all = [one, two, three];
    let ids: BTreeSet<_> = all.iter().flat_map(|it| it.partitions.clone()).collect();
    assert_eq!(ids.len(), 5);
}

#[tokio::test]
async fn what_cannot_be_created_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open(folder.path()).await;
    broker.ensure_topic("there").await.expect("created");
    let none = BTreeMap::new();
    let refused = async |name: &str, partitions, settings: &BTreeMap<String, String>| {
        broker.create_topic(name, partitions, settings.clone()).await.expect_err("refused")
    };
    assert!(matches!(refused("there", None, &none).await, TopicError::Exists(_)));
    assert!(matches!(refused("no/name", None, &none).await, TopicError::IllegalName(_)));
    for count in [0, 1025, u32::MAX] {
        let error = refused("a", Some(count), &none).await;
        assert!(matches!(error, TopicError::IllegalPartitions(it) if it == count));
    }
    for (name, value) in [("retention.hours", "1"), ("retention.ms", "soon")] {
        let error = refused("a", None, &settings(&[(name, value)])).await;
        assert!(matches!(error, TopicError::IllegalSetting(it, _) if it == name));
    }
    assert_eq!(broker.topics().len(), 1);
    // The largest topic that is legal fits into its fact.
    let largest = broker.create_topic("largest", Some(1024), none).await.expect("created");
    let broker = reopen(broker, folder.path()).await;
    assert_eq!(broker.topic("largest").as_deref(), Some(&*largest));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_creators_of_one_name_one_succeeds() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open(folder.path()).await;
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let broker = Arc::clone(&broker);
            tokio::spawn(async move { broker.create_topic("t", None, BTreeMap::new()).await })
        })
        .collect();
    let ensured: Vec<_> = (0..16)
        .map(|_| {
            let broker = Arc::clone(&broker);
            tokio::spawn(async move { broker.ensure_topic("t").await.expect("there").id })
        })
        .collect();
    let mut created = 0;
    for task in tasks {
        match task.await.expect("no panic") {
            Ok(_) => created += 1,
            Err(error) => assert!(matches!(error, TopicError::Exists(_)), "{error}"),
        }
    }
    assert!(created <= 1, "{created}");
    let id = broker.topic("t").expect("there").id;
    for task in ensured {
        assert_eq!(task.await.expect("no panic"), id);
    }
    let broker = reopen(broker, folder.path()).await;
    assert_eq!(broker.topic("t").expect("there").id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_shows_once_durable_even_if_its_creator_went_away() {
    let folder = tempfile::tempdir().expect("folder");
    let (broker, gate) = open_gated(folder.path()).await;
    gate.set(Sync::Wait);
    {
        let creation = broker.create_topic("t", None, BTreeMap::new());
        tokio::pin!(creation);
        let wait = tokio::time::timeout(std::time::Duration::from_millis(50), &mut creation);
        assert!(wait.await.is_err(), "nothing is durable behind the gate");
        assert_eq!(broker.topic("t"), None);
    }
    gate.set(Sync::Pass);
    let topic = broker.ensure_topic("t").await.expect("there");
    // Were there a second creation, its fact would have another id.
    drop(broker);
    let broker = open(folder.path()).await;
    assert_eq!(broker.topic("t").expect("there").id, topic.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn producer_ids_are_never_given_twice() {
    let folder = tempfile::tempdir().expect("folder");
    let mut given = BTreeSet::new();
    let mut broker = open(folder.path()).await;
    for _ in 0..3 {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let broker = Arc::clone(&broker);
                tokio::spawn(async move {
                    let mut ids = Vec::new();
                    for _ in 0..200 {
                        ids.push(broker.allocate_producer_id().await.expect("allocated"));
                    }
                    ids
                })
            })
            .collect();
        for task in tasks {
            for id in task.await.expect("no panic") {
                assert!(id >= 0 && given.insert(id), "{id} was given before");
            }
        }
        broker = reopen(broker, folder.path()).await;
    }
    assert_eq!(given.len(), 4800);
}

#[tokio::test]
async fn a_fact_of_a_later_version_is_refused_at_the_start() {
    for (space, key) in [
        (space::GATEWAY, &b"gateway-id"[..]),
        (space::GATEWAY, b"next-partition"),
        (space::GATEWAY, b"next-producer-id"),
        (space::TOPIC, b"t"),
    ] {
        let folder = tempfile::tempdir().expect("folder");
        let broker = open(folder.path()).await;
        broker.ensure_topic("t").await.expect("created");
        broker.allocate_producer_id().await.expect("allocated");
        let value = broker.fact(space, key).expect("stored");
        let later = Bytes::from([&[2], &value[1..]].concat());
        let fact = Fact { space, key: Bytes::from_static(key), value: Some(later) };
        let request = AppendRequest { batches: Vec::new(), facts: vec![fact] };
        broker.append(request).expect("admitted").durable().await.expect("durable");
        drop(broker);

        let disk = RealDisk::open(folder.path()).expect("free");
        let (journal, state) = journal::open(disk, &JournalOptions::default()).expect("healthy");
        let error = Broker::open(journal, state, BROKER_OPTIONS).await.expect_err("not readable");
        assert!(matches!(error, OpenError::Fact(_)), "{error}");
    }
}
