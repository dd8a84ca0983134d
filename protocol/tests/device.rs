//! The device end against a host made of single frames. One tick is a millisecond; a second of the
//! link has 1,024 of them less 24: timers run 2.4 % early, so the checks leave that room.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use headwater_protocol::{
    DEVICE_RECEIVE_MIN, DeviceConfig, DeviceEvent, DeviceId, DeviceLink, HOST_RECEIVE_MAX, Item,
    ItemKind, ItemQueue, Position, Refusal, StreamId,
    frame::{self, Lead, Progress},
    item::{Boot, Cause, SchemaHash},
    message::{
        Ack, Command, CommandStatus, DeviceMessage, HEAD_MAX, HelloAck, HostMessage, Log, Outcome,
        TimeAnswer, TimeRequest, Verdict,
    },
};

const TICK_HZ: u32 = 1_000;
const SESSION: u32 = 77;
const BOOT: u32 = 3;

fn stream() -> StreamId {
    StreamId::new(0xABCD).unwrap()
}

fn at(item: u64) -> Position {
    Position::new(BOOT, item)
}

/// Items of boot 3, bodies of ten bytes.
struct Queue {
    first: u64,
    next: u64,
}

impl ItemQueue for Queue {
    fn next(&self) -> Position {
        at(self.next)
    }

    fn after(&self, position: Position) -> Option<Item<'_>> {
        let item = (self.first..self.next).find(|item| at(*item) > position)?;
        let predecessor = item.checked_sub(1).map(at);
        Some(Item { position: at(item), predecessor, kind: ItemKind::BLOCK, body: &[7; 10] })
    }

    fn release(&mut self, position: Position) {
        self.first = self.first.max(position.item + 1);
    }

    fn describe(&self, index: u8, out: &mut [u8]) -> Option<(ItemKind, usize)> {
        let boot = Boot {
            cause: Cause::Power,
            tick_hz: TICK_HZ,
            schema: SchemaHash(1),
            last_wall_ms: None,
        };
        (index < 2).then(|| (ItemKind(index + 1), boot.encode(out).unwrap()))
    }
}

fn config() -> DeviceConfig {
    DeviceConfig::new(DeviceId::new("bench").unwrap(), TICK_HZ)
}

struct Bench {
    link: DeviceLink,
    queue: Queue,
    now: u64,
}

#[derive(Debug, PartialEq)]
enum Sent {
    Hello { stream: Option<StreamId>, attempt: u32, oldest: Position },
    Item { item: u64, transmission: u8 },
    Time(TimeAnswer),
    Description(ItemKind),
    Log { severity: u8, lost: u32, text: Vec<u8> },
    Result { id: u64, status: CommandStatus, payload: Vec<u8> },
}

impl Bench {
    /// A device without signs of life, so that only the timer in question runs.
    fn new(stream: Option<StreamId>, items: u64) -> Self {
        let config = DeviceConfig { longest_silence_ms: 0, ..config() };
        let link = DeviceLink::new(config, stream);
        Self { link, queue: Queue { first: 0, next: items }, now: 1_000 }
    }

    /// In session, with HELLO said and answered.
    fn in_session(items: u64, window: u32) -> Self {
        let mut bench = Self::new(Some(stream()), items);
        bench.drain();
        let answer = HelloAck { window, ..bench.answer(Verdict::Accepted) };
        assert_eq!(bench.say(HostMessage::HelloAck(answer)), [DeviceEvent::SessionStarted]);
        bench
    }

    fn answer(&self, verdict: Verdict) -> HelloAck {
        HelloAck {
            session: SESSION,
            boot: BOOT,
            attempt: 1,
            version: 1,
            verdict,
            stream: Some(stream()),
            start: Position::START,
            window: 1_000,
        }
    }

    fn say(&mut self, message: HostMessage<'_>) -> Vec<DeviceEvent> {
        let mut body = [0; HEAD_MAX];
        let (kind, len, tail) = message.encode(&mut body).unwrap();
        let mut bytes = [0; 128];
        let len = frame::encode(Lead::None, kind, &body[..len], tail, &mut bytes).unwrap();
        self.hear(&bytes[..len])
    }

    fn hear(&mut self, mut bytes: &[u8]) -> Vec<DeviceEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.link.receive(self.now, &mut bytes, &mut self.queue) {
            events.push(event);
        }
        events
    }

    fn ack(&mut self, durable: u64, received: u64) -> Vec<DeviceEvent> {
        self.say(HostMessage::Ack(ack(durable, received)))
    }

    fn transmit(&mut self) -> Option<(Vec<u8>, Sent)> {
        let mut out = [0; frame::ENCODED_MAX];
        let len = self.link.transmit(self.now, &self.queue, &mut out);
        let bytes = out[..len].to_vec();
        let mut decoder = frame::Decoder::<HOST_RECEIVE_MAX>::new();
        if !bytes.iter().any(|byte| decoder.push(*byte) == Progress::Complete) {
            assert!(bytes.is_empty());
            return None;
        }
        let frame = decoder.frame();
        Some((
            bytes,
            match DeviceMessage::decode(frame.kind, frame.body).unwrap() {
                DeviceMessage::Hello(hello) => {
                    assert_eq!(usize::from(hello.receive_max), DEVICE_RECEIVE_MIN);
                    Sent::Hello {
                        stream: hello.stream,
                        attempt: hello.attempt,
                        oldest: hello.oldest,
                    }
                }
                DeviceMessage::Item { transmission, item } => {
                    Sent::Item { item: item.position.item, transmission }
                }
                DeviceMessage::Time(answer) => Sent::Time(answer),
                DeviceMessage::Description { kind, .. } => Sent::Description(kind),
                DeviceMessage::Log(Log { severity, lost, text, .. }) => {
                    Sent::Log { severity, lost, text: text.to_vec() }
                }
                DeviceMessage::Result(Outcome { id, status, payload, .. }) => {
                    Sent::Result { id, status, payload: payload.to_vec() }
                }
            },
        ))
    }

    /// All that goes out now.
    fn drain(&mut self) -> Vec<Sent> {
        std::iter::from_fn(|| self.transmit()).map(|(_, sent)| sent).collect()
    }

    fn items(&mut self) -> Vec<(u64, u8)> {
        self.drain()
            .into_iter()
            .map(|sent| match sent {
                Sent::Item { item, transmission } => (item, transmission),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Lets time pass until the link wants to send; gives how long that was.
    fn wait(&mut self) -> u64 {
        let wake = self.link.next_wake(self.now, &self.queue).unwrap();
        let waited = wake.saturating_sub(self.now);
        self.now += waited;
        waited
    }
}

fn ack(durable: u64, received: u64) -> Ack {
    Ack {
        session: SESSION,
        stream: stream(),
        durable: at(durable),
        received: at(received),
        bitmap: 0,
        window: 1_000,
        echo: 1,
        missing: false,
    }
}

/// Nearly `ms`: not later, and at most 2.5 % earlier.
fn assert_about(waited: u64, ms: u64) {
    assert!(waited <= ms && waited * 1_000 >= ms * 975, "{waited} for {ms}");
}

#[test]
fn hello_comes_at_once_and_again_with_doubling_waits() {
    let mut bench = Bench::new(None, 1);
    let hello = || Sent::Hello { stream: None, attempt: 1, oldest: at(0) };
    assert_eq!(bench.drain(), [hello()]);
    for ms in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
        assert_about(bench.wait(), ms);
        assert_eq!(bench.drain(), [hello()]);
    }
}

#[test]
fn hello_req_is_answered_at_once_also_in_session() {
    let mut bench = Bench::in_session(0, 1_000);
    bench.say(HostMessage::HelloReq { session: SESSION });
    assert_eq!(bench.wait(), 0);
    assert_eq!(bench.drain(), [Sent::Hello { stream: Some(stream()), attempt: 1, oldest: at(0) }]);
    assert!(bench.link.in_session());
    bench.say(HostMessage::HelloReq { session: SESSION + 1 });
    assert_eq!(bench.drain(), [Sent::Hello { stream: Some(stream()), attempt: 2, oldest: at(0) }]);
    assert!(!bench.link.in_session());
}

#[test]
fn a_stream_is_asked_for_and_no_item_goes_before_it_is_set() {
    let mut bench = Bench::new(None, 3);
    bench.drain();
    let assigned = bench.answer(Verdict::Assigned);
    assert_eq!(bench.say(HostMessage::HelloAck(assigned)), [DeviceEvent::StreamAssigned(stream())]);
    assert_eq!(bench.drain(), []);
    bench.link.set_stream(bench.now, stream());
    assert_eq!(bench.drain(), [Sent::Hello { stream: Some(stream()), attempt: 2, oldest: at(0) }]);
    // A late copy of the answer changes nothing.
    assert_eq!(bench.say(HostMessage::HelloAck(assigned)), []);
    let accepted = HelloAck { attempt: 2, ..bench.answer(Verdict::Accepted) };
    assert_eq!(bench.say(HostMessage::HelloAck(accepted)), [DeviceEvent::SessionStarted]);
    assert_eq!(bench.items(), [(0, 1), (1, 1), (2, 1)]);
}

#[test]
fn answers_that_are_not_for_this_device_are_counted_and_ignored() {
    let mut bench = Bench::new(Some(stream()), 3);
    bench.drain();
    let good = bench.answer(Verdict::Accepted);
    let others = [
        HelloAck { boot: BOOT - 1, ..good },
        HelloAck { attempt: 2, ..good },
        HelloAck { stream: StreamId::new(1), ..good },
        HelloAck { stream: None, ..good },
        HelloAck { version: 2, ..good },
        HelloAck { start: at(3), ..good },
    ];
    for (index, answer) in others.into_iter().enumerate() {
        assert_eq!(bench.say(HostMessage::HelloAck(answer)), [], "{answer:?}");
        assert_eq!(bench.link.counters().foreign_frames, index as u32 + 1);
        assert!(!bench.link.in_session());
    }
    assert_eq!(bench.say(HostMessage::HelloAck(good)), [DeviceEvent::SessionStarted]);
}

#[test]
fn a_session_starts_behind_what_is_durable() {
    let mut bench = Bench::new(Some(stream()), 5);
    bench.drain();
    let answer = HelloAck { start: at(2), ..bench.answer(Verdict::Accepted) };
    assert_eq!(
        bench.say(HostMessage::HelloAck(answer)),
        [DeviceEvent::SessionStarted, DeviceEvent::Acknowledged(at(2))]
    );
    assert_eq!(bench.queue.first, 3);
    assert_eq!(bench.items(), [(3, 1), (4, 1)]);
}

#[test]
fn refusal_is_told_and_hello_goes_on() {
    let mut bench = Bench::new(Some(stream()), 1);
    bench.drain();
    let refused = bench.answer(Verdict::Refused(Refusal::Limit));
    assert_eq!(bench.say(HostMessage::HelloAck(refused)), [DeviceEvent::Refused(Refusal::Limit)]);
    assert_about(bench.wait(), 500);
    assert_eq!(bench.drain().len(), 1);
    let mut bench = Bench::in_session(1, 1_000);
    let refused = bench.answer(Verdict::Refused(Refusal::Duplicate));
    bench.say(HostMessage::HelloAck(refused));
    assert!(!bench.link.in_session());
    assert_about(bench.wait(), 500);
}

#[test]
fn acknowledgements_of_what_was_not_sent_are_counted_and_ignored() {
    let mut bench = Bench::in_session(9, 25);
    assert_eq!(bench.items(), [(0, 1), (1, 1)]);
    let good = ack(1, 1);
    let others = [
        Ack { session: SESSION + 1, ..good },
        Ack { stream: StreamId::new(1).unwrap(), ..good },
        Ack { durable: at(2), received: at(2), ..good },
        Ack { received: at(2), ..good },
        Ack { durable: at(9), received: at(9), ..good },
        Ack { durable: Position::new(BOOT + 1, 0), received: at(1), ..good },
    ];
    for (index, ack) in others.into_iter().enumerate() {
        assert_eq!(bench.say(HostMessage::Ack(ack)), [], "{ack:?}");
        assert_eq!(bench.link.counters().foreign_frames, index as u32 + 1);
        assert_eq!(bench.queue.first, 0);
    }
    assert_eq!(bench.say(HostMessage::Ack(good)), [DeviceEvent::Acknowledged(at(1))]);
    assert_eq!(bench.queue.first, 2);
}

#[test]
fn received_stops_retransmission_and_only_durable_frees() {
    let mut bench = Bench::in_session(2, 1_000);
    assert_eq!(bench.items(), [(0, 1), (1, 1)]);
    assert_eq!(bench.ack(0, 1), [DeviceEvent::Acknowledged(at(0))]);
    assert_eq!(bench.queue.first, 1);
    // Nothing is sent again, until the device asks whether the rest is durable.
    assert_about(bench.wait(), 1_000);
    assert_eq!(bench.items(), [(1, 2)]);
    assert_eq!(bench.ack(1, 1), [DeviceEvent::Acknowledged(at(1))]);
    assert_eq!(bench.queue.first, 2);
    assert_eq!(bench.link.next_wake(bench.now, &bench.queue), None);
}

#[test]
fn retransmission_doubles_and_ends_in_hello() {
    let mut bench = Bench::in_session(2, 1_000);
    assert_eq!(bench.items(), [(0, 1), (1, 1)]);
    for (ms, transmission) in [(500, 2), (1_000, 3), (2_000, 4)] {
        assert_about(bench.wait(), ms);
        assert_eq!(bench.items(), [(0, transmission), (1, transmission)]);
    }
    assert_about(bench.wait(), 4_000);
    assert_eq!(bench.drain(), [Sent::Hello { stream: Some(stream()), attempt: 2, oldest: at(0) }]);
    assert_eq!(bench.link.counters().retransmissions, 6);
    assert_eq!(bench.link.in_flight(), at(1), "the host may have them");
}

#[test]
fn progress_takes_the_timeout_back() {
    let mut bench = Bench::in_session(3, 1_000);
    bench.items();
    bench.wait();
    bench.items();
    bench.ack(0, 0);
    assert_about(bench.wait(), 500);
    assert_eq!(bench.items(), [(1, 3), (2, 3)]);
}

#[test]
fn what_the_host_holds_out_of_order_is_not_sent_again() {
    let mut bench = Bench::in_session(5, 1_000);
    bench.items();
    let held = Ack { bitmap: 0b1010, ..ack(0, 0) };
    bench.say(HostMessage::Ack(held));
    bench.wait();
    assert_eq!(bench.items(), [(1, 2), (3, 2)]);
}

#[test]
fn the_window_bounds_what_is_under_way() {
    let mut bench = Bench::in_session(9, 35);
    assert_eq!(bench.items(), [(0, 1), (1, 1), (2, 1)]);
    bench.say(HostMessage::Ack(Ack { window: 35, ..ack(0, 2) }));
    assert_eq!(bench.items(), [(3, 1)]);
    // Smaller than an item: one at a time.
    bench.say(HostMessage::Ack(Ack { window: 1, ..ack(3, 3) }));
    assert_eq!(bench.items(), [(4, 1)]);
}

#[test]
fn a_closed_window_is_probed_between_1_and_30_seconds_for_as_long_as_the_host_answers() {
    let mut bench = Bench::in_session(3, 0);
    assert_eq!(bench.items(), []);
    let nothing = Position::START;
    let closed = Ack { durable: nothing, received: nothing, window: 0, ..ack(0, 0) };
    for (seconds, transmission) in [(1, 1), (2, 3), (4, 4), (8, 5), (16, 6), (30, 7), (30, 7)] {
        assert_about(bench.wait(), seconds * 1_000);
        assert_eq!(bench.items(), [(0, transmission)]);
        bench.say(HostMessage::Ack(closed));
    }
    let opened = Ack { window: 1_000, ..closed };
    bench.say(HostMessage::Ack(opened));
    assert_eq!(bench.items().len(), 3);
    assert_about(bench.wait(), 500);
}

#[test]
fn a_new_item_is_sent_again_in_time_although_a_probe_is_due_later() {
    let mut bench = Bench::in_session(1, 1_000);
    bench.items();
    let waiting = Ack { durable: Position::START, ..ack(0, 0) };
    for _ in 0..5 {
        bench.say(HostMessage::Ack(waiting));
        bench.wait();
        bench.items();
    }
    bench.say(HostMessage::Ack(waiting));
    bench.queue.next = 2;
    assert_eq!(bench.items(), [(1, 1)]);
    // The first round trip was short, so the timeout is the shortest.
    assert_about(bench.wait(), 200);
    assert_eq!(bench.items().len(), 1);
}

#[test]
fn an_unanswered_probe_ends_in_hello() {
    let mut bench = Bench::in_session(3, 0);
    let mut sent = bench.drain();
    for _ in 0..20 {
        bench.wait();
        sent.extend(bench.drain());
    }
    assert!(sent.iter().any(|sent| matches!(sent, Sent::Hello { .. })), "{sent:?}");
}

#[test]
fn clock_questions_are_answered_with_the_tick_of_sending() {
    let mut bench = Bench::in_session(1, 1_000);
    let question = TimeRequest { session: SESSION, id: 9, wall_ms: 1_700_000_000_000 };
    let events = bench.say(HostMessage::Time(question));
    assert_eq!(events, [DeviceEvent::WallTime(1_700_000_000_000)]);
    bench.now += 40;
    let answer = TimeAnswer { id: 9, boot: BOOT, tick: bench.now, errors: 0, overruns: 0 };
    assert_eq!(bench.drain()[0], Sent::Time(answer), "before items");
    bench.say(HostMessage::Time(TimeRequest { session: SESSION + 1, ..question }));
    assert_eq!(bench.drain(), []);
}

#[test]
fn signs_of_life_keep_the_promised_silence() {
    let mut bench = Bench::new(Some(stream()), 0);
    bench.link = DeviceLink::new(config(), Some(stream()));
    bench.queue.next = 1;
    bench.queue.first = 1;
    bench.drain();
    let answer = HelloAck { start: at(0), ..bench.answer(Verdict::Accepted) };
    bench.say(HostMessage::HelloAck(answer));
    for _ in 0..5 {
        assert!(bench.wait() <= 10_000 / 2);
        assert!(matches!(bench.drain()[..], [Sent::Time(TimeAnswer { id: 0, .. })]));
    }
}

#[test]
fn descriptions_go_before_items_when_asked_for() {
    let mut bench = Bench::new(Some(stream()), 1);
    bench.drain();
    let answer = bench.answer(Verdict::Describe);
    bench.say(HostMessage::HelloAck(answer));
    assert_eq!(
        bench.drain(),
        [
            Sent::Description(ItemKind::BOOT),
            Sent::Description(ItemKind::SCHEMA),
            Sent::Item { item: 0, transmission: 1 }
        ]
    );
}

#[test]
fn a_delimiter_leads_after_idle_and_after_errors() {
    let mut bench = Bench::in_session(9, 1_000);
    let lead = |bench: &mut Bench| bench.transmit().unwrap().0[0] == frame::DELIMITER;
    assert!(!lead(&mut bench), "right behind another frame");
    bench.now += 20;
    assert!(lead(&mut bench), "after idle");
    assert!(!lead(&mut bench));
    bench.hear(&[1, 2, 3, 0]);
    assert_eq!(bench.link.counters().frame_errors, 1);
    assert!(lead(&mut bench), "after an error");
    assert!(!lead(&mut bench));
    bench.link.line_error();
    assert!(lead(&mut bench), "after lost bytes");
}

#[test]
fn a_remade_connection_begins_with_hello_and_keeps_what_is_in_flight() {
    let mut bench = Bench::in_session(2, 1_000);
    bench.items();
    bench.link.restart(bench.now);
    assert_eq!(bench.link.in_flight(), at(1));
    assert_eq!(bench.drain(), [Sent::Hello { stream: Some(stream()), attempt: 2, oldest: at(0) }]);
    // The next session tells exactly what the host has.
    let answer = HelloAck { attempt: 2, start: at(0), ..bench.answer(Verdict::Accepted) };
    bench.say(HostMessage::HelloAck(answer));
    assert_eq!(bench.link.in_flight(), at(0));
}

#[test]
fn items_of_an_earlier_boot_count_as_in_flight_until_a_session_starts() {
    let link: DeviceLink = DeviceLink::new(config(), None).with_sent(at(4));
    assert_eq!(link.in_flight(), at(4));
}

#[test]
fn an_answer_under_another_session_ends_the_one_before() {
    let mut bench = Bench::in_session(2, 1_000);
    let answer = HelloAck { session: SESSION + 1, ..bench.answer(Verdict::Accepted) };
    assert_eq!(bench.say(HostMessage::HelloAck(answer)), []);
    assert!(!bench.link.in_session());
    assert_eq!(bench.wait(), 0);
}

#[test]
fn a_frame_that_does_not_fit_is_not_sent() {
    let mut bench = Bench::in_session(1, 1_000);
    assert_eq!(bench.link.transmit(bench.now, &bench.queue, &mut [0; 10]), 0);
    assert_eq!(bench.items(), [(0, 1)]);
}

/// One item after the other, each answered after so many ms; gives the timeout that holds then.
fn timeout_after(bench: &mut Bench, round_trips_ms: &[u64]) -> u64 {
    for ms in round_trips_ms {
        let item = bench.queue.next;
        bench.queue.next += 1;
        assert_eq!(bench.items(), [(item, 1)]);
        bench.now += ms;
        bench.ack(item, item);
    }
    bench.queue.next += 1;
    let sent = bench.items();
    let waited = bench.wait();
    let again = bench.items();
    assert_eq!((again[0].0, again[0].1), (sent[0].0, 2));
    waited
}

#[test]
fn the_retransmission_timeout_follows_the_round_trips() {
    // RFC 6298: first R + 4 * R/2, then by eighths and quarters, and never below 200 ms.
    assert_eq!(timeout_after(&mut Bench::in_session(0, 1_000), &[300]), 900);
    let steady = timeout_after(&mut Bench::in_session(0, 1_000), &[300; 30]);
    assert!((300..320).contains(&steady), "{steady}");
    assert_about(timeout_after(&mut Bench::in_session(0, 1_000), &[10; 30]), 200);
    let mut shaky = [100; 30];
    shaky[29] = 500;
    let shaken = timeout_after(&mut Bench::in_session(0, 1_000), &shaky);
    // 150 smoothed, and a quarter of 400 of variation, four times.
    assert!((500..570).contains(&shaken), "{shaken}");
}

#[test]
fn only_a_round_trip_of_a_known_transmission_counts() {
    let mut bench = Bench::in_session(1, 1_000);
    assert_eq!(bench.items(), [(0, 1)]);
    bench.wait();
    assert_eq!(bench.items(), [(0, 2)]);
    bench.now += 300;
    // The first copy was slow: this is no round trip of 300 ms.
    bench.say(HostMessage::Ack(Ack { echo: 1, ..ack(0, 0) }));
    assert_about(timeout_after(&mut bench, &[]), 500);

    let mut bench = Bench::in_session(1, 1_000);
    bench.items();
    bench.wait();
    assert_eq!(bench.items(), [(0, 2)]);
    bench.now += 300;
    bench.say(HostMessage::Ack(Ack { echo: 2, ..ack(0, 0) }));
    assert_eq!(timeout_after(&mut bench, &[]), 900);
}

#[test]
fn a_missing_item_is_sent_again_at_once_and_once() {
    let mut bench = Bench::in_session(5, 1_000);
    assert_eq!(bench.items().len(), 5);
    let missing = Ack { missing: true, ..ack(0, 1) };
    bench.say(HostMessage::Ack(missing));
    assert_eq!(bench.items(), [(2, 2), (3, 2), (4, 2)]);
    // Items that were under way make the host say it again.
    bench.say(HostMessage::Ack(missing));
    assert_eq!(bench.items(), []);
    bench.ack(0, 2);
    bench.say(HostMessage::Ack(Ack { missing: true, ..ack(0, 2) }));
    assert_eq!(bench.items(), [(3, 3), (4, 3)]);
    // Lost once more: then the timer sends it.
    bench.wait();
    assert_eq!(bench.items(), [(3, 4), (4, 4)]);
}

/// Each item that arrives makes the host say so once more, also after sending went back.
#[test]
fn a_host_that_misses_the_same_item_for_ever_is_out_of_step() {
    let mut bench = Bench::in_session(4, 1_000);
    for round in 0..10 {
        if bench.drain().iter().any(|sent| matches!(sent, Sent::Hello { .. })) {
            assert_eq!(round, 4);
            return;
        }
        for _ in 0..4 {
            bench.say(HostMessage::Ack(Ack { missing: true, ..ack(0, 0) }));
        }
        bench.drain();
        bench.wait();
    }
    panic!("the session goes on");
}

fn command(boot: u32, id: u64) -> HostMessage<'static> {
    HostMessage::Command(Command { session: SESSION, boot, id, payload: b"led on" })
}

#[test]
fn a_command_is_done_once_and_its_result_said_as_often_as_it_is_asked_for() {
    let mut bench = Bench::in_session(0, 1_000);
    assert_eq!(bench.say(command(BOOT, 7)), [DeviceEvent::Command { id: 7 }]);
    assert_eq!(bench.link.command(), b"led on");
    assert_eq!(bench.say(command(BOOT, 7)), [], "it is being done");
    assert_eq!(bench.drain(), []);
    bench.link.finish_command(6, CommandStatus::Failed, b"");
    assert_eq!(bench.drain(), [], "another one");
    bench.link.finish_command(7, CommandStatus::Done, b"on");
    let result = || Sent::Result { id: 7, status: CommandStatus::Done, payload: b"on".to_vec() };
    assert_eq!(bench.wait(), 0);
    assert_eq!(bench.drain(), [result()]);
    assert_eq!(bench.say(command(BOOT, 7)), []);
    assert_eq!(bench.drain(), [result()]);
    assert_eq!(bench.say(command(BOOT, 6)), [], "from before it");
    assert_eq!(bench.drain(), []);
    bench.link.finish_command(7, CommandStatus::Failed, b"");
    assert_eq!(bench.drain(), [], "it is done already");
    assert_eq!(bench.say(command(BOOT, 8)), [DeviceEvent::Command { id: 8 }]);
}

#[test]
fn a_command_for_another_boot_or_session_is_not_done() {
    let mut bench = Bench::in_session(0, 1_000);
    assert_eq!(bench.say(command(BOOT - 1, 7)), []);
    let status = CommandStatus::OtherBoot;
    assert_eq!(bench.drain(), [Sent::Result { id: 7, status, payload: vec![] }]);
    let command = Command { session: SESSION + 1, boot: BOOT, id: 8, payload: b"" };
    assert_eq!(bench.say(HostMessage::Command(command)), []);
    assert_eq!(bench.drain(), []);
}

#[test]
fn a_line_of_text_waits_for_the_items_and_others_are_counted() {
    let mut bench = Bench::in_session(1, 1_000);
    bench.link.log(bench.now, 4, "first");
    bench.link.log(bench.now, 4, "second");
    bench.link.log(bench.now, 4, "third");
    let line = |lost, text: &str| Sent::Log { severity: 4, lost, text: text.into() };
    let item = Sent::Item { item: 0, transmission: 1 };
    assert_eq!(bench.drain(), [item, line(2, "first")]);
    bench.link.log(bench.now, 9, &"x".repeat(100));
    assert_eq!(bench.drain(), [Sent::Log { severity: 7, lost: 0, text: vec![b'x'; 64] }]);
}

#[test]
fn what_a_closing_window_left_outside_is_probed_for_though_nothing_else_waits() {
    let mut bench = Bench::in_session(2, 1_000);
    assert_eq!(bench.items(), [(0, 1), (1, 1)]);
    // The second item met a closed window; that it has opened again gets lost.
    bench.say(HostMessage::Ack(Ack { window: 0, ..ack(0, 0) }));
    assert_about(bench.wait(), 1_000);
    assert_eq!(bench.items(), [(1, 2)]);
}
