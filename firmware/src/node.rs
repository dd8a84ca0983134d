//! The device without I/O: readings and received bytes in, bytes to send and storage operations
//! out.

use headwater_protocol::{
    CommandStatus, DeviceConfig, DeviceCounters, DeviceEvent, DeviceId, DeviceLink, ItemKind,
    Position, Refusal, StreamId, frame,
    item::{BlockBuilder, Boot, Cause, Channel, Gap, GapReason, ITEM_BODY_MAX, Schema, SchemaHash},
    message,
};
use heapless::{Deque, Vec};

use crate::{
    Event, Identity,
    queue::{Introduction, Queue, Readings},
};

/// What a full queue gives up. Either way a GAP item tells the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest block that the gateway cannot know of; where there is none, the newest.
    #[default]
    DropOldest,
    /// The block that would have been queued.
    DropNewest,
}

/// What a node needs to know of its device.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Name and timers of the link. Its tick rate is that of every `now` and `tick`.
    pub link: DeviceConfig,
    /// What is measured; a reading has one code per channel, in this order.
    pub channels: &'static [Channel<'static>],
    /// Ticks between readings; 0 where they come irregularly and each carries its own tick.
    pub period: u32,
    /// Ticks after which a block is sealed though it is not full.
    pub linger: u32,
    /// What a full queue gives up.
    pub overflow: Overflow,
    /// Why the device started.
    pub cause: Cause,
    /// Whether somebody calls [`Node::poll_command`]. Where nobody does, the node refuses commands.
    pub commands: bool,
}

impl Config {
    /// Readings every `period` ticks of a clock of `tick_hz`, sealed after a second, oldest dropped
    /// first.
    #[must_use]
    pub const fn new(
        id: DeviceId,
        tick_hz: u32,
        channels: &'static [Channel<'static>],
        period: u32,
        cause: Cause,
    ) -> Self {
        let link = DeviceConfig::new(id, tick_hz);
        let overflow = Overflow::DropOldest;
        Self { link, channels, period, linger: tick_hz, overflow, cause, commands: false }
    }
}

/// Something that the gateway wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its number, for [`Node::finish_command`].
    pub id: u64,
    /// What to do.
    pub payload: Vec<u8, COMMAND_BYTES>,
}

/// Most bytes of a command: what a receive maximum of 64 bytes leaves.
pub const COMMAND_BYTES: usize = 39;

/// An operation on non-volatile memory that the node asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageOp {
    /// Keep this identity, as [`crate::IdentityStore::save`] does.
    SaveIdentity(Identity),
}

/// How a [`StorageOp`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageOutcome {
    /// The next start will find it.
    Saved,
    /// It may or may not be there; also the answer of a board without such memory.
    Failed,
}

/// A device without I/O, clock or memory of its own.
///
/// | parameter | is |
/// | --- | --- |
/// | `CHANNELS` | channels of a reading |
/// | `ROWS` | bytes of packed readings in a block; 16 to 64 are plenty for a slow sensor |
/// | `BYTES` | bytes of items that wait for the gateway |
/// | `ITEMS` | their number, at least 4 (12 bytes of RAM each) |
/// | `EVENTS` | events kept for [`Node::poll_event`]: 8 where each call is drained, 0 for none |
///
/// Ticks are those of one counter that starts with the boot and never wraps (extend a 32-bit one).
/// Call [`Node::storage_op`] first, before any reading is recorded, and after every
/// [`Node::receive`]: nothing is sent while an operation waits.
#[derive(Clone, Debug)]
pub struct Node<
    const CHANNELS: usize,
    const ROWS: usize,
    const BYTES: usize,
    const ITEMS: usize,
    const EVENTS: usize,
> {
    link: DeviceLink,
    queue: Queue<BYTES, ITEMS>,
    block: BlockBuilder<ROWS, CHANNELS>,
    /// Readings dropped at intake whose GAP is queued before the next block.
    dropped: Option<Readings>,
    next_seq: u64,
    config: Config,
    storage: Storage,
    refusal: Option<Refusal>,
    command: Option<Command>,
    events: Deque<Event, EVENTS>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storage {
    /// This start's boot counter is to be saved before the first frame.
    Boot(Identity),
    /// A stream was assigned and is to be saved before the first frame under it.
    Stream(Identity),
    Settled,
}

impl<
    const CHANNELS: usize,
    const ROWS: usize,
    const BYTES: usize,
    const ITEMS: usize,
    const EVENTS: usize,
> Node<CHANNELS, ROWS, BYTES, ITEMS, EVENTS>
{
    /// Room for any frame that [`Self::transmit`] writes, bytes.
    pub const FRAME_MAX: usize = frame::encoded_max(message::HEAD_MAX + Self::BODY_MAX);

    /// Longest body of an item, bytes.
    const BODY_MAX: usize = {
        let block = BlockBuilder::<ROWS, CHANNELS>::LEN_MAX;
        if block > Schema::LEN_MAX { block } else { Schema::LEN_MAX }
    };

    /// A device at its start. `identity` is what [`crate::IdentityStore::open`] gave: the boot is
    /// new and not yet saved.
    ///
    /// # Panics
    /// When `config.channels` are not `CHANNELS`.
    #[must_use]
    pub fn new(config: Config, identity: Option<Identity>) -> Self {
        const {
            assert!(CHANNELS >= 1 && CHANNELS <= headwater_protocol::item::CHANNELS_MAX);
            assert!(Self::BODY_MAX <= ITEM_BODY_MAX, "a block must fit the host's frames");
            assert!(BYTES >= 2 * Self::BODY_MAX, "the queue must hold a block and more");
        }
        assert!(config.channels.len() == CHANNELS, "one descriptor per channel");
        let boot = Boot {
            cause: config.cause,
            tick_hz: config.link.tick_hz,
            schema: SchemaHash(0),
            last_wall_ms: None,
        };
        let introduction = Introduction::new(boot, config.channels);
        let mut this = Self {
            link: DeviceLink::new(config.link, None),
            queue: Queue::new(introduction, FIRST_BOOT, Some(Position::START)),
            block: BlockBuilder::new(config.period),
            dropped: None,
            next_seq: 0,
            config,
            storage: identity.map_or(Storage::Settled, Storage::Boot),
            refusal: None,
            command: None,
            events: Deque::new(),
        };
        if identity.is_none() {
            this.begin(0, None);
        }
        this
    }

    /// The operation on non-volatile memory that waits to be done; answer with
    /// [`Self::storage_done`].
    #[must_use]
    pub fn storage_op(&self) -> Option<StorageOp> {
        match self.storage {
            Storage::Boot(identity) | Storage::Stream(identity) => {
                Some(StorageOp::SaveIdentity(identity))
            }
            Storage::Settled => None,
        }
    }

    /// Takes the outcome of [`Self::storage_op`].
    pub fn storage_done(&mut self, now: u64, outcome: StorageOutcome) {
        match core::mem::replace(&mut self.storage, Storage::Settled) {
            Storage::Boot(identity) => {
                // A boot that may not be kept could come again, so the stream must not go on with
                // it.
                self.begin(now, (outcome == StorageOutcome::Saved).then_some(identity));
            }
            // Without memory too the stream holds for this start; the next one asks for another.
            Storage::Stream(identity) => self.adopt(now, identity.stream),
            Storage::Settled => {}
        }
    }

    fn begin(&mut self, now: u64, identity: Option<Identity>) {
        let boot = match identity {
            Some(Identity { boot, stream }) => {
                // RAM did not outlive the reset: what came before in the stream is not known.
                self.queue.set_boot(boot, None);
                self.link.set_stream(now, stream);
                boot
            }
            None => FIRST_BOOT,
        };
        self.note(Event::Started { boot, cause: self.queue.cause() });
        if let Some(Identity { stream, .. }) = identity {
            self.note(Event::Stream { boot, stream });
        }
    }

    fn adopt(&mut self, now: u64, stream: StreamId) {
        self.queue.set_origin(Position::START);
        self.link.set_stream(now, stream);
        self.note(Event::Stream { boot: self.queue.boot(), stream });
    }

    /// Takes a reading, sampled at `tick`; a code is [`headwater_protocol::item::MISSING`] where
    /// the sensor gave none. Gives its number within the boot.
    pub fn record(&mut self, tick: u64, codes: &[i32; CHANNELS]) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        if self.block.push(seq, tick, codes).is_err() {
            self.seal();
            if self.block.push(seq, tick, codes).is_err() {
                // A row larger than a whole block: ROWS is too small for the codes.
                self.drop_at_intake(Readings { first_seq: seq, count: 1 });
            }
        }
        seq
    }

    /// Seals the readings taken so far into an item, whatever the linger: for alerts, and before an
    /// orderly end.
    pub fn seal(&mut self) {
        let readings =
            Readings { first_seq: self.block.first_seq(), count: u64::from(self.block.count()) };
        if readings.count == 0 {
            return;
        }
        while !self.queue_block(readings) {
            let oldest = match self.config.overflow {
                Overflow::DropOldest => self.queue.drop_oldest(self.link.in_flight()),
                Overflow::DropNewest => None,
            };
            let Some(oldest) = oldest else {
                self.block.clear();
                self.drop_at_intake(readings);
                return;
            };
            self.note_dropped(oldest, GapReason::OverflowOldest);
        }
    }

    /// Queues the block, and before it the GAP that is due; `false`, and nothing changed, when
    /// there is no room.
    fn queue_block(&mut self, readings: Readings) -> bool {
        if !self.queue.introduce() {
            return false;
        }
        if let Some(dropped) = self.dropped
            && !self.queue_gap(dropped)
        {
            return false;
        }
        let Self { queue, block, .. } = self;
        let count = u32::try_from(readings.count).unwrap_or(u32::MAX);
        let queued = queue.push(count, |out| Some((ItemKind::BLOCK, block.seal(out)?)));
        let Some(item) = queued else {
            if self.dropped.is_some() {
                self.queue.pop();
            }
            return false;
        };
        if let Some(dropped) = self.dropped.take() {
            self.note_dropped(dropped, GapReason::OverflowNewest);
        }
        let Readings { first_seq, count } = readings;
        self.note(Event::Sealed { boot: self.queue.boot(), item, first_seq, count });
        true
    }

    /// A GAP goes with the block behind it, so that gaps do not take the room of blocks; one that
    /// no block follows goes when the queue is empty.
    fn queue_last_gap(&mut self) {
        if let Some(dropped) = self.dropped
            && self.queue_gap(dropped)
        {
            self.dropped = None;
            self.note_dropped(dropped, GapReason::OverflowNewest);
        }
    }

    fn queue_gap(&mut self, dropped: Readings) -> bool {
        let Readings { first_seq, count } = dropped;
        let gap = Gap { first_seq, count, reason: GapReason::OverflowNewest };
        let Ok(count) = u32::try_from(count) else { return false };
        self.queue.push(count, |out| Some((ItemKind::GAP, gap.encode(out)?))).is_some()
    }

    fn drop_at_intake(&mut self, readings: Readings) {
        let first_seq = self.dropped.map_or(readings.first_seq, |before| before.first_seq);
        self.dropped =
            Some(Readings { first_seq, count: readings.first_seq + readings.count - first_seq });
    }

    /// Takes bytes that the line received.
    pub fn receive(&mut self, now: u64, mut bytes: &[u8]) {
        while let Some(event) = self.link.receive(now, &mut bytes, &mut self.queue) {
            match event {
                DeviceEvent::StreamAssigned(stream) => {
                    let boot = self.queue.boot();
                    self.storage = Storage::Stream(Identity { stream, boot });
                }
                DeviceEvent::Acknowledged(Position { boot, item }) => {
                    self.note(Event::Acknowledged { boot, item });
                }
                DeviceEvent::SessionStarted => self.refusal = None,
                DeviceEvent::Refused(reason) => self.refusal = Some(reason),
                DeviceEvent::WallTime(_) => {}
                DeviceEvent::Command { id } => self.take_command(id),
            }
        }
    }

    fn take_command(&mut self, id: u64) {
        match Vec::from_slice(self.link.command()) {
            Ok(payload) if self.config.commands => self.command = Some(Command { id, payload }),
            _ => self.finish_command(id, CommandStatus::Unknown, &[]),
        }
    }

    /// The command that came last, once. It is meant for this boot and was not done before.
    pub const fn poll_command(&mut self) -> Option<Command> {
        self.command.take()
    }

    /// Says what became of a command; of `result` the first 32 bytes are sent. The node keeps it and
    /// says it again if the gateway asks again.
    pub fn finish_command(&mut self, id: u64, status: CommandStatus, result: &[u8]) {
        self.link.finish_command(id, status, result);
    }

    /// Sends a line of text, of at most 64 bytes, when there is room for it beside the readings;
    /// severity as in RFC 5424, 0 (emergency) to 7 (debug). One line waits at most; the gateway hears
    /// how many were lost.
    pub fn log(&mut self, now: u64, severity: u8, text: &str) {
        self.link.log(now, severity, text);
    }

    /// Writes the next frame that is due to `out`, of [`Self::FRAME_MAX`] bytes, and gives its
    /// length, 0 when none is. Seals a block whose linger has passed.
    pub fn transmit(&mut self, now: u64, out: &mut [u8]) -> usize {
        if self.lingers_until().is_some_and(|end| end <= now) {
            self.seal();
        }
        match self.storage {
            Storage::Boot(_) | Storage::Stream(_) => return 0,
            Storage::Settled => {}
        }
        if self.queue.introduce() && self.queue.len() == 0 && self.block.count() == 0 {
            self.queue_last_gap();
        }
        self.link.transmit(now, &self.queue, out)
    }

    /// When [`Self::transmit`] or [`Self::storage_op`] has something to do if nothing else happens;
    /// `now` or earlier means at once.
    #[must_use]
    pub fn next_wake(&self, now: u64) -> Option<u64> {
        let link = match self.storage {
            Storage::Settled => self.link.next_wake(now, &self.queue),
            Storage::Boot(_) | Storage::Stream(_) => Some(now),
        };
        match (link, self.lingers_until()) {
            (Some(link), Some(linger)) => Some(link.min(linger)),
            (link, linger) => link.or(linger),
        }
    }

    fn lingers_until(&self) -> Option<u64> {
        let end = self.block.first_tick().saturating_add(u64::from(self.config.linger));
        (self.block.count() > 0).then_some(end)
    }

    /// The line lost received bytes (overrun, framing error).
    pub fn line_error(&mut self) {
        self.link.line_error();
    }

    /// The connection was made anew.
    pub fn reconnected(&mut self, now: u64) {
        self.link.restart(now);
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn note_dropped(&mut self, Readings { first_seq, count }: Readings, reason: GapReason) {
        self.note(Event::Dropped { boot: self.queue.boot(), first_seq, count, reason });
    }

    fn note(&mut self, event: Event) {
        if self.events.back_mut().is_some_and(|last| last.absorb(&event)) {
            return;
        }
        // Full: nobody drains, so nobody misses it.
        let _ = self.events.push_back(event);
    }

    /// The boot counter of this start; settled once the first storage operation is done.
    #[must_use]
    pub const fn boot(&self) -> u32 {
        self.queue.boot()
    }

    /// The stream, once there is one.
    #[must_use]
    pub const fn stream(&self) -> Option<StreamId> {
        self.link.stream()
    }

    /// Whether the gateway takes items now.
    #[must_use]
    pub const fn in_session(&self) -> bool {
        self.link.in_session()
    }

    /// Why the gateway refused, if its last answer was that.
    #[must_use]
    pub const fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// Whether every reading was sealed and everything queued is durable at the gateway.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.block.count() == 0 && self.dropped.is_none() && self.queue.len() == 0
    }

    /// Items and bytes that wait for the gateway.
    #[must_use]
    pub fn queued(&self) -> Queued {
        Queued { items: self.queue.len(), bytes: self.queue.used() }
    }

    /// What went wrong on the link so far.
    #[must_use]
    pub const fn counters(&self) -> DeviceCounters {
        self.link.counters()
    }
}

/// How full the queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Items.
    pub items: usize,
    /// Bytes of their bodies.
    pub bytes: usize,
}

/// Boots of a stream count from 1.
const FIRST_BOOT: u32 = 1;

#[cfg(test)]
mod tests;
