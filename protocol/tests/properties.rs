//! Round trips, totality of every decoder, and what damage on the line may and may not do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use headwater_protocol::{
    Accept, DeviceConfig, DeviceId, DeviceLink, HOST_RECEIVE_MAX, Hello, HostConfig, HostEvent,
    HostLink, Item, ItemKind, ItemQueue, Position, StreamId, cobs,
    frame::{self, Frame, Lead, Progress},
    item::{Block, BlockBuilder, CHANNELS_MAX, Content, ITEM_BODY_MAX, MISSING, NotTaken},
    message::{
        Ack, Command, CommandStatus, DeviceMessage, HEAD_MAX, HelloAck, HostMessage, Log, Outcome,
        TRANSMISSION_MAX, TimeAnswer, TimeRequest, Verdict, kind,
    },
    varint,
};
use proptest::{collection::vec, prelude::*};

fn encode(lead: Lead, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0; frame::encoded_max(body.len())];
    let len = frame::encode(lead, kind, body, &[], &mut out).unwrap();
    out.truncate(len);
    out
}

/// All frames found in `bytes`.
fn decode(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut decoder = frame::Decoder::<HOST_RECEIVE_MAX>::new();
    let mut found = Vec::new();
    for byte in bytes {
        if decoder.push(*byte) == Progress::Complete {
            let Frame { kind, body } = decoder.frame();
            found.push((kind, body.to_vec()));
        }
    }
    found
}

/// A queue of one item.
struct One(Vec<u8>);

impl ItemQueue for One {
    fn next(&self) -> Position {
        Position::new(1, 1)
    }

    fn after(&self, position: Position) -> Option<Item<'_>> {
        (position < Position::new(1, 0)).then_some(Item {
            position: Position::new(1, 0),
            predecessor: None,
            kind: ItemKind::BLOCK,
            body: &self.0,
        })
    }

    fn release(&mut self, _: Position) {}
}

/// Codes as sensors give them, and as they do not.
fn code() -> impl Strategy<Value = i32> {
    prop_oneof![4 => -50..50_i32, 1 => any::<i32>(), 1 => Just(MISSING)]
}

/// What a channel does from one reading to the next.
#[derive(Clone, Copy, Debug)]
enum Signal {
    Still,
    Step(i8),
    Jump(i32),
    Missing,
}

impl Signal {
    fn after(self, code: i32) -> i32 {
        match self {
            Self::Still => code,
            Self::Step(by) => code.wrapping_add(by.into()),
            Self::Jump(to) => to,
            Self::Missing => MISSING,
        }
    }
}

fn signal() -> impl Strategy<Value = Signal> {
    prop_oneof![
        20 => Just(Signal::Still),
        10 => any::<i8>().prop_map(Signal::Step),
        5 => (-3..4_i8).prop_map(Signal::Step),
        1 => code().prop_map(Signal::Jump),
        1 => Just(Signal::Missing),
    ]
}

/// Seals, and compares what the body holds with what went in.
fn decode_again<const ROWS: usize>(
    builder: &mut BlockBuilder<ROWS, 3>,
    pushed: &mut Vec<(u64, u64, [i32; 3])>,
) {
    let mut body = [0; 128];
    assert!(BlockBuilder::<ROWS, 3>::LEN_MAX <= body.len());
    let len = builder.seal(&mut body).unwrap();
    let block = Block::decode(&body[..len]).unwrap();
    let mut rows = block.rows();
    for (seq, tick, codes) in pushed.drain(..) {
        let (head, got) = rows.next_row().unwrap();
        assert_eq!((head.seq, head.tick, got), (seq, tick, &codes[..]));
    }
    assert!(rows.next_row().is_none());
    for cut in 0..len {
        assert!(Block::decode(&body[..cut]).is_err(), "cut to {cut}");
    }
}

proptest! {
    #[test]
    fn varint_round_trip(value: u64, tail: Vec<u8>) {
        let mut out = [0; varint::MAX_LEN];
        let len = varint::encode(value, &mut out).unwrap();
        let bytes = [&out[..len], &tail].concat();
        prop_assert_eq!(varint::decode(&bytes), Some((value, len)));
    }

    #[test]
    fn cobs_round_trip(bytes in vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..700)) {
        let mut out = vec![0; cobs::encoded_max(bytes.len())];
        let mut encoder = cobs::Encoder::new(&mut out);
        bytes.iter().for_each(|byte| encoder.push(*byte));
        let len = encoder.finish().unwrap();
        prop_assert!(!out[..len].contains(&0));
        let mut decoder = cobs::Decoder::new();
        let back: Vec<u8> = out[..len].iter().filter_map(|byte| decoder.push(*byte)).collect();
        prop_assert!(decoder.at_end());
        prop_assert_eq!(back, bytes);
    }

    #[test]
    fn frame_round_trip(kind: u8, body in vec(any::<u8>(), 0..=frame::BODY_MAX)) {
        let bytes = encode(Lead::Delimiter, kind, &body);
        prop_assert_eq!(decode(&bytes), vec![(kind, body)]);
    }

    /// Whatever came before, a frame led by a delimiter is understood.
    #[test]
    fn frames_are_found_after_garbage(garbage: Vec<u8>, body in vec(any::<u8>(), 0..100)) {
        let (led, next) = (encode(Lead::Delimiter, 0x45, &body), encode(Lead::None, 0x45, &body));
        let bytes = [garbage, led, next].concat();
        let found = decode(&bytes);
        prop_assert!(found.len() >= 2);
        prop_assert_eq!(&found[found.len() - 2..], &[(0x45, body.clone()), (0x45, body)]);
    }

    #[test]
    fn bodies_of_any_bytes_give_a_value_or_an_error(kind: u8, body in vec(any::<u8>(), 0..=640)) {
        let mut out = [0; HEAD_MAX];
        if let Some(message) = HostMessage::decode(kind % 8, &body) {
            let (kind, len, tail) = message.encode(&mut out).unwrap();
            let again = [&out[..len], tail].concat();
            prop_assert_eq!(HostMessage::decode(kind, &again), Some(message));
        }
        if let Some(message) = DeviceMessage::decode(0x40 | (kind % 8), &body) {
            let (kind, len, tail) = message.encode(&mut out).unwrap();
            let again = [&out[..len], tail].concat();
            prop_assert_eq!(DeviceMessage::decode(kind, &again), Some(message));
        }
        let _ = Content::decode(ItemKind(kind), &body);
    }

    /// Bytes that look like a block more often than random ones do.
    #[test]
    fn blocks_of_nearly_any_bytes_give_a_value_or_an_error(
        first in vec(0..4_u8, 3),
        count in 1..40_u8,
        starts in vec(prop_oneof![0..0x20_u8, any::<u8>()], 0..40),
        rows in vec(prop_oneof![0..20_u8, any::<u8>()], 0..640),
    ) {
        let body = [&first[..], &[count], &starts, &rows].concat();
        if let Ok(block) = Block::decode(&body) {
            let mut walk = block.rows();
            let mut count = 0;
            while let Some((head, codes)) = walk.next_row() {
                prop_assert_eq!(head.seq, block.first_seq + count);
                prop_assert_eq!(codes.len(), usize::from(block.channels));
                count += 1;
            }
            prop_assert_eq!(count, u64::from(block.count));
            prop_assert!(usize::from(block.channels) <= CHANNELS_MAX);
        }
    }

    /// One builder, block after block, so that each starts with what the one before taught.
    #[test]
    fn block_round_trip(
        first_seq in 0..u64::MAX / 2, first_tick in 0..u64::MAX / 4,
        period in prop_oneof![Just(0_u32), 1..1_000_000_u32],
        spread in prop_oneof![Just(1_u64), 2..1_000_u64, 1..u64::MAX / 1_000],
        rows in vec((any::<u64>(), signal(), signal(), signal()), 1..300),
    ) {
        const ROWS: usize = 60;
        let mut builder = BlockBuilder::<ROWS, 3>::new(period);
        let (mut codes, mut tick) = ([0_i32; 3], first_tick);
        let mut pushed = Vec::new();
        for (index, (step, a, b, c)) in rows.into_iter().enumerate() {
            for (code, signal) in codes.iter_mut().zip([a, b, c]) {
                *code = signal.after(*code);
            }
            let seq = first_seq + index as u64;
            match builder.push(seq, tick, &codes) {
                Ok(()) => {}
                Err(NotTaken::Full) => {
                    decode_again(&mut builder, &mut pushed);
                    builder.push(seq, tick, &codes).unwrap();
                }
                Err(other) => panic!("{other:?}"),
            }
            pushed.push((seq, tick, codes));
            tick += if period == 0 { step % spread } else { u64::from(period) };
        }
        decode_again(&mut builder, &mut pushed);
    }

    /// Neither end panics, whatever it receives, also when the bytes are well-formed frames.
    #[test]
    fn links_survive_any_bytes(
        chunks in vec((any::<bool>(), any::<u8>(), vec(any::<u8>(), 0..80)), 0..40),
    ) {
        let mut ends = Ends::new();
        for (framed, kind, body) in chunks {
            ends.now += 1 + u64::from(kind) * 100;
            let bytes = if framed { encode(Lead::None, kind & 0x47, &body) } else { body };
            ends.device_hears(&bytes);
            ends.host_hears(&bytes, Position::START, 1_000);
        }
    }

    /// Nor do they when every frame is a legal message with illegal intentions.
    #[test]
    fn links_survive_any_messages(
        wishes in vec((any::<u32>(), edge(), edge(), edge(), edge(), 0..9_u8), 0..60),
    ) {
        let mut ends = Ends::new();
        for (some, a, b, c, d, which) in wishes {
            let wish = Wish { some, a, b, c, d };
            ends.now += u64::from(some >> 8);
            let mut body = [0; HEAD_MAX];
            let (kind, len, tail) = wish.host_message(which).encode(&mut body).unwrap();
            ends.device_hears(&encode(Lead::None, kind, &[&body[..len], tail].concat()));
            let (kind, len, tail) = wish.device_message(which).encode(&mut body).unwrap();
            let bytes = encode(Lead::None, kind, &[&body[..len], tail].concat());
            ends.host_hears(&bytes, Position::new(d as u32, a), b as u32);
            ends.host.durable(ends.now, stream(), Position::new(1 | b as u32, c));
            ends.host.set_window(ends.now, d as u32);
        }
    }
}

fn stream() -> StreamId {
    StreamId::new(1).unwrap()
}

fn config() -> DeviceConfig {
    DeviceConfig::new(DeviceId::new("d").unwrap(), 1_000)
}

/// Both ends, each hearing what the test makes up.
struct Ends {
    device: DeviceLink,
    queue: One,
    host: HostLink,
    now: u64,
}

impl Ends {
    fn new() -> Self {
        Self {
            device: DeviceLink::new(config(), Some(stream())),
            queue: One(vec![0; 30]),
            host: HostLink::new(HostConfig::default(), 1, 0),
            now: 0,
        }
    }

    fn device_hears(&mut self, mut bytes: &[u8]) {
        while self.device.receive(self.now, &mut bytes, &mut self.queue).is_some() {}
        self.device.transmit(self.now, &self.queue, &mut [0; frame::ENCODED_MAX]);
        let _ = self.device.next_wake(self.now, &self.queue);
    }

    fn host_hears(&mut self, mut bytes: &[u8], durable: Position, window: u32) {
        while let Some(event) = self.host.receive(self.now, &mut bytes) {
            if let HostEvent::Hello(_) = event {
                let _ = self.host.accept(durable, Accept { window, describe: true });
            }
        }
        self.host.transmit(self.now, 0, &mut [0; frame::ENCODED_MAX]);
        let _ = self.host.next_wake(self.now);
    }
}

/// Numbers from which a message is made.
struct Wish {
    some: u32,
    a: u64,
    b: u64,
    c: u64,
    d: u64,
}

impl Wish {
    fn host_message(&self, which: u8) -> HostMessage<'static> {
        let &Self { some, a, b, c, d } = self;
        let (small, session) = (some as u8, 1 | (some & 2));
        match which {
            0 => HostMessage::HelloReq { session },
            1 => HostMessage::HelloAck(HelloAck {
                session,
                boot: 1,
                attempt: 1 + (some & 1),
                version: 1,
                verdict: Verdict::from_code(small >> 5),
                stream: Some(stream()),
                start: Position::new(b as u32 & 1, c),
                window: a as u32,
            }),
            2 => HostMessage::Ack(Ack {
                session,
                stream: stream(),
                durable: Position::new(b as u32 & 1, c),
                received: Position::new(b as u32, d),
                bitmap: d as u32,
                window: a as u32,
                echo: small & TRANSMISSION_MAX,
                missing: some & 1 == 1,
            }),
            3 => HostMessage::Command(Command {
                session,
                boot: 1 + (some & 1),
                id: d.max(1),
                payload: &[9; 255][..usize::from(small) % 40],
            }),
            _ => HostMessage::Time(TimeRequest { session, id: some | 1, wall_ms: a }),
        }
    }

    fn device_message(&self, which: u8) -> DeviceMessage<'static> {
        let &Self { some, a, b, c, d } = self;
        let (small, one, other) =
            (some as u8, Position::new(1 | b as u32, c), Position::new(b as u32, d));
        match which {
            0..4 => DeviceMessage::Hello(Hello {
                version_min: 1,
                version_max: 1,
                device: config().id,
                stream: Some(stream()),
                attempt: some,
                oldest: one.min(other).max(Position::new(1, 0)),
                next: one.max(other),
                receive_max: 64,
                longest_silence_ms: a as u32,
                listen_window_ms: b as u32,
            }),
            4 => DeviceMessage::Time(TimeAnswer {
                id: u32::from(small),
                boot: 1,
                tick: a,
                errors: some,
                overruns: some >> 7,
            }),
            5 => DeviceMessage::Log(Log {
                boot: 1,
                tick: a,
                severity: small & 7,
                lost: some,
                text: &[b'x'; 255][..usize::from(small) % 201],
            }),
            6 => DeviceMessage::Result(Outcome {
                id: d.max(1),
                boot: 1,
                status: CommandStatus::from_code(small),
                payload: &[8; 255][..usize::from(small) % 201],
            }),
            _ => DeviceMessage::Item {
                transmission: (small & TRANSMISSION_MAX).max(1),
                item: Item {
                    position: one,
                    predecessor: Some(other),
                    kind: ItemKind::GAP,
                    body: &[0; 255][..usize::from(small)],
                },
            },
        }
    }
}

/// Numbers with a liking for the ends of their range.
fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..5_u64,
        any::<u64>(),
        Just(u64::MAX),
        Just(u64::from(u32::MAX)),
        Just(u64::MAX - 1)
    ]
}

fn sample_frame(len: u8) -> Vec<u8> {
    let body: Vec<u8> = (0..len).map(|at| at.wrapping_mul(at).wrapping_sub(40)).collect();
    encode(Lead::Delimiter, kind::ITEM, &body)
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// What is found in a damaged frame followed by a sound one must be the sound one, or nothing.
fn assert_nothing_false(damaged: &[u8], original: &[u8], sound: &[u8]) {
    let expected = decode(sound);
    let original = decode(original);
    for found in decode(&[damaged, sound].concat()) {
        assert!(expected.contains(&found) && !original.contains(&found), "accepted {found:?}");
    }
}

#[test]
fn no_single_bit_error_is_accepted() {
    let sound = encode(Lead::Delimiter, kind::TIME, b"sound");
    for len in [0, 1, 32, 64, 200, 255] {
        let original = sample_frame(len);
        // The first byte is a delimiter that only follows noise; without it the frame stands as it
        // is.
        for bit in 8..original.len() * 8 {
            let mut damaged = original.clone();
            flip(&mut damaged, bit);
            assert_nothing_false(&damaged, &original, &sound);
        }
    }
}

#[test]
fn no_double_bit_error_is_accepted() {
    let sound = encode(Lead::Delimiter, kind::TIME, b"sound");
    let original = sample_frame(24);
    for first in 8..original.len() * 8 {
        for second in 8..first {
            let mut damaged = original.clone();
            flip(&mut damaged, first);
            flip(&mut damaged, second);
            assert_nothing_false(&damaged, &original, &sound);
        }
    }
}

#[test]
fn a_lost_or_doubled_byte_is_never_accepted() {
    let sound = encode(Lead::Delimiter, kind::TIME, b"sound");
    let original = sample_frame(100);
    for at in 1..original.len() - 1 {
        let mut shorter = original.clone();
        shorter.remove(at);
        assert_nothing_false(&shorter, &original, &sound);
        let mut longer = original.clone();
        longer.insert(at, original[at]);
        assert_nothing_false(&longer, &original, &sound);
    }
}

#[test]
fn the_longest_item_fits_a_frame() {
    let body = [0xAA; ITEM_BODY_MAX];
    let item = Item {
        position: Position::new(u32::MAX, u64::MAX),
        predecessor: Some(Position::new(u32::MAX - 1, u64::MAX)),
        kind: ItemKind::BLOCK,
        body: &body,
    };
    let mut head = [0; HEAD_MAX];
    let (kind, len, tail) =
        DeviceMessage::Item { transmission: TRANSMISSION_MAX, item }.encode(&mut head).unwrap();
    let mut out = [0; frame::ENCODED_MAX];
    let len = frame::encode(Lead::Delimiter, kind, &head[..len], tail, &mut out).unwrap();
    assert_eq!(decode(&out[..len]).len(), 1);
}

#[test]
fn a_body_longer_than_an_item_may_have_is_refused() {
    for (kind, head) in [(kind::ITEM, &[0x2B, 1, 0][..]), (kind::DESCRIPTION, &[1, 1])] {
        let takes = |len| {
            let body = [head, &vec![0; len]].concat();
            DeviceMessage::decode(kind, &body).is_some()
        };
        assert!(takes(ITEM_BODY_MAX) && !takes(ITEM_BODY_MAX + 1), "{kind:#x}");
    }
}

#[test]
fn a_frame_beyond_the_receive_maximum_is_discarded_and_the_next_is_found() {
    let mut decoder = frame::Decoder::<64>::new();
    let mut last = Progress::Pending;
    for byte in encode(Lead::None, 1, &[7; 59]) {
        last = decoder.push(byte);
    }
    assert_eq!(last, Progress::Discarded(frame::FrameError::TooLong));
    for byte in encode(Lead::None, 1, &[7; 58]) {
        last = decoder.push(byte);
    }
    assert_eq!(last, Progress::Complete);
}

#[test]
fn broken_reception_discards_up_to_the_next_delimiter() {
    let mut decoder = frame::Decoder::<64>::new();
    let bytes = encode(Lead::None, 1, b"body");
    let (first, rest) = bytes.split_at(3);
    first.iter().for_each(|byte| assert_eq!(decoder.push(*byte), Progress::Pending));
    decoder.break_frame();
    let outcomes: Vec<_> = rest.iter().map(|byte| decoder.push(*byte)).collect();
    assert!(matches!(outcomes.last(), Some(Progress::Discarded(_))));
    assert!(bytes.iter().any(|byte| decoder.push(*byte) == Progress::Complete));
}
