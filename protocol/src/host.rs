//! The host end: asks devices who they are, takes their items in order and acknowledges what its
//! owner made durable.

mod errand;
mod intake;
mod link;

pub use link::HostLink;

use crate::{
    ClockSample, Hello, Item, ItemKind, Position,
    message::{Log, Outcome},
};

/// Timers of a host link, microseconds.
#[derive(Clone, Copy, Debug)]
pub struct HostConfig {
    /// HELLO-REQ is repeated after this time until a HELLO comes; doubles up to 16 times as long.
    pub hello_retry_us: u64,
    /// An ACK that only says *received* waits this long for more; one that says *durable* goes at
    /// once.
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
    /// A device says who it is: answer with [`HostLink::accept`], [`HostLink::assign`] or
    /// [`HostLink::refuse`]; until then its items are ignored. Comes again whenever the device
    /// starts or asks anew.
    Hello(Hello),
    /// The next item of the stream.
    Item(Arrival<'a>),
    /// BOOT or SCHEMA of the device's running boot, outside the log.
    Description(Description<'a>),
    /// A clock sample.
    Time(ClockSample),
    /// A line of text.
    Log(Log<'a>),
    /// How the command ended that [`HostLink::command`] gave it.
    Result(Outcome<'a>),
}

/// An item that arrived in its turn.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The item.
    pub item: Item<'a>,
    /// Items between the durable log and this one that the device does not have: a gap record goes
    /// before it.
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
    /// The item before `before`; `None` when the device does not know (its memory did not outlive a
    /// reset): then there may have been none.
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
    /// The durable position lies at or past the device's next one: it is a copy, or its memory went
    /// back in time. [`HostLink::assign`] a new stream.
    Behind,
}

/// Why [`HostLink::command`] did not take a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The device is not in session.
    NoSession,
    /// Its number is 0, or not above that of the one before it in this session.
    Number,
    /// Longer than so many bytes, which is what the device takes.
    TooLong(usize),
}

/// Quality of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// Valid frames.
    pub frames: u64,
    /// Runs of bytes that were no frame (CRC, length, stuffing, too long).
    pub frame_errors: u64,
    /// Of those, the ones whose CRC alone disagreed: after the others the receiver had lost the
    /// frame's beginning or end.
    pub crc_errors: u64,
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
    /// Lines of text that the device said were lost.
    pub lines_lost: u64,
    /// Runs of bytes that were no frame, as the device told last.
    pub device_errors: u32,
    /// Losses of received bytes, likewise.
    pub device_overruns: u32,
}

/// How a device is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// Bytes of item bodies past the durable position that the host takes.
    pub window: u32,
    /// Whether the device shall send DESCRIPTION frames first, because its schema is not known
    /// here.
    pub describe: bool,
}
