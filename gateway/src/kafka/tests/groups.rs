//! Consumer groups over the wire, in the lowest and the highest versions.

use kafka_wire::{
    DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
    join_group_request::JoinGroupRequestProtocol,
    leave_group_request::MemberIdentity,
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
    offset_fetch_request::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    },
    sync_group_request::SyncGroupRequestAssignment,
};

use super::harness::*;
use crate::kafka::codec::Uuid;

fn join(group: &str, member: &str) -> JoinGroupRequest {
    let mut protocol = JoinGroupRequestProtocol::default();
    protocol.name = "range".into();
    protocol.metadata = "metadata".into();
    let mut request = JoinGroupRequest::default();
    request.group_id = group.into();
    request.member_id = member.into();
    request.session_timeout_ms = 10_000;
    request.rebalance_timeout_ms = 10_000;
    request.protocol_type = "consumer".into();
    request.protocols = vec![protocol];
    request
}

/// Joins as a new member does in this version: from 4 on in two steps.
async fn join_new(wire: &mut Wire, version: i16, group: &str) -> JoinGroupResponse {
    let first = wire.call(version, &join(group, "")).await;
    if version < 4 {
        return first;
    }
    assert_eq!(first.error_code, 79, "version {version}");
    wire.call(version, &join(group, &first.member_id)).await
}

fn commit(
    group: &str,
    member: &str,
    generation: i32,
    offsets: &[(&str, i32, i64)],
) -> OffsetCommitRequest {
    let mut request = OffsetCommitRequest::default();
    request.group_id = group.into();
    request.member_id = member.into();
    request.generation_id_or_member_epoch = generation;
    request.topics = offsets
        .iter()
        .map(|&(topic, index, offset)| {
            let mut partition = OffsetCommitRequestPartition::default();
            partition.partition_index = index;
            partition.committed_offset = offset;
            partition.committed_metadata = Some("note".into());
            let mut committed = OffsetCommitRequestTopic::default();
            committed.name = topic.into();
            committed.partitions = vec![partition];
            committed
        })
        .collect();
    request
}

/// (partition, offset, metadata) of the only topic, whatever the version's layout.
async fn committed(
    wire: &mut Wire,
    version: i16,
    group: &str,
    topic: Option<(&str, &[i32])>,
) -> Vec<(i32, i64, String)> {
    let mut request = OffsetFetchRequest::default();
    if version >= 8 {
        let mut asked = OffsetFetchRequestGroup::default();
        asked.group_id = group.into();
        asked.topics = topic.map(|(name, indexes)| {
            let mut topic = OffsetFetchRequestTopics::default();
            topic.name = name.into();
            topic.partition_indexes = indexes.to_vec();
            vec![topic]
        });
        request.groups = vec![asked];
        let response = wire.call(version, &request).await;
        let answered = &response.groups[0];
        assert_eq!((answered.error_code, answered.group_id.as_str()), (0, group));
        let partitions = answered.topics.iter().flat_map(|topic| &topic.partitions);
        let text =
            |it: &Option<crate::kafka::codec::StrBytes>| it.as_deref().unwrap_or("null").to_owned();
        return partitions
            .map(|it| (it.partition_index, it.committed_offset, text(&it.metadata)))
            .collect();
    }
    request.group_id = group.into();
    request.topics = topic.map(|(name, indexes)| {
        let mut topic = OffsetFetchRequestTopic::default();
        topic.name = name.into();
        topic.partition_indexes = indexes.to_vec();
        vec![topic]
    });
    let response = wire.call(version, &request).await;
    assert_eq!(response.error_code, 0);
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|it| {
            let metadata = it.metadata.as_deref().unwrap_or("null").to_owned();
            (it.partition_index, it.committed_offset, metadata)
        })
        .collect()
}

#[tokio::test]
async fn a_member_s_life_in_every_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 2).await;
    let mut wire = Wire::connect(&gateway).await;
    for version in 0..=9_i16 {
        let group = format!("group-{version}");
        let joined = join_new(&mut wire, version, &group).await;
        assert_eq!(joined.error_code, 0, "version {version}");
        assert_eq!(joined.leader, joined.member_id);
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert_eq!(joined.members.len(), 1);
        assert_eq!(&joined.members[0].metadata[..], b"metadata");
        let member = joined.member_id.clone();

        let mut assignment = SyncGroupRequestAssignment::default();
        assignment.member_id = member.clone();
        assignment.assignment = "everything".into();
        let mut sync = SyncGroupRequest::default();
        sync.group_id = group.as_str().into();
        sync.generation_id = joined.generation_id;
        sync.member_id = member.clone();
        sync.assignments = vec![assignment];
        if version >= 5 {
            let unnamed = wire.call(5, &sync).await;
            assert_eq!(unnamed.error_code, 23, "it has to say what it takes part in");
        }
        sync.protocol_type = Some("consumer".into());
        sync.protocol_name = Some("range".into());
        let synced = wire.call(version.min(5), &sync).await;
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"everything"[..]));

        let mut beat = HeartbeatRequest::default();
        beat.group_id = group.as_str().into();
        beat.generation_id = joined.generation_id;
        beat.member_id = member.clone();
        assert_eq!(wire.call(version.min(4), &beat).await.error_code, 0);
        beat.generation_id += 1;
        assert_eq!(wire.call(version.min(4), &beat).await.error_code, 22);

        let offsets = [("t", 0, 5), ("t", 7, 5), ("nowhere", 0, 5), ("t", -1, 5), ("t", 1, 6)];
        let request = commit(&group, &member, joined.generation_id, &offsets);
        let response = wire.call(version.max(2), &request).await;
        let codes: Vec<i16> =
            response.topics.iter().map(|it| it.partitions[0].error_code).collect();
        assert_eq!(codes, [0, 3, 3, 3, 0], "version {version}");
        let request = commit(&group, "stranger", joined.generation_id, &offsets[..1]);
        let response = wire.call(version.max(2), &request).await;
        assert_eq!(response.topics[0].partitions[0].error_code, 25);
        let note = || "note".to_owned();
        let got = committed(&mut wire, version.max(1), &group, Some(("t", &[1, 0, 7]))).await;
        assert_eq!(got, [(1, 6, note()), (0, 5, note()), (7, -1, String::new())]);
        if version >= 2 {
            let all = committed(&mut wire, version, &group, None).await;
            assert_eq!(all, [(0, 5, note()), (1, 6, note())]);
        }

        let mut leave = LeaveGroupRequest::default();
        leave.group_id = group.as_str().into();
        let is_batched = version.min(5) >= 3;
        if is_batched {
            leave.members = [member.as_str(), "stranger"]
                .map(|id| {
                    let mut identity = MemberIdentity::default();
                    identity.member_id = id.into();
                    identity
                })
                .to_vec();
        } else {
            leave.member_id = member.clone();
        }
        let left = wire.call(version.min(5), &leave).await;
        assert_eq!(left.error_code, 0);
        if is_batched {
            let codes: Vec<i16> = left.members.iter().map(|it| it.error_code).collect();
            assert_eq!(codes, [0, 25]);
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_second_member_makes_the_first_join_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let mut first = Wire::connect(&gateway).await;
    let mut second = Wire::connect(&gateway).await;
    let joined = join_new(&mut first, 5, "g").await;
    let mut sync = SyncGroupRequest::default();
    sync.group_id = "g".into();
    sync.generation_id = joined.generation_id;
    sync.member_id = joined.member_id.clone();
    assert_eq!(first.call(3, &sync).await.error_code, 0);

    let required = second.call(5, &join("g", "")).await;
    let waiting = second.send(5, &join("g", &required.member_id)).await;
    let mut beat = HeartbeatRequest::default();
    beat.group_id = "g".into();
    beat.generation_id = joined.generation_id;
    beat.member_id = joined.member_id.clone();
    // The second member's request comes on another connection: it may take a moment.
    let deadline = tokio::time::Instant::now() + SOON;
    while first.call(3, &beat).await.error_code != 27 {
        assert!(tokio::time::Instant::now() < deadline, "the first member is told to join again");
        tokio::task::yield_now().await;
    }
    let again = first.call(5, &join("g", &joined.member_id)).await;
    let other = second.receive::<JoinGroupRequest>(5, waiting).await;
    assert_eq!((again.error_code, other.error_code), (0, 0));
    assert_eq!((again.generation_id, other.generation_id), (2, 2));
    assert_eq!((again.members.len(), other.members.len()), (2, 0), "the leader alone sees all");
    gateway.stop().await;
}

#[tokio::test]
async fn joins_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    let mut wire = Wire::connect(&gateway).await;
    for version in 0..=9 {
        let response = wire.call(version, &join("", "")).await;
        assert_eq!((response.error_code, response.generation_id), (24, -1));
        let mut hasty = join("g", "");
        hasty.session_timeout_ms = 1;
        assert_eq!(wire.call(version, &hasty).await.error_code, 26);
        hasty.session_timeout_ms = -1;
        assert_eq!(wire.call(version, &hasty).await.error_code, 26);
        assert_eq!(wire.call(version, &join("g", "stranger")).await.error_code, 25);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn groups_are_listed_described_and_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let joined = join_new(&mut wire, 5, "active").await;
    let response = wire.call(5, &commit("offsets", "", -1, &[("t", 0, 3)])).await;
    assert_eq!(response.topics[0].partitions[0].error_code, 0);

    for version in 0..=5 {
        let response = wire.call(version, &ListGroupsRequest::default()).await;
        let names: Vec<&str> = response.groups.iter().map(|it| it.group_id.as_str()).collect();
        assert_eq!(names, ["active", "offsets"], "version {version}");
    }
    let mut request = ListGroupsRequest::default();
    request.states_filter = vec!["empty".into()];
    let response = wire.call(4, &request).await;
    assert_eq!(response.groups.len(), 1);
    request.types_filter = vec!["consumer".into()];
    assert!(wire.call(5, &request).await.groups.is_empty());

    for version in 0..=6 {
        let mut request = DescribeGroupsRequest::default();
        request.groups = ["active", "offsets", "none", "active"].map(Into::into).to_vec();
        let response = wire.call(version, &request).await;
        let states: Vec<&str> = response.groups.iter().map(|it| it.group_state.as_str()).collect();
        assert_eq!(states, ["CompletingRebalance", "Empty", "Dead"], "version {version}");
        assert_eq!(response.groups[2].error_code, if version < 6 { 0 } else { 69 });
        let member = &response.groups[0].members[0];
        assert_eq!(member.member_id, joined.member_id);
        assert_eq!(
            (member.client_id.as_str(), member.client_host.as_str()),
            ("test", "/127.0.0.1")
        );
    }
    // Who was only given an id is no member yet.
    assert_eq!(wire.call(4, &join("offsets", "")).await.error_code, 79);
    let mut request = DeleteGroupsRequest::default();
    request.groups_names = ["active", "offsets", "none"].map(Into::into).to_vec();
    let response = wire.call(2, &request).await;
    let codes: Vec<i16> = response.results.iter().map(|it| it.error_code).collect();
    assert_eq!(codes, [68, 0, 69]);
    assert_eq!(committed(&mut wire, 9, "offsets", Some(("t", &[0]))).await[0].1, -1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start_with(folder.path(), |config| config.max_connections = 1).await;
    let mut wire = Wire::connect(&gateway).await;
    let required = wire.call(5, &join("g", "")).await;
    let joined = wire.call(5, &join("g", &required.member_id)).await;
    // A follower that syncs before its leader waits; this one is the leader's own other request.
    assert_eq!(joined.error_code, 0);
    let again = wire.call(5, &join("g", "")).await;
    wire.send(5, &join("g", &again.member_id)).await;
    drop(wire);
    // The only seat is free again as soon as the server has seen the end.
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let mut next = Wire::connect(&gateway).await;
        let request = kafka_wire::ApiVersionsRequest::default();
        next.try_send_bytes(&frame(0, 1, &request)).await;
        if next.receive_frame().await.is_some() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the seat is given back");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn offsets_of_topics_by_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 2).await;
    let mut wire = Wire::connect(&gateway).await;
    let known = Uuid::from_bytes(gateway.broker.topic("t").expect("a topic").id);
    let unknown = Uuid::from_bytes([9; 16]);
    let offsets = [("", 0, 3), ("", 5, 3), ("", -1, 3), ("", 0, 3)];
    let mut request = commit("g", "", -1, &offsets);
    for (topic, id) in request.topics.iter_mut().zip([known, known, known, unknown]) {
        topic.topic_id = id;
    }
    let response = wire.call(10, &request).await;
    let codes: Vec<_> =
        response.topics.iter().map(|it| (it.topic_id, it.partitions[0].error_code)).collect();
    assert_eq!(codes, [(known, 0), (known, 3), (known, 3), (unknown, 100)]);
    // Of a group that is not there, no generation is the current one.
    for (version, code) in [(8, 22), (9, 69)] {
        let response = wire.call(version, &commit("h", "me", 1, &[("t", 0, 3)])).await;
        assert_eq!(response.topics[0].partitions[0].error_code, code, "version {version}");
    }
    let ask = |topics: Option<&[(Uuid, &[i32])]>| {
        let mut group = OffsetFetchRequestGroup::default();
        group.group_id = "g".into();
        group.topics = topics.map(|topics| {
            let topic = |&(id, indexes): &(Uuid, &[i32])| {
                let mut topic = OffsetFetchRequestTopics::default();
                topic.topic_id = id;
                topic.partition_indexes = indexes.to_vec();
                topic
            };
            topics.iter().map(topic).collect()
        });
        let mut request = OffsetFetchRequest::default();
        request.groups = vec![group];
        request
    };
    let found = async |wire: &mut Wire, request: OffsetFetchRequest| {
        let response = wire.call(10, &request).await;
        let topics = response.groups[0].topics.clone();
        let partitions = topics.into_iter().flat_map(|topic| {
            let id = topic.topic_id;
            topic.partitions.into_iter().map(move |it| (id, it.committed_offset, it.error_code))
        });
        partitions.collect::<Vec<_>>()
    };
    let some = ask(Some(&[(known, &[0, 1, -1]), (unknown, &[0])]));
    let expect = [(known, 3, 0), (known, -1, 0), (known, -1, 0), (unknown, -1, 100)];
    assert_eq!(found(&mut wire, some).await, expect);
    assert_eq!(found(&mut wire, ask(None)).await, [(known, 3, 0)]);
    gateway.stop().await;
}

/// Code of the whole answer, and of each partition in the order of the request.
async fn delete_offsets(
    wire: &mut Wire,
    group: &str,
    offsets: &[(&str, &[i32])],
) -> (i16, Vec<i16>) {
    let mut request = OffsetDeleteRequest::default();
    request.group_id = group.into();
    request.topics = offsets
        .iter()
        .map(|&(name, indexes)| {
            let mut topic = OffsetDeleteRequestTopic::default();
            topic.name = name.into();
            topic.partitions = indexes
                .iter()
                .map(|&index| {
                    let mut partition = OffsetDeleteRequestPartition::default();
                    partition.partition_index = index;
                    partition
                })
                .collect();
            topic
        })
        .collect();
    let response = wire.call(0, &request).await;
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    (response.error_code, partitions.map(|it| it.error_code).collect())
}

#[tokio::test]
async fn offsets_are_deleted_but_those_that_somebody_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(folder.path()).await;
    create(&gateway, "t", 2).await;
    create(&gateway, "u", 1).await;
    let mut wire = Wire::connect(&gateway).await;
    assert_eq!(delete_offsets(&mut wire, "", &[("t", &[0])]).await, (24, vec![]));
    assert_eq!(delete_offsets(&mut wire, "g", &[("t", &[0])]).await, (69, vec![]));
    let all = [("t", 0, 1), ("t", 1, 2), ("u", 0, 3)];
    wire.call(9, &commit("g", "", -1, &all)).await;
    let deleted = delete_offsets(&mut wire, "g", &[("t", &[0, 0, 2, -1]), ("nope", &[0])]).await;
    assert_eq!(deleted, (0, vec![0, 0, 3, 3, 3]));
    let left = committed(&mut wire, 8, "g", Some(("t", &[0, 1]))).await;
    assert_eq!((left[0].1, left[1].1), (-1, 2));
    // A member reads t: its offsets stay.
    let mut joining = join("g", "");
    joining.protocols[0].metadata = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"[..].into();
    let joined = wire.call(3, &joining).await;
    let mut sync = SyncGroupRequest::default();
    sync.group_id = "g".into();
    sync.member_id = joined.member_id.clone();
    sync.generation_id = joined.generation_id;
    assert_eq!(wire.call(3, &sync).await.error_code, 0);
    let deleted = delete_offsets(&mut wire, "g", &[("t", &[1]), ("u", &[0])]).await;
    assert_eq!(deleted, (0, vec![86, 0]));
    // Nobody knows what members of other protocols read.
    let mut other = join("h", "");
    other.protocol_type = "connect".into();
    wire.call(3, &other).await;
    assert_eq!(delete_offsets(&mut wire, "h", &[("t", &[1])]).await, (68, vec![]));
    gateway.stop().await;
    let gateway = Gateway::start(folder.path()).await;
    let left: Vec<_> = (0..2).map(|it| gateway_offset(&gateway, it)).collect();
    assert_eq!(left, [false, true], "durably");
    gateway.stop().await;
}

/// Whether group g has an offset of a partition of t.
fn gateway_offset(gateway: &Gateway, partition: u8) -> bool {
    let key = [&b"\0\x01g\0\x01t\0\0\0"[..], &[partition]].concat();
    gateway.broker.fact(crate::broker::space::GROUP_OFFSET, &key).is_some()
}
