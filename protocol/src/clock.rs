//! The host's estimate of a device's clock, from the exchange with the shortest round trip.

/// One TIME exchange: the device read `tick` between `host_us - half_rtt_us` and `host_us + half_rtt_us`.
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

    /// Takes another sample of the same boot; keeps it if it bounds the offset closer than the kept one does by now.
    pub fn update(&mut self, sample: ClockSample) {
        let _ = (self.tick_hz, self.best);
        todo!("{sample:?}")
    }

    /// When `tick` was, in microseconds of the host's clock, and the bound of the error, microseconds. Negative: before the host's clock began.
    #[must_use]
    pub fn host_us(&self, tick: u64) -> (i64, u64) {
        todo!("{tick}")
    }

    /// The kept sample.
    #[must_use]
    pub const fn best(&self) -> ClockSample {
        self.best
    }
}
