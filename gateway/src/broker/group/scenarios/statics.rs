//! Static members (KIP-345, KIP-814).

use super::*;

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    for is_leader in [true, false] {
        for can_skip in [true, false] {
            let mut stage = Stage::new();
            let first = if is_leader { static_member("i") } else { new_member("a") };
            let second = if is_leader { new_member("a") } else { static_member("i") };
            let members = stage.stable(vec![first, second]);
            let old = &members[usize::from(!is_leader)];
            let request = JoinRequest { can_skip_assignment: can_skip, ..static_member("i") };
            let ask = stage.join(request);
            let joined = stage.joined(ask).expect("at once").expect("in");
            assert_ne!(joined.member_id, old.member_id);
            assert_eq!(joined.generation, old.generation);
            assert_eq!(stage.phase(), Some(GroupPhase::Stable));
            assert_eq!(joined.skip_assignment, is_leader && can_skip);
            assert_eq!(joined.members.is_empty(), !(is_leader && can_skip));
            let leader =
                if is_leader && can_skip { &joined.member_id } else { &members[0].member_id };
            assert_eq!(&joined.leader, leader);

            // The assignment is the old one; the old id is fenced wherever it shows.
            let instance_id = Some("i".to_owned());
            let new = MemberRef { instance_id: instance_id.clone(), ..member(&joined) };
            let ask = stage.sync(new.clone(), &[]);
            let kept = if is_leader { "all" } else { "" };
            assert_eq!(stage.assignment(ask), Some(Ok(Bytes::from_static(kept.as_bytes()))));
            let old = MemberRef { instance_id, ..old.clone() };
            let fenced = GroupError::FencedInstance;
            assert_eq!(stage.beat(&old), Err(fenced.clone()));
            assert_eq!(stage.leave(leaving(&old)), Err(fenced.clone()));
            assert_eq!(stage.coordinator.admit_commit(stage.now, &old), Err(fenced.clone()));
            let ask = stage.sync(old.clone(), &[]);
            assert_eq!(stage.assignment(ask), Some(Err(fenced.clone())));
            let ask = stage.join(again(&old));
            assert_eq!(stage.joined(ask), Some(Err(fenced)));
            assert_eq!(stage.beat(&new), Ok(()));
        }
    }
}

#[test]
fn a_static_member_that_waits_is_fenced_by_its_successor() {
    let mut stage = Stage::new();
    let first = stage.join(static_member("i"));
    let second = stage.join(static_member("i"));
    assert_eq!(stage.joined(first), Some(Err(GroupError::FencedInstance)));
    stage.pass(DELAY);
    let joined = stage.joined(second).expect("answered").expect("in");
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].instance_id.as_deref(), Some("i"));

    // While the assignment is awaited: the leader may have been told of the old id.
    let mut stage = Stage::new();
    let asks = [stage.join(new_member("a")), stage.join(static_member("i"))];
    stage.pass(DELAY * 2);
    let [one, two] = asks.map(|ask| stage.joined(ask).expect("answered").expect("in"));
    let waiting = stage.sync(member(&two), &[]);
    let ask = stage.join(static_member("i"));
    assert_eq!(stage.assignment(waiting), Some(Err(GroupError::FencedInstance)));
    assert_eq!(stage.joined(ask), None);
    assert_eq!(stage.beat(&member(&one)), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_static_member_may_miss_a_rebalance_until_its_session_ends() {
    let mut stage = Stage::new();
    let request = JoinRequest { session_timeout: REBALANCE * 3, ..static_member("i") };
    let members = stage.stable(vec![new_member("a"), request]);
    let ask = stage.join(again(&members[0]));
    stage.pass(REBALANCE);
    let joined = stage.joined(ask).expect("answered").expect("in");
    assert_eq!(joined.members.len(), 2, "its place is kept");
}

#[test]
fn an_administrator_removes_a_static_member_by_name() {
    let mut stage = Stage::new();
    stage.stable(vec![new_member("a"), static_member("i")]);
    let by_name = |name: &str| Leaving { member_id: String::new(), instance_id: Some(name.into()) };
    assert_eq!(stage.leave(by_name("j")), Err(GroupError::UnknownMember));
    let no_name = Leaving { member_id: String::new(), instance_id: None };
    assert_eq!(stage.leave(no_name), Err(GroupError::UnknownMember));
    assert_eq!(stage.leave(by_name("i")), Ok(()));
    assert_eq!(stage.leave(by_name("i")), Err(GroupError::UnknownMember));
    assert_eq!(stage.coordinator.describe(GROUP).expect("not empty").members.len(), 1);
}
