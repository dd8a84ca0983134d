//! How long an answer takes, and so how long to wait for one: RFC 6298.
//!
//! Round trips come from items whose transmission the host echoes, so that, unlike TCP, also an item that was sent
//! again can be measured.

use super::flight::ticks;

/// Smoothed round trip and its variation, in the fractions of a tick that RFC 6298 suggests: eighths
/// and quarters. An hour in ticks of a nanosecond fits.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundTrip {
    /// Ticks to wait while nothing has been measured.
    first: u64,
    /// None of it measured: 0, and so is the variation.
    smoothed_eighths: u64,
    variation_quarters: u64,
}

impl RoundTrip {
    pub(super) const fn new(first: u64) -> Self {
        Self { first, smoothed_eighths: 0, variation_quarters: 0 }
    }

    /// Takes a measured round trip, ticks.
    pub(super) fn sample(&mut self, ticks: u64) {
        let ticks = ticks.clamp(1, u64::MAX >> 8);
        if self.smoothed_eighths == 0 {
            self.smoothed_eighths = ticks << 3;
            self.variation_quarters = ticks << 1;
            return;
        }
        let smoothed = self.smoothed_eighths >> 3;
        let off = smoothed.abs_diff(ticks);
        self.variation_quarters = self.variation_quarters - (self.variation_quarters >> 2) + off;
        self.smoothed_eighths = self.smoothed_eighths - smoothed + ticks;
    }

    /// Ticks after which an answer is late.
    pub(super) fn timeout(&self, tick_hz: u32) -> u64 {
        if self.smoothed_eighths == 0 {
            return self.first;
        }
        let timeout = (self.smoothed_eighths >> 3) + self.variation_quarters.max(1);
        timeout.max(ticks(TIMEOUT_MIN_MS, tick_hz))
    }
}

/// The host may hold back an ACK for 50 ms, or be busy with other devices for a moment.
const TIMEOUT_MIN_MS: u32 = 200;
