//! The messages that frames carry: bodies of HELLO-REQ, HELLO, HELLO-ACK, ACK, TIME, COMMAND, ITEM,
//! DESCRIPTION, LOG and RESULT, taken apart and built.

use crate::{
    DEVICE_RECEIVE_MIN, DeviceId, Item, ItemKind, Position, StreamId,
    item::ITEM_BODY_MAX,
    wire::{Reader, Writer},
};

/// Frame type numbers.
pub mod kind {
    /// Host to device: say HELLO, under this session.
    pub const HELLO_REQ: u8 = 0x01;
    /// Host to device: answer to HELLO.
    pub const HELLO_ACK: u8 = 0x02;
    /// Host to device: what is received and durable, and the window.
    pub const ACK: u8 = 0x03;
    /// Host to device: what is your tick?
    pub const TIME_REQ: u8 = 0x04;
    /// Host to device: a command meant for one boot.
    pub const COMMAND: u8 = 0x05;
    /// Device to host: who I am and what I store.
    pub const HELLO: u8 = 0x41;
    /// Device to host: one item of the log.
    pub const ITEM: u8 = 0x42;
    /// Device to host: my tick, as an answer or (id 0) as a sign of life.
    pub const TIME: u8 = 0x43;
    /// Device to host: the BOOT or a SCHEMA body of the running boot, outside the log.
    pub const DESCRIPTION: u8 = 0x44;
    /// Device to host: a line of log text.
    pub const LOG: u8 = 0x45;
    /// Device to host: the outcome of a command.
    pub const RESULT: u8 = 0x46;
    /// Reserved: an envelope with an address, for shared buses.
    pub const ADDRESSED: u8 = 0x70;
    /// Reserved: an encrypted envelope.
    pub const ENCRYPTED: u8 = 0x71;
}

/// Why a host refuses a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No common protocol version.
    Version,
    /// The same device id is live on another connection.
    Duplicate,
    /// The host's limit of devices is reached.
    Limit,
    /// The host does not take this device.
    Forbidden,
    /// The host cannot store anything now; ask again later.
    Unavailable,
    /// A reason of a newer version.
    Other(u8),
}

/// The host's answer to HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send items.
    Accepted,
    /// Send DESCRIPTION frames, then items.
    Describe,
    /// Take this stream, persist it, say HELLO again.
    Assigned,
    /// Do not send items; say HELLO again later.
    Refused(Refusal),
}

/// HELLO: who the device is and what it stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest protocol version spoken.
    pub version_min: u8,
    /// Highest protocol version spoken.
    pub version_max: u8,
    /// Device id.
    pub device: DeviceId,
    /// Stream; none yet, or none readable.
    pub stream: Option<StreamId>,
    /// Counts the device's sessions of this boot, also those that did not come about: the answer
    /// echoes it.
    pub attempt: u32,
    /// Oldest stored item; equal to `next` when none is stored.
    pub oldest: Position,
    /// The position that the next item will take.
    pub next: Position,
    /// Largest frame the device accepts (type, length, body, CRC), bytes; at least 64.
    pub receive_max: u16,
    /// The device sends something at least this often, ms; 0 = no promise.
    pub longest_silence_ms: u32,
    /// How long the device listens after each of its frames, ms; 0 = always.
    pub listen_window_ms: u32,
}

/// HELLO-ACK: the host's answer to HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloAck {
    /// Session, not 0.
    pub session: u32,
    /// The boot of the HELLO that this answers (its `next.boot`).
    pub boot: u32,
    /// The attempt of the HELLO that this answers: a late answer to an earlier life or under
    /// another stream is thus not taken.
    pub attempt: u32,
    /// The version to speak.
    pub version: u8,
    /// The answer.
    pub verdict: Verdict,
    /// The device's stream, or the one assigned; none when refused before there was one.
    pub stream: Option<StreamId>,
    /// Send what lies after this position: everything up to it is durable.
    pub start: Position,
    /// Bytes past `start` that the host takes.
    pub window: u32,
}

/// ACK: what the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Session.
    pub session: u32,
    /// Stream that this is about.
    pub stream: StreamId,
    /// Everything up to here is durable and may be freed.
    pub durable: Position,
    /// Everything up to here has arrived and need not be sent again unless the session changes.
    pub received: Position,
    /// Bit i: item `received.item + 1 + i` of boot `received.boot` has arrived too. A host that
    /// holds no items out of order sends 0.
    pub bitmap: u32,
    /// Bytes past `durable` that the host takes.
    pub window: u32,
    /// Transmission count of the item at `received` as it arrived last, 0 = not known: makes a
    /// round trip measurable. At most [`TRANSMISSION_MAX`].
    pub echo: u8,
    /// Since that item one has arrived that does not follow it: what lies between got lost.
    pub missing: bool,
}

/// TIME request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRequest {
    /// Session.
    pub session: u32,
    /// Echoed by the answer, not 0.
    pub id: u32,
    /// The host's wall time when it wrote the frame, Unix ms; 0 = not known.
    pub wall_ms: u64,
}

/// TIME answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeAnswer {
    /// The request's id; 0 = unasked, a sign of life.
    pub id: u32,
    /// The running boot.
    pub boot: u32,
    /// The device's tick when it wrote the frame.
    pub tick: u64,
    /// Runs of bytes received in this boot that were no frame.
    pub errors: u32,
    /// Losses of received bytes in this boot (overruns, framing errors).
    pub overruns: u32,
}

/// COMMAND: something that a device shall do, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Session.
    pub session: u32,
    /// The boot that it is meant for; another one refuses it.
    pub boot: u32,
    /// Number of the command, not 0, above all before it in this session; the same one again is a
    /// repetition.
    pub id: u64,
    /// What to do, at most [`COMMAND_MAX`] bytes and what the device's receive maximum leaves.
    pub payload: &'a [u8],
}

/// RESULT: what became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The command's number.
    pub id: u64,
    /// The running boot.
    pub boot: u32,
    /// How it ended.
    pub status: CommandStatus,
    /// What the device says to it, at most [`RESULT_MAX`] bytes.
    pub payload: &'a [u8],
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandStatus {
    /// Done.
    Done,
    /// Tried, and failed.
    Failed,
    /// Not tried: it was meant for another boot.
    OtherBoot,
    /// Not tried: the device knows no such command.
    Unknown,
    /// A status of a newer version.
    Other(u8),
}

/// LOG: a line of text, which may get lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log<'a> {
    /// The running boot.
    pub boot: u32,
    /// When it was written.
    pub tick: u64,
    /// Severity as in RFC 5424, 0 (emergency) to 7 (debug).
    pub severity: u8,
    /// Lines lost since the one before.
    pub lost: u32,
    /// The text, at most [`LOG_MAX`] bytes, meant to be UTF-8.
    pub text: &'a [u8],
}

/// A frame from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostMessage<'a> {
    /// Say HELLO under this session (not 0).
    HelloReq {
        /// Session.
        session: u32,
    },
    /// Answer to HELLO.
    HelloAck(HelloAck),
    /// Acknowledgement.
    Ack(Ack),
    /// Clock question.
    Time(TimeRequest),
    /// A command.
    Command(Command<'a>),
}

/// A frame from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceMessage<'a> {
    /// Who I am.
    Hello(Hello),
    /// An item of the log.
    Item {
        /// 1 for the first transmission; later copies carry greater numbers, up to
        /// [`TRANSMISSION_MAX`].
        transmission: u8,
        /// The item.
        item: Item<'a>,
    },
    /// Clock answer or sign of life.
    Time(TimeAnswer),
    /// BOOT or SCHEMA of the running boot, outside the log.
    Description {
        /// The running boot.
        boot: u32,
        /// BOOT or SCHEMA.
        kind: ItemKind,
        /// The item's body.
        body: &'a [u8],
    },
    /// A line of log text.
    Log(Log<'a>),
    /// The outcome of a command.
    Result(Outcome<'a>),
}

/// Longest head of a message, bytes: all of it but what an item, a command, a result or a line of
/// text brings.
pub const HEAD_MAX: usize = 96;

/// Most bytes of a command. A device whose receive maximum is [`DEVICE_RECEIVE_MIN`] takes 39.
pub const COMMAND_MAX: usize = 200;

/// Most bytes of a command's result.
pub const RESULT_MAX: usize = 200;

/// Most bytes of a line of log text.
pub const LOG_MAX: usize = 200;

/// Transmissions are counted up to here.
pub const TRANSMISSION_MAX: u8 = 7;

/// In the byte of ACK's echo.
const MISSING_BIT: u8 = 1 << 3;

impl<'a> HostMessage<'a> {
    /// Takes a frame apart. `None`: unknown type or malformed body. Bytes behind the known fields
    /// are left to newer versions.
    #[must_use]
    pub fn decode(kind: u8, body: &'a [u8]) -> Option<Self> {
        let (session, body) = split_session(body);
        Some(match kind {
            kind::HELLO_REQ => body.finish(Self::HelloReq { session })?,
            kind::HELLO_ACK => Self::HelloAck(HelloAck::read(session, body)?),
            kind::ACK => Self::Ack(Ack::read(session, body)?),
            kind::TIME_REQ => Self::Time(TimeRequest::read(session, body)?),
            kind::COMMAND => Self::Command(Command::read(session, body)?),
            _ => return None,
        })
    }

    /// Writes the body up to a command's payload, which follows it on the wire; gives frame type,
    /// length and that tail. `None` when `out` is too short; [`HEAD_MAX`] suffices.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<(u8, usize, &'a [u8])> {
        let mut out = Writer::new(out);
        let mut tail: &'a [u8] = &[];
        let kind = match self {
            Self::HelloReq { session } => {
                out.u32_le(*session);
                kind::HELLO_REQ
            }
            Self::HelloAck(answer) => {
                out.u32_le(answer.session);
                out.varint(u64::from(answer.boot));
                out.varint(u64::from(answer.attempt));
                out.u8(answer.version);
                out.u8(answer.verdict.code());
                out.u64_le(answer.stream.map_or(0, StreamId::bits));
                out.position(answer.start);
                out.varint(u64::from(answer.window));
                kind::HELLO_ACK
            }
            Self::Ack(ack) => {
                out.u32_le(ack.session);
                out.u64_le(ack.stream.bits());
                out.position(ack.durable);
                out.position(ack.received);
                out.varint(u64::from(ack.bitmap));
                out.varint(u64::from(ack.window));
                out.u8(ack.echo | if ack.missing { MISSING_BIT } else { 0 });
                kind::ACK
            }
            Self::Time(request) => {
                out.u32_le(request.session);
                out.varint(u64::from(request.id));
                out.varint(request.wall_ms);
                kind::TIME_REQ
            }
            Self::Command(command) => {
                out.u32_le(command.session);
                out.varint(u64::from(command.boot));
                out.varint(command.id);
                tail = command.payload;
                kind::COMMAND
            }
        };
        Some((kind, out.finish()?, tail))
    }
}

impl<'a> DeviceMessage<'a> {
    /// Takes a frame apart. `None`: unknown type or malformed body. Bytes behind the known fields
    /// of HELLO and TIME are left to newer versions.
    #[must_use]
    pub fn decode(kind: u8, body: &'a [u8]) -> Option<Self> {
        let mut body = Reader::new(body);
        Some(match kind {
            kind::HELLO => Self::Hello(Hello::read(body)?),
            kind::ITEM => {
                let (transmission, item) = Item::read(body)?;
                Self::Item { transmission, item }
            }
            kind::TIME => Self::Time(TimeAnswer::read(body)?),
            kind::DESCRIPTION => {
                let (boot, kind) = (body.varint_u32(), ItemKind(body.u8()));
                let content = body.rest(ITEM_BODY_MAX);
                body.finish(Self::Description { boot, kind, body: content })?
            }
            kind::LOG => Self::Log(Log::read(body)?),
            kind::RESULT => Self::Result(Outcome::read(body)?),
            _ => return None,
        })
    }

    /// Writes the body up to the item's own body, which follows it on the wire; gives frame type,
    /// length and that tail. `None` when `out` is too short; [`HEAD_MAX`] suffices.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<(u8, usize, &'a [u8])> {
        let mut out = Writer::new(out);
        let (kind, tail): (u8, &'a [u8]) = match self {
            Self::Hello(hello) => {
                hello.write(&mut out);
                (kind::HELLO, &[])
            }
            Self::Item { transmission, item } => {
                item.write_head(*transmission, &mut out);
                (kind::ITEM, item.body)
            }
            Self::Time(answer) => {
                answer.write(&mut out);
                (kind::TIME, &[])
            }
            Self::Description { boot, kind, body } => {
                out.varint(u64::from(*boot));
                out.u8(kind.0);
                (kind::DESCRIPTION, *body)
            }
            Self::Log(log) => {
                log.write_head(&mut out);
                (kind::LOG, log.text)
            }
            Self::Result(outcome) => {
                outcome.write_head(&mut out);
                (kind::RESULT, outcome.payload)
            }
        };
        Some((kind, out.finish()?, tail))
    }
}

/// The session that begins the body of every host frame, and what follows it.
pub(crate) fn split_session(body: &[u8]) -> (u32, Reader<'_>) {
    let mut body = Reader::new(body);
    let session = body.u32_le();
    body.require(session != 0);
    (session, body)
}

impl HelloAck {
    pub(crate) fn read(session: u32, mut body: Reader<'_>) -> Option<Self> {
        let answer = Self {
            session,
            boot: body.varint_u32(),
            attempt: body.varint_u32(),
            version: body.u8(),
            verdict: Verdict::from_code(body.u8()),
            stream: StreamId::new(body.u64_le()),
            start: body.position(),
            window: body.varint_u32(),
        };
        body.finish(answer)
    }
}

impl Ack {
    pub(crate) fn read(session: u32, mut body: Reader<'_>) -> Option<Self> {
        let mut ack = Self {
            session,
            stream: StreamId::new(body.u64_le())?,
            durable: body.position(),
            received: body.position(),
            bitmap: body.varint_u32(),
            window: body.varint_u32(),
            echo: body.u8(),
            missing: false,
        };
        ack.missing = ack.echo & MISSING_BIT != 0;
        ack.echo &= TRANSMISSION_MAX;
        body.finish(ack)
    }
}

impl TimeRequest {
    pub(crate) fn read(session: u32, mut body: Reader<'_>) -> Option<Self> {
        let request = Self { session, id: body.varint_u32(), wall_ms: body.varint() };
        body.require(request.id != 0);
        body.finish(request)
    }
}

impl<'a> Command<'a> {
    pub(crate) fn read(session: u32, mut body: Reader<'a>) -> Option<Self> {
        let (boot, id) = (body.varint_u32(), body.varint());
        body.require(id != 0);
        let payload = body.rest(COMMAND_MAX);
        body.finish(Self { session, boot, id, payload })
    }
}

impl TimeAnswer {
    fn read(mut body: Reader<'_>) -> Option<Self> {
        let answer = Self {
            id: body.varint_u32(),
            boot: body.varint_u32(),
            tick: body.varint(),
            errors: body.varint_u32(),
            overruns: body.varint_u32(),
        };
        body.finish(answer)
    }

    pub(crate) fn write(&self, out: &mut Writer<'_>) {
        out.varint(u64::from(self.id));
        out.varint(u64::from(self.boot));
        out.varint(self.tick);
        out.varint(u64::from(self.errors));
        out.varint(u64::from(self.overruns));
    }
}

impl<'a> Log<'a> {
    fn read(mut body: Reader<'a>) -> Option<Self> {
        let log = Self {
            boot: body.varint_u32(),
            tick: body.varint(),
            severity: body.u8(),
            lost: body.varint_u32(),
            text: body.rest(LOG_MAX),
        };
        body.require(log.severity <= SEVERITY_MAX);
        body.finish(log)
    }

    /// All but the text.
    pub(crate) fn write_head(&self, out: &mut Writer<'_>) {
        out.varint(u64::from(self.boot));
        out.varint(self.tick);
        out.u8(self.severity);
        out.varint(u64::from(self.lost));
    }
}

impl<'a> Outcome<'a> {
    fn read(mut body: Reader<'a>) -> Option<Self> {
        let outcome = Self {
            id: body.varint(),
            boot: body.varint_u32(),
            status: CommandStatus::from_code(body.u8()),
            payload: body.rest(RESULT_MAX),
        };
        body.require(outcome.id != 0);
        body.finish(outcome)
    }

    /// All but the payload.
    pub(crate) fn write_head(&self, out: &mut Writer<'_>) {
        out.varint(self.id);
        out.varint(u64::from(self.boot));
        out.u8(self.status.code());
    }
}

impl Hello {
    fn read(mut body: Reader<'_>) -> Option<Self> {
        let hello = Self {
            version_min: body.u8(),
            version_max: body.u8(),
            device: DeviceId::from_bytes(body.short_bytes())?,
            stream: StreamId::new(body.u64_le()),
            attempt: body.varint_u32(),
            oldest: body.position(),
            next: body.position(),
            receive_max: u16::try_from(body.varint()).ok()?,
            longest_silence_ms: body.varint_u32(),
            listen_window_ms: body.varint_u32(),
        };
        body.require(hello.version_min <= hello.version_max);
        body.require(hello.oldest <= hello.next && hello.oldest.boot > 0);
        body.require(usize::from(hello.receive_max) >= DEVICE_RECEIVE_MIN);
        body.finish(hello)
    }

    pub(crate) fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.version_min);
        out.u8(self.version_max);
        out.short_bytes(self.device.as_bytes());
        out.u64_le(self.stream.map_or(0, StreamId::bits));
        out.varint(u64::from(self.attempt));
        out.position(self.oldest);
        out.position(self.next);
        out.varint(u64::from(self.receive_max));
        out.varint(u64::from(self.longest_silence_ms));
        out.varint(u64::from(self.listen_window_ms));
    }
}

/// Least severity of a line of log text.
const SEVERITY_MAX: u8 = 7;

impl CommandStatus {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::OtherBoot => 2,
            Self::Unknown => 3,
            Self::Other(code) => code,
        }
    }

    /// Reverses [`Self::code`].
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Done,
            1 => Self::Failed,
            2 => Self::OtherBoot,
            3 => Self::Unknown,
            other => Self::Other(other),
        }
    }
}

impl Verdict {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Describe => 1,
            Self::Assigned => 2,
            Self::Refused(Refusal::Version) => 16,
            Self::Refused(Refusal::Duplicate) => 17,
            Self::Refused(Refusal::Limit) => 18,
            Self::Refused(Refusal::Forbidden) => 19,
            Self::Refused(Refusal::Unavailable) => 20,
            Self::Refused(Refusal::Other(code)) => code,
        }
    }

    /// Reverses [`Self::code`]; a number that this version does not know is a refusal.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Accepted,
            1 => Self::Describe,
            2 => Self::Assigned,
            16 => Self::Refused(Refusal::Version),
            17 => Self::Refused(Refusal::Duplicate),
            18 => Self::Refused(Refusal::Limit),
            19 => Self::Refused(Refusal::Forbidden),
            20 => Self::Refused(Refusal::Unavailable),
            other => Self::Refused(Refusal::Other(other)),
        }
    }
}
