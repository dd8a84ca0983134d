//! What changes topics: deletion, partitions, records, settings; and that it is there after a restart.

use kafka_wire::{
    AlterConfigsRequest, CreatePartitionsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    IncrementalAlterConfigsRequest, alter_configs_request,
    create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic},
    delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
    delete_topics_request::DeleteTopicState,
    incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
};

use super::{harness::*, produce::latest};
use crate::kafka::codec::Uuid;

/// A topic by name, or by id.
fn state(name: Option<&str>, id: Uuid) -> DeleteTopicState {
    let mut state = DeleteTopicState::default();
    state.name = name.map(Into::into);
    state.topic_id = id;
    state
}

#[tokio::test]
async fn topics_are_deleted_by_name_and_by_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let mut wire = Wire::connect(&gateway).await;
    for version in 1..=5 {
        create(&gateway, "gone", 2).await;
        append(&mut wire, "gone", &["a"]).await;
        let mut request = DeleteTopicsRequest::default();
        request.topic_names = ["gone", "nowhere", "twice", "twice"].map(Into::into).into();
        let response = wire.call(version, &request).await;
        let mut codes: Vec<_> = response
            .responses
            .iter()
            .map(|it| (it.name.as_deref().expect("a name").to_owned(), it.error_code))
            .collect();
        codes.sort();
        let expect = [("gone", 0), ("nowhere", 3), ("twice", 42)];
        assert_eq!(codes, expect.map(|(name, code)| (name.to_owned(), code)), "{version}");
        assert!(gateway.broker.topic("gone").is_none());
    }
    for name in ["a", "b", "c"] {
        create(&gateway, name, 1).await;
    }
    let id = |name| Uuid::from_bytes(gateway.broker.topic(name).expect("a topic").id);
    let (a, b, other) = (id("a"), id("b"), Uuid::from_bytes([9; 16]));
    let mut request = DeleteTopicsRequest::default();
    request.topics = vec![
        state(None, a),
        state(Some("b"), Uuid::ZERO),
        state(None, b),
        state(Some("c"), other),
        state(None, Uuid::ZERO),
        state(None, other),
        state(None, other),
    ];
    let response = wire.call(6, &request).await;
    let codes: Vec<_> = response
        .responses
        .iter()
        .map(|it| (it.name.as_deref().unwrap_or("-"), it.topic_id, it.error_code))
        .collect();
    let expect =
        [("b", b, 42), ("c", other, 42), ("-", Uuid::ZERO, 42), ("-", other, 42), ("a", a, 0)];
    assert_eq!(codes, expect);
    let mut request = DeleteTopicsRequest::default();
    request.topics = vec![state(None, a)];
    assert_eq!(wire.call(6, &request).await.responses[0].error_code, 100);
    gateway.stop().await;
    let gateway = Gateway::start(folder.path()).await;
    let left: Vec<_> = gateway.broker.topics().iter().map(|topic| topic.name.clone()).collect();
    assert_eq!(left, ["b", "c"], "a refused request deletes nothing");
    gateway.stop().await;
}

#[tokio::test]
async fn partitions_can_only_become_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 2).await;
    create(&gateway, "u", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let first = append(&mut wire, "t", &["a"]).await;
    let before = gateway.broker.topic("t").expect("a topic").partitions.clone();
    let wish = |name: &str, count: i32, assigned: Option<&[&[i32]]>| {
        let mut topic = CreatePartitionsTopic::default();
        topic.name = name.into();
        topic.count = count;
        topic.assignments = assigned.map(|assigned| {
            let assignment = |nodes: &&[i32]| {
                let mut assignment = CreatePartitionsAssignment::default();
                assignment.broker_ids = nodes.to_vec();
                assignment
            };
            assigned.iter().map(assignment).collect()
        });
        topic
    };
    /// Topic, count, nodes of each new partition, code.
    type Case<'a> = (&'a str, i32, Option<&'a [&'a [i32]]>, i16);
    let cases: &[Case] = &[
        ("t", 2, None, 37),
        ("t", 1, None, 37),
        ("t", -1, None, 37),
        ("t", 1025, None, 37),
        ("nowhere", 3, None, 3),
        ("t", 3, Some(&[&[2]]), 39),
        ("t", 3, Some(&[&[1, 1]]), 39),
        ("t", 3, Some(&[&[]]), 39),
        ("t", 3, Some(&[]), 39),
        ("t", 3, Some(&[&[1], &[1]]), 39),
        ("t", 3, Some(&[&[1]]), 0),
        ("t", 4, None, 0),
    ];
    for (number, &(name, count, assigned, code)) in cases.iter().enumerate() {
        for is_dry in [true, false] {
            let mut request = CreatePartitionsRequest::default();
            request.topics = vec![wish(name, count, assigned)];
            request.validate_only = is_dry;
            let version = i16::try_from(number % 4).expect("small");
            let there = gateway.broker.topic("t").expect("a topic").partitions.len();
            let response = wire.call(version, &request).await;
            assert_eq!(response.results[0].error_code, code, "{name} {count} {assigned:?}");
            let now = gateway.broker.topic("t").expect("a topic").partitions.len();
            let grows = code == 0 && !is_dry;
            assert_eq!(now, there + usize::from(grows), "{name} {count} {assigned:?}");
        }
    }
    let mut request = CreatePartitionsRequest::default();
    request.topics = vec![wish("t", 5, None), wish("t", 6, None), wish("u", 1024, None)];
    let response = wire.call(3, &request).await;
    let codes: Vec<_> = response.results.iter().map(|it| it.error_code).collect();
    assert_eq!(codes, [42, 0]);
    gateway.stop().await;

    let gateway = Gateway::start(folder.path()).await;
    let after = gateway.broker.topic("t").expect("a topic");
    assert_eq!(after.partitions[..2], before, "those that were there keep their data");
    let large = gateway.broker.topic("u").expect("a topic");
    assert_eq!((after.partitions.len(), large.partitions.len()), (4, 1024));
    assert!(!large.partitions.contains(&after.partitions[3]), "ids are never given twice");
    let mut wire = Wire::connect(&gateway).await;
    let request = produce_request(-1, &[("t", 3, batch(&["x"]).bytes().clone())]);
    assert_eq!(produced(&wire.call(9, &request).await), (0, 0));
    assert_eq!(append(&mut wire, "t", &["b"]).await, first + 1);
    gateway.stop().await;
}

#[tokio::test]
async fn records_are_deleted_before_an_offset() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 3).await;
    for (name, policy) in [("compacted", "compact"), ("both", "compact,delete")] {
        let settings = [("cleanup.policy".to_owned(), policy.to_owned())].into();
        gateway.broker.create_topic(name, Some(1), settings).await.expect("a topic");
    }
    let mut wire = Wire::connect(&gateway).await;
    append(&mut wire, "t", &["a", "b", "c"]).await;
    let delete = async |wire: &mut Wire, version, topic: &str, offsets: &[(i32, i64)]| {
        let mut asked = DeleteRecordsTopic::default();
        asked.name = topic.into();
        asked.partitions = offsets
            .iter()
            .map(|&(index, offset)| {
                let mut partition = DeleteRecordsPartition::default();
                partition.partition_index = index;
                partition.offset = offset;
                partition
            })
            .collect();
        let mut request = DeleteRecordsRequest::default();
        request.topics = vec![asked];
        let response = wire.call(version, &request).await;
        let results = response.topics[0].partitions.iter();
        results.map(|it| (it.partition_index, it.low_watermark, it.error_code)).collect::<Vec<_>>()
    };
    for version in 0..=2 {
        let start = i64::from(version);
        let results =
            delete(&mut wire, version, "t", &[(0, start), (1, -1), (2, 1), (9, 0), (-1, 0)]).await;
        assert_eq!(results, [(-1, -1, 3), (0, start, 0), (1, 0, 0), (2, -1, 1), (9, -1, 3)]);
    }
    assert_eq!(delete(&mut wire, 2, "t", &[(0, -2)]).await, [(0, -1, 1)]);
    assert_eq!(delete(&mut wire, 2, "t", &[(0, 1)]).await, [(0, 2, 0)], "it never moves back");
    assert_eq!(delete(&mut wire, 2, "t", &[(0, -1), (0, 4)]).await, [(0, -1, 1)], "the last one");
    assert_eq!(delete(&mut wire, 2, "nowhere", &[(0, 0)]).await, [(0, -1, 3)]);
    assert_eq!(delete(&mut wire, 2, "compacted", &[(0, 0)]).await, [(0, -1, 44)]);
    assert_eq!(delete(&mut wire, 2, "both", &[(0, 0)]).await, [(0, 0, 0)]);
    gateway.stop().await;
    let gateway = Gateway::start(folder.path()).await;
    let mut wire = Wire::connect(&gateway).await;
    assert_eq!(delete(&mut wire, 2, "t", &[(0, 0)]).await, [(0, 2, 0)], "and survives a restart");
    assert_eq!(delete(&mut wire, 2, "t", &[(0, -1)]).await, [(0, 3, 0)]);
    assert_eq!(latest(&mut wire, "t", 0).await, 3);
    gateway.stop().await;
}

/// Name, operation and value of a change.
type Change<'a> = (&'a str, i8, Option<&'a str>);

fn resource(kind: i8, name: &str, changes: &[Change]) -> AlterConfigsResource {
    let mut resource = AlterConfigsResource::default();
    resource.resource_type = kind;
    resource.resource_name = name.into();
    resource.configs = changes
        .iter()
        .map(|&(name, operation, value)| {
            let mut config = AlterableConfig::default();
            config.name = name.into();
            config.config_operation = operation;
            config.value = value.map(Into::into);
            config
        })
        .collect();
    resource
}

fn setting(gateway: &Gateway, topic: &str, name: &str) -> Option<String> {
    gateway.broker.topic(topic).expect("a topic").settings.get(name).cloned()
}

#[tokio::test]
async fn settings_change_one_by_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    // Kind, name, change, code, and what the setting is then.
    let cases: &[(i8, &str, Change, i16, Option<&str>)] = &[
        (2, "t", ("retention.ms", 0, Some("1000")), 0, Some("1000")),
        (2, "t", ("retention.ms", 0, Some("soon")), 40, Some("1000")),
        (2, "t", ("retention.ms", 0, None), 42, Some("1000")),
        (2, "t", ("retention.ms", 2, Some("5")), 40, Some("1000")),
        (2, "t", ("retention.ms", 9, Some("5")), -1, Some("1000")),
        (2, "t", ("retention.ms", 1, None), 0, None),
        (2, "t", ("retention.ms", 1, Some("1")), 0, None),
        (2, "t", ("cleanup.policy", 2, Some("compact")), 0, Some("delete,compact")),
        (2, "t", ("cleanup.policy", 2, Some("delete")), 0, Some("delete,compact")),
        (2, "t", ("cleanup.policy", 3, Some("delete")), 0, Some("compact")),
        (2, "t", ("cleanup.policy", 3, Some("delete")), 0, Some("compact")),
        (2, "t", ("cleanup.policy", 3, Some("compact")), 0, Some("")),
        (2, "t", ("cleanup.policy", 2, Some("delete")), 0, Some("delete")),
        (2, "t", ("no.such.setting", 0, Some("1")), 40, None),
        (2, "t", ("no.such.setting", 1, None), 0, None),
        (2, "t", ("min.insync.replicas", 0, Some("1")), 0, Some("1")),
        (2, "t", ("min.insync.replicas", 0, Some("2")), 40, Some("1")),
        (2, "t", ("headwater.full.policy", 0, Some("drop-oldest")), 0, Some("drop-oldest")),
        (2, "t", ("remote.storage.enable", 0, Some("true")), 40, None),
        (2, "nowhere", ("retention.ms", 0, Some("1")), 3, None),
        (2, "a/b", ("retention.ms", 0, Some("1")), 17, None),
        (2, "", ("retention.ms", 0, Some("1")), 42, None),
        (4, "1", ("log.retention.ms", 0, Some("1")), 42, None),
        (4, "", ("log.retention.ms", 0, Some("1")), 42, None),
        (4, "5", ("log.retention.ms", 0, Some("1")), 42, None),
        (8, "1", ("kafka", 0, Some("INFO")), 40, None),
        (16, "metrics", ("interval.ms", 0, Some("1")), 42, None),
        (32, "group", ("consumer.session.timeout.ms", 0, Some("1")), 42, None),
        (77, "1", ("a", 0, Some("1")), 42, None),
    ];
    for (number, &(kind, name, change, code, then)) in cases.iter().enumerate() {
        let before = setting(&gateway, "t", change.0);
        for is_dry in [true, false] {
            let mut request = IncrementalAlterConfigsRequest::default();
            request.resources = vec![resource(kind, name, &[change])];
            request.validate_only = is_dry;
            let version = i16::try_from(number % 2).expect("small");
            let response = wire.call(version, &request).await;
            let [answer] = &response.responses[..] else { panic!("one answer") };
            assert_eq!(answer.error_code, code, "{change:?}: {:?}", answer.error_message);
            assert_eq!((answer.resource_type, answer.resource_name.as_str()), (kind, name));
            let now = setting(&gateway, "t", change.0);
            let expect = if is_dry { before.as_deref() } else { then };
            assert_eq!(now.as_deref(), expect, "{change:?}");
        }
    }
    let mut request = IncrementalAlterConfigsRequest::default();
    let (good, bad) = (("retention.ms", 0, Some("7")), ("no.such.setting", 0, Some("1")));
    create(&gateway, "u", 1).await;
    create(&gateway, "v", 1).await;
    request.resources = vec![
        resource(2, "t", &[good, bad]),
        resource(2, "u", &[good]),
        resource(2, "v", &[good]),
        resource(2, "v", &[good]),
    ];
    let response = wire.call(1, &request).await;
    let codes: Vec<_> = response.responses.iter().map(|it| it.error_code).collect();
    assert_eq!(codes, [40, 0, 42, 42]);
    request.resources = vec![resource(2, "v", &[good, good])];
    assert_eq!(wire.call(1, &request).await.responses[0].error_code, 42);
    gateway.stop().await;
    let gateway = Gateway::start(folder.path()).await;
    assert_eq!(setting(&gateway, "t", "retention.ms"), None, "all of a resource or nothing");
    assert_eq!(setting(&gateway, "u", "retention.ms").as_deref(), Some("7"));
    assert_eq!(setting(&gateway, "v", "retention.ms"), None);
    assert_eq!(setting(&gateway, "t", "cleanup.policy").as_deref(), Some("delete"));
    gateway.stop().await;
}

#[tokio::test]
async fn all_settings_of_a_topic_are_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let settings = [("retention.ms".to_owned(), "1000".to_owned())].into();
    gateway.broker.create_topic("t", Some(1), settings).await.expect("a topic");
    let mut wire = Wire::connect(&gateway).await;
    let alter = async |wire: &mut Wire, version, topic: &str, settings: &[(&str, Option<&str>)]| {
        let mut resource = alter_configs_request::AlterConfigsResource::default();
        resource.resource_type = 2;
        resource.resource_name = topic.into();
        resource.configs = settings
            .iter()
            .map(|&(name, value)| {
                let mut config = alter_configs_request::AlterableConfig::default();
                config.name = name.into();
                config.value = value.map(Into::into);
                config
            })
            .collect();
        let mut request = AlterConfigsRequest::default();
        request.resources = vec![resource];
        wire.call(version, &request).await.responses[0].error_code
    };
    let (bytes, ms) = (("retention.bytes", Some("5")), ("retention.ms", Some("1")));
    for (version, topic, settings, code) in [
        (0, "nowhere", &[bytes][..], 3),
        (1, "t", &[("retention.ms", None)], 42),
        (2, "t", &[ms, ms], 42),
        (2, "t", &[bytes, ("zz", Some("1"))], 40),
    ] {
        assert_eq!(alter(&mut wire, version, topic, settings).await, code, "{settings:?}");
        assert_eq!(setting(&gateway, "t", "retention.ms").as_deref(), Some("1000"));
    }
    assert_eq!(alter(&mut wire, 2, "t", &[bytes]).await, 0);
    assert_eq!(setting(&gateway, "t", "retention.ms"), None, "not named, hence the default");
    assert_eq!(setting(&gateway, "t", "retention.bytes").as_deref(), Some("5"));
    assert_eq!(alter(&mut wire, 2, "t", &[]).await, 0);
    assert!(gateway.broker.topic("t").expect("a topic").settings.is_empty());
    gateway.stop().await;
}
