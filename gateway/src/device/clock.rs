//! Wall time of a device's ticks: the estimates of its recent boots, and what to say when there is none.

use std::collections::VecDeque;

use headwater_protocol::{ClockEstimate, ClockSample};

/// Boots whose estimate is kept, so that a backlog from before a reset is stamped too.
const BOOTS: usize = 4;
/// Samples kept of a boot whose tick rate is not known yet.
const RAW_SAMPLES: usize = 8;
/// A sample time this far past the time of receipt is no sample time, milliseconds.
const FUTURE_MS: i64 = 60_000;

/// One instant on the gateway's two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Now {
    /// Microseconds of the monotonic clock that the links run on.
    pub(super) mono_us: u64,
    /// Unix ms.
    pub(super) wall_ms: i64,
}

/// When a reading was sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleTime {
    /// Unix ms by the estimate from the shortest round trip.
    RoundTrip(i64),
    /// Not known: the record carries the time of receipt and the device's tick.
    Unknown,
}

/// What is known of a device's clock.
#[derive(Clone, Debug, Default)]
pub(super) struct Clocks {
    boots: VecDeque<(u32, Boot)>,
}

#[derive(Clone, Debug)]
enum Boot {
    /// The tick rate is not known yet.
    Samples(VecDeque<ClockSample>),
    Estimate(ClockEstimate),
}

impl Clocks {
    /// Takes a sample.
    pub(super) fn sample(&mut self, sample: ClockSample) {
        match self.boots.iter_mut().find(|(boot, _)| *boot == sample.boot) {
            Some((_, Boot::Estimate(estimate))) => estimate.update(sample),
            Some((_, Boot::Samples(samples))) => {
                if samples.len() == RAW_SAMPLES {
                    samples.pop_front();
                }
                samples.push_back(sample);
            }
            None => {
                if self.boots.len() == BOOTS {
                    self.boots.pop_front();
                }
                self.boots.push_back((sample.boot, Boot::Samples([sample].into())));
            }
        }
    }

    /// Whether anything is known of a boot.
    pub(super) fn knows(&self, boot: u32) -> bool {
        self.boots.iter().any(|(known, _)| *known == boot)
    }

    /// When that tick of that boot was.
    pub(super) fn time(&mut self, boot: u32, tick_hz: u32, tick: u64, now: Now) -> SampleTime {
        let Some(estimate) = self.estimate(boot, tick_hz) else { return SampleTime::Unknown };
        let (host_us, _) = estimate.host_us(tick);
        let age_us = i128::from(now.mono_us) - i128::from(host_us);
        let Ok(age_ms) = i64::try_from(age_us.div_euclid(1000)) else { return SampleTime::Unknown };
        match now.wall_ms.checked_sub(age_ms) {
            // Neither before 1970 nor in the future: such a tick is an error of the device's.
            Some(wall_ms) if wall_ms > 0 && age_ms >= -FUTURE_MS => SampleTime::RoundTrip(wall_ms),
            _ => SampleTime::Unknown,
        }
    }

    fn estimate(&mut self, boot: u32, tick_hz: u32) -> Option<&ClockEstimate> {
        let (_, known) = self.boots.iter_mut().find(|(known, _)| *known == boot)?;
        if let Boot::Samples(samples) = known {
            let mut samples = samples.iter();
            let mut estimate = ClockEstimate::new(tick_hz, *samples.next()?);
            samples.for_each(|sample| estimate.update(*sample));
            *known = Boot::Estimate(estimate);
        }
        match known {
            Boot::Estimate(estimate) => Some(estimate),
            Boot::Samples(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u32 = 1000;

    fn sample(boot: u32, tick: u64, host_us: u64, half_rtt_us: u64) -> ClockSample {
        ClockSample { boot, tick, host_us, half_rtt_us }
    }

    #[test]
    fn ticks_become_wall_time_by_the_shortest_round_trip() {
        let mut clocks = Clocks::default();
        clocks.sample(sample(1, 5_000, 20_500_000, 400_000));
        clocks.sample(sample(1, 6_000, 21_000_000, 1_000));
        let now = Now { mono_us: 30_000_000, wall_ms: 1_000_000 };
        // Tick 6,000 was 9 s before now.
        assert_eq!(clocks.time(1, HZ, 6_000, now), SampleTime::RoundTrip(991_000));
        assert_eq!(clocks.time(1, HZ, 5_000, now), SampleTime::RoundTrip(990_000));
        assert_eq!(clocks.time(2, HZ, 6_000, now), SampleTime::Unknown);
    }

    #[test]
    fn impossible_times_are_unknown() {
        let mut clocks = Clocks::default();
        clocks.sample(sample(1, 0, 0, 1));
        let now = Now { mono_us: 10_000_000, wall_ms: 5_000 };
        let at = |clocks: &mut Clocks, tick| clocks.time(1, HZ, tick, now);
        assert_eq!(at(&mut clocks, 0), SampleTime::Unknown, "before 1970");
        assert_eq!(at(&mut clocks, 10_000), SampleTime::RoundTrip(5_000));
        assert_eq!(at(&mut clocks, 70_000), SampleTime::RoundTrip(65_000));
        assert_eq!(at(&mut clocks, 71_000), SampleTime::Unknown, "the future");
        assert_eq!(at(&mut clocks, u64::MAX), SampleTime::Unknown);
    }

    #[test]
    fn few_boots_are_kept() {
        let mut clocks = Clocks::default();
        for boot in 0..10 {
            for tick in 0..20 {
                clocks.sample(sample(boot, tick, tick, 1));
            }
        }
        assert_eq!((0..10).filter(|boot| clocks.knows(*boot)).collect::<Vec<_>>(), [6, 7, 8, 9]);
    }
}
