//! Items on their way: what was sent, what has arrived, what is durable, and when to send again.

use super::{DeviceConfig, ItemQueue, due::Due, round_trip::RoundTrip};
use crate::{
    Item, Position,
    message::{Ack, TRANSMISSION_MAX},
};

/// The items between the durable position and the end of what was sent.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    tick_hz: u32,
    round_trip: RoundTrip,
    /// The item whose round trip is being measured.
    timed: Option<Timed>,
    durable: Position,
    received: Position,
    /// Items beyond `received` that need not be sent, as in ACK.
    bitmap: u32,
    /// How far this round of sending has come; a retransmission timeout takes it back to
    /// `received`.
    sent: Position,
    /// Bytes of item bodies in `durable .. sent`.
    sent_bytes: u32,
    /// The last item that the host may have.
    last: Position,
    window: u32,
    /// Rounds begun since nothing was outstanding: the transmission count of what is sent again.
    round: u8,
    /// When an ACK is missed.
    deadline: Due,
    /// Timeouts in a row, as the power of two by which the interval has grown.
    backoff: u8,
    /// Timeouts since the host last showed that it is there and in step.
    unanswered: u8,
    /// The next item goes out whatever the window says.
    probe: bool,
    /// The host told of a lost item, which is on its way again.
    mending: bool,
    /// The durable position has moved, which nobody has heard of yet.
    has_freed: bool,
}

/// When an item was sent, and how often.
#[derive(Clone, Copy, Debug)]
struct Timed {
    position: Position,
    transmission: u8,
    at: u64,
}

/// An item to be sent now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure<'a> {
    pub(super) item: Item<'a>,
    /// 1 for the first time.
    pub(super) transmission: u8,
}

/// What an ACK or a missed one led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Left,
    /// The host does not answer, or is out of step.
    Exhausted,
}

impl Flight {
    pub(super) fn new(config: &DeviceConfig) -> Self {
        Self {
            tick_hz: config.tick_hz,
            round_trip: RoundTrip::new(ticks(config.retransmit_ms, config.tick_hz)),
            timed: None,
            durable: Position::START,
            received: Position::START,
            bitmap: 0,
            sent: Position::START,
            sent_bytes: 0,
            last: Position::START,
            window: 0,
            round: 0,
            deadline: Due::NEVER,
            backoff: 0,
            unanswered: 0,
            probe: false,
            mending: false,
            has_freed: false,
        }
    }

    /// Items up to `position` may have been sent by an earlier boot.
    pub(super) const fn presume_sent(&mut self, position: Position) {
        self.last = position;
    }

    /// A session begins: the host has what lies up to `start`, durably, and nothing else.
    pub(super) fn begin<Q: ItemQueue>(&mut self, start: Position, window: u32, queue: &mut Q) {
        self.advance_durable(start, queue);
        let start = self.durable;
        self.received = start;
        self.sent = start;
        self.last = start;
        self.sent_bytes = 0;
        self.bitmap = 0;
        self.window = window;
        self.round = 0;
        self.rest();
    }

    /// No timer runs. What is in flight stays so: the host may have it.
    pub(super) const fn rest(&mut self) {
        self.deadline = Due::NEVER;
        self.backoff = 0;
        self.unanswered = 0;
        self.probe = false;
        self.mending = false;
        self.timed = None;
    }

    /// Whether an ACK speaks of nothing that was not sent.
    pub(super) fn covers(&self, ack: &Ack) -> bool {
        ack.durable <= self.last && ack.received <= self.last
    }

    /// Takes an ACK.
    pub(super) fn acknowledge<Q: ItemQueue>(&mut self, now: u64, ack: &Ack, queue: &mut Q) {
        let received = ack.received.max(ack.durable);
        self.measure(now, received, ack.echo);
        let moved = received.cmp(&self.received);
        let progress = moved.is_gt() || ack.durable > self.durable;
        if moved.is_gt() {
            self.mending = false;
        }
        if moved.is_ge() {
            self.received = received;
            self.bitmap = ack.bitmap;
        }
        let opened = ack.window > self.window;
        self.window = ack.window;
        self.advance_durable(ack.durable, queue);
        if self.received > self.sent {
            self.rewind(queue);
        } else if ack.missing && moved.is_ge() && self.received < self.sent {
            self.mend(queue);
        }
        // An ACK shows that the host is there; that it is in step, only if it lacks nothing that
        // was sent or makes progress. Going back to `received` must not look like that.
        let in_step = self.received == self.sent && !ack.missing;
        if progress || in_step {
            self.unanswered = 0;
        }
        if progress || (in_step && opened) {
            self.backoff = 0;
            self.deadline = Due::NEVER;
        }
        if self.received == self.last {
            self.round = 0;
        }
        self.arm(now, queue);
    }

    /// Takes the round trip of the timed item, if this ACK is the first to speak of it and it is
    /// clear which transmission it answers.
    fn measure(&mut self, now: u64, received: Position, echo: u8) {
        let Some(timed) = self.timed.filter(|timed| timed.position <= received) else { return };
        self.timed = None;
        let is_clear = if timed.position == received {
            echo == timed.transmission && echo < TRANSMISSION_MAX
        } else {
            timed.transmission == 1 && self.round == 0
        };
        if is_clear {
            self.round_trip.sample(now.wrapping_sub(timed.at));
        }
    }

    /// Sends again from where an item got lost, at once. Until the host has it, it goes on telling
    /// of what follows it.
    fn mend<Q: ItemQueue>(&mut self, queue: &Q) {
        if self.mending {
            return;
        }
        self.mending = true;
        self.round = self.round.saturating_add(1);
        self.deadline = Due::NEVER;
        self.rewind(queue);
    }

    /// Frees what has become durable.
    pub(super) fn advance_durable<Q: ItemQueue>(&mut self, durable: Position, queue: &mut Q) {
        if durable <= self.durable {
            return;
        }
        let freed = self.bytes_up_to(durable.min(self.sent), queue);
        self.sent_bytes = self.sent_bytes.saturating_sub(freed);
        self.durable = durable;
        self.received = self.received.max(durable);
        self.sent = self.sent.max(durable);
        self.has_freed = true;
        queue.release(durable);
    }

    /// The durable position, once after it has moved.
    pub(super) fn take_freed(&mut self) -> Option<Position> {
        core::mem::take(&mut self.has_freed).then_some(self.durable)
    }

    /// The item to send now, if any; `departed` confirms that it went.
    pub(super) fn next_departure<'q, Q: ItemQueue>(
        &mut self,
        now: u64,
        queue: &'q Q,
    ) -> Option<Departure<'q>> {
        let next = self.next_item(queue);
        let item = if self.probe {
            // When everything has arrived, repeating an item asks what is durable.
            next.or_else(|| queue.after(self.durable))
        } else {
            next.filter(|item| self.admits(item))
        };
        let Some(item) = item else {
            self.probe = false;
            self.arm(now, queue);
            return None;
        };
        let transmission = self.transmission(item.position);
        Some(Departure { item, transmission })
    }

    /// What an item that goes out now is marked with.
    fn transmission(&self, position: Position) -> u8 {
        let again = position <= self.last;
        if again { self.round.saturating_add(1).min(TRANSMISSION_MAX) } else { 1 }
    }

    pub(super) fn departed<Q: ItemQueue>(&mut self, now: u64, item: &Item<'_>, queue: &Q) {
        if self.timed.is_none() {
            let (position, transmission) = (item.position, self.transmission(item.position));
            self.timed = Some(Timed { position, transmission, at: now });
        }
        // A probe against a closed window is not counted as sent: it will most likely not be taken.
        if item.position > self.sent && self.admits(item) {
            if item.position > self.last && self.sent == self.received {
                // Nothing was awaited: a timer that runs is a probe's.
                self.deadline = Due::NEVER;
                self.backoff = 0;
            }
            self.sent = item.position;
            self.sent_bytes = self.sent_bytes.saturating_add(item.body.len() as u32);
        }
        self.last = self.last.max(item.position);
        self.probe = false;
        self.arm(now, queue);
    }

    /// Looks whether an ACK was missed by `now`.
    pub(super) fn expire<Q: ItemQueue>(&mut self, now: u64, queue: &Q) -> Patience {
        if !self.deadline.is_past(now) {
            return Patience::Left;
        }
        self.deadline = Due::NEVER;
        self.unanswered += 1;
        if self.unanswered >= UNANSWERED_MAX {
            return Patience::Exhausted;
        }
        self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
        self.mending = false;
        // What is sent again is marked, and may be measured.
        self.timed = None;
        self.round = self.round.saturating_add(1);
        self.probe = self.received == self.sent || self.window == 0;
        self.rewind(queue);
        Patience::Left
    }

    /// When there is something to do here if nothing else happens.
    pub(super) fn next_wake<Q: ItemQueue>(&self, now: u64, queue: &Q) -> Due {
        let next = self.next_item(queue);
        let ready = self.probe || next.as_ref().is_some_and(|item| self.admits(item));
        // Without a deadline, `next_departure` has yet to start the timer.
        let unarmed = self.deadline.is_never() && (next.is_some() || self.received > self.durable);
        if ready || unarmed { Due::at(now) } else { self.deadline }
    }

    /// The last item that the host may have.
    pub(super) const fn last(&self) -> Position {
        self.last
    }

    /// The first item that this round has still to send.
    fn next_item<'q, Q: ItemQueue>(&self, queue: &'q Q) -> Option<Item<'q>> {
        let mut at = self.sent;
        loop {
            let item = queue.after(at)?;
            if !self.holds(item.position) {
                return Some(item);
            }
            at = item.position;
        }
    }

    /// Whether the host holds an item beyond `received`.
    fn holds(&self, position: Position) -> bool {
        let distance = position.item.wrapping_sub(self.received.item).wrapping_sub(1);
        position.boot == self.received.boot
            && distance < u64::from(u32::BITS)
            && (self.bitmap >> distance) & 1 == 1
    }

    /// Whether the window has room for an item. The first past the durable position may always go
    /// unless the window is closed.
    fn admits(&self, item: &Item<'_>) -> bool {
        let end = self.sent_bytes.saturating_add(item.body.len() as u32);
        self.window > 0 && (self.sent_bytes == 0 || end <= self.window)
    }

    /// Sending goes on behind what has arrived.
    fn rewind<Q: ItemQueue>(&mut self, queue: &Q) {
        self.sent = self.received;
        self.sent_bytes = self.bytes_up_to(self.sent, queue);
    }

    /// Bytes of item bodies beyond `durable`, up to and including `end`.
    fn bytes_up_to<Q: ItemQueue>(&self, end: Position, queue: &Q) -> u32 {
        let mut bytes = 0_u32;
        let mut at = self.durable;
        while let Some(item) = queue.after(at).filter(|item| item.position <= end) {
            bytes = bytes.saturating_add(item.body.len() as u32);
            at = item.position;
        }
        bytes
    }

    /// Starts the timer that the state asks for, unless one runs: for retransmission while
    /// something sent has not arrived, for probing while the window blocks that or the next item, or
    /// arrived items are not durable.
    fn arm<Q: ItemQueue>(&mut self, now: u64, queue: &Q) {
        if !self.deadline.is_never() {
            return;
        }
        let (first, most_ms) = if self.received < self.sent && self.window > 0 {
            (self.round_trip.timeout(self.tick_hz), RETRANSMIT_MAX_MS)
        } else if self.received > self.durable
            || self.received < self.sent
            || self.next_item(queue).is_some_and(|item| !self.admits(&item))
        {
            (ticks(PROBE_MIN_MS, self.tick_hz), PROBE_MAX_MS)
        } else {
            return;
        };
        let most = first.max(ticks(most_ms, self.tick_hz));
        let wait = (0..self.backoff).fold(first, |wait, _| (wait << 1).min(most));
        self.deadline = Due::at(now + wait);
    }
}

/// Milliseconds as ticks. 1024 of them make a second here: no timer needs to be exact, and a 64-bit
/// division would cost a Cortex-M0 half a kilobyte. Out of line: it is called from seven places.
#[inline(never)]
pub(super) fn ticks(ms: u32, tick_hz: u32) -> u64 {
    ((u64::from(ms) * u64::from(tick_hz)) >> 10).max(1)
}

/// Longest retransmission timeout.
const RETRANSMIT_MAX_MS: u32 = 10_000;
/// First time between probes of a closed window.
const PROBE_MIN_MS: u32 = 1_000;
/// Longest time between probes.
const PROBE_MAX_MS: u32 = 30_000;
/// Doublings of a timeout: beyond this its maximum rules anyway.
const BACKOFF_MAX: u8 = 6;
/// Timeouts in a row after which the session is given up and HELLO said.
const UNANSWERED_MAX: u8 = 4;
