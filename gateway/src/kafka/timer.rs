//! The clock of one connection: how long it may be idle, and how slow an incomplete frame may be.

use std::time::Duration;

use tokio::time::Instant;

use super::{frames::Partial, refusal::Refusal};

/// While others wait for its memory an incomplete frame must grow by this much in a tick.
const CONTENDED_TICK_BYTES: u64 = 64 * 1024;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Without a request, as Kafka's `connections.max.idle.ms`.
    pub(crate) idle: Duration,
    /// Without a byte of a frame that is incomplete.
    pub(crate) stalled: Duration,
    /// Without taking a byte of its answers.
    pub(crate) unread: Duration,
    /// The same while others wait for the memory that the answers hold.
    pub(crate) unread_contended: Duration,
    /// How often an incomplete frame, or an answer that is not taken, is looked at.
    pub(crate) tick: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(600),
            stalled: Duration::from_secs(30),
            unread: Duration::from_secs(30),
            unread_contended: Duration::from_secs(3),
            tick: Duration::from_secs(1),
        }
    }
}

/// What a connection sees of itself when its timer fires.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// The frame that is being received, if one is.
    pub(crate) partial: Option<Partial>,
    /// Bytes received since the connection began.
    pub(crate) received_bytes: u64,
    /// Whether others wait for memory that the frame holds.
    pub(crate) is_contended: bool,
    /// Whether no request waits for its answer.
    pub(crate) is_quiet: bool,
}

/// Ticks by the second while a frame is incomplete, by minutes otherwise.
#[derive(Debug)]
pub(crate) struct Timer {
    patience: Patience,
    next: Instant,
    is_short: bool,
    last_activity: Instant,
    received_at_tick: u64,
    last_growth: Instant,
}

impl Timer {
    pub(crate) fn new(patience: Patience) -> Self {
        let now = Instant::now();
        Self {
            patience,
            next: now + patience.idle,
            is_short: false,
            last_activity: now,
            received_at_tick: 0,
            last_growth: now,
        }
    }

    /// When [`Timer::tick`] is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// A request came.
    pub(crate) fn note_activity(&mut self) {
        self.last_activity = Instant::now();
    }

    /// Goes to short ticks while a frame is incomplete; says whether the next one moved.
    pub(crate) fn shorten(&mut self, partial: Option<Partial>) -> bool {
        if partial.is_none() || self.is_short {
            return false;
        }
        self.is_short = true;
        self.last_growth = Instant::now();
        self.next = self.last_growth + self.patience.tick;
        true
    }

    /// Time has passed; says whether the connection may go on.
    pub(crate) fn tick(&mut self, look: Look) -> Result<bool, Refusal> {
        let now = Instant::now();
        let grown = look.received_bytes - self.received_at_tick;
        self.received_at_tick = look.received_bytes;
        let Some(Partial { received, announced }) = look.partial else {
            self.is_short = false;
            let end = self.last_activity + self.patience.idle;
            if look.is_quiet && now >= end {
                return Ok(false);
            }
            self.next = if look.is_quiet { end } else { now + self.patience.idle };
            return Ok(true);
        };
        if grown > 0 {
            self.last_growth = now;
        }
        let is_slow = look.is_contended && grown < CONTENDED_TICK_BYTES;
        if is_slow || now >= self.last_growth + self.patience.stalled {
            return Err(Refusal::Stalled { received, announced });
        }
        self.next = now + self.patience.tick;
        Ok(true)
    }
}
