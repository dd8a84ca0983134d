//! The clocks of a device's recent boots, and what to say of a reading when there is none.

use std::collections::VecDeque;

use headwater_protocol::{ClockSample, StreamId};

use super::{
    fit::Fit,
    wall::{Occasion, WallFit},
};

/// Boots whose clock is kept, so that a backlog from before a reset is stamped too.
pub(in crate::device) const BOOTS: usize = 4;
/// Samples kept of a boot whose tick rate is not known yet.
const RAW_SAMPLES: usize = 8;
/// Least time between two fits that are told while samples come, microseconds.
const TELL_INTERVAL_US: u64 = 60_000_000;
/// A sample time this far past the time of receipt is no sample time, milliseconds.
const FUTURE_MS: i64 = 60_000;

/// The wall clock is read in whole milliseconds.
const WALL_CLOCK_US: f64 = 1000.0;

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

/// How a clock runs, by its fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device) struct Drift {
    /// Wall time passes faster than ticks say by this, parts in 10^9.
    pub(in crate::device) skew_ppb: i64,
    /// How far the time of the last sample's tick may be off, microseconds.
    pub(in crate::device) error_us: u64,
}

/// What is known of a device's clocks.
#[derive(Clone, Debug, Default)]
pub(in crate::device) struct Clocks {
    /// The stream that samples and ticks belong to from now on: an erased device counts its boots anew.
    stream: Option<StreamId>,
    /// The newest at the end.
    boots: VecDeque<Boot>,
    /// What the journal knows, the newest at the end.
    told: Vec<WallFit>,
    /// When the last of those was told, on the monotonic clock.
    told_us: Option<u64>,
}

#[derive(Clone, Debug)]
struct Boot {
    stream: Option<StreamId>,
    boot: u32,
    clock: Clock,
}

#[derive(Clone, Debug)]
enum Clock {
    /// The tick rate is not known yet.
    Samples(VecDeque<ClockSample>),
    Fit(Fit),
}

/// An instant by a clock, and how far it may be off.
struct Estimate {
    unix_us: i128,
    bound_us: f64,
    is_fitted: bool,
}

impl Clocks {
    /// What the journal knows of a device, the newest at the end.
    pub(in crate::device) fn restore(told: Vec<WallFit>) -> Self {
        Self { told, ..Self::default() }
    }

    /// Samples and ticks are of this stream from now on.
    pub(in crate::device) fn follow(&mut self, stream: StreamId) {
        self.stream = Some(stream);
    }

    /// Takes a sample.
    pub(in crate::device) fn sample(&mut self, sample: ClockSample) {
        match self.clock_mut(sample.boot) {
            Some(Clock::Fit(fit)) => fit.update(sample),
            Some(Clock::Samples(samples)) => {
                if samples.len() == RAW_SAMPLES {
                    samples.pop_front();
                }
                samples.push_back(sample);
            }
            None => {
                if self.boots.len() == BOOTS {
                    self.boots.pop_front();
                }
                let clock = Clock::Samples([sample].into());
                self.boots.push_back(Boot { stream: self.stream, boot: sample.boot, clock });
            }
        }
    }

    /// When that tick of that boot was.
    pub(in crate::device) fn time(
        &mut self,
        boot: u32,
        tick_hz: u32,
        tick: u64,
        now: Now,
    ) -> SampleTime {
        let sampled = self.fit(boot, tick_hz).map(|fit| Estimate::of(fit, tick, now));
        let Some(Estimate { unix_us, is_fitted, .. }) = self.closest(sampled, boot, tick_hz, tick)
        else {
            return SampleTime::Unknown;
        };
        match i64::try_from(unix_us.div_euclid(1000)) {
            // Neither before 1970 nor in the future: such a tick is an error of the device's.
            Ok(at_ms) if at_ms > 0 && at_ms <= now.wall_ms.saturating_add(FUTURE_MS) => {
                if is_fitted { SampleTime::Fit(at_ms) } else { SampleTime::RoundTrip(at_ms) }
            }
            _ => SampleTime::Unknown,
        }
    }

    /// A fit was told: the journal knows it from now on.
    pub(in crate::device) fn told(&mut self, fit: WallFit, now: Now) {
        self.told = self.telling(fit);
        self.told_us = Some(now.mono_us);
    }

    /// Whether samples of a boot are there.
    pub(in crate::device) fn knows(&self, boot: u32) -> bool {
        self.boots.iter().any(|known| known.is_of(self.stream, boot))
    }

    /// The fit of the boot that is being sampled, if somebody ought to be told.
    pub(in crate::device) fn news(&self, now: Now, occasion: Occasion) -> Option<WallFit> {
        let pause_us = now.mono_us.saturating_sub(self.told_us.unwrap_or_default());
        if occasion == Occasion::Running && self.told_us.is_some() && pause_us < TELL_INTERVAL_US {
            return None;
        }
        let fit = self.wall_fit(now)?;
        let told = self.told.iter().find(|told| told.is_of(Some(fit.stream), fit.boot));
        told.is_none_or(|told| fit.is_news(told, occasion)).then_some(fit)
    }

    /// What the journal holds once it knows this fit too: the last few boots.
    pub(in crate::device) fn telling(&self, fit: WallFit) -> Vec<WallFit> {
        let of_others = |told: &&WallFit| !told.is_of(Some(fit.stream), fit.boot);
        let mut told: Vec<WallFit> = self.told.iter().filter(of_others).copied().collect();
        told.push(fit);
        told.drain(..told.len().saturating_sub(BOOTS));
        told
    }

    /// How the clock of the boot that is being sampled runs; none while its rate is not fitted.
    pub(in crate::device) fn drift(&self) -> Option<Drift> {
        let (_, fit) = self.running()?;
        let (_, newest) = fit.range();
        Some(Drift {
            skew_ppb: skew_ppb(fit),
            error_us: Estimate::bound_us(fit, newest).ceil() as u64,
        })
    }

    fn wall_fit(&self, now: Now) -> Option<WallFit> {
        let (known, fit) = self.running()?;
        let line = fit.line();
        let (valid_from, valid_to) = fit.range();
        // The range's end: what comes next is reached from there.
        let at = Estimate::of(fit, valid_to, now);
        Some(WallFit {
            stream: known.stream?,
            boot: known.boot,
            tick_hz: line.tick_hz(),
            tick: valid_to,
            unix_us: i64::try_from(at.unix_us).ok()?,
            skew_ppb: skew_ppb(fit),
            error_us: (line.worst_us(valid_to) + WALL_CLOCK_US).ceil() as u64,
            valid_from,
            valid_to,
        })
    }

    /// The boot that is being sampled, and its fit once the rate is known.
    fn running(&self) -> Option<(&Boot, &Fit)> {
        let known = self.boots.back().filter(|known| known.stream == self.stream)?;
        match &known.clock {
            Clock::Fit(fit) if fit.line().is_fitted() => Some((known, fit)),
            _ => None,
        }
    }

    /// Samples and journal: the closer bound counts. What contradicts the samples is dropped.
    fn closest(
        &mut self,
        sampled: Option<Estimate>,
        boot: u32,
        tick_hz: u32,
        tick: u64,
    ) -> Option<Estimate> {
        let is_it = |told: &&WallFit| told.is_of(self.stream, boot) && told.tick_hz == tick_hz;
        let Some(told) = self.told.iter().find(is_it).copied() else { return sampled };
        let stored = Estimate {
            unix_us: told.unix_us(tick),
            bound_us: told.bound_us(tick),
            is_fitted: true,
        };
        let Some(sampled) = sampled else { return told.reaches(tick).then_some(stored) };
        let apart_us = sampled.unix_us.saturating_sub(stored.unix_us).unsigned_abs();
        if apart_us as f64 > sampled.bound_us + stored.bound_us {
            self.told.retain(|known| *known != told);
            return Some(sampled);
        }
        Some(if stored.bound_us < sampled.bound_us { stored } else { sampled })
    }

    fn fit(&mut self, boot: u32, tick_hz: u32) -> Option<&Fit> {
        let clock = self.clock_mut(boot)?;
        if let Clock::Samples(samples) = clock {
            *clock = Clock::Fit(Fit::new(tick_hz, samples.drain(..))?);
        }
        match clock {
            Clock::Fit(fit) => Some(fit),
            Clock::Samples(_) => None,
        }
    }

    fn clock_mut(&mut self, boot: u32) -> Option<&mut Clock> {
        let stream = self.stream;
        let known = self.boots.iter_mut().find(|known| known.is_of(stream, boot))?;
        Some(&mut known.clock)
    }
}

impl Boot {
    fn is_of(&self, stream: Option<StreamId>, boot: u32) -> bool {
        self.stream == stream && self.boot == boot
    }
}

impl Estimate {
    /// By samples, in the wall time of this moment.
    fn of(fit: &Fit, tick: u64, now: Now) -> Self {
        let line = fit.line();
        let age_us = i128::from(now.mono_us).saturating_sub(line.host_us(tick));
        Self {
            unix_us: (i128::from(now.wall_ms) * 1000).saturating_sub(age_us),
            bound_us: Self::bound_us(fit, tick),
            is_fitted: line.is_fitted(),
        }
    }

    fn bound_us(fit: &Fit, tick: u64) -> f64 {
        fit.line().bound_us(tick) + WALL_CLOCK_US
    }
}

fn skew_ppb(fit: &Fit) -> i64 {
    (fit.line().skew() * 1e9).round() as i64
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
    fn drift_is_that_of_the_running_boot_once_its_rate_is_known() {
        let mut clocks = Clocks::default();
        clocks.follow(stream(1));
        // Ticks that last 99.98 % of what they should.
        for second in (0..100).step_by(10) {
            clocks.sample(sample(1, second * 1000, 1_000_000 + second * 999_800, 10));
        }
        assert_eq!(clocks.drift(), None, "the tick rate is not known yet");
        clocks.time(1, HZ, 0, now(100));
        let drift = clocks.drift().expect("a fit");
        assert_eq!(drift.skew_ppb, -200_000);
        assert!((1500..2500).contains(&drift.error_us), "{drift:?}");
        let told = clocks.news(now(100), Occasion::End).expect("a fit").drift();
        assert_eq!(told.skew_ppb, drift.skew_ppb);
        assert!(told.error_us >= drift.error_us, "{told:?} is of all ticks of the range");
        clocks.sample(sample(2, 0, 200_000_000, 10));
        clocks.time(2, HZ, 0, now(200));
        assert_eq!(clocks.drift(), None, "another boot");
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

    fn stream(bits: u64) -> StreamId {
        StreamId::new(bits).expect("not 0")
    }

    /// Ticks of 1 ms that last as long as they should; at 1 s of the host's clock it was tick 0.
    fn clocks(boot: u32, seconds: std::ops::Range<u64>) -> Clocks {
        let mut clocks = Clocks::default();
        clocks.follow(stream(1));
        add(&mut clocks, boot, seconds);
        clocks
    }

    fn add(clocks: &mut Clocks, boot: u32, seconds: std::ops::Range<u64>) {
        for second in seconds.step_by(10) {
            clocks.sample(sample(boot, second * 1000, 1_000_000 + second * 1_000_000, 100));
            // The rate becomes known with the first reading.
            clocks.time(boot, HZ, 0, now(second));
        }
    }

    fn now(second: u64) -> Now {
        Now { mono_us: 1_000_000 + second * 1_000_000, wall_ms: WALL_MS + second as i64 * 1000 }
    }

    const WALL_MS: i64 = 1_700_000_000_000;

    #[test]
    fn a_fit_is_told_in_wall_time_once_there_is_one() {
        assert_eq!(clocks(3, 0..1).news(now(0), Occasion::End), None, "no rate");
        let mut clocks = clocks(3, 0..100);
        let fit = clocks.news(now(95), Occasion::Running).expect("a fit");
        assert_eq!((fit.stream, fit.boot, fit.tick_hz, fit.skew_ppb), (stream(1), 3, HZ, 0));
        assert_eq!((fit.valid_from, fit.valid_to, fit.tick), (0, 90_000, 90_000));
        assert_eq!(i128::from(fit.unix_us), fit.unix_us(90_000));
        assert_eq!(fit.unix_us(0), i128::from(WALL_MS) * 1000);
        assert!((1500..5000).contains(&fit.error_us), "{fit:?}");
        clocks.told(fit, now(95));
        assert_eq!(clocks.news(now(95), Occasion::End), None, "told");
    }

    #[test]
    fn a_fit_is_told_again_when_it_says_something_else_and_not_too_often() {
        let mut clocks = clocks(3, 0..100);
        let fit = clocks.news(now(95), Occasion::Running).expect("a fit");
        clocks.told(fit, now(95));
        let stepped = |second, by_ms| Now { wall_ms: now(second).wall_ms + by_ms, ..now(second) };
        add(&mut clocks, 3, 100..130);
        assert_eq!(clocks.news(now(130), Occasion::Running), None);
        assert_eq!(clocks.news(now(130), Occasion::End), None, "nothing new");
        assert_eq!(clocks.news(stepped(130, 500), Occasion::Running), None, "not within a minute");
        assert!(clocks.news(stepped(130, 500), Occasion::End).is_some(), "the wall clock was set");
        assert!(clocks.news(stepped(160, 500), Occasion::Running).is_some());
        add(&mut clocks, 3, 130..160);
        assert!(clocks.news(now(160), Occasion::End).is_some(), "a minute more");
        assert_eq!(clocks.news(now(160), Occasion::Running), None);
        let vague = WallFit { error_us: 3 * fit.error_us, ..fit };
        assert!(fit.is_news(&vague, Occasion::Running), "known more closely");
        add(&mut clocks, 3, 160..710);
        assert!(clocks.news(now(710), Occasion::Running).is_some(), "ten minutes more");
    }

    #[test]
    fn the_last_four_boots_are_told() {
        let mut told = Clocks::default();
        for boot in 1..=6 {
            let fit = clocks(boot, 0..100).news(now(100), Occasion::End).expect("a fit");
            assert_eq!(told.telling(fit).last(), Some(&fit));
            told.told(fit, now(100));
        }
        let boots = told.told.iter().map(|fit| fit.boot).collect::<Vec<_>>();
        assert_eq!(boots, [3, 4, 5, 6]);
        let again = clocks(4, 0..100).news(now(100), Occasion::End).expect("a fit");
        told.told(again, now(100));
        let boots = told.told.iter().map(|fit| fit.boot).collect::<Vec<_>>();
        assert_eq!(boots, [3, 5, 6, 4]);
    }

    /// As after a restart: the monotonic clock begins anew.
    fn restored(fit: WallFit) -> Clocks {
        let mut clocks = Clocks::restore(vec![fit]);
        clocks.follow(stream(1));
        clocks
    }

    #[test]
    fn what_the_journal_knows_stamps_a_backlog_while_its_bound_allows() {
        let fit = clocks(3, 0..100).news(now(100), Occasion::End).expect("a fit");
        let mut clocks = restored(fit);
        let later = Now { mono_us: 5, wall_ms: WALL_MS + 1_000_000_000 };
        assert_eq!(clocks.time(3, HZ, 50_000, later), SampleTime::Fit(WALL_MS + 50_000));
        // 100 ppm make 10 s of 100,000 s.
        let most = 99_900_000;
        assert_eq!(clocks.time(3, HZ, most, later), SampleTime::Fit(WALL_MS + most as i64));
        assert_eq!(clocks.time(3, HZ, 100_100_000, later), SampleTime::Unknown);
        assert_eq!(clocks.time(4, HZ, 50_000, later), SampleTime::Unknown, "another boot");
        assert_eq!(clocks.time(3, 2 * HZ, 50_000, later), SampleTime::Unknown, "another rate");
        clocks.follow(stream(2));
        assert_eq!(clocks.time(3, HZ, 50_000, later), SampleTime::Unknown, "another memory");
    }

    #[test]
    fn of_journal_and_samples_the_closer_counts_and_the_samples_are_right() {
        let fit = clocks(3, 0..100).news(now(100), Occasion::End).expect("a fit");
        // A day later, to the millisecond what the journal extrapolates to, half a second off.
        let day_us = 86_400_000_000;
        let later = Now { mono_us: 5_000_000, wall_ms: WALL_MS + 86_400_500 };
        let first = sample(3, day_us / 1000, 5_000_000, 100);
        let mut clocks = restored(fit);
        clocks.sample(first);
        assert_eq!(clocks.time(3, HZ, 50_000, later), SampleTime::Fit(WALL_MS + 50_000));
        let near = clocks.time(3, HZ, first.tick - 1000, later);
        assert_eq!(near, SampleTime::RoundTrip(WALL_MS + 86_399_500));
        // The wall clock was an hour off when the fit was stored, or is now.
        let set = Now { wall_ms: WALL_MS + 86_400_000 + 3_600_000, ..later };
        let at_ms = WALL_MS + 3_600_000 + 50_000;
        assert_eq!(clocks.time(3, HZ, 50_000, set), SampleTime::RoundTrip(at_ms));
        assert_eq!(clocks.told, []);
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_what_is_stamped_after_it_by_that_step() {
        let mut clocks = clocks(3, 0..100);
        let fit = clocks.news(now(100), Occasion::End).expect("a fit");
        clocks.told(fit, now(100));
        let before = clocks.time(3, HZ, 50_000, now(100));
        let after = Now { wall_ms: now(100).wall_ms + 60_000, ..now(100) };
        assert_eq!(before, SampleTime::Fit(WALL_MS + 50_000));
        assert_eq!(clocks.time(3, HZ, 50_000, after), SampleTime::Fit(WALL_MS + 110_000));
        assert!(clocks.news(after, Occasion::End).is_some(), "told anew");
    }

    #[test]
    fn an_erased_device_begins_with_another_clock() {
        let mut clocks = clocks(1, 0..100);
        clocks.follow(stream(2));
        assert!(!clocks.knows(1));
        assert_eq!(clocks.time(1, HZ, 50_000, now(100)), SampleTime::Unknown);
        assert_eq!(clocks.news(now(100), Occasion::End), None);
        clocks.follow(stream(1));
        assert_eq!(clocks.time(1, HZ, 50_000, now(100)), SampleTime::Fit(WALL_MS + 50_000));
    }
}
