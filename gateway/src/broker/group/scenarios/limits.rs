//! Limits, refused by name.

use super::*;

#[test]
fn limits_are_refused_by_name() {
    let options = GroupOptions {
        max_groups: 2,
        max_members: 2,
        max_member_bytes: 1000,
        max_total_bytes: 4000,
        ..GroupOptions::default()
    };
    let mut stage = Stage::with(options);
    let mut refused = |request: JoinRequest| {
        let ask = stage.join(request);
        stage.joined(ask).and_then(Result::err)
    };
    let in_group =
        |group: &str, client: &str| JoinRequest { group: group.to_owned(), ..new_member(client) };
    let metadata = |bytes: usize| vec![("range".to_owned(), Bytes::from(vec![0; bytes]))];

    assert_eq!(refused(in_group("", "a")), Some(GroupError::InvalidGroupId));
    assert_eq!(refused(in_group(&"g".repeat(1025), "a")), Some(GroupError::InvalidGroupId));
    for session_timeout in [Duration::from_millis(5_999), Duration::from_millis(1_800_001)] {
        let request = JoinRequest { session_timeout, ..new_member("a") };
        assert_eq!(refused(request), Some(GroupError::InvalidSessionTimeout));
    }
    let request = JoinRequest { protocols: metadata(1000), ..new_member("a") };
    assert!(matches!(refused(request), Some(GroupError::TooLarge { limit: 1000, .. })));
    let request = with_protocols(new_member("a"), &["p"; 33]);
    let expected = GroupError::TooManyProtocols { count: 33, limit: 32 };
    assert_eq!(refused(request), Some(expected));

    assert_eq!(refused(new_member("a")), None);
    assert_eq!(refused(new_member("b")), None);
    assert_eq!(refused(new_member("c")), Some(GroupError::GroupFull { limit: 2 }));
    assert_eq!(refused(in_group("h", "a")), None);
    let expected = GroupError::CoordinatorFull { what: "groups.max_groups", limit: 2 };
    assert_eq!(refused(in_group("i", "a")), Some(expected));
    let request = JoinRequest { protocols: metadata(800), ..in_group("h", "b") };
    assert_eq!(refused(request), None);
    let request = JoinRequest { protocols: metadata(900), ..in_group("h", "c") };
    let expected = GroupError::CoordinatorFull { what: "groups.max_total_bytes", limit: 4000 };
    assert_eq!(refused(request), Some(expected));
}

#[test]
fn ids_that_were_given_out_count_as_members() {
    let options = GroupOptions { max_members: 3, ..GroupOptions::default() };
    let mut stage = Stage::with(options);
    let request = JoinRequest { requires_known_member_id: true, ..new_member("a") };
    for _ in 0..3 {
        let ask = stage.join(request.clone());
        assert!(matches!(stage.joined(ask), Some(Err(GroupError::MemberIdRequired { .. }))));
    }
    let ask = stage.join(request.clone());
    assert_eq!(stage.joined(ask), Some(Err(GroupError::GroupFull { limit: 3 })));
    stage.pass(SESSION);
    assert_eq!(stage.phase(), None);
}

#[test]
fn ids_stay_short_whatever_a_client_calls_itself() {
    let mut stage = Stage::new();
    let ask = stage.join(new_member(&"ä".repeat(16_000)));
    stage.pass(DELAY);
    let joined = stage.joined(ask).expect("answered").expect("in");
    assert!((100..300).contains(&joined.member_id.len()), "{}", joined.member_id.len());
}
