//! The device end: sends the items of a queue until the host has made them durable. Bytes and ticks
//! in, bytes and events out.

mod due;
mod flight;
mod link;
mod outbox;
mod round_trip;

pub use link::DeviceLink;

use crate::{DeviceId, Item, ItemKind, Position, Refusal, StreamId};

/// The device's log of items that are not yet durable at the host, in order of position.
pub trait ItemQueue {
    /// The position that the next queued item will take (its boot is the running one).
    fn next(&self) -> Position;

    /// The first stored item beyond `position`. `None` when there is none, or it must first be
    /// fetched from slow memory: then the owner calls `transmit` again once it is there.
    fn after(&self, position: Position) -> Option<Item<'_>>;

    /// The oldest stored item's position, [`Self::next`] when none is stored. To be given by queues
    /// whose `after` may lag behind slow memory.
    fn oldest(&self) -> Position {
        self.after(Position::START).map_or(self.next(), |item| item.position)
    }

    /// Everything up to `position` is durable at the host: free it.
    fn release(&mut self, position: Position);

    /// Writes the `index`th description of the running boot (BOOT first, then SCHEMA by channel) to
    /// `out` and gives its kind and length; `None` past the last. Sent when a host does not know
    /// this device's schema.
    fn describe(&self, index: u8, out: &mut [u8]) -> Option<(ItemKind, usize)> {
        let _ = (index, out);
        None
    }
}

/// What a device link needs to know of its device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceConfig {
    /// The device's name.
    pub id: DeviceId,
    /// Ticks per second of every `now`, not 0.
    pub tick_hz: u32,
    /// Something is sent at least this often while a session lasts, ms; 0 = no promise.
    pub longest_silence_ms: u32,
    /// How long the device listens after each of its frames, ms; 0 = always.
    pub listen_window_ms: u32,
    /// Retransmission timeout, ms, until a round trip has been measured; doubles without progress.
    pub retransmit_ms: u32,
}

impl DeviceConfig {
    /// A mains-powered device: a sign of life every 10 s, always listening, retransmission after
    /// 500 ms.
    #[must_use]
    pub const fn new(id: DeviceId, tick_hz: u32) -> Self {
        Self { id, tick_hz, longest_silence_ms: 10_000, listen_window_ms: 0, retransmit_ms: 500 }
    }
}

/// What the owner should know or do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// The host drew a stream for this device: persist it, then call [`DeviceLink::set_stream`].
    /// Nothing is sent before.
    StreamAssigned(StreamId),
    /// The host takes items from now on.
    SessionStarted,
    /// Everything up to here is durable at the host; the queue was told to release it.
    Acknowledged(Position),
    /// The host refuses; the link asks again later.
    Refused(Refusal),
    /// The host's wall time, Unix ms.
    WallTime(u64),
    /// A command, of which [`DeviceLink::command`] gives the payload until more is received: do it,
    /// then call [`DeviceLink::finish_command`]. It comes once, however often the host sends it.
    Command {
        /// Its number.
        id: u64,
    },
}

/// What went wrong so far, for a status display.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Received bytes that were no frame, or a frame that was no message.
    pub frame_errors: u32,
    /// Calls of [`DeviceLink::line_error`].
    pub overruns: u32,
    /// Host frames for another stream, another session, or past the own log.
    pub foreign_frames: u32,
    /// Items sent more than once.
    pub retransmissions: u32,
}
