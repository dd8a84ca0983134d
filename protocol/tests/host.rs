//! The host end against a device made of single frames.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use headwater_protocol::{
    Accept, ClockSample, DeviceId, Hello, HostConfig, HostEvent, HostLink, Item, ItemKind, Loss,
    NotAccepted, NotSent, Position, Refusal, StreamId,
    frame::{self, Lead, Progress},
    message::{
        Ack, Command, CommandStatus, DeviceMessage, HEAD_MAX, HelloAck, HostMessage, Outcome,
        TimeAnswer, TimeRequest, Verdict,
    },
};

const SESSION: u32 = 9;
const MS: u64 = 1_000;

fn stream() -> StreamId {
    StreamId::new(0xABCD).unwrap()
}

fn at(boot: u32, item: u64) -> Position {
    Position::new(boot, item)
}

fn hello(oldest: Position, next: Position) -> Hello {
    Hello {
        version_min: 1,
        version_max: 1,
        device: DeviceId::new("bench").unwrap(),
        stream: Some(stream()),
        attempt: 5,
        oldest,
        next,
        receive_max: 64,
        longest_silence_ms: 0,
        listen_window_ms: 0,
    }
}

fn accept(window: u32) -> Accept {
    Accept { window, describe: false }
}

struct Bench {
    link: HostLink,
    now: u64,
}

/// What `receive` gave, without its borrow.
#[derive(Debug, PartialEq)]
enum Got {
    Hello,
    Item(Position, Option<Loss>),
    Description,
    Time(ClockSample),
    Log,
    Result(u64, CommandStatus),
}

impl Bench {
    fn new() -> Self {
        let mut bench =
            Self { link: HostLink::new(HostConfig::default(), SESSION, 0), now: 1_000_000 };
        bench.sent();
        bench
    }

    /// With a device accepted whose log ends at `durable`.
    fn accepted(durable: Position, oldest: Position, next: Position, window: u32) -> Self {
        let mut bench = Self::new();
        bench.hear(DeviceMessage::Hello(hello(oldest, next)));
        bench.link.accept(durable, accept(window)).unwrap();
        let sent = bench.sent();
        assert!(matches!(sent[0], HostMessage::HelloAck(answer) if answer.start == durable));
        bench
    }

    fn hear(&mut self, message: DeviceMessage<'_>) -> Option<Got> {
        let mut head = [0; HEAD_MAX];
        let (kind, len, tail) = message.encode(&mut head).unwrap();
        let mut bytes = [0; frame::ENCODED_MAX];
        let len = frame::encode(Lead::None, kind, &head[..len], tail, &mut bytes).unwrap();
        let mut rest = &bytes[..len];
        let got = self.link.receive(self.now, &mut rest).map(|event| match event {
            HostEvent::Hello(_) => Got::Hello,
            HostEvent::Item(arrival) => Got::Item(arrival.item.position, arrival.loss),
            HostEvent::Description(_) => Got::Description,
            HostEvent::Time(sample) => Got::Time(sample),
            HostEvent::Log(_) => Got::Log,
            HostEvent::Result(outcome) => Got::Result(outcome.id, outcome.status),
        });
        assert!(rest.is_empty());
        got
    }

    fn item(
        &mut self,
        position: Position,
        predecessor: Option<Position>,
        len: usize,
    ) -> Option<Got> {
        let body = &[0; 600][..len];
        let item = Item { position, predecessor, kind: ItemKind::BLOCK, body };
        self.hear(DeviceMessage::Item { transmission: 1, item })
    }

    /// The item after its neighbour, ten bytes.
    fn next_item(&mut self, position: Position) -> Option<Got> {
        self.item(position, position.adjacent(), 10)
    }

    /// All that goes out now, without clock questions.
    fn sent(&mut self) -> Vec<HostMessage<'static>> {
        let mut all = Vec::new();
        loop {
            let mut out = [0; HostLink::FRAME_MAX];
            let len = self.link.transmit(self.now, 123, &mut out);
            if len == 0 {
                return all;
            }
            let mut decoder = frame::Decoder::<64>::new();
            assert!(out[..len].iter().any(|byte| decoder.push(*byte) == Progress::Complete));
            let frame = decoder.frame();
            // Lives on beside the frame that it came in.
            let body = Vec::leak(frame.body.to_vec());
            match HostMessage::decode(frame.kind, body).unwrap() {
                HostMessage::Time(_) => {}
                message => all.push(message),
            }
        }
    }

    fn ack(&mut self) -> Ack {
        match self.sent()[..] {
            [HostMessage::Ack(ack)] => ack,
            ref other => panic!("{other:?}"),
        }
    }
}

#[test]
fn hello_req_comes_first_and_again_until_a_hello_comes() {
    let mut bench = Bench { link: HostLink::new(HostConfig::default(), SESSION, 0), now: 0 };
    let request = [HostMessage::HelloReq { session: SESSION }];
    assert_eq!(bench.sent(), request);
    for ms in [500, 1_000, 2_000, 4_000, 8_000, 8_000] {
        let wake = bench.link.next_wake(bench.now).unwrap();
        assert_eq!(wake - bench.now, ms * MS);
        bench.now = wake;
        assert_eq!(bench.sent(), request);
    }
    assert_eq!(bench.hear(DeviceMessage::Hello(hello(at(1, 0), at(1, 1)))), Some(Got::Hello));
    assert_eq!(bench.link.next_wake(bench.now), None);
    bench.link.ask(bench.now);
    assert_eq!(bench.sent(), request);
}

#[test]
fn hello_is_answered_as_the_owner_decides() {
    let mut bench = Bench::new();
    assert_eq!(bench.link.accept(Position::START, accept(1)), Err(NotAccepted::NoHello));
    bench.hear(DeviceMessage::Hello(hello(at(2, 0), at(2, 3))));
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.link.accept(at(2, 3), accept(1)), Err(NotAccepted::Behind));
    bench.link.refuse(Refusal::Forbidden);
    let answer = HelloAck {
        session: SESSION,
        boot: 2,
        attempt: 5,
        version: 1,
        verdict: Verdict::Refused(Refusal::Forbidden),
        stream: Some(stream()),
        start: Position::START,
        window: 0,
    };
    assert_eq!(bench.sent(), [HostMessage::HelloAck(answer)]);
    bench.link.accept(at(1, 7), Accept { window: 800, describe: true }).unwrap();
    let answer = HelloAck { verdict: Verdict::Describe, start: at(1, 7), window: 800, ..answer };
    assert_eq!(bench.sent(), [HostMessage::HelloAck(answer)]);
}

#[test]
fn a_device_without_a_stream_gets_one_and_who_asks_again_another() {
    let mut bench = Bench::new();
    let nameless = Hello { stream: None, ..hello(at(1, 0), at(1, 1)) };
    for drawn in [5, 6] {
        bench.hear(DeviceMessage::Hello(nameless));
        assert_eq!(bench.link.accept(Position::START, accept(1)), Err(NotAccepted::NoStream));
        bench.link.assign(StreamId::new(drawn).unwrap());
        let sent = bench.sent();
        assert!(
            matches!(sent[..], [HostMessage::HelloAck(answer)]
                if answer.verdict == Verdict::Assigned && answer.stream == StreamId::new(drawn)),
            "{sent:?}"
        );
    }
}

#[test]
fn other_versions_are_not_accepted() {
    for (version_min, version_max, result) in
        [(2, 3, Err(NotAccepted::Version)), (0, 0, Err(NotAccepted::Version)), (0, 9, Ok(()))]
    {
        let mut bench = Bench::new();
        let hello = Hello { version_min, version_max, ..hello(at(1, 0), at(1, 1)) };
        bench.hear(DeviceMessage::Hello(hello));
        assert_eq!(bench.link.accept(Position::START, accept(1)), result);
    }
}

#[test]
fn only_the_next_item_is_taken() {
    let mut bench = Bench::accepted(at(1, 4), at(1, 3), at(1, 9), 1_000);
    assert_eq!(bench.next_item(at(1, 6)), None, "skips one");
    assert_eq!(bench.next_item(at(2, 0)), None, "another boot");
    assert_eq!(bench.item(at(2, 0), None, 10), None, "a boot that knows nothing before it");
    assert_eq!(bench.link.counters().out_of_turn, 2 + 1);
    assert_eq!(bench.next_item(at(1, 5)), Some(Got::Item(at(1, 5), None)));
    assert_eq!(bench.next_item(at(1, 5)), None, "again");
    assert_eq!(bench.next_item(at(1, 3)), None, "durable long ago");
    assert_eq!(bench.link.counters().duplicates, 2);
    // A gap in the place of 6 to 8, then a boot whose memory lasted.
    assert_eq!(bench.item(at(1, 8), Some(at(1, 5)), 9), Some(Got::Item(at(1, 8), None)));
    assert_eq!(bench.item(at(2, 0), Some(at(1, 8)), 9), Some(Got::Item(at(2, 0), None)));
}

#[test]
fn nothing_is_taken_before_the_answer_to_hello_is_out() {
    let mut bench = Bench::new();
    assert_eq!(bench.next_item(at(1, 0)), None);
    bench.hear(DeviceMessage::Hello(hello(at(1, 0), at(1, 9))));
    assert_eq!(bench.item(at(1, 0), Some(Position::START), 1), None);
    bench.link.accept(Position::START, accept(100)).unwrap();
    assert_eq!(bench.item(at(1, 0), Some(Position::START), 1), None);
    bench.sent();
    assert!(bench.item(at(1, 0), Some(Position::START), 1).is_some());
    assert_eq!(bench.link.stream(), Some(stream()));
}

#[test]
fn what_was_lost_before_the_first_item_is_told() {
    let lost = |after, before, last_lost| Some(Loss { after, before, last_lost });
    let cases = [
        // A new gateway: the device's log began long ago.
        (
            Position::START,
            at(2, 7),
            Some(at(2, 6)),
            lost(Position::START, at(2, 7), Some(at(2, 6))),
        ),
        // A new stream of a device that remembers, and of one that does not.
        (Position::START, at(1, 0), Some(Position::START), None),
        (Position::START, at(4, 0), None, None),
        // A reset that took the RAM: whether something was lost, nobody knows.
        (at(3, 5), at(4, 0), None, lost(at(3, 5), at(4, 0), None)),
        // Its memory outlived the reset.
        (at(3, 5), at(4, 0), Some(at(3, 5)), None),
        // Another gateway took some.
        (at(3, 5), at(3, 9), Some(at(3, 8)), lost(at(3, 5), at(3, 9), Some(at(3, 8)))),
    ];
    for (durable, oldest, predecessor, loss) in cases {
        let mut bench = Bench::accepted(durable, oldest, at(9, 0), 1_000);
        assert_eq!(bench.item(oldest, predecessor, 5), Some(Got::Item(oldest, loss)));
    }
}

#[test]
fn only_the_oldest_item_may_come_out_of_chain_and_only_once() {
    let mut bench = Bench::accepted(at(1, 4), at(2, 0), at(2, 9), 1_000);
    assert_eq!(bench.next_item(at(2, 1)), None, "not the oldest");
    assert!(bench.item(at(2, 0), None, 5).is_some());
    assert_eq!(bench.item(at(2, 5), Some(at(2, 4)), 5), None);
    // The oldest was replaced by a gap since HELLO.
    let mut bench = Bench::accepted(at(1, 4), at(2, 3), at(2, 9), 1_000);
    assert!(bench.item(at(2, 5), Some(at(2, 2)), 5).is_some());
}

#[test]
fn received_is_told_after_a_while_and_durable_at_once() {
    let mut bench = Bench::accepted(Position::START, at(1, 0), at(1, 9), 1_000);
    bench.item(at(1, 0), None, 10);
    bench.next_item(at(1, 1));
    assert_eq!(bench.sent(), []);
    bench.now += 50 * MS;
    let ack = bench.ack();
    assert_eq!((ack.durable, ack.received, ack.window), (Position::START, at(1, 1), 1_000));
    bench.link.durable(bench.now, stream(), at(1, 0));
    assert_eq!(bench.ack().durable, at(1, 0));
    // Not news, not ours, not even yielded.
    bench.link.durable(bench.now, stream(), at(1, 0));
    bench.link.durable(bench.now, StreamId::new(1).unwrap(), at(1, 1));
    assert_eq!(bench.sent(), []);
    bench.link.durable(bench.now, stream(), at(7, 7));
    assert_eq!(bench.ack().durable, at(1, 1));
}

#[test]
fn what_comes_out_of_turn_is_acknowledged_anew_at_once() {
    let mut bench = Bench::accepted(at(1, 4), at(1, 5), at(1, 9), 1_000);
    for (item, echo) in [(3, 0), (7, 0), (4, 1)] {
        assert_eq!(bench.next_item(at(1, item)), None);
        assert_eq!(bench.ack().echo, echo);
    }
    assert!(bench.next_item(at(1, 5)).is_some());
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.next_item(at(1, 5)), None);
    assert_eq!(bench.ack().received, at(1, 5));
}

#[test]
fn the_window_is_enforced() {
    let mut bench = Bench::accepted(Position::START, at(1, 0), at(9, 0), 100);
    assert!(bench.item(at(1, 0), None, 300).is_some(), "the first always");
    assert_eq!(bench.item(at(1, 1), Some(at(1, 0)), 1), None);
    bench.link.durable(bench.now, stream(), at(1, 0));
    assert!(bench.item(at(1, 1), Some(at(1, 0)), 60).is_some());
    assert!(bench.item(at(1, 2), Some(at(1, 1)), 40).is_some());
    assert_eq!(bench.item(at(1, 3), Some(at(1, 2)), 1), None);
    bench.sent();
    bench.link.set_window(bench.now, 0);
    assert_eq!(bench.ack().window, 0);
    bench.link.durable(bench.now, stream(), at(1, 2));
    assert_eq!(bench.item(at(1, 3), Some(at(1, 2)), 1), None, "closed");
}

#[test]
fn more_items_may_be_pending_than_are_remembered_one_by_one() {
    let mut bench = Bench::accepted(at(1, 0), at(1, 0), at(9, 0), 1_000);
    for item in 1..=100 {
        assert!(bench.next_item(at(1, item)).is_some());
    }
    assert_eq!(bench.next_item(at(1, 101)), None, "the window is full");
    for durable in [30, 63, 64, 99] {
        bench.link.durable(bench.now, stream(), at(1, durable));
    }
    // Marks 64 to 100 are one: those bytes are pending until the last is durable.
    for item in 101..=163 {
        assert!(bench.next_item(at(1, item)).is_some(), "{item}");
    }
    assert_eq!(bench.next_item(at(1, 164)), None);
    bench.link.durable(bench.now, stream(), at(1, 163));
    for item in 164..264 {
        assert!(bench.next_item(at(1, item)).is_some(), "{item}");
    }
}

#[test]
fn the_answer_waits_until_what_was_yielded_is_durable() {
    let mut bench = Bench::accepted(Position::START, at(1, 0), at(1, 9), 1_000);
    bench.item(at(1, 0), None, 10);
    bench.next_item(at(1, 1));
    bench.hear(DeviceMessage::Hello(hello(at(1, 0), at(1, 9))));
    // The owner knows only of the first.
    bench.link.accept(at(1, 0), accept(1_000)).unwrap();
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.next_item(at(1, 2)), None);
    bench.link.durable(bench.now, stream(), at(1, 1));
    let sent = bench.sent();
    assert!(
        matches!(sent[..], [HostMessage::HelloAck(answer)] if answer.start == at(1, 1)),
        "{sent:?}"
    );
    assert!(bench.next_item(at(1, 2)).is_some());
}

#[test]
fn a_restart_forgets_what_is_not_durable() {
    let mut bench = Bench::accepted(Position::START, at(1, 0), at(1, 9), 1_000);
    bench.item(at(1, 0), None, 10);
    bench.link.restart(bench.now, SESSION + 1);
    assert_eq!(bench.sent(), [HostMessage::HelloReq { session: SESSION + 1 }]);
    assert_eq!(bench.next_item(at(1, 1)), None);
    bench.hear(DeviceMessage::Hello(hello(at(1, 0), at(1, 9))));
    bench.link.accept(Position::START, accept(1_000)).unwrap();
    assert_eq!(bench.sent().len(), 1);
    assert!(bench.item(at(1, 0), None, 10).is_some());
}

#[test]
fn descriptions_are_told_in_session_only() {
    let description = DeviceMessage::Description { boot: 1, kind: ItemKind::BOOT, body: &[1] };
    let mut bench = Bench::new();
    assert_eq!(bench.hear(description), None);
    let mut bench = Bench::accepted(Position::START, at(1, 0), at(1, 9), 1_000);
    assert_eq!(bench.hear(description), Some(Got::Description));
}

#[test]
fn what_is_no_message_is_counted() {
    let mut bench = Bench::new();
    let mut bytes = [0; 64];
    let len = frame::encode(Lead::None, 0x7F, b"?", &[], &mut bytes).unwrap();
    assert!(bench.link.receive(5, &mut &bytes[..len]).is_none());
    assert!(bench.link.receive(5, &mut &[1, 2, 3, 4, 0][..]).is_none());
    let counters = bench.link.counters();
    assert_eq!((counters.frames, counters.message_errors, counters.frame_errors), (1, 1, 1));
    assert_eq!(bench.link.last_heard(), Some(5));
}

#[test]
fn clock_questions_give_samples_with_their_error() {
    let mut bench = Bench { link: HostLink::new(HostConfig::default(), SESSION, 0), now: 0 };
    bench.hear(DeviceMessage::Hello(hello(at(2, 0), at(2, 1))));
    bench.link.accept(Position::START, accept(1)).unwrap();
    let mut asked = Vec::new();
    let mut out = [0; HostLink::FRAME_MAX];
    while asked.len() < 11 {
        let len = bench.link.transmit(bench.now, 1_700_000_000_000, &mut out);
        if len == 0 {
            bench.now = bench.link.next_wake(bench.now).unwrap();
            continue;
        }
        let mut decoder = frame::Decoder::<64>::new();
        assert!(out[..len].iter().any(|byte| decoder.push(*byte) == Progress::Complete));
        let frame = decoder.frame();
        if let Some(HostMessage::Time(TimeRequest { id, wall_ms, .. })) =
            HostMessage::decode(frame.kind, frame.body)
        {
            assert_eq!(wall_ms, 1_700_000_000_000);
            asked.push((bench.now, id));
        }
    }
    let waits: Vec<u64> = asked.windows(2).map(|pair| (pair[1].0 - pair[0].0) / MS).collect();
    assert_eq!(waits, [250, 250, 250, 250, 250, 250, 250, 250, 10_000, 10_000]);
    let (asked_at, id) = asked[10];
    bench.now = asked_at + 301;
    let tick =
        |id| DeviceMessage::Time(TimeAnswer { id, boot: 2, tick: 5_000, errors: 3, overruns: 1 });
    assert_eq!(bench.hear(tick(id - 1)), None, "the answer to another question");
    assert_eq!(bench.hear(tick(0)), None, "a sign of life");
    let sample = ClockSample { boot: 2, tick: 5_000, host_us: asked_at + 151, half_rtt_us: 151 };
    assert_eq!(bench.hear(tick(id)), Some(Got::Time(sample)));
    assert_eq!(bench.hear(tick(id)), None, "only once");
}

#[test]
fn a_host_says_at_once_what_it_misses_and_until_it_has_it() {
    let mut bench = Bench::accepted(Position::START, at(1, 0), at(1, 9), 1_000);
    assert!(bench.next_item(at(1, 1)).is_none(), "it does not follow");
    assert!(bench.ack().missing);
    assert!(bench.item(at(1, 0), Some(Position::START), 10).is_some());
    bench.now += 50 * MS;
    assert!(!bench.ack().missing);
    bench.next_item(at(1, 3));
    let ack = bench.ack();
    assert_eq!((ack.missing, ack.received), (true, at(1, 0)));
    // What was taken before is no sign of it.
    bench.item(at(1, 0), Some(Position::START), 10);
    assert!(bench.ack().missing);
    bench.next_item(at(1, 1));
    bench.now += 50 * MS;
    assert!(!bench.ack().missing);
}

#[test]
fn a_command_is_sent_every_second_until_its_result_comes() {
    let mut bench = Bench::accepted(Position::START, at(3, 0), at(3, 1), 1_000);
    let now = bench.now;
    assert_eq!(bench.link.command(now, 3, 0, b""), Err(NotSent::Number));
    assert_eq!(bench.link.command(now, 3, 5, &[1; 40]), Err(NotSent::TooLong(39)));
    bench.link.command(now, 3, 5, b"go").unwrap();
    let sent = Command { session: SESSION, boot: 3, id: 5, payload: b"go" };
    assert_eq!(bench.sent(), [HostMessage::Command(sent)]);
    assert_eq!(bench.sent(), []);
    bench.now += 1_000 * MS;
    assert_eq!(bench.sent(), [HostMessage::Command(sent)]);
    let result = |id| {
        let status = CommandStatus::Done;
        DeviceMessage::Result(Outcome { id, boot: 3, status, payload: b"" })
    };
    assert_eq!(bench.hear(result(4)), None, "of another");
    assert_eq!(bench.hear(result(5)), Some(Got::Result(5, CommandStatus::Done)));
    assert_eq!(bench.hear(result(5)), None, "only once");
    bench.now += 5_000 * MS;
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.link.command(bench.now, 3, 4, b""), Err(NotSent::Number));
    bench.link.command(bench.now, 3, 6, b"").unwrap();
    bench.link.withdraw_command();
    assert_eq!(bench.sent(), []);
}

#[test]
fn an_answer_to_no_hello_is_none() {
    let mut bench = Bench::new();
    bench.link.assign(stream());
    assert!(bench.link.next_wake(bench.now).is_none_or(|wake| wake > bench.now));
    bench.hear(DeviceMessage::Hello(hello(at(1, 0), at(1, 1))));
    assert_eq!(bench.sent(), []);
    bench.link.restart(bench.now, 9);
    bench.link.refuse(Refusal::Limit);
    assert_eq!(bench.sent(), [HostMessage::HelloReq { session: 9 }]);
    assert!(bench.link.next_wake(bench.now).is_some_and(|wake| wake > bench.now));
}

#[test]
fn a_command_does_not_go_to_another_device() {
    let mut bench = Bench::accepted(at(1, 0), at(1, 0), at(1, 1), 1_000);
    bench.sent();
    bench.link.command(bench.now, 1, 7, b"once").unwrap();
    let of = |sent: Vec<HostMessage<'_>>| {
        sent.iter().filter(|message| matches!(message, HostMessage::Command(_))).count()
    };
    assert_eq!(of(bench.sent()), 1);
    for (stream, expected) in [(stream(), 1), (StreamId::new(99).unwrap(), 0)] {
        let hello = Hello { stream: Some(stream), ..hello(at(1, 0), at(1, 1)) };
        bench.hear(DeviceMessage::Hello(hello));
        bench.link.accept(Position::START, accept(1_000)).unwrap();
        assert_eq!(of(bench.sent()), expected, "{stream}");
    }
}

#[test]
fn a_sleeping_device_is_told_while_it_listens() {
    let mut bench = Bench::new();
    let sleeper = Hello { listen_window_ms: 200, ..hello(at(1, 0), at(1, 9)) };
    bench.hear(DeviceMessage::Hello(sleeper));
    bench.link.accept(Position::START, accept(1_000)).unwrap();
    bench.now += 101 * MS;
    assert_eq!(bench.sent(), [], "too late");
    assert_eq!(bench.link.next_wake(bench.now), None);
    bench.hear(DeviceMessage::Hello(sleeper));
    bench.link.accept(Position::START, accept(1_000)).unwrap();
    assert_eq!(bench.sent().len(), 1);
    assert!(bench.item(at(1, 0), Some(Position::START), 10).is_some());
    bench.now += 50 * MS;
    assert_eq!(bench.ack().received, at(1, 0));
    // Durable only when it sleeps again: told with its next frame.
    bench.now += 60 * MS;
    bench.link.durable(bench.now, stream(), at(1, 0));
    assert_eq!(bench.sent(), []);
    bench.now += 10_000 * MS;
    assert_eq!(bench.sent(), []);
    assert!(bench.next_item(at(1, 1)).is_some());
    assert_eq!(bench.ack().durable, at(1, 0));
}
