//! Groups on a broker: awaited answers, offsets that survive.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{open, reopen};
use crate::broker::{
    Groups,
    group::{
        CommitError, GroupError, GroupOptions, GroupPhase, JoinRequest, Leaving, MemberRef,
        OffsetCommit, SyncRequest,
    },
};

fn options() -> GroupOptions {
    GroupOptions { initial_rebalance_delay: Duration::from_millis(20), ..GroupOptions::default() }
}

fn join(group: &str, client: &str) -> JoinRequest {
    JoinRequest {
        group: group.to_owned(),
        member_id: String::new(),
        instance_id: None,
        client_id: client.to_owned(),
        client_host: "127.0.0.1".to_owned(),
        session_timeout: Duration::from_secs(6),
        rebalance_timeout: Duration::from_secs(10),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::from_static(b"t"))],
        requires_known_member_id: false,
        can_skip_assignment: false,
    }
}

fn commit(topic: &str, partition: u32, offset: i64, metadata: &str) -> OffsetCommit {
    let (topic, metadata) = (topic.to_owned(), metadata.to_owned());
    OffsetCommit { topic, partition, offset, leader_epoch: 3, metadata }
}

fn nobody(group: &str) -> MemberRef {
    MemberRef { group: group.to_owned(), generation: -1, ..MemberRef::default() }
}

#[tokio::test]
async fn offsets_survive_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open(folder.path()).await;
    broker.create_topic("t", Some(2), BTreeMap::new()).await.expect("created");
    let groups = Groups::new(Arc::clone(&broker), options());
    assert_eq!(groups.committed("g", "t", 0), None);
    let long = "x".repeat(4097);
    let commits = vec![
        commit("t", 0, 5, "note"),
        commit("t", 1, 7, &long[..4096]),
        commit("t", 2, 1, ""),
        commit("u", 0, 1, ""),
        commit("t", 0, 1, &long),
    ];
    let results = groups.commit(&nobody("g"), commits).await.expect("allowed");
    assert!(matches!(
        results[..],
        [
            Ok(()),
            Ok(()),
            Err(CommitError::UnknownPartition),
            Err(CommitError::UnknownPartition),
            Err(CommitError::MetadataTooLarge { bytes: 4097, limit: 4096 }),
        ]
    ));
    for group in [String::new(), "g".repeat(1025), "g".repeat(70_000)] {
        let error = groups.commit(&nobody(&group), vec![commit("t", 0, 9, "")]).await;
        let error = error.expect_err("not a group id");
        assert!(matches!(error, CommitError::Group(GroupError::InvalidGroupId)), "{error}");
        assert_eq!(groups.committed(&group, "t", 0), None);
        assert!(groups.all_committed(&group).is_empty() && groups.describe(&group).is_none());
    }
    groups.commit(&nobody("ga"), vec![commit("t", 0, 9, "")]).await.expect("allowed");
    groups.commit(&nobody("g"), vec![commit("t", 0, 6, "newer")]).await.expect("allowed");

    drop(groups);
    let broker = reopen(broker, folder.path()).await;
    let groups = Groups::new(Arc::clone(&broker), options());
    let committed = groups.committed("g", "t", 0).expect("committed");
    assert_eq!((committed.offset, committed.leader_epoch), (6, 3));
    assert_eq!(committed.metadata, "newer");
    assert!(committed.committed_ms > super::T0);
    let all: Vec<_> =
        groups.all_committed("g").into_iter().map(|it| (it.0, it.1, it.2.offset)).collect();
    assert_eq!(all, [("t".to_owned(), 0, 6), ("t".to_owned(), 1, 7)]);
    let names: Vec<_> = groups.list().into_iter().map(|it| (it.group, it.phase)).collect();
    assert_eq!(names, [("g".to_owned(), GroupPhase::Empty), ("ga".to_owned(), GroupPhase::Empty)]);
    assert_eq!(groups.describe("g").expect("has offsets").phase, GroupPhase::Empty);
    assert_eq!(groups.describe("h"), None);

    groups.delete("g").await.expect("has no members");
    let error = groups.delete("g").await.expect_err("gone");
    assert!(matches!(error, CommitError::Group(GroupError::NotFound)), "{error}");
    assert_eq!((groups.all_committed("g").len(), groups.all_committed("ga").len()), (0, 1));
    drop(groups);
    let broker = reopen(broker, folder.path()).await;
    let groups = Groups::new(broker, options());
    assert_eq!((groups.all_committed("g").len(), groups.all_committed("ga").len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_a_topic_and_one_takes_over() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open(folder.path()).await;
    broker.create_topic("t", Some(2), BTreeMap::new()).await.expect("created");
    let groups = Arc::new(Groups::new(broker, options()));
    let (one, two) = tokio::join!(groups.join(join("g", "a")), groups.join(join("g", "b")));
    let (one, two) = (one.expect("in"), two.expect("in"));
    assert_eq!((one.generation, two.generation, &one.leader), (1, 1, &two.leader));
    let (leader, follower) = if one.members.is_empty() { (two, one) } else { (one, two) };
    let who = |member_id: &str, generation| MemberRef {
        group: "g".to_owned(),
        member_id: member_id.to_owned(),
        instance_id: None,
        generation,
    };
    let assignments = vec![
        (leader.member_id.clone(), Bytes::from_static(b"p0")),
        (follower.member_id.clone(), Bytes::from_static(b"p1")),
    ];
    let sync = |member_id: &str, assignments| SyncRequest {
        member: who(member_id, 1),
        protocol_type: Some("consumer".to_owned()),
        protocol: Some("range".to_owned()),
        assignments,
    };
    let (first, second) = tokio::join!(
        groups.sync(sync(&follower.member_id, Vec::new())),
        groups.sync(sync(&leader.member_id, assignments)),
    );
    assert_eq!(first.expect("assigned").assignment, "p1");
    assert_eq!(second.expect("assigned").assignment, "p0");

    let me = who(&follower.member_id, 1);
    assert_eq!(groups.heartbeat(&me), Ok(()));
    groups.commit(&me, vec![commit("t", 1, 3, "")]).await.expect("a member");
    let error = groups.commit(&nobody("g"), vec![commit("t", 1, 0, "")]).await;
    let error = error.expect_err("only members commit");
    assert!(matches!(error, CommitError::Group(GroupError::UnknownMember)), "{error}");
    let error = groups.delete("g").await.expect_err("has members");
    assert!(matches!(error, CommitError::Group(GroupError::NotEmpty)), "{error}");
    assert_eq!(groups.describe("g").expect("there").members.len(), 2);

    let leaving = Leaving { member_id: leader.member_id.clone(), instance_id: None };
    assert_eq!(groups.leave("g", &[leaving]), Ok(vec![Ok(())]));
    assert_eq!(groups.heartbeat(&me), Err(GroupError::RebalanceInProgress));
    let again = JoinRequest { member_id: follower.member_id.clone(), ..join("g", "b") };
    let joined = groups.join(again).await.expect("in");
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
    let error = groups.commit(&me, vec![commit("t", 1, 4, "")]).await.expect_err("too old");
    assert!(matches!(error, CommitError::Group(GroupError::IllegalGeneration)), "{error}");
    assert_eq!(groups.committed("g", "t", 1).expect("committed").offset, 3);
}

#[tokio::test]
async fn sessions_end_by_themselves() {
    let folder = tempfile::tempdir().expect("folder");
    let broker = open(folder.path()).await;
    let session_timeout = Duration::from_millis(50);
    let options = GroupOptions { min_session_timeout: session_timeout, ..options() };
    let groups = Groups::new(broker, options);
    let joined = groups.join(JoinRequest { session_timeout, ..join("g", "a") }).await.expect("in");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !groups.list().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "the session does not end");
        tokio::task::yield_now().await;
    }
    let me = MemberRef { generation: 1, member_id: joined.member_id, ..nobody("g") };
    assert_eq!(groups.heartbeat(&me), Err(GroupError::UnknownMember));
}
