//! Time as the journal sees it, passed in so that tests decide what it is.

use std::{
    fmt,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// How far the wall clock can be trusted; stored with every frame. Numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ClockQuality {
    /// Nobody vouches for it.
    Unknown = 0,
    /// Before this software existed: a clock that was never set.
    Implausible = 1,
    /// The operating system says that it is synchronised.
    Synchronised = 2,
}

impl ClockQuality {
    /// From its number on disk; a later version's numbers are unknown quality.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Implausible,
            2 => Self::Synchronised,
            _ => Self::Unknown,
        }
    }
}

/// A moment: wall clock and monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Unix time, ms.
    pub unix_ms: i64,
    /// How good it is.
    pub quality: ClockQuality,
    /// Monotonic ms from an arbitrary start.
    pub monotonic_ms: u64,
}

/// Where the journal takes its time from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// This moment.
    fn now(&self) -> Moment;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

/// 2025-01-01: no gateway ran before, so an earlier time is a clock that starts at its epoch after power-on.
const EARLIEST_PLAUSIBLE_MS: i64 = 1_735_689_600_000;

impl SystemClock {
    /// Starts the monotonic clock at 0.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        let quality = if unix_ms < EARLIEST_PLAUSIBLE_MS {
            ClockQuality::Implausible
        } else {
            ClockQuality::Unknown
        };
        let monotonic_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment { unix_ms, quality, monotonic_ms }
    }
}
