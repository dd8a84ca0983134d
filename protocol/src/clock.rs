//! The host's estimate of a device's clock, from the exchange with the shortest round trip.

/// One TIME exchange: the device read `tick` between `host_us - half_rtt_us` and `host_us +
/// half_rtt_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSample {
    /// The device's boot.
    pub boot: u32,
    /// The device's tick.
    pub tick: u64,
    /// Middle between question and answer, microseconds of the host's clock.
    pub host_us: u64,
    /// Half the round trip, microseconds: the bound of the error.
    pub half_rtt_us: u64,
}

/// Keeps the best sample of one boot.
#[derive(Clone, Copy, Debug)]
pub struct ClockEstimate {
    tick_hz: u32,
    best: ClockSample,
}

impl ClockEstimate {
    /// Starts with a first sample; `tick_hz` is the boot's tick rate, not 0.
    #[must_use]
    pub const fn new(tick_hz: u32, sample: ClockSample) -> Self {
        Self { tick_hz, best: sample }
    }

    /// Takes another sample of the same boot; keeps it if it bounds the offset closer than the kept
    /// one does by now.
    pub fn update(&mut self, sample: ClockSample) {
        if sample.half_rtt_us <= self.bound_us(sample.tick) {
            self.best = sample;
        }
    }

    /// When `tick` was, in microseconds of the host's clock, and the bound of the error,
    /// microseconds. Negative: before the host's clock began.
    #[must_use]
    pub fn host_us(&self, tick: u64) -> (i64, u64) {
        let anchor = i64::try_from(self.best.host_us).unwrap_or(i64::MAX);
        let distance = i64::try_from(self.us(tick.abs_diff(self.best.tick))).unwrap_or(i64::MAX);
        let host_us = if tick >= self.best.tick {
            anchor.saturating_add(distance)
        } else {
            anchor.saturating_sub(distance)
        };
        (host_us, self.bound_us(tick))
    }

    /// The error bound at `tick`: that of the kept sample, plus what the two clocks may have
    /// drifted apart since.
    fn bound_us(&self, tick: u64) -> u64 {
        let drift = self.us(tick.abs_diff(self.best.tick)) / 1_000_000 * DRIFT_PPM;
        self.best.half_rtt_us.saturating_add(drift)
    }

    /// Ticks as microseconds; whole seconds first, so that nothing overflows before the result
    /// does.
    fn us(&self, ticks: u64) -> u64 {
        let hz = u64::from(self.tick_hz.max(1));
        (ticks / hz).saturating_mul(1_000_000).saturating_add(ticks % hz * 1_000_000 / hz)
    }

    /// The kept sample.
    #[must_use]
    pub const fn best(&self) -> ClockSample {
        self.best
    }
}

/// How far two crystal clocks are taken to drift apart, parts per million.
const DRIFT_PPM: u64 = 100;
