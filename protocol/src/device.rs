//! The device end: sends the items of a queue until the host has made them durable. Bytes and ticks in, bytes and events out.

use crate::{DEVICE_RECEIVE_MIN, DeviceId, Item, ItemKind, Position, Refusal, StreamId, frame};

/// The device's log of items that are not yet durable at the host, in order of position.
pub trait ItemQueue {
    /// The position that the next queued item will take (its boot is the running one).
    fn next(&self) -> Position;

    /// The first stored item beyond `position`. `None` when there is none, or it must first be fetched from slow memory: then the
    /// owner calls `transmit` again once it is there.
    fn after(&self, position: Position) -> Option<Item<'_>>;

    /// Everything up to `position` is durable at the host: free it.
    fn release(&mut self, position: Position);

    /// Writes the `index`th description of the running boot (BOOT first, then SCHEMA by channel) to `out` and gives its kind and length;
    /// `None` past the last. Sent when a host does not know this device's schema.
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
    /// First retransmission timeout, ms; doubles without progress.
    pub retransmit_ms: u32,
}

impl DeviceConfig {
    /// A mains-powered device: a sign of life every 10 s, always listening, retransmission after 500 ms.
    #[must_use]
    pub const fn new(id: DeviceId, tick_hz: u32) -> Self {
        Self { id, tick_hz, longest_silence_ms: 10_000, listen_window_ms: 0, retransmit_ms: 500 }
    }
}

/// What the owner should know or do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// The host drew a stream for this device: persist it, then call [`DeviceLink::set_stream`]. Nothing is sent before.
    StreamAssigned(StreamId),
    /// The host takes items from now on.
    SessionStarted,
    /// Everything up to here is durable at the host; the queue was told to release it.
    Acknowledged(Position),
    /// The host refuses; the link asks again later.
    Refused(Refusal),
    /// The host's wall time, Unix ms.
    WallTime(u64),
}

/// What went wrong so far, for a status display.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Received bytes that were no frame, or a frame that was no message.
    pub frame_errors: u32,
    /// Host frames for another stream, another session, or past the own log.
    pub foreign_frames: u32,
    /// Items sent more than once.
    pub retransmissions: u32,
}

/// The device end of a link. `RX` is its receive maximum: type, length, body and CRC, bytes, at least 64.
#[derive(Clone, Debug)]
pub struct DeviceLink<const RX: usize = DEVICE_RECEIVE_MIN> {
    config: DeviceConfig,
    stream: Option<StreamId>,
    decoder: frame::Decoder<RX>,
    counters: DeviceCounters,
}

impl<const RX: usize> DeviceLink<RX> {
    /// A link at power-up. `stream` is what memory holds; `None` when it holds none or cannot be read: the host then draws one.
    #[must_use]
    pub const fn new(config: DeviceConfig, stream: Option<StreamId>) -> Self {
        const { assert!(RX >= DEVICE_RECEIVE_MIN) };
        Self {
            config,
            stream,
            decoder: frame::Decoder::new(),
            counters: DeviceCounters { frame_errors: 0, foreign_frames: 0, retransmissions: 0 },
        }
    }

    /// Declares that items up to `position`, stored by an earlier boot, may have been sent: they count as in flight until
    /// a session starts.
    #[must_use]
    pub const fn with_sent(self, position: Position) -> Self {
        let _ = position;
        todo!()
    }

    /// Takes received bytes until one of them leads to an event; call again until it gives `None` (then `bytes` is empty).
    pub fn receive<Q: ItemQueue>(
        &mut self,
        now: u64,
        bytes: &mut &[u8],
        queue: &mut Q,
    ) -> Option<DeviceEvent> {
        let _ = (now, bytes, queue.next(), &self.decoder);
        todo!()
    }

    /// Writes the next frame that is due to `out` and gives its length, 0 when none is. A frame that does not fit is not sent:
    /// `out` must have [`frame::encoded_max`] of the largest item's body and its head, [`frame::ENCODED_MAX`] always suffices.
    pub fn transmit<Q: ItemQueue>(&mut self, now: u64, queue: &Q, out: &mut [u8]) -> usize {
        let _ = (now, queue.next(), out, self.config);
        todo!()
    }

    /// When `transmit` has something to send if nothing else happens: `now` or earlier means at once, `None` means never.
    #[must_use]
    pub fn next_wake<Q: ItemQueue>(&self, now: u64, queue: &Q) -> Option<u64> {
        let _ = (now, queue.next());
        todo!()
    }

    /// Takes the stream that was assigned and is now persisted. Also for a replaced stream: stored items go on under it.
    pub fn set_stream(&mut self, now: u64, stream: StreamId) {
        let _ = now;
        self.stream = Some(stream);
        todo!()
    }

    /// Received bytes were lost (overrun, framing error): what is being received is discarded, the next frame is led by a delimiter.
    pub fn line_error(&mut self) {
        todo!()
    }

    /// The transport was made anew (TCP reconnected, port reopened): begins with HELLO.
    pub fn restart(&mut self, now: u64) {
        let _ = now;
        todo!()
    }

    /// The last item that the host may know of beyond what it acknowledged: items up to here must be neither dropped nor changed.
    #[must_use]
    pub const fn in_flight(&self) -> Position {
        todo!()
    }

    /// The stream in use.
    #[must_use]
    pub const fn stream(&self) -> Option<StreamId> {
        self.stream
    }

    /// Whether the host takes items.
    #[must_use]
    pub const fn in_session(&self) -> bool {
        todo!()
    }

    /// What went wrong so far.
    #[must_use]
    pub const fn counters(&self) -> DeviceCounters {
        self.counters
    }
}
