//! The host end: asks devices who they are, takes their items in order and acknowledges what its owner made durable.

use crate::{
    ClockSample, HOST_RECEIVE_MAX, Hello, Item, ItemKind, Position, Refusal, StreamId, frame,
};

/// Timers of a host link, microseconds.
#[derive(Clone, Copy, Debug)]
pub struct HostConfig {
    /// HELLO-REQ is repeated after this time until a HELLO comes; doubles up to 16 times as long.
    pub hello_retry_us: u64,
    /// An ACK that only says *received* waits this long for more; one that says *durable* goes at once.
    pub ack_delay_us: u64,
    /// Between clock questions, once the first few have been asked in quick succession.
    pub time_interval_us: u64,
}

impl Default for HostConfig {
    /// HELLO-REQ after 500 ms, ACK delayed by 50 ms, clock questions every 10 s.
    fn default() -> Self {
        Self { hello_retry_us: 500_000, ack_delay_us: 50_000, time_interval_us: 10_000_000 }
    }
}

/// What the device sent.
#[derive(Clone, Copy, Debug)]
pub enum HostEvent<'a> {
    /// A device says who it is: answer with [`HostLink::accept`], [`HostLink::assign`] or [`HostLink::refuse`]; until then its items are
    /// ignored. Comes again whenever the device starts or asks anew.
    Hello(Hello),
    /// The next item of the stream.
    Item(Arrival<'a>),
    /// BOOT or SCHEMA of the device's running boot, outside the log.
    Description(Description<'a>),
    /// A clock sample.
    Time(ClockSample),
}

/// An item that arrived in its turn.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The item.
    pub item: Item<'a>,
    /// Items between the durable log and this one that the device does not have: a gap record goes before it.
    pub loss: Option<Loss>,
    /// How often the device has sent it, 255 = or more.
    pub transmission: u8,
}

/// Items that no longer exist: those after `after` and before `before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The durable end of the log.
    pub after: Position,
    /// The first item that follows.
    pub before: Position,
    /// The item before `before`; `None` when the device does not know (its memory did not outlive a reset): then there may have been none.
    pub last_lost: Option<Position>,
}

/// A description outside the log.
#[derive(Clone, Copy, Debug)]
pub struct Description<'a> {
    /// The device's running boot.
    pub boot: u32,
    /// BOOT or SCHEMA.
    pub kind: ItemKind,
    /// Its body.
    pub body: &'a [u8],
}

/// Why [`HostLink::accept`] did not answer the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAccepted {
    /// No HELLO waits for an answer.
    NoHello,
    /// The device has no stream: [`HostLink::assign`] one.
    NoStream,
    /// No common protocol version: [`HostLink::refuse`] it.
    Version,
    /// The durable position lies at or past the device's next one: it is a copy, or its memory went back in time.
    /// [`HostLink::assign`] a new stream.
    Behind,
}

/// Quality of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// Valid frames.
    pub frames: u64,
    /// Runs of bytes that were no frame (CRC, length, stuffing, too long).
    pub frame_errors: u64,
    /// Valid frames that were no message.
    pub message_errors: u64,
    /// Items that had already arrived.
    pub duplicates: u64,
    /// Items out of turn, beyond the window or outside a session.
    pub out_of_turn: u64,
    /// Items that arrived with a transmission count above 1.
    pub retransmissions: u64,
    /// HELLO frames.
    pub hellos: u64,
}

/// The host end of one connection.
#[derive(Clone, Debug)]
pub struct HostLink {
    config: HostConfig,
    session: u32,
    decoder: frame::Decoder<HOST_RECEIVE_MAX>,
    counters: HostCounters,
}

impl HostLink {
    /// A connection just opened. `session` differs from those before it (random, or counted); 0 is taken as 1.
    #[must_use]
    pub const fn new(config: HostConfig, session: u32, now: u64) -> Self {
        let _ = now;
        Self {
            config,
            session: if session == 0 { 1 } else { session },
            decoder: frame::Decoder::new(),
            counters: HostCounters {
                frames: 0,
                frame_errors: 0,
                message_errors: 0,
                duplicates: 0,
                out_of_turn: 0,
                retransmissions: 0,
                hellos: 0,
            },
        }
    }

    /// Takes received bytes until one of them leads to an event; call again until it gives `None` (then `bytes` is empty).
    pub fn receive(&mut self, now: u64, bytes: &mut &[u8]) -> Option<HostEvent<'_>> {
        let _ = (now, bytes, &self.decoder, self.config, self.session);
        todo!()
    }

    /// Writes the next frame that is due to `out` (at least [`HostLink::FRAME_MAX`] bytes) and gives its length, 0 when none is.
    /// `wall_ms` is the wall time, Unix ms, 0 when not known; devices learn it from clock questions.
    pub fn transmit(&mut self, now: u64, wall_ms: u64, out: &mut [u8]) -> usize {
        let _ = (now, wall_ms, out);
        todo!()
    }

    /// When `transmit` has something to send if nothing else happens.
    #[must_use]
    pub const fn next_wake(&self) -> Option<u64> {
        todo!()
    }

    /// Answers the last HELLO: items of `stream` up to `durable` are durable, send what follows. `durable` is
    /// [`Position::START`] for a stream that is not known. It must be read after all appends for the stream that came by *other* links have
    /// settled; for appends from this link the answer waits by itself until [`Self::durable`] reaches what it has yielded.
    ///
    /// # Errors
    /// [`NotAccepted`]: the HELLO still waits for another answer.
    pub fn accept(&mut self, durable: Position, options: Accept) -> Result<(), NotAccepted> {
        todo!("{durable} {options:?}")
    }

    /// Answers the last HELLO with a stream that the device shall take and persist; it says HELLO again under it. Repeated HELLOs of the
    /// device without a stream get the same one, whatever is given here.
    pub fn assign(&mut self, stream: StreamId) {
        todo!("{stream}")
    }

    /// Answers the last HELLO with no; the device asks again later.
    pub fn refuse(&mut self, reason: Refusal) {
        todo!("{reason:?}")
    }

    /// Everything yielded up to `position` is durable.
    pub fn durable(&mut self, now: u64, position: Position) {
        todo!("{now} {position}")
    }

    /// Bytes of item bodies past the durable position that the owner takes; 0 stops the device. Announced at once when it grows from 0.
    pub fn set_window(&mut self, now: u64, bytes: u32) {
        todo!("{now} {bytes}")
    }

    /// Asks the device for a HELLO (is it still there?); it stays in session.
    pub fn ask(&mut self, now: u64) {
        todo!("{now}")
    }

    /// Begins a new session on the same connection: what was yielded and is not durable is forgotten and will come again.
    pub fn restart(&mut self, now: u64, session: u32) {
        todo!("{now} {session}")
    }

    /// When the last valid frame came.
    #[must_use]
    pub const fn last_heard(&self) -> Option<u64> {
        todo!()
    }

    /// Quality so far.
    #[must_use]
    pub const fn counters(&self) -> HostCounters {
        self.counters
    }

    /// Room for any frame of a host, bytes.
    pub const FRAME_MAX: usize = frame::encoded_max(crate::message::HEAD_MAX);
}

/// How a device is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// Bytes of item bodies past the durable position that the host takes.
    pub window: u32,
    /// Whether the device shall send DESCRIPTION frames first, because its schema is not known here.
    pub describe: bool,
}
