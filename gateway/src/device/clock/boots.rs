//! The clocks of a device's recent boots, and what to say of a reading when there is none.

use std::collections::VecDeque;

use headwater_protocol::ClockSample;

use super::fit::Fit;

/// Boots whose clock is kept, so that a backlog from before a reset is stamped too.
const BOOTS: usize = 4;
/// Samples kept of a boot whose tick rate is not known yet.
const RAW_SAMPLES: usize = 8;
/// A sample time this far past the time of receipt is no sample time, milliseconds.
const FUTURE_MS: i64 = 60_000;

/// One instant on the gateway's two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device) struct Now {
    /// Microseconds of the monotonic clock that the links run on.
    pub(in crate::device) mono_us: u64,
    /// Unix ms.
    pub(in crate::device) wall_ms: i64,
}

/// When a reading was sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device) enum SampleTime {
    /// Unix ms by a fitted rate.
    Fit(i64),
    /// Unix ms by the shortest round trip and the nominal rate.
    RoundTrip(i64),
    /// Not known: the record carries the time of receipt and the device's tick.
    Unknown,
}

/// What is known of a device's clock.
#[derive(Clone, Debug, Default)]
pub(in crate::device) struct Clocks {
    boots: VecDeque<(u32, Boot)>,
}

#[derive(Clone, Debug)]
enum Boot {
    /// The tick rate is not known yet.
    Samples(VecDeque<ClockSample>),
    Fit(Fit),
}

impl Clocks {
    /// Takes a sample.
    pub(in crate::device) fn sample(&mut self, sample: ClockSample) {
        match self.boots.iter_mut().find(|(boot, _)| *boot == sample.boot) {
            Some((_, Boot::Fit(fit))) => fit.update(sample),
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
    pub(in crate::device) fn knows(&self, boot: u32) -> bool {
        self.boots.iter().any(|(known, _)| *known == boot)
    }

    /// When that tick of that boot was.
    pub(in crate::device) fn time(
        &mut self,
        boot: u32,
        tick_hz: u32,
        tick: u64,
        now: Now,
    ) -> SampleTime {
        let Some(fit) = self.fit(boot, tick_hz) else { return SampleTime::Unknown };
        let line = fit.line();
        let age_us = i128::from(now.mono_us).saturating_sub(line.host_us(tick));
        let Ok(age_ms) = i64::try_from(age_us.div_euclid(1000)) else { return SampleTime::Unknown };
        match now.wall_ms.checked_sub(age_ms) {
            // Neither before 1970 nor in the future: such a tick is an error of the device's.
            Some(wall_ms) if wall_ms > 0 && age_ms >= -FUTURE_MS => {
                if line.is_fitted() {
                    SampleTime::Fit(wall_ms)
                } else {
                    SampleTime::RoundTrip(wall_ms)
                }
            }
            _ => SampleTime::Unknown,
        }
    }

    fn fit(&mut self, boot: u32, tick_hz: u32) -> Option<&Fit> {
        let (_, known) = self.boots.iter_mut().find(|(known, _)| *known == boot)?;
        if let Boot::Samples(samples) = known {
            *known = Boot::Fit(Fit::new(tick_hz, samples.drain(..))?);
        }
        match known {
            Boot::Fit(fit) => Some(fit),
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
        clocks.sample(sample(1, 5_000, 20_300_000, 400_000));
        clocks.sample(sample(1, 6_000, 21_000_000, 1_000));
        let now = Now { mono_us: 30_000_000, wall_ms: 1_000_000 };
        // Tick 6,000 was 9 s before now.
        assert_eq!(clocks.time(1, HZ, 6_000, now), SampleTime::RoundTrip(991_000));
        assert_eq!(clocks.time(1, HZ, 5_000, now), SampleTime::RoundTrip(990_000));
        assert_eq!(clocks.time(2, HZ, 6_000, now), SampleTime::Unknown);
    }

    #[test]
    fn a_rate_that_is_known_is_said() {
        let mut clocks = Clocks::default();
        // Ticks that last 100.02 % of what they should.
        for second in (0..100).step_by(10) {
            clocks.sample(sample(1, second * 1000, 1_000_000 + second * 1_000_200, 10));
        }
        let now = Now { mono_us: 101_020_000, wall_ms: 1_000_000 };
        assert_eq!(clocks.time(1, HZ, 0, now), SampleTime::Fit(899_980));
        assert_eq!(clocks.time(1, HZ, 100_000, now), SampleTime::Fit(1_000_000));
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
