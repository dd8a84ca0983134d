//! ApiVersions, Metadata, CreateTopics, configs and the cluster.

use std::collections::BTreeMap;

use bytes::Buf;
use kafka_wire::{
    ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, FindCoordinatorRequest,
    create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig},
    describe_configs_request::DescribeConfigsResource,
};
use kafka_wire_core::{ApiVersion, KafkaDecode};

use super::harness::*;
use crate::kafka::{
    codec::{self, Uuid},
    dispatch::APIS,
};

#[tokio::test]
async fn api_versions_lists_what_dispatch_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let mut wire = Wire::connect(&gateway).await;
    for version in 0..=4 {
        let mut request = ApiVersionsRequest::default();
        if version >= 3 {
            request.client_software_name = "test".into();
            request.client_software_version = "1.0".into();
        }
        let response = wire.call(version, &request).await;
        assert_eq!(response.error_code, 0, "version {version}");
        let listed: BTreeMap<i16, (i16, i16)> = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect();
        let expect = APIS.iter().map(|api| (api.key, (api.listed_min, api.max))).collect();
        assert_eq!(listed, expect);
    }
    for (name, software_version) in [("", "1"), ("a b", "1"), ("a", "")] {
        let mut request = ApiVersionsRequest::default();
        request.client_software_name = name.into();
        request.client_software_version = software_version.into();
        assert_eq!(wire.call(3, &request).await.error_code, 42);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let mut wire = Wire::connect(&gateway).await;
    for version in [5, 99, i16::MAX, -1] {
        wire.send_bytes(&raw_frame(18, version, true, &[1, 2, 3])).await;
        let mut answer = wire.receive_frame().await.expect("an answer");
        assert_eq!(answer.get_i32(), 1, "correlation id");
        let response =
            ApiVersionsResponse::decode_from_bytes(answer, ApiVersion::new(0), codec::limits())
                .expect("the layout of version 0");
        assert_eq!(response.error_code, 35);
        let own = response.api_keys.iter().find(|api| api.api_key == 18).expect("its own range");
        assert_eq!((own.min_version, own.max_version), (0, 4));
        assert_eq!(response.api_keys.len(), 1, "no other, as in Kafka");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn metadata_in_every_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 2).await;
    let mut wire = Wire::connect(&gateway).await;
    for version in 0..=13 {
        let response = wire.call(version, &metadata_request(Some(&["t", "t"]), true)).await;
        let [node] = &response.brokers[..] else { panic!("one node") };
        assert_eq!((node.node_id, node.host.as_str()), (1, "127.0.0.1"));
        assert_eq!(node.port, i32::from(gateway.address.port()));
        let [topic] = &response.topics[..] else { panic!("each topic once") };
        assert_eq!((topic.error_code, topic.name.as_deref()), (0, Some("t")));
        let indexes: Vec<i32> = topic.partitions.iter().map(|it| it.partition_index).collect();
        assert_eq!(indexes, [0, 1]);
        for partition in &topic.partitions {
            assert_eq!((partition.leader_id, &partition.replica_nodes[..]), (1, &[1][..]));
            assert_eq!((&partition.isr_nodes[..], partition.error_code), (&[1][..], 0));
        }
        if version >= 2 {
            assert_eq!(response.cluster_id.as_deref().map(str::len), Some(22));
        }
        if version >= 10 {
            assert_ne!(topic.topic_id, Uuid::ZERO);
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn bytes_after_a_request_are_ignored() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    // All topics, no creation, no operations: and three bytes more, as librdkafka 2.16 sends it.
    wire.send_bytes(&raw_frame(3, 12, true, &[0, 0, 0, 0, 9, 9, 9])).await;
    let response = wire.receive::<kafka_wire::MetadataRequest>(12, 1).await;
    assert_eq!(response.topics.len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn metadata_asks_for_all_for_none_and_by_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "a", 1).await;
    create(&gateway, "b", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    for (version, topics, expect) in [
        (0, Some(&[][..]), 2),
        (1, None, 2),
        (1, Some(&[][..]), 0),
        (12, None, 2),
        (12, Some(&[][..]), 0),
    ] {
        let response = wire.call(version, &metadata_request(topics, true)).await;
        assert_eq!(response.topics.len(), expect, "version {version}");
    }
    let id = Uuid::from_bytes(gateway.broker.topic("b").expect("a topic").id);
    // Java's AdminClient leaves the name empty, others send none.
    for name in [None, Some("".into())] {
        let mut request = metadata_request(Some(&["", ""]), false);
        let ids = [id, Uuid::from_bytes([1; 16])];
        for (topic, id) in request.topics.iter_mut().flatten().zip(ids) {
            (topic.name, topic.topic_id) = (name.clone(), id);
        }
        let topics = wire.call(12, &request).await.topics;
        assert_eq!(topics[0].name.as_deref(), Some("b"));
        assert_eq!((topics[1].error_code, topics[1].name.as_deref()), (100, None));
        assert_eq!(topics[1].topic_id, Uuid::from_bytes([1; 16]));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn metadata_creates_topics_if_client_and_gateway_allow_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start_with(folder.path(), |config| config.default_partitions = 3).await;
    let mut wire = Wire::connect(&gateway).await;
    let response = wire.call(9, &metadata_request(Some(&["new"]), false)).await;
    assert_eq!(response.topics[0].error_code, 3);
    assert!(gateway.broker.topic("new").is_none());
    let response = wire.call(9, &metadata_request(Some(&["new", "a/b", ".."]), true)).await;
    assert_eq!((response.topics[0].error_code, response.topics[0].partitions.len()), (0, 3));
    assert_eq!((response.topics[1].error_code, response.topics[2].error_code), (17, 17));
    gateway.stop().await;

    let gateway = Gateway::start_with(folder.path(), |config| config.auto_create_topics = false);
    let gateway = gateway.await;
    let mut wire = Wire::connect(&gateway).await;
    let response = wire.call(9, &metadata_request(Some(&["new", "other", "a/b"]), true)).await;
    let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, 3, 17], "created topics outlive a restart");
    gateway.stop().await;
}

#[tokio::test]
async fn the_advertised_address_wins() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start_with(folder.path(), |config| {
        config.advertised = Some("gateway.example:19092".into());
        config.listen = ([0, 0, 0, 0], 0).into();
    });
    let gateway = gateway.await;
    let mut wire = Wire::connect(&gateway).await;
    let response = wire.call(9, &metadata_request(Some(&[]), false)).await;
    assert_eq!(response.brokers[0].host.as_str(), "gateway.example");
    assert_eq!(response.brokers[0].port, 19092);
    gateway.stop().await;

    let gateway =
        Gateway::start_with(folder.path(), |config| config.listen = ([0, 0, 0, 0], 0).into());
    let gateway = gateway.await;
    let mut wire = Wire::connect(&gateway).await;
    let response = wire.call(9, &metadata_request(Some(&[]), false)).await;
    assert_eq!(response.brokers[0].host.as_str(), "127.0.0.1", "where the client came in");
    gateway.stop().await;
}

/// A wish for a topic.
fn wish(name: &str, partitions: i32, replication: i16) -> CreatableTopic {
    let mut topic = CreatableTopic::default();
    topic.name = name.into();
    topic.num_partitions = partitions;
    topic.replication_factor = replication;
    topic
}

fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> CreatableTopic {
    let mut topic = wish(name, -1, -1);
    topic.assignments = assignments
        .iter()
        .map(|(index, nodes)| {
            let mut assignment = CreatableReplicaAssignment::default();
            assignment.partition_index = *index;
            assignment.broker_ids = nodes.to_vec();
            assignment
        })
        .collect();
    topic
}

fn configured(name: &str, setting: &str, value: Option<&str>) -> CreatableTopic {
    let mut topic = wish(name, 1, 1);
    let mut config = CreatableTopicConfig::default();
    config.name = setting.into();
    config.value = value.map(Into::into);
    topic.configs = vec![config];
    topic
}

#[tokio::test]
async fn create_topics_judges_every_wish() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "there", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let cases = [
        (wish("a", 2, 1), 0, 2),
        (wish("b", -1, -1), 0, 1),
        (wish("c", 0, 1), 37, -1),
        (wish("c", -2, 1), 37, -1),
        (wish("c", 1025, 1), 37, -1),
        (wish("c", 1, 3), 38, -1),
        (wish("c", 1, 0), 38, -1),
        (wish("there", 1, 1), 36, -1),
        (wish("no/name", 1, 1), 17, -1),
        (assigned("d", &[(0, &[1]), (1, &[1])]), 0, 2),
        (assigned("c", &[(0, &[1, 2])]), 39, -1),
        (assigned("c", &[(0, &[2])]), 39, -1),
        (assigned("c", &[(1, &[1])]), 39, -1),
        (assigned("c", &[(0, &[1]), (0, &[1])]), 39, -1),
        (configured("e", "retention.ms", Some("1000")), 0, 1),
        (configured("f", "headwater.full.policy", Some("drop-newest")), 0, 1),
        (configured("g", "segment.ms", Some("1000")), 0, 1),
        (configured("h", "cleanup.policy", Some("compact,delete")), 0, 1),
        (configured("c", "retention.ms", Some("soon")), 40, -1),
        (configured("c", "headwater.full.policy", Some("drop")), 40, -1),
        (configured("c", "cleanup.policy", Some("burn")), 40, -1),
        (configured("c", "no.such.setting", Some("1")), 40, -1),
        (configured("c", "retention.ms", None), 40, -1),
    ];
    for (topic, code, partitions) in cases {
        for is_dry in [true, false] {
            let mut request = CreateTopicsRequest::default();
            request.topics = vec![topic.clone()];
            request.validate_only = is_dry;
            let response = wire.call(7, &request).await;
            let result = &response.topics[0];
            let name = topic.name.as_str();
            assert_eq!(result.error_code, code, "{name} dry={is_dry}: {:?}", result.error_message);
            assert_eq!(result.num_partitions, partitions, "{name}");
            assert_eq!(result.error_message.is_some(), code != 0, "{name}");
            let is_there = gateway.broker.topic(name).is_some();
            assert_eq!(is_there, (code == 0 && !is_dry) || name == "there", "{name}");
        }
    }
    for version in 2..=7 {
        let mut request = CreateTopicsRequest::default();
        let name = format!("version-{version}");
        request.topics = vec![wish(&name, 1, 1), wish("twice", 1, 1), wish("twice", 1, 1)];
        let response = wire.call(version, &request).await;
        let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, 42], "version {version}: each once");
    }
    let mut both = assigned("c", &[(0, &[1])]);
    both.num_partitions = 1;
    let mut request = CreateTopicsRequest::default();
    request.topics = vec![both];
    assert_eq!(wire.call(7, &request).await.topics[0].error_code, 42);
    gateway.stop().await;
}

#[tokio::test]
async fn a_topic_is_not_created_with_settings_that_have_no_value() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let mut wire = Wire::connect(&gateway).await;
    let mut topic = configured("t", "retention.ms", None);
    topic.configs.extend(configured("t", "segment.ms", Some("1000")).configs);
    topic.configs.extend(configured("t", "cleanup.policy", None).configs);
    // As in Kafka this comes before what else may be wrong.
    topic.replication_factor = 3;
    for version in 2..=7 {
        for is_dry in [true, false] {
            let mut request = CreateTopicsRequest::default();
            request.topics = vec![topic.clone()];
            request.validate_only = is_dry;
            let result = wire.call(version, &request).await.topics.remove(0);
            assert_eq!(result.error_code, 40, "version {version}, dry={is_dry}");
            let message = result.error_message.expect("a message");
            let named = "topic configs: retention.ms,cleanup.policy";
            assert!(message.starts_with("Null value not supported"), "{message:?}");
            assert!(message.ends_with(named), "{message:?}");
            assert!(gateway.broker.topic("t").is_none());
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn configs_of_topics_and_of_the_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let settings = [("retention.ms".to_owned(), "1000".to_owned())].into();
    gateway.broker.create_topic("t", Some(1), settings).await.expect("a topic");
    let mut wire = Wire::connect(&gateway).await;
    let resource = |kind: i8, name: &str| {
        let mut resource = DescribeConfigsResource::default();
        resource.resource_type = kind;
        resource.resource_name = name.into();
        resource
    };
    for version in 1..=4 {
        let mut request = DescribeConfigsRequest::default();
        request.include_synonyms = true;
        request.resources = vec![
            resource(2, "t"),
            resource(2, "u"),
            resource(4, "1"),
            resource(4, "2"),
            resource(9, ""),
        ];
        let response = wire.call(version, &request).await;
        let codes: Vec<i16> = response.results.iter().map(|it| it.error_code).collect();
        assert_eq!(codes, [0, 3, 0, 42, 42], "version {version}");
        let entry = |name: &str| {
            let found = response.results[0].configs.iter().find(|it| it.name.as_str() == name);
            found.expect("a setting").clone()
        };
        let own = entry("retention.ms");
        assert_eq!((own.value.as_deref(), own.config_source), (Some("1000"), 1));
        assert_eq!(own.synonyms.len(), 2);
        let default = entry("cleanup.policy");
        assert_eq!((default.value.as_deref(), default.config_source), (Some("delete"), 5));
        assert!(!response.results[2].configs.is_empty());
    }
    let mut request = DescribeConfigsRequest::default();
    let mut only = resource(2, "t");
    only.configuration_keys = Some(vec!["retention.ms".into(), "nothing".into()]);
    request.resources = vec![only.clone(), only];
    let response = wire.call(4, &request).await;
    assert_eq!((response.results.len(), response.results[0].configs.len()), (1, 1));
    gateway.stop().await;
}

#[tokio::test]
async fn there_is_one_node_and_it_coordinates_groups() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let mut wire = Wire::connect(&gateway).await;
    let port = i32::from(gateway.address.port());
    for version in 0..=6 {
        for (kind, expect) in [(0, 0), (1, 53), (2, 42)] {
            let mut request = FindCoordinatorRequest::default();
            let is_batched = version >= 4;
            if is_batched {
                request.coordinator_keys = vec!["g".into(), "h".into()];
            } else {
                request.key = "g".into();
            }
            if version >= 1 {
                request.key_type = kind;
            }
            let expect = if version >= 1 { expect } else { 0 };
            let response = wire.call(version, &request).await;
            let got = match is_batched {
                true => (response.coordinators[1].error_code, response.coordinators[1].port),
                false => (response.error_code, response.port),
            };
            assert_eq!(got, (expect, if expect == 0 { port } else { -1 }), "version {version}");
        }
    }
    for version in 0..=2 {
        let mut request = DescribeClusterRequest::default();
        let response = wire.call(version, &request).await;
        assert_eq!((response.error_code, response.controller_id), (0, 1));
        assert_eq!((response.brokers[0].broker_id, response.brokers[0].port), (1, port));
        if version >= 1 {
            request.endpoint_type = 2;
            assert_eq!(wire.call(version, &request).await.error_code, 114);
            request.endpoint_type = 3;
            assert_eq!(wire.call(version, &request).await.error_code, 115);
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn producer_ids_are_for_producers_without_transactions() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let mut wire = Wire::connect(&gateway).await;
    let mut ids = Vec::new();
    for version in 0..=5 {
        let mut request = no_transactions();
        let response = wire.call(version, &request).await;
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        ids.push(response.producer_id);
        request.transactional_id = Some("tx".into());
        let response = wire.call(version, &request).await;
        assert_eq!((response.error_code, response.producer_id), (53, -1));
    }
    gateway.stop().await;
    let gateway = Gateway::start(folder.path()).await;
    let mut wire = Wire::connect(&gateway).await;
    ids.push(producer_id(&mut wire).await);
    let mut distinct = ids.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), ids.len(), "never given twice, also across restarts");
    gateway.stop().await;
}
