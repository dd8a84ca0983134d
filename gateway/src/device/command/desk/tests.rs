//! Orders and outcomes of commands, one desk at a time.

use super::*;

const P: PartitionId = PartitionId(7);
const NOW: i64 = 1_000_000;

fn device(id: &str) -> DeviceId {
    DeviceId::new(id).expect("legal")
}

fn record(offset: i64, key: &str, value: &str, headers: &[(&str, &str)]) -> Record {
    let headers = headers
        .iter()
        .map(|(name, value)| {
            (
                Bytes::copy_from_slice(name.as_bytes()),
                Some(Bytes::copy_from_slice(value.as_bytes())),
            )
        })
        .collect();
    Record {
        offset,
        timestamp: NOW,
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers,
    }
}

fn desk(commands: &[(&str, &str)]) -> Desk {
    let mut desk = Desk::default();
    for (offset, (key, value)) in (0..).zip(commands) {
        desk.take(Place { partition: P, index: 0, offset }, &record(offset, key, value, &[]), NOW);
    }
    desk
}

/// What is sent now: device, payload, number, whether it is new.
fn sends(desk: &mut Desk, now_ms: i64) -> Vec<(String, String, u64, bool)> {
    let mut sends = Vec::new();
    loop {
        match desk.next(now_ms) {
            Some(Action::Send { device, payload, sent, is_new, .. }) => {
                let payload = String::from_utf8_lossy(&payload).into_owned();
                sends.push((device.to_string(), payload, sent.id, is_new));
            }
            Some(other) => panic!("{other:?}"),
            None => return sends,
        }
    }
}

/// What is settled now: offset and status.
fn settles(desk: &mut Desk, now_ms: i64) -> Vec<(i64, &'static str)> {
    let mut settles = Vec::new();
    while let Some(Action::Settle { command, outcome, .. }) = desk.next(now_ms) {
        settles.push((command.place.offset, outcome.status));
        desk.settle(command.place);
    }
    settles
}

fn result(desk: &mut Desk, id: u64, status: CommandStatus) {
    desk.result(device("a"), (id, 3), status, Bytes::new());
}

#[test]
fn one_at_a_time_goes_to_each_device_in_order() {
    let mut desk = desk(&[("a", "1"), ("b", "2"), ("a", "3")]);
    assert_eq!(sends(&mut desk, NOW), [], "nobody is there");
    desk.in_session(device("a"), 3);
    desk.in_session(device("b"), 1);
    let sent = sends(&mut desk, NOW);
    assert_eq!(
        sent.iter().map(|it| (&it.0[..], &it.1[..])).collect::<Vec<_>>(),
        [("a", "1"), ("b", "2")]
    );
    result(&mut desk, sent[1].2, CommandStatus::Done);
    assert_eq!(desk.next(NOW), None, "the number of another one's");
    result(&mut desk, sent[0].2, CommandStatus::Done);
    let Some(Action::Settle { key, command, outcome }) = desk.next(NOW) else { panic!("settles") };
    assert_eq!((&key[..], command.place.offset, outcome.status), (&b"a"[..], 0, "done"));
    assert!(matches!(desk.next(NOW), Some(Action::Settle { .. })), "not appended yet");
    desk.settle(command.place);
    let third = sends(&mut desk, NOW);
    assert_eq!((&third[0].1[..], third[0].3), ("3", true));
    assert!(third[0].2 > sent[0].2, "numbers rise");
}

#[test]
fn a_new_session_of_the_same_boot_is_asked_again_and_another_boot_is_not() {
    let mut desk = desk(&[("a", "1")]);
    desk.in_session(device("a"), 3);
    let [(_, _, id, true)] = sends(&mut desk, NOW)[..] else { panic!("one") };
    desk.in_session(device("a"), 3);
    let again = sends(&mut desk, NOW);
    assert_eq!((again[0].2, again[0].3), (id, false));
    desk.in_session(device("a"), 4);
    assert_eq!(settles(&mut desk, NOW), [(0, "unknown")]);
    assert!(!desk.is_busy());
}

#[test]
fn what_was_sent_before_a_restart_is_known() {
    let mut before = desk(&[("a", "1"), ("a", "2")]);
    before.in_session(device("a"), 3);
    let [(_, _, id, true)] = sends(&mut before, NOW)[..] else { panic!("one") };
    let fact = before.book(P).fact(P).value.expect("a value");
    for (boot, expected) in [(3, None), (4, Some((0, "unknown")))] {
        let mut after = Desk::default();
        after.restore(P, Book::read_fact(&fact).expect("readable"));
        for (offset, value) in [(0, "1"), (1, "2")] {
            after.take(
                Place { partition: P, index: 0, offset },
                &record(offset, "a", value, &[]),
                NOW,
            );
        }
        after.in_session(device("a"), boot);
        match expected {
            None => {
                let sent = sends(&mut after, NOW);
                assert_eq!((sent[0].2, sent[0].3), (id, false));
            }
            Some(settled) => {
                let Some(Action::Settle { command, outcome, .. }) = after.next(NOW) else {
                    panic!("settles")
                };
                assert_eq!((command.place.offset, outcome.status), settled);
            }
        }
    }
}

#[test]
fn what_nobody_answers_ends() {
    let mut desk = desk(&[("a", "1"), ("a", "2")]);
    desk.in_session(device("a"), 3);
    sends(&mut desk, NOW);
    assert_eq!(settles(&mut desk, NOW + 59_999), []);
    assert_eq!(settles(&mut desk, NOW + 60_000), [(0, "unknown"), (1, "expired")]);

    let mut desk = Desk::default();
    for (offset, timeout) in [(0, "5"), (1, "x"), (2, "999999999"), (3, "-1")] {
        let record = record(offset, "a", "", &[("timeout-ms", timeout)]);
        desk.take(Place { partition: P, index: 0, offset }, &record, NOW);
    }
    assert_eq!(settles(&mut desk, NOW + 4), []);
    assert_eq!(settles(&mut desk, NOW + 60_000), [(0, "expired"), (1, "expired")]);
    assert_eq!(settles(&mut desk, NOW + TIMEOUT_MAX_MS), [(2, "expired"), (3, "expired")]);
}

#[test]
fn what_is_no_command_is_refused() {
    let mut desk =
        desk(&[("", "1"), ("A b", "1"), ("a", &"x".repeat(201)), ("a", &"y".repeat(200))]);
    let none = Record { value: None, ..record(4, "a", "", &[]) };
    desk.take(Place { partition: P, index: 0, offset: 4 }, &none, NOW);
    let refused = [(0, "refused"), (1, "refused"), (2, "refused"), (4, "refused")];
    assert_eq!(settles(&mut desk, NOW), refused);
    desk.in_session(device("a"), 3);
    let [(_, _, id, _)] = sends(&mut desk, NOW)[..] else { panic!("one") };
    desk.not_sent(device("a"), id, true);
    assert_eq!(settles(&mut desk, NOW), [(3, "refused")]);
    assert!(!desk.is_busy());
}

#[test]
fn what_was_not_noted_durably_is_noted_before_it_is_sent() {
    let mut desk = desk(&[("a", "1")]);
    desk.in_session(device("a"), 3);
    for _ in 0..2 {
        let Some(Action::Send { device, place, is_new, .. }) = desk.next(NOW) else {
            panic!("sends")
        };
        assert!(is_new, "nothing durable knows of it");
        desk.withdraw(device, place);
    }
    let [(_, _, id, true)] = sends(&mut desk, NOW)[..] else { panic!("one") };
    // It is noted now; the link that did not take it says when it takes it.
    desk.not_sent(device("a"), id, false);
    assert_eq!(sends(&mut desk, NOW), []);
    desk.in_session(device("a"), 3);
    let again = sends(&mut desk, NOW);
    assert_eq!((again[0].2, again[0].3), (id, false));
}

#[test]
fn a_clock_that_is_ahead_keeps_no_command_open() {
    let mut desk = Desk::default();
    let early = Record { timestamp: NOW + 1_000_000, ..record(0, "a", "1", &[]) };
    desk.take(Place { partition: P, index: 0, offset: 0 }, &early, NOW);
    assert_eq!(settles(&mut desk, NOW + 60_000), [(0, "expired")]);
}
