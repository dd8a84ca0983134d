//! What a clock question tells: an instant on both clocks, and how well it is known.

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
