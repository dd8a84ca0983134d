//! Where the targets begin: short conversations, and one body of each kind.

use headwater_protocol::{
    CommandStatus, DeviceId, Hello, Item, ItemKind, Position, StreamId,
    item::{BlockBuilder, Boot, Cause, Channel, Gap, GapReason, MISSING, Schema, SchemaHash},
    message::{
        Ack, Command, DeviceMessage, HEAD_MAX, HelloAck, HostMessage, Log, Outcome, TimeAnswer,
        TimeRequest, Verdict,
    },
};

use super::target::{BOOT, STREAM, step};

/// An input under construction.
#[derive(Default)]
struct Input(Vec<u8>);

impl Input {
    fn step(mut self, operation: u8, bytes: &[u8]) -> Self {
        step::push(&mut self.0, operation, bytes);
        self
    }

    fn host_says(self, message: HostMessage<'_>) -> Self {
        let mut head = [0; HEAD_MAX];
        let (kind, len, tail) = message.encode(&mut head).expect("room for any head");
        self.step(step::FRAME, &[&[kind], &head[..len], tail].concat())
    }

    fn device_says(self, message: DeviceMessage<'_>) -> Self {
        let mut head = [0; HEAD_MAX];
        let (kind, len, tail) = message.encode(&mut head).expect("room for any head");
        self.step(step::FRAME, &[&[kind], &head[..len], tail].concat())
    }

    fn wait(self, units: u32) -> Self {
        self.step(step::WAIT, &units.to_le_bytes())
    }

    fn owner(self, what: u8, bytes: &[u8]) -> Self {
        self.step(step::OWNER, &[&[what], bytes].concat())
    }
}

fn stream() -> StreamId {
    StreamId::new(STREAM).expect("not 0")
}

fn answer(verdict: Verdict, attempt: u32) -> HostMessage<'static> {
    let start = Position::START;
    let stream = Some(stream());
    let (session, boot, version, window) = (1, BOOT, 1, 1_000);
    let answer = HelloAck { session, boot, attempt, version, verdict, stream, start, window };
    HostMessage::HelloAck(answer)
}

fn ack(durable: u64, received: u64, window: u32, missing: bool) -> HostMessage<'static> {
    let at = |item| Position::new(BOOT, item);
    let (durable, received) = (at(durable), at(received));
    let (session, stream, bitmap, echo) = (1, stream(), 0b100, 1);
    let ack = Ack { session, stream, durable, received, bitmap, window, echo, missing };
    HostMessage::Ack(ack)
}

/// The device end: sessions begin and end, items go out and are acknowledged.
pub(crate) fn device() -> Vec<Vec<u8>> {
    let asked = || Input::default().host_says(HostMessage::HelloReq { session: 1 });
    let items = |input: Input| (0..8).fold(input, |input, item| input.owner(0, &[item; 30]));
    let begun = || items(asked().host_says(answer(Verdict::Accepted, 2)));
    let assigned = HelloAck {
        session: 1,
        boot: BOOT,
        attempt: 2,
        version: 1,
        verdict: Verdict::Assigned,
        stream: StreamId::new(77),
        start: Position::START,
        window: 0,
    };
    let command = |id| Command { session: 1, boot: BOOT, id, payload: b"led on" };
    let time = TimeRequest { session: 1, id: 5, wall_ms: 1_700_000_000_000 };
    let inputs = [
        asked().wait(600).host_says(answer(Verdict::from_code(17), 2)).wait(40_000),
        asked().host_says(HostMessage::HelloAck(assigned)).wait(500),
        items(asked()).host_says(answer(Verdict::Describe, 2)).wait(10_000),
        begun()
            .host_says(ack(1, 3, 1_000, false))
            .wait(300)
            .host_says(ack(5, 5, 0, false))
            .wait(9_000),
        begun().host_says(ack(0, 2, 1_000, true)).wait(500).wait(1_000).wait(4_000).wait(8_000),
        begun().host_says(HostMessage::Time(time)).owner(3, b"").owner(3, b""),
        begun()
            .host_says(HostMessage::Command(command(4)))
            .owner(4, &[4])
            .host_says(HostMessage::Command(command(4)))
            .host_says(HostMessage::Command(command(5))),
        begun().owner(1, b"").step(step::RAW, b"\x00noise\x00").owner(2, b"").wait(500),
        begun().host_says(HostMessage::HelloReq { session: 2 }).wait(500),
    ];
    inputs.into_iter().map(|input| input.0).collect()
}

fn hello(
    stream: Option<StreamId>,
    oldest: u64,
    next: u64,
    listen_window_ms: u32,
) -> DeviceMessage<'static> {
    DeviceMessage::Hello(Hello {
        version_min: 1,
        version_max: 1,
        device: DeviceId::new("fuzzed").expect("a legal id"),
        stream,
        attempt: 1,
        oldest: Position::new(BOOT, oldest),
        next: Position::new(BOOT, next),
        receive_max: 128,
        longest_silence_ms: 10_000,
        listen_window_ms,
    })
}

fn sent(item: u64, transmission: u8, predecessor: Option<Position>) -> DeviceMessage<'static> {
    let position = Position::new(BOOT, item);
    let item = Item { position, predecessor, kind: ItemKind::BLOCK, body: &[7; 90] };
    DeviceMessage::Item { transmission, item }
}

/// The host end: devices come, are answered, and send.
pub(crate) fn host() -> Vec<Vec<u8>> {
    let greeted = |window| Input::default().device_says(hello(Some(stream()), 0, 9, window));
    let begun = || greeted(0).owner(0, &[0, 0]);
    let next =
        |input: Input, item| input.device_says(sent(item, 1, Position::new(BOOT, item).adjacent()));
    let some = |input| (0..4).fold(input, next);
    let time = |id| TimeAnswer { id, boot: BOOT, tick: 123_456, errors: 1, overruns: 2 };
    let result = Outcome { id: 6, boot: BOOT, status: CommandStatus::Done, payload: b"done" };
    let log = Log { boot: BOOT, tick: 99, severity: 4, lost: 2, text: b"a line" };
    let lost = Some(Position::new(2, 7));
    let inputs = [
        Input::default().device_says(hello(None, 0, 1, 0)).owner(1, b"").wait(100),
        greeted(0).owner(2, b"").wait(20_000),
        some(begun()).owner(3, &[BOOT as u8, 2]).wait(500).owner(4, &[0]).owner(4, &[0, 4]),
        next(some(begun()), 6).device_says(sent(2, 2, Position::new(BOOT, 1).into())).wait(500),
        Input::default()
            .device_says(hello(Some(stream()), 4, 9, 0))
            .owner(0, &[1, 4])
            .device_says(sent(4, 1, lost))
            .owner(8, &[2]),
        begun().device_says(DeviceMessage::Time(time(2))).wait(2_500),
        begun()
            .owner(5, &[6, BOOT as u8, 1, 2, 3])
            .wait(20_000)
            .device_says(DeviceMessage::Result(result)),
        begun().owner(5, &[6, BOOT as u8, 1, 2, 3]).owner(6, b"").owner(7, b""),
        begun().device_says(DeviceMessage::Log(log)).device_says(DeviceMessage::Description {
            boot: BOOT,
            kind: ItemKind::BOOT,
            body: &[1; 20],
        }),
        some(greeted(2_000).owner(0, &[0, 0]).wait(100)).wait(30_000).wait(2_000),
        some(begun()).step(step::RAW, &[1, 2, 0, 9, 9, 0]).device_says(hello(
            Some(stream()),
            2,
            9,
            0,
        )),
    ];
    inputs.into_iter().map(|input| input.0).collect()
}

/// Bodies behind their kind.
pub(crate) fn item() -> Vec<Vec<u8>> {
    let mut out = [0; 600];
    let mut bodies = vec![vec![9, 1, 2, 3]];
    let mut add = |kind: ItemKind, out: &[u8]| bodies.push([&[kind.0], out].concat());
    let boot = Boot {
        cause: Cause::Watchdog,
        tick_hz: 32_768,
        schema: SchemaHash(7),
        last_wall_ms: Some(1),
    };
    let len = boot.encode(&mut out).expect("room");
    add(ItemKind::BOOT, &out[..len]);
    let channel = Channel {
        name: "humidity",
        unit: "%RH",
        mantissa: 1,
        exponent: -1,
        width_bits: 16,
        period_us: 1_000_000,
    };
    let schema = Schema { hash: SchemaHash::of(&[channel]), index: 0, count: 1, channel };
    let len = schema.encode(&mut out).expect("room");
    add(ItemKind::SCHEMA, &out[..len]);
    let gap = Gap { first_seq: 300, count: 5, reason: GapReason::Storage };
    let len = gap.encode(&mut out).expect("room");
    add(ItemKind::GAP, &out[..len]);
    for period in [0, 100] {
        let mut builder = BlockBuilder::<200, 3>::new(period);
        for block in 0..3_u32 {
            for row in 0..30_u32 {
                let at = u64::from(block * 30 + row);
                let wild = at.wrapping_mul(0x9E37_79B9_7F4A_7C15) as i32;
                let missing = if row % 7 == 3 { MISSING } else { 20 + row as i32 };
                let codes = [1_000, missing, if block == 2 { wild } else { (row * row) as i32 }];
                let tick = 1_000 + at * 100 + u64::from(period == 0 && row == 20) * (1 << 33);
                if builder.push(at, tick.max(1_000), &codes).is_err() {
                    break;
                }
            }
            let len = builder.seal(&mut out).expect("room");
            add(ItemKind::BLOCK, &out[..len]);
        }
    }
    bodies
}
