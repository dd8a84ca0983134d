//! The targets: each takes any bytes, and panics only where the link breaks a promise.
//!
//! An input of the two ends is a list of steps: an operation, a length, and as many bytes. So frames
//! can be made whose CRC is right, since neither mutations nor coverage get past one.

use std::collections::VecDeque;

use headwater_protocol::{
    Accept, CommandStatus, DeviceConfig, DeviceEvent, DeviceId, DeviceLink, HOST_RECEIVE_MAX,
    HostConfig, HostEvent, HostLink, Item, ItemKind, ItemQueue, Position, Refusal, StreamId,
    frame::{self, Lead, Progress},
    item::{Content, ITEM_BODY_MAX},
    message::{DeviceMessage, HostMessage},
};

/// A function under fuzzing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Its name, that of its folder of findings too.
    pub(crate) name: &'static str,
    /// Feeds it; whether anything came of the bytes.
    pub(crate) run: fn(&[u8]) -> bool,
    /// Inputs of which something comes.
    pub(crate) examples: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    Target { name: "link_device", run: device, examples: super::corpus::device },
    Target { name: "link_host", run: host, examples: super::corpus::host },
    Target { name: "link_item", run: item, examples: super::corpus::item },
];

/// What a step does with its bytes.
pub(crate) mod step {
    /// They are received as they are.
    pub(crate) const RAW: u8 = 0;
    /// The first is a type, the others a body: received as a frame.
    pub(crate) const FRAME: u8 = 1;
    /// Time passes: as many ticks as they say, little endian, in at most four bytes.
    pub(crate) const WAIT: u8 = 2;
    /// The owner does what the first says, with the others.
    pub(crate) const OWNER: u8 = 3;

    /// Appends a step to an input.
    pub(crate) fn push(input: &mut Vec<u8>, operation: u8, bytes: &[u8]) {
        let (len, rest) = (bytes.len().min(255), bytes.get(255..).unwrap_or_default());
        input.extend([operation, len as u8]);
        input.extend(&bytes[..len]);
        if operation == RAW && !rest.is_empty() {
            push(input, RAW, rest);
        }
    }
}

/// The stream of all examples.
pub(crate) const STREAM: u64 = 0x5_7EA4;
/// Ticks, and microseconds of the host, in a second.
const DEVICE_HZ: u32 = 1_000;
/// Most items that wait at once.
const ITEMS: usize = 40;

/// The steps of an input.
struct Steps<'i>(&'i [u8]);

impl<'i> Iterator for Steps<'i> {
    type Item = (u8, &'i [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[operation, len], rest) = self.0.split_first_chunk()?;
        let (bytes, rest) = rest.split_at(rest.len().min(len.into()));
        self.0 = rest;
        Some((operation % 4, bytes))
    }
}

/// A number from the first bytes, at most four.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(4).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn position(bytes: &[u8]) -> Position {
    Position::new(
        number(bytes.get(..1).unwrap_or_default()) as u32,
        number(&bytes[1.min(bytes.len())..]),
    )
}

/// The bytes that a step makes the line deliver, none if it does something else.
fn received(operation: u8, bytes: &[u8]) -> Vec<u8> {
    match (operation, bytes) {
        (step::RAW, _) => bytes.to_vec(),
        (step::FRAME, [kind, body @ ..]) => {
            let mut out = vec![0; frame::encoded_max(body.len())];
            let len = frame::encode(Lead::None, *kind, body, &[], &mut out).unwrap_or(0);
            out.truncate(len);
            out
        }
        _ => Vec::new(),
    }
}

/// What a whole frame holds.
fn opened(bytes: &[u8]) -> (u8, Vec<u8>) {
    let mut decoder = frame::Decoder::<HOST_RECEIVE_MAX>::new();
    let complete = bytes.iter().filter(|byte| decoder.push(**byte) == Progress::Complete).count();
    assert_eq!(complete, 1, "what is sent is one frame: {bytes:02x?}");
    (decoder.frame().kind, decoder.frame().body.to_vec())
}

/// A queue that remembers what it gave out and what it was told to free.
struct Queue {
    items: VecDeque<(Position, Option<Position>, Vec<u8>)>,
    next: u64,
    freed: Position,
}

/// The running boot of the device.
pub(crate) const BOOT: u32 = 3;

impl Queue {
    fn push(&mut self, body: &[u8]) {
        if self.items.len() == ITEMS {
            return;
        }
        let position = Position::new(BOOT, self.next);
        self.items.push_back((position, position.adjacent(), body.to_vec()));
        self.next += 1;
    }
}

impl ItemQueue for Queue {
    fn next(&self) -> Position {
        Position::new(BOOT, self.next)
    }

    fn after(&self, position: Position) -> Option<Item<'_>> {
        let mut items = self.items.iter();
        let (position, predecessor, body) = items.find(|(it, ..)| *it > position)?;
        let (position, predecessor) = (*position, *predecessor);
        Some(Item { position, predecessor, kind: ItemKind::BLOCK, body })
    }

    fn release(&mut self, position: Position) {
        assert!(position > self.freed, "freed twice");
        self.freed = position;
        self.items.retain(|(it, ..)| *it > position);
    }

    fn describe(&self, index: u8, out: &mut [u8]) -> Option<(ItemKind, usize)> {
        out[0] = index;
        (index < 3).then_some((ItemKind::SCHEMA, 1))
    }
}

/// The device end, its owner doing whatever an owner may.
fn device(input: &[u8]) -> bool {
    let config = DeviceConfig::new(DeviceId::new("fuzzed").expect("a legal id"), DEVICE_HZ);
    let mut link: DeviceLink = DeviceLink::new(config, StreamId::new(STREAM));
    let mut queue = Queue { items: VecDeque::new(), next: 0, freed: Position::START };
    let (mut now, mut furthest, mut events) = (0_u64, Position::START, 0);
    for (operation, bytes) in Steps(input) {
        match (operation, bytes) {
            (step::WAIT, _) => now = now.saturating_add(number(bytes)),
            (step::OWNER, [0, body @ ..]) => queue.push(body),
            (step::OWNER, [1, ..]) => link.line_error(),
            (step::OWNER, [2, ..]) => link.restart(now),
            (step::OWNER, [3, ..]) => link.log(now, 6, "a line"),
            (step::OWNER, [4, id @ ..]) => {
                link.finish_command(number(id), CommandStatus::Done, b"done");
            }
            _ => {}
        }
        let line = received(operation, bytes);
        let mut rest = &line[..];
        while let Some(event) = link.receive(now, &mut rest, &mut queue) {
            events += 1;
            match event {
                DeviceEvent::StreamAssigned(stream) => {
                    assert_ne!(link.stream(), Some(stream));
                    link.set_stream(now, stream);
                }
                DeviceEvent::Acknowledged(position) => assert_eq!(queue.freed, position),
                DeviceEvent::SessionStarted => furthest = queue.freed,
                DeviceEvent::Command { id } => assert!(id != 0 && link.command().len() <= 200),
                DeviceEvent::Refused(_) | DeviceEvent::WallTime(_) => {}
            }
            assert!(queue.freed < queue.next(), "freed what was never queued");
        }
        assert!(rest.is_empty());
        device_sends(&mut link, now, &queue, &mut furthest);
    }
    events > 0
}

/// All that is due goes out: items as they are in the queue, and not for ever.
fn device_sends(link: &mut DeviceLink, now: u64, queue: &Queue, furthest: &mut Position) {
    for sent in 0.. {
        assert!(sent < 4 * ITEMS + 20, "it sends for ever");
        let mut out = [0; frame::ENCODED_MAX];
        let len = link.transmit(now, queue, &mut out);
        if len == 0 {
            break;
        }
        let (kind, body) = opened(&out[..len]);
        match DeviceMessage::decode(kind, &body).expect("a message") {
            DeviceMessage::Item { item, .. } => {
                assert!(link.in_session());
                let stored = queue.items.iter().find(|(it, ..)| *it == item.position);
                let (_, predecessor, body) = stored.expect("a stored item");
                assert_eq!((*predecessor, &body[..]), (item.predecessor, item.body));
                *furthest = item.position.max(*furthest);
            }
            DeviceMessage::Hello(hello) => assert_eq!(hello.next, queue.next()),
            _ => assert!(link.in_session()),
        }
    }
    assert!(link.in_flight() <= (*furthest).max(queue.freed), "in flight, but never sent");
    let wake = link.next_wake(now, queue);
    assert!(wake.is_none_or(|wake| wake > now), "it would wake at once, and send nothing");
}

/// The host end, its owner doing whatever an owner may.
fn host(input: &[u8]) -> bool {
    let mut link = HostLink::new(HostConfig::default(), 1, 0);
    let (mut now, mut taken, mut events) = (0_u64, None::<Position>, 0);
    for (operation, bytes) in Steps(input) {
        match (operation, bytes) {
            // In units of 100 us: in four bytes, five days.
            (step::WAIT, _) => now = now.saturating_add(number(bytes) * 100),
            (step::OWNER, [0, durable @ ..]) => {
                let options = Accept { window: 1_000, describe: durable.len() > 5 };
                if link.accept(position(durable), options).is_ok() {
                    taken = None;
                }
            }
            (step::OWNER, [1, ..]) => link.assign(StreamId::new(9).expect("not 0")),
            (step::OWNER, [2, ..]) => link.refuse(Refusal::Limit),
            (step::OWNER, [3, durable @ ..]) => {
                if let Some(stream) = link.stream() {
                    link.durable(now, stream, position(durable));
                }
            }
            (step::OWNER, [4, window @ ..]) => link.set_window(now, number(window) as u32),
            (step::OWNER, [5, id, boot, payload @ ..]) => {
                let _ = link.command(now, (*boot).into(), (*id).into(), payload);
            }
            (step::OWNER, [6, ..]) => link.withdraw_command(),
            (step::OWNER, [7, ..]) => link.ask(now),
            (step::OWNER, [8, session @ ..]) => {
                link.restart(now, number(session) as u32);
                taken = None;
            }
            _ => {}
        }
        let line = received(operation, bytes);
        let mut rest = &line[..];
        while let Some(event) = link.receive(now, &mut rest) {
            events += 1;
            match event {
                HostEvent::Item(arrival) => {
                    assert!(arrival.item.body.len() <= ITEM_BODY_MAX);
                    let at = arrival.item.position;
                    assert!(taken.is_none_or(|taken| taken < at), "{at} after {taken:?}");
                    if let Some(loss) = arrival.loss {
                        assert!(loss.after < loss.before && loss.before == at);
                    }
                    taken = Some(at);
                }
                HostEvent::Time(sample) => assert!(sample.host_us <= now),
                _ => {}
            }
        }
        assert!(rest.is_empty());
        host_sends(&mut link, now);
    }
    events > 0
}

/// All that is due goes out, and not for ever.
fn host_sends(link: &mut HostLink, now: u64) {
    for sent in 0.. {
        assert!(sent < 20, "it sends for ever");
        let mut out = [0; HostLink::FRAME_MAX];
        let len = link.transmit(now, 1_700_000_000_000, &mut out);
        if len == 0 {
            break;
        }
        let (kind, body) = opened(&out[..len]);
        let message = HostMessage::decode(kind, &body).expect("a message");
        if let HostMessage::Ack(ack) = message {
            assert!(ack.durable <= ack.received);
        }
    }
    let wake = link.next_wake(now);
    assert!(wake.is_none_or(|wake| wake > now), "it would wake at once, and send nothing");
}

/// A kind and a body, taken apart and walked to the end.
fn item(input: &[u8]) -> bool {
    let Some((kind, body)) = input.split_first() else { return false };
    let Ok(content) = Content::decode(ItemKind(*kind), body) else { return false };
    let mut out = [0; 2 * ITEM_BODY_MAX];
    let again = match &content {
        Content::Boot(boot) => boot.encode(&mut out),
        Content::Schema(schema) => schema.encode(&mut out),
        Content::Gap(gap) => gap.encode(&mut out),
        Content::Block(block) => {
            let mut rows = block.rows();
            let (mut count, mut next) = (0, block.first_seq);
            while let Some((head, codes)) = rows.next_row() {
                assert_eq!((head.seq, codes.len()), (next, block.channels.into()));
                next = next.wrapping_add(1);
                count += 1;
            }
            assert_eq!(count, block.count, "a block that was checked gives all its rows");
            None
        }
        Content::Unknown(kind) => {
            assert!(kind.0 == 0 || kind.0 > 4);
            None
        }
    };
    if let Some(len) = again {
        assert_eq!(&out[..len], body, "there is one way to write it");
    }
    true
}
