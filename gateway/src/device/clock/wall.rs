//! A fit in wall time: what outlives the gateway's monotonic clock, on the topic and as a fact.

use headwater_protocol::StreamId;

use super::boots::Drift;

/// How far two crystal clocks may run apart outside the range in which they were compared.
const AGEING_RATE: f64 = 100e-6;
/// A fit whose bound reached this says nothing any more, microseconds.
const USELESS_US: f64 = 10e6;
/// A fit that moved less than this, microseconds, has not moved: the wall clock is read in whole milliseconds.
const SAME_US: u64 = 1_000;
/// Device time after which a fit is told again though nothing changed, seconds: what a kill lets age more.
const REFRESH_S: f64 = 600.0;
/// Likewise at the end of a connection.
const LAST_WORD_S: f64 = 60.0;

/// When a fit is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device) enum Occasion {
    /// While samples come.
    Running,
    /// None will come for a while.
    End,
}

/// `tick_hz` ticks a second, `tick` at `unix_us`: that of another tick is
/// `unix_us + (other - tick) / tick_hz * 10^6 * (1 + skew_ppb / 10^9)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device) struct WallFit {
    /// The device's memory that the boot belongs to.
    pub(in crate::device) stream: StreamId,
    /// The boot.
    pub(in crate::device) boot: u32,
    /// Nominal ticks per second, not 0.
    pub(in crate::device) tick_hz: u32,
    /// A tick.
    pub(in crate::device) tick: u64,
    /// Its time, Unix microseconds.
    pub(in crate::device) unix_us: i64,
    /// Wall time passes faster than ticks say by this, parts in 10^9.
    pub(in crate::device) skew_ppb: i64,
    /// How far any tick of the range below may be off, microseconds.
    pub(in crate::device) error_us: u64,
    /// The first tick that samples speak of.
    pub(in crate::device) valid_from: u64,
    /// The last one.
    pub(in crate::device) valid_to: u64,
}

impl WallFit {
    /// Unix microseconds of a tick.
    pub(in crate::device) fn unix_us(&self, tick: u64) -> i128 {
        let since_us = self.nominal_us(self.tick, tick) * (1.0 + self.skew_ppb as f64 / 1e9);
        i128::from(self.unix_us).saturating_add(since_us.round() as i128)
    }

    /// How far that may be off, microseconds.
    pub(in crate::device) fn bound_us(&self, tick: u64) -> f64 {
        let beyond = self.valid_from.saturating_sub(tick).max(tick.saturating_sub(self.valid_to));
        self.error_us as f64 + AGEING_RATE * self.nominal_us(0, beyond)
    }

    /// Whether it still says something of a tick.
    pub(in crate::device) fn reaches(&self, tick: u64) -> bool {
        self.bound_us(tick) < USELESS_US
    }

    /// How the clock ran.
    pub(in crate::device) fn drift(&self) -> Drift {
        Drift { skew_ppb: self.skew_ppb, error_us: self.error_us }
    }

    /// Whether it is of the same boot.
    pub(in crate::device) fn is_of(&self, stream: Option<StreamId>, boot: u32) -> bool {
        Some(self.stream) == stream && self.boot == boot
    }

    /// Whether it is worth telling to somebody who knows `told`.
    pub(in crate::device) fn is_news(&self, told: &Self, occasion: Occasion) -> bool {
        let moved = (told.unix_us(self.valid_to) - self.unix_us(self.valid_to)).unsigned_abs();
        let age_s = self.nominal_us(told.valid_to, self.valid_to) / 1e6;
        let oldest_s = match occasion {
            Occasion::Running => REFRESH_S,
            Occasion::End => LAST_WORD_S,
        };
        self.tick_hz != told.tick_hz
            || moved > u128::from(self.error_us.max(SAME_US))
            || told.error_us / 2 > self.error_us
            || age_s >= oldest_s
    }

    fn nominal_us(&self, from: u64, to: u64) -> f64 {
        (i128::from(to) - i128::from(from)) as f64 * 1e6 / f64::from(self.tick_hz)
    }
}
