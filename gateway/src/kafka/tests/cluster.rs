//! What admin tools ask of a cluster, answered for one node; epochs and producers of partitions.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use kafka_wire::{
    DescribeClientQuotasRequest, DescribeLogDirsRequest, DescribeProducersRequest,
    DescribeQuorumRequest, DescribeTopicPartitionsRequest, ElectLeadersRequest,
    ListConfigResourcesRequest, ListPartitionReassignmentsRequest, OffsetForLeaderEpochRequest,
    describe_client_quotas_request::ComponentData,
    describe_log_dirs_request::DescribableLogDirTopic,
    describe_producers_request, describe_quorum_request,
    describe_topic_partitions_request::{Cursor, TopicRequest},
    elect_leaders_request::TopicPartitions,
    offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
};

use super::{
    consume::{fetch, told, values},
    harness::*,
};

#[tokio::test]
async fn epochs_end_where_the_next_one_begins() {
    let mut folder = tempfile::tempdir().expect("a folder");
    let mut ends = Vec::new();
    // Each start has an epoch of its own that no orderly stop preceded: a copy of the files of a running one is such.
    for round in 0..4 {
        let gateway = Gateway::start(folder.path()).await;
        if round == 0 {
            create(&gateway, "t", 2).await;
        }
        let mut wire = Wire::connect(&gateway).await;
        append(&mut wire, "t", &["a", "b"]).await;
        append(&mut wire, "t", &["c"]).await;
        let topic = gateway.broker.topic("t").expect("a topic");
        let here = gateway.broker.ends(topic.partitions[0]);
        ends.push((here.leader_epoch, here.durable.0));
        if round == 3 {
            check_epochs(&mut wire, &ends).await;
            check_divergence(&mut wire, &ends).await;
            check_divergence_in_a_session(&mut wire, ends[1]).await;
        }
        let copy = tempfile::tempdir().expect("a folder");
        copy_files(folder.path(), copy.path());
        gateway.stop().await;
        folder = copy;
    }
}

/// A copy as of one moment: files that are prepared, renamed or removed meanwhile make another one necessary.
fn copy_files(from: &Path, to: &Path) {
    loop {
        let before = names(from);
        let copied = before.iter().try_for_each(|name| {
            let to = to.join(name);
            std::fs::create_dir_all(to.parent().expect("below the folder")).expect("a folder");
            std::fs::copy(from.join(name), to).map(drop)
        });
        match copied {
            Ok(()) if names(from) == before => return,
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("no copy: {error}"),
            _ => std::fs::remove_dir_all(to).expect("what was copied goes"),
        }
    }
}

/// All files below a folder, by their paths in it.
fn names(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for file in std::fs::read_dir(next).expect("a folder").map_while(Result::ok) {
            match file.file_type().expect("a kind").is_dir() {
                true => folders.push(file.path()),
                false => {
                    let path = file.path();
                    found.insert(path.strip_prefix(folder).expect("below it").to_owned());
                }
            }
        }
    }
    found
}

/// Epochs and where the log ended under each.
async fn check_epochs(wire: &mut Wire, ends: &[(i32, i64)]) {
    let (first, current) = (ends[0].0, ends[3].0);
    assert!(ends.is_sorted_by(|a, b| a.0 < b.0), "{ends:?}");
    let ask = async |wire: &mut Wire, version, topic: &str, index, known, epoch| {
        let mut partition = OffsetForLeaderPartition::default();
        partition.partition = index;
        partition.current_leader_epoch = known;
        partition.leader_epoch = epoch;
        let mut asked = OffsetForLeaderTopic::default();
        asked.topic = topic.into();
        asked.partitions = vec![partition];
        let mut request = OffsetForLeaderEpochRequest::default();
        request.topics = vec![asked];
        let response = wire.call(version, &request).await;
        let found = &response.topics[0].partitions[0];
        (found.error_code, found.leader_epoch, found.end_offset)
    };
    for version in 2..=4 {
        for &(epoch, end) in ends {
            let found = ask(wire, version, "t", 0, current, epoch).await;
            assert_eq!(found, (0, epoch, end), "{ends:?}");
        }
        assert_eq!(ask(wire, version, "t", 0, -1, current + 1).await, (0, -1, -1));
        assert_eq!(ask(wire, version, "t", 0, -1, -1).await, (0, -1, -1));
        assert_eq!(ask(wire, version, "t", 0, current + 1, first).await, (75, -1, -1));
        assert_eq!(ask(wire, version, "t", 0, first, first).await, (74, -1, -1));
        assert_eq!(ask(wire, version, "t", 1, -1, first).await, (0, first, 0), "nothing there");
        assert_eq!(ask(wire, version, "t", 2, -1, first).await, (3, -1, -1));
        assert_eq!(ask(wire, version, "nowhere", 0, -1, first).await, (3, -1, -1));
    }
}

/// A consumer that says under which epoch it read last hears where its log and ours part.
async fn check_divergence(wire: &mut Wire, ends: &[(i32, i64)]) {
    let ask = async |wire: &mut Wire, version, offset, epoch| {
        let mut request = fetch("t", &[(0, offset)]);
        request.topics[0].partitions[0].last_fetched_epoch = epoch;
        let response = wire.call(version, &request).await;
        let diverging = &response.responses[0].partitions[0].diverging_epoch;
        let (code, records) = values(&response, 0);
        (code, records.len(), (diverging.epoch, diverging.end_offset))
    };
    let none = (-1, -1);
    let last = ends[3].1;
    for (round, &(epoch, end)) in ends.iter().enumerate() {
        let after = 3 * (3 - round);
        assert_eq!(ask(wire, 12, end, epoch).await, (0, after, none), "at the end of {epoch}");
        assert_eq!(ask(wire, 12, end - 1, epoch).await, (0, after + 1, none), "within {epoch}");
        assert_eq!(ask(wire, 12, end + 1, epoch).await, (0, 0, (epoch, end)), "behind {epoch}");
    }
    assert_eq!(ask(wire, 12, last, ends[1].0).await, (0, 0, (ends[1].0, ends[1].1)));
    assert_eq!(ask(wire, 12, 0, ends[3].0 + 1).await, (1, 0, none), "an epoch to come");
    assert_eq!(ask(wire, 12, 0, -1).await, (0, 12, none), "nothing is compared");
}

/// What is told once is told again as long as it holds, though nothing else has changed.
async fn check_divergence_in_a_session(wire: &mut Wire, (epoch, end): (i32, i64)) {
    let mut request = fetch("t", &[(0, end + 1), (1, 0)]);
    request.session_epoch = 0;
    let response = wire.call(12, &request).await;
    assert_eq!(told(&response), [0, 1]);
    let mut request = fetch("t", &[(0, end + 1)]);
    request.topics[0].partitions[0].last_fetched_epoch = epoch;
    for turn in 1..3 {
        (request.session_id, request.session_epoch) = (response.session_id, turn);
        let again = wire.call(12, &request).await;
        assert_eq!(told(&again), [0], "turn {turn}");
        let diverging = &again.responses[0].partitions[0].diverging_epoch;
        assert_eq!((diverging.epoch, diverging.end_offset), (epoch, end));
    }
}

#[tokio::test]
async fn producers_of_a_partition() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let id = producer_id(&mut wire).await;
    for sequence in [0, 2] {
        let batch = batch_at(5000, &["a", "b"]).with_producer(id, 3, sequence).expect("a producer");
        let request = produce_request(-1, &[("t", 0, batch.bytes().clone())]);
        assert_eq!(produced(&wire.call(9, &request).await).0, 0);
    }
    let ask = |name: &str, indexes: &[i32]| {
        let mut topic = describe_producers_request::TopicRequest::default();
        topic.name = name.into();
        topic.partition_indexes = indexes.to_vec();
        topic
    };
    let mut request = DescribeProducersRequest::default();
    request.topics = vec![ask("t", &[0, 9]), ask("nowhere", &[0]), ask("a/b", &[0])];
    let response = wire.call(0, &request).await;
    let code = |topic: usize, at: usize| response.topics[topic].partitions[at].error_code;
    assert_eq!([code(0, 0), code(0, 1), code(1, 0), code(2, 0)], [0, 3, 3, 17]);
    let [known] = &response.topics[0].partitions[0].active_producers[..] else { panic!("one") };
    let found = (known.producer_id, known.producer_epoch, known.last_sequence);
    assert_eq!(found, (id, 3, 3));
    let found = (known.last_timestamp, known.coordinator_epoch, known.current_txn_start_offset);
    assert_eq!(found, (5001, -1, -1));
    gateway.stop().await;
}

#[tokio::test]
async fn topics_page_by_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 3).await;
    create(&gateway, "u", 2).await;
    let mut wire = Wire::connect(&gateway).await;
    /// Topics by name with their codes and partitions, and the next cursor.
    type Page = (Vec<(String, i16, Vec<i32>)>, Option<(String, i32)>);
    let ask =
        async |wire: &mut Wire, topics: &[&str], limit, cursor: Option<(&str, i32)>| -> Page {
            let mut request = DescribeTopicPartitionsRequest::default();
            request.topics = topics
                .iter()
                .map(|&name| {
                    let mut topic = TopicRequest::default();
                    topic.name = name.into();
                    topic
                })
                .collect();
            request.response_partition_limit = limit;
            request.cursor = cursor.map(|(topic, index)| {
                let mut cursor = Cursor::default();
                cursor.topic_name = topic.into();
                cursor.partition_index = index;
                cursor
            });
            let response = wire.call(0, &request).await;
            let topics = response.topics.iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|it| it.partition_index).collect();
                (topic.name.as_deref().unwrap_or_default().to_owned(), topic.error_code, partitions)
            });
            let next =
                response.next_cursor.map(|it| (it.topic_name.to_string(), it.partition_index));
            (topics.collect(), next)
        };
    let line = |name: &str, code: i16, indexes: &[i32]| (name.to_owned(), code, indexes.to_vec());
    let next = |name: &str, index: i32| Some((name.to_owned(), index));
    let (t, u) = (line("t", 0, &[0, 1, 2]), line("u", 0, &[0, 1]));
    assert_eq!(ask(&mut wire, &[], 2000, None).await, (vec![t.clone(), u.clone()], None));
    let bad = [line("a/b", 17, &[]), line("nope", 3, &[])];
    let expect = [&bad[..], &[t.clone(), u]].concat();
    assert_eq!(ask(&mut wire, &["u", "t", "nope", "a/b", "t"], 2000, None).await, (expect, None));
    let page = ask(&mut wire, &["u", "t", "nope"], 1, None).await;
    assert_eq!(page, (vec![bad[1].clone(), line("t", 0, &[0])], next("t", 1)));
    let page = ask(&mut wire, &["u", "t"], 0, None).await;
    assert_eq!(page, (vec![line("t", 0, &[0])], next("t", 1)), "one at least");
    let page = ask(&mut wire, &["u", "t"], 2, Some(("t", 1))).await;
    assert_eq!(page, (vec![line("t", 0, &[1, 2])], next("u", 0)));
    let page = ask(&mut wire, &[], 3, Some(("t", 7))).await;
    assert_eq!(page, (vec![line("t", 0, &[]), line("u", 0, &[0, 1])], None));
    let page = ask(&mut wire, &[], 3, Some(("tt", 0))).await;
    assert_eq!(page, (vec![line("u", 0, &[0, 1])], None), "its topic is gone");
    assert_eq!(ask(&mut wire, &[], 3, Some(("t", -1))).await, (Vec::new(), None));
    gateway.stop().await;
}

#[tokio::test]
async fn the_data_folder_and_what_lies_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 2).await;
    create(&gateway, "u", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let bytes = batch(&["a", "b"]).len();
    append(&mut wire, "t", &["a", "b"]).await;
    append(&mut wire, "t", &["a", "b"]).await;
    let ask = |name: &str, indexes: &[i32]| {
        let mut topic = DescribableLogDirTopic::default();
        topic.topic = name.into();
        topic.partitions = indexes.to_vec();
        topic
    };
    for version in 1..=5 {
        let mut request = DescribeLogDirsRequest::default();
        request.topics = None;
        let response = wire.call(version, &request).await;
        let [folder_of] = &response.results[..] else { panic!("one folder") };
        assert_eq!(folder_of.log_dir.as_str(), folder.path().to_str().expect("text"));
        let sizes: Vec<_> = folder_of
            .topics
            .iter()
            .flat_map(|it| it.partitions.iter().map(|it| (it.partition_index, it.partition_size)))
            .collect();
        let [(0, taken), (1, 0), (0, 0)] = sizes[..] else { panic!("{sizes:?}") };
        assert!((2 * bytes as i64..4 * bytes as i64).contains(&taken), "{taken} {bytes}");
        if version >= 4 {
            assert_eq!(folder_of.total_bytes, 64 << 20);
            assert!((0..64 << 20).contains(&folder_of.usable_bytes));
        }
        request.topics = Some(vec![ask("t", &[0, 9, 0]), ask("nowhere", &[0])]);
        let response = wire.call(version, &request).await;
        let [topic] = &response.results[0].topics[..] else { panic!("one topic") };
        assert_eq!((topic.name.as_str(), topic.partitions.len()), ("t", 1));
        request.topics = Some(Vec::new());
        assert!(wire.call(version, &request).await.results[0].topics.is_empty());
    }
    gateway.stop().await;
}

#[tokio::test]
async fn there_is_nothing_to_elect_and_nothing_to_move() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let ask = |name: &str, indexes: &[i32]| {
        let mut topic = TopicPartitions::default();
        topic.topic = name.into();
        topic.partitions = indexes.to_vec();
        topic
    };
    for version in 0..=2 {
        for kind in [0, 1, 5] {
            if version == 0 && kind != 0 {
                continue;
            }
            let mut request = ElectLeadersRequest::default();
            request.election_type = kind;
            request.topic_partitions = Some(vec![ask("t", &[0, 9]), ask("nowhere", &[0])]);
            let response = wire.call(version, &request).await;
            let codes: Vec<_> = response
                .replica_election_results
                .iter()
                .flat_map(|it| it.partition_result.iter().map(|it| it.error_code))
                .collect();
            let expect = if kind == 5 { [42; 3] } else { [84, 3, 3] };
            assert_eq!(codes, expect, "version {version}, kind {kind}");
            if version >= 1 {
                assert_eq!(response.error_code, if kind == 5 { 42 } else { 0 });
            }
            request.topic_partitions = None;
            let response = wire.call(version, &request).await;
            let [topic] = &response.replica_election_results[..] else { panic!("one topic") };
            assert!(topic.partition_result.is_empty());
        }
    }
    let mut request = ListPartitionReassignmentsRequest::default();
    request.topics = None;
    let response = wire.call(0, &request).await;
    assert_eq!((response.error_code, response.topics.len()), (0, 0));
    gateway.stop().await;
}

#[tokio::test]
async fn the_quorum_is_the_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let epoch = gateway.broker.ends(gateway.broker.topic("t").expect("a topic").partitions[0]);
    let mut wire = Wire::connect(&gateway).await;
    for version in 0..=2 {
        for (name, index, code) in
            [("__cluster_metadata", 0, 0), ("__cluster_metadata", 1, 3), ("t", 0, 3)]
        {
            let mut partition = describe_quorum_request::PartitionData::default();
            partition.partition_index = index;
            let mut topic = describe_quorum_request::TopicData::default();
            topic.topic_name = name.into();
            topic.partitions = vec![partition];
            let mut request = DescribeQuorumRequest::default();
            request.topics = vec![topic];
            let response = wire.call(version, &request).await;
            let found = &response.topics[0].partitions[0];
            assert_eq!((response.error_code, found.error_code), (0, code), "{name} {index}");
            if code != 0 {
                assert!(found.current_voters.is_empty());
                continue;
            }
            assert_eq!((found.leader_id, found.leader_epoch), (1, epoch.leader_epoch));
            let [voter] = &found.current_voters[..] else { panic!("one voter") };
            assert_eq!((voter.replica_id, voter.log_end_offset), (1, found.high_watermark));
            assert!(found.high_watermark > 0);
            if version >= 2 {
                assert_eq!(response.nodes[0].node_id, 1);
                assert_eq!(response.nodes[0].listeners[0].port, gateway.address.port());
            }
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn there_are_no_quotas() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let mut wire = Wire::connect(&gateway).await;
    let component = |kind: &str, how: i8, value: Option<&str>| {
        let mut component = ComponentData::default();
        component.entity_type = kind.into();
        component.match_type = how;
        component.match_ = value.map(Into::into);
        component
    };
    let (user, ip) = (component("user", 0, Some("x")), component("ip", 2, None));
    for (components, code) in [
        (vec![], 0),
        (vec![user.clone(), component("client-id", 1, None)], 0),
        (vec![component("zzz", 0, Some("x"))], 35),
        (vec![component("", 0, Some("x"))], 42),
        (vec![user.clone(), user.clone()], 42),
        (vec![user.clone(), ip], 42),
        (vec![component("user", 7, Some("x"))], 42),
        (vec![component("user", 0, None)], 42),
        (vec![component("user", 1, Some("x"))], 42),
    ] {
        for version in 0..=1 {
            let mut request = DescribeClientQuotasRequest::default();
            request.components.clone_from(&components);
            let response = wire.call(version, &request).await;
            assert_eq!(response.error_code, code, "{components:?}");
            assert_eq!(response.entries.map(|it| it.len()), (code == 0).then_some(0));
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_has_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let mut request = ListConfigResourcesRequest::default();
    let response = wire.call(0, &request).await;
    assert_eq!((response.error_code, response.config_resources.len()), (0, 0));
    let (node, topic) = ((4, "1"), (2, "t"));
    for (types, code, expect) in [
        (&[][..], 0, &[node, topic][..]),
        (&[2], 0, &[topic]),
        (&[4, 8, 16, 32], 0, &[node]),
        (&[77], 35, &[]),
    ] {
        request.resource_types = types.to_vec();
        let response = wire.call(1, &request).await;
        let found = response.config_resources.iter();
        let found: Vec<_> = found.map(|it| (it.resource_type, it.resource_name.as_str())).collect();
        assert_eq!((response.error_code, &found[..]), (code, expect), "{types:?}");
    }
    gateway.stop().await;
}
