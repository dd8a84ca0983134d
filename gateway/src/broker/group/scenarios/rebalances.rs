//! Joining, rebalancing, assignments and sessions of dynamic members.

use super::*;

#[test]
fn a_new_member_is_given_an_id_first() {
    let mut stage = Stage::new();
    let request = JoinRequest { requires_known_member_id: true, ..new_member("c") };
    let ask = stage.join(request.clone());
    let Some(Err(GroupError::MemberIdRequired { member_id })) = stage.joined(ask) else {
        panic!("an id is required")
    };
    assert!(member_id.starts_with("c-"), "{member_id}");
    let ask = stage.join(JoinRequest { member_id: member_id.clone(), ..request });
    assert_eq!(stage.joined(ask), None);
    stage.pass(DELAY);
    let joined = stage.joined(ask).expect("answered").expect("in");
    assert_eq!((&joined.member_id, joined.generation), (&member_id, 1));
    assert_eq!((&joined.leader, joined.members.len()), (&member_id, 1));
    assert_eq!((joined.protocol.as_str(), joined.protocol_type.as_str()), ("range", "consumer"));
}

#[test]
fn an_id_that_nobody_uses_is_forgotten_and_holds_a_rebalance_no_longer() {
    let mut stage = Stage::new();
    let first = stage.stable(vec![new_member("a")]).remove(0);
    let ask = stage.join(JoinRequest { requires_known_member_id: true, ..new_member("b") });
    assert!(matches!(stage.joined(ask), Some(Err(GroupError::MemberIdRequired { .. }))));
    // The leader rejoins: everyone who is in is here, but one more was promised a place.
    let ask = stage.join(again(&first));
    assert_eq!(stage.joined(ask), None);
    stage.pass(SESSION);
    let joined = stage.joined(ask).expect("answered").expect("in");
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
}

#[test]
fn first_members_gather_as_long_as_more_come() {
    let mut stage = Stage::new();
    let one = stage.join(new_member("a"));
    stage.pass(DELAY - TICK);
    let two = stage.join(new_member("b"));
    stage.pass(DELAY - TICK);
    assert_eq!(stage.joined(one), None);
    stage.pass(TICK * 2);
    let one = stage.joined(one).expect("answered").expect("in");
    let two = stage.joined(two).expect("answered").expect("in");
    assert_eq!((one.generation, two.generation), (1, 1));
    assert_eq!((&one.leader, &two.leader), (&one.member_id, &one.member_id));
    // Only the leader is told who the members are.
    assert_eq!((one.members.len(), two.members.len()), (2, 0));
}

#[test]
fn gathering_ends_with_the_rebalance_timeout() {
    let mut stage = Stage::new();
    let first = stage.join(new_member("0"));
    for _ in 0..40 {
        stage.pass(DELAY / 2);
        stage.join(new_member("n"));
        if stage.answers.contains_key(&first) {
            break;
        }
    }
    let since = stage.joined(first).expect("answered in time").expect("in");
    assert!(since.members.len() >= 30, "{}", since.members.len());
}

#[test]
fn a_second_member_makes_the_first_join_again() {
    let mut stage = Stage::new();
    let first = stage.stable(vec![new_member("a")]).remove(0);
    let two = stage.join(new_member("b"));
    assert_eq!(stage.joined(two), None);
    assert_eq!(stage.beat(&first), Err(GroupError::RebalanceInProgress));
    let one = stage.join(again(&first));
    // Everyone is here: nobody waits for a timer.
    let one = stage.joined(one).expect("answered").expect("in");
    let two = stage.joined(two).expect("answered").expect("in");
    assert_eq!((one.generation, two.generation, &two.leader), (2, 2, &first.member_id));

    assert_eq!(stage.beat(&first), Err(GroupError::IllegalGeneration));
    let (one, two) = (member(&one), member(&two));
    let waiting = stage.sync(two.clone(), &[]);
    assert_eq!(stage.assignment(waiting), None);
    let assignments = [(one.member_id.as_str(), "p0"), (&two.member_id, "p1"), ("stranger", "p2")];
    let leader = stage.sync(one.clone(), &assignments);
    assert_eq!(stage.assignment(leader), Some(Ok(Bytes::from_static(b"p0"))));
    assert_eq!(stage.assignment(waiting), Some(Ok(Bytes::from_static(b"p1"))));
    assert_eq!((stage.beat(&one), stage.beat(&two)), (Ok(()), Ok(())));
    // A lost answer is asked for again.
    let repeated = stage.sync(two, &[]);
    assert_eq!(stage.assignment(repeated), Some(Ok(Bytes::from_static(b"p1"))));
}

#[test]
fn who_leaves_makes_the_others_join_again_and_the_last_ends_the_group() {
    let mut stage = Stage::new();
    let members = stage.stable(vec![new_member("a"), new_member("b")]);
    assert_eq!(stage.leave(leaving(&members[0])), Ok(()));
    assert_eq!(stage.leave(leaving(&members[0])), Err(GroupError::UnknownMember));
    assert_eq!(stage.beat(&members[0]), Err(GroupError::UnknownMember));
    assert_eq!(stage.beat(&members[1]), Err(GroupError::RebalanceInProgress));
    let ask = stage.join(again(&members[1]));
    let joined = stage.joined(ask).expect("answered").expect("in");
    assert_eq!((joined.generation, &joined.leader), (2, &joined.member_id));
    assert_eq!(stage.leave(leaving(&members[1])), Ok(()));
    assert_eq!(stage.phase(), None);
    assert_eq!(stage.coordinator.next_deadline(), None);
}

#[test]
fn silence_ends_a_session_and_heartbeats_prolong_it() {
    let mut stage = Stage::new();
    let members = stage.stable(vec![new_member("a"), new_member("b")]);
    for _ in 0..5 {
        stage.pass(SESSION - TICK);
        let result = stage.beat(&members[1]);
        // The other one is out after its session; this one then has to join again.
        assert!(matches!(result, Ok(()) | Err(GroupError::RebalanceInProgress)), "{result:?}");
    }
    assert_eq!(stage.beat(&members[0]), Err(GroupError::UnknownMember));
    assert_eq!(stage.beat(&members[1]), Err(GroupError::RebalanceInProgress));
    stage.pass(SESSION);
    assert_eq!(stage.phase(), None);
}

#[test]
fn a_rebalance_ends_without_those_who_do_not_join() {
    let mut stage = Stage::new();
    let members = stage.stable(vec![new_member("a"), new_member("b")]);
    let ask = stage.join(again(&members[0]));
    for _ in 0..(REBALANCE.as_secs() - 1) {
        stage.pass(Duration::from_secs(1));
        assert_eq!(stage.beat(&members[1]), Err(GroupError::RebalanceInProgress));
    }
    assert_eq!(stage.joined(ask), None);
    stage.pass(Duration::from_secs(1));
    assert_eq!(stage.joined(ask).expect("answered").expect("in").members.len(), 1);
    assert_eq!(stage.beat(&members[1]), Err(GroupError::UnknownMember));
}

#[test]
fn a_leader_that_brings_no_assignment_is_out() {
    let mut stage = Stage::new();
    let asks = [stage.join(new_member("a")), stage.join(new_member("b"))];
    stage.pass(DELAY * 2);
    let [one, two] = asks.map(|ask| stage.joined(ask).expect("answered").expect("in"));
    let waiting = stage.sync(member(&two), &[]);
    // The leader is alive, yet silent on the assignment.
    for _ in 0..REBALANCE.as_secs() {
        stage.pass(Duration::from_secs(1));
        let _ = stage.beat(&member(&one));
    }
    assert_eq!(stage.assignment(waiting), Some(Err(GroupError::RebalanceInProgress)));
    assert_eq!(stage.beat(&member(&one)), Err(GroupError::UnknownMember));
    let ask = stage.join(again(&member(&two)));
    let joined = stage.joined(ask).expect("answered").expect("in");
    assert_eq!((&joined.leader, joined.members.len()), (&two.member_id, 1));
}

#[test]
fn a_leader_whose_session_ends_before_its_assignment_is_out() {
    let mut stage = Stage::new();
    let asks = [stage.join(new_member("a")), stage.join(new_member("b"))];
    stage.pass(DELAY * 2);
    let [_, two] = asks.map(|ask| stage.joined(ask).expect("answered").expect("in"));
    let waiting = stage.sync(member(&two), &[]);
    stage.pass(SESSION);
    assert_eq!(stage.assignment(waiting), Some(Err(GroupError::RebalanceInProgress)));
    // Its own session starts again with the answer.
    stage.pass(SESSION - TICK);
    assert_eq!(stage.phase(), Some(GroupPhase::PreparingRebalance));
    stage.pass(TICK);
    assert_eq!((stage.phase(), stage.beat(&member(&two))), (None, Err(GroupError::UnknownMember)));
}

#[test]
fn joining_again_without_news_changes_nothing_except_for_the_leader() {
    let mut stage = Stage::new();
    let asks = [stage.join(new_member("a")), stage.join(new_member("b"))];
    stage.pass(DELAY * 2);
    let [one, two] = asks.map(|ask| stage.joined(ask).expect("answered").expect("in"));
    // The answers were lost.
    for joined in [&one, &two] {
        let ask = stage.join(again(&member(joined)));
        assert_eq!(stage.joined(ask).as_ref(), Some(&Ok(joined.clone())));
    }
    let _ = stage.sync(member(&one), &[]);
    let _ = stage.sync(member(&two), &[]);
    stage.answers.clear();
    let ask = stage.join(again(&member(&two)));
    assert_eq!(stage.joined(ask), Some(Ok(two.clone())));
    assert_eq!(stage.phase(), Some(GroupPhase::Stable));
    let news = JoinRequest {
        protocols: vec![("range".to_owned(), Bytes::from_static(b"other topics"))],
        ..again(&member(&two))
    };
    for request in [again(&member(&one)), news] {
        let mut stage = Stage::new();
        let members = stage.stable(vec![new_member("a"), new_member("b")]);
        let id = if request.protocols[0].1 == "topics" { &members[0] } else { &members[1] };
        let ask = stage.join(JoinRequest { member_id: id.member_id.clone(), ..request });
        assert_eq!(
            (stage.joined(ask), stage.phase()),
            (None, Some(GroupPhase::PreparingRebalance))
        );
    }
}

#[test]
fn a_repeated_join_answers_the_first_one() {
    let mut stage = Stage::new();
    let members = stage.stable(vec![new_member("a"), new_member("b")]);
    let first = stage.join(again(&members[0]));
    let second = stage.join(again(&members[0]));
    assert_eq!(stage.joined(first), Some(Err(GroupError::RebalanceInProgress)));
    assert_eq!(stage.joined(second), None);
}

#[test]
fn the_assignor_that_all_know_and_most_prefer_is_elected() {
    let cases: &[(&[&[&str]], &str)] = &[
        (&[&["range"]], "range"),
        (&[&["range", "sticky"], &["sticky"]], "sticky"),
        (&[&["range", "sticky"], &["sticky", "range"], &["sticky", "range"]], "sticky"),
        // A draw: as the leader prefers.
        (&[&["range", "sticky"], &["sticky", "range"]], "range"),
        (&[&["sticky", "range"], &["range", "sticky"]], "sticky"),
        // Preferred by most, but not known to all.
        (&[&["new", "range"], &["new", "range"], &["range"]], "range"),
    ];
    for (members, elected) in cases {
        let mut stage = Stage::new();
        let asks: Vec<Ask> = members
            .iter()
            .map(|names| stage.join(with_protocols(new_member("m"), names)))
            .collect();
        stage.pass(DELAY * 2);
        for ask in asks {
            let joined = stage.joined(ask).expect("answered").expect("in");
            assert_eq!(joined.protocol, *elected, "{members:?}");
        }
    }
}

#[test]
fn strangers_to_the_groups_protocol_are_refused() {
    let mut stage = Stage::new();
    let first = stage.stable(vec![with_protocols(new_member("a"), &["range"])]).remove(0);
    let cases = [
        with_protocols(new_member("b"), &["sticky"]),
        with_protocols(new_member("b"), &[]),
        JoinRequest { protocol_type: "connect".to_owned(), ..new_member("b") },
        with_protocols(again(&first), &["sticky"]),
    ];
    for request in cases {
        let ask = stage.join(request.clone());
        assert_eq!(stage.joined(ask), Some(Err(GroupError::InconsistentProtocol)), "{request:?}");
    }
    // A group without members takes anything that is something.
    for request in [
        with_protocols(new_member("b"), &[]),
        JoinRequest { protocol_type: String::new(), ..new_member("b") },
    ] {
        let mut stage = Stage::new();
        let ask = stage.join(request);
        assert_eq!(stage.joined(ask), Some(Err(GroupError::InconsistentProtocol)));
        assert_eq!(stage.phase(), None, "nothing is kept of it");
    }
    for (protocol_type, protocol) in [(Some("connect"), None), (None, Some("sticky"))] {
        let request = SyncRequest {
            member: first.clone(),
            protocol_type: protocol_type.map(str::to_owned),
            protocol: protocol.map(str::to_owned),
            assignments: Vec::new(),
        };
        let ask = stage.turn(|it, now, ask, out| it.sync(now, ask, request, out));
        assert_eq!(stage.assignment(ask), Some(Err(GroupError::InconsistentProtocol)));
    }
}

/// Kafka's rules, phase by phase: who may send a heartbeat, sync, commit.
#[test]
fn errors_in_every_phase() {
    use GroupError::{IllegalGeneration, RebalanceInProgress, UnknownMember};
    type Outcome = Result<(), GroupError>;
    let nobody = MemberRef { group: GROUP.to_owned(), generation: -1, ..MemberRef::default() };
    // (phase, member: heartbeat, sync, commit, other generation's: heartbeat, commit, and nobody's commit)
    let cases: [(&str, [Outcome; 6]); 4] = [
        (
            "none",
            [
                Err(UnknownMember),
                Err(UnknownMember),
                Err(IllegalGeneration),
                Err(UnknownMember),
                Err(IllegalGeneration),
                Ok(()),
            ],
        ),
        (
            "preparing",
            [
                Err(RebalanceInProgress),
                Err(RebalanceInProgress),
                Ok(()),
                Err(IllegalGeneration),
                Err(IllegalGeneration),
                Err(UnknownMember),
            ],
        ),
        (
            "completing",
            [
                Ok(()),
                Ok(()),
                Err(RebalanceInProgress),
                Err(IllegalGeneration),
                Err(IllegalGeneration),
                Err(UnknownMember),
            ],
        ),
        (
            "stable",
            [
                Ok(()),
                Ok(()),
                Ok(()),
                Err(IllegalGeneration),
                Err(IllegalGeneration),
                Err(UnknownMember),
            ],
        ),
    ];
    for (phase, expected) in cases {
        let mut stage = Stage::new();
        let mut who = stage.stable(vec![new_member("a")]).remove(0);
        match phase {
            "none" => assert_eq!(stage.leave(leaving(&who)), Ok(())),
            "preparing" => {
                let _ = stage.join(new_member("b"));
            }
            "completing" => {
                let ask = stage.join(again(&who));
                who = member(&stage.joined(ask).expect("alone").expect("in"));
            }
            _ => {}
        }
        let other = MemberRef { generation: who.generation + 1, ..who.clone() };
        let stranger = MemberRef { member_id: "x".to_owned(), ..who.clone() };
        let now = stage.now;
        let heartbeat = stage.beat(&who);
        let commit = stage.coordinator.admit_commit(now, &who);
        let ask = stage.sync(who.clone(), &[]);
        let sync = stage.synced(ask).expect("alone, or refused").map(|_| ());
        let actual = [
            heartbeat,
            sync,
            commit,
            stage.beat(&other),
            stage.coordinator.admit_commit(now, &other),
            stage.coordinator.admit_commit(now, &nobody),
        ];
        assert_eq!(actual, expected, "{phase}");
        assert_eq!(stage.beat(&stranger), Err(UnknownMember), "{phase}");
        let ask = stage.sync(stranger, &[]);
        assert_eq!(stage.assignment(ask), Some(Err(UnknownMember)), "{phase}");
    }
}

#[test]
fn a_member_that_is_not_known_must_start_over() {
    let mut stage = Stage::new();
    let request = JoinRequest { member_id: "x".to_owned(), ..new_member("a") };
    let ask = stage.join(request.clone());
    assert_eq!(stage.joined(ask), Some(Err(GroupError::UnknownMember)));
    stage.stable(vec![new_member("a")]);
    let ask = stage.join(request.clone());
    assert_eq!(stage.joined(ask), Some(Err(GroupError::UnknownMember)));
    let ask = stage.join(JoinRequest { instance_id: Some("i".to_owned()), ..request });
    assert_eq!(stage.joined(ask), Some(Err(GroupError::UnknownMember)));
}

#[test]
fn a_new_member_does_not_wait_for_ever() {
    let mut stage = Stage::new();
    let patient = JoinRequest { rebalance_timeout: REBALANCE * 60, ..new_member("a") };
    let first = stage.stable(vec![patient]).remove(0);
    let second = stage.join(new_member("b"));
    // The first is alive but does not come; the second may be gone, and nothing would tell.
    for _ in 0..300 {
        assert_eq!(stage.joined(second), None);
        assert_eq!(stage.beat(&first), Err(GroupError::RebalanceInProgress));
        stage.pass(Duration::from_secs(1));
    }
    assert_eq!(stage.joined(second), Some(Err(GroupError::UnknownMember)));
}
