//! Simulated clocks: the stated bound holds, also with wander, slow answers, lies and jumps.

use proptest::prelude::*;

use super::*;

/// The link asks so often at the start of a session, and then so far apart.
const QUICK: usize = 8;
const QUICK_US: f64 = 250e3;
const INTERVAL_US: f64 = 10e6;

/// A device's counter as a function of the true time, which is the host's.
#[derive(Clone, Debug)]
struct Crystal {
    tick_hz: u32,
    first_tick: u64,
    /// Runs fast by this part.
    skew: f64,
    /// A sine on top of it: largest part and period, microseconds.
    wander: (f64, f64),
}

impl Crystal {
    fn tick(&self, true_us: f64) -> u64 {
        let (most, period) = self.wander;
        let turn = std::f64::consts::TAU / period;
        let strayed = most / turn * (1.0 - (true_us * turn).cos());
        let us = true_us * (1.0 + self.skew) + strayed;
        self.first_tick + (us * f64::from(self.tick_hz) / 1e6).floor() as u64
    }

    /// A question at that time: the way there and the way back, microseconds.
    fn ask(&self, asked_us: f64, there_us: f64, back_us: f64) -> ClockSample {
        let answered = (asked_us + there_us + back_us).floor() as u64;
        let half_rtt_us = (answered - asked_us.floor() as u64).div_ceil(2);
        ClockSample {
            boot: 1,
            tick: self.tick(asked_us + there_us),
            host_us: asked_us.floor() as u64 + half_rtt_us,
            half_rtt_us,
        }
    }

    fn check(&self, fit: &Fit, true_us: f64) -> Result<(), TestCaseError> {
        let tick = self.tick(true_us);
        let error_us = (fit.line().host_us(tick) as f64 - true_us).abs();
        let bound_us = fit.line().bound_us(tick);
        prop_assert!(
            error_us <= bound_us,
            "off by {error_us} us, bound {bound_us} us at {true_us}: {fit:?}"
        );
        Ok(())
    }
}

fn crystals() -> impl Strategy<Value = Crystal> {
    let rates =
        prop_oneof![Just(1), Just(10), Just(1000), Just(32_768), Just(1_000_000), Just(1 << 30)];
    let first = prop_oneof![Just(0), 0..u64::MAX / 2];
    let skews = prop_oneof![-200.0..200.0f64, -100.0..100.0f64];
    (rates, first, skews, 0.0..4.0f64, 600.0..90_000.0f64).prop_map(
        |(tick_hz, first_tick, ppm, wander_ppm, period_s)| Crystal {
            tick_hz,
            first_tick,
            skew: ppm * 1e-6,
            wander: (wander_ppm * 1e-6, period_s * 1e6),
        },
    )
}

/// One question: both ways, pause before it (usually none), a lie told instead of the truth.
type Question = (f64, f64, f64, Option<f64>);

fn questions() -> impl Strategy<Value = Vec<Question>> {
    let way = || prop_oneof![3 => 10.0..3000.0f64, 1 => 3000.0..100e3f64];
    let pause = prop_oneof![40 => Just(0.0), 1 => 0.0..7200e6f64];
    // Never a lie that the bound of a first few samples could not tell from the truth.
    let lie = prop_oneof![12 => Just(None), 1 => (5e6..100e6f64).prop_map(Some)];
    prop::collection::vec((way(), way(), pause, lie), 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_error_stays_below_its_bound(crystal in crystals(), questions in questions()) {
        let mut fit: Option<Fit> = None;
        let mut now = 2e6;
        let mut lies = 0;
        for (index, (there, back, pause, lie)) in questions.into_iter().enumerate() {
            now += pause + if index < QUICK { QUICK_US } else { INTERVAL_US };
            let mut sample = crystal.ask(now, there, back);
            match lie {
                // As many lies in a row as are believed are another matter: a jump.
                Some(lie) if index >= QUICK && pause == 0.0 && lies + 1 < JUMP => {
                    lies += 1;
                    sample.host_us += lie as u64;
                }
                _ => lies = 0,
            }
            match &mut fit {
                Some(fit) => fit.update(sample),
                None => fit = Fit::new(crystal.tick_hz, [sample]),
            }
            let fit = fit.as_ref().expect("a sample");
            prop_assert!(fit.samples.len() <= SAMPLES);
            // What is assumed of a rate not known yet does not hold for the worst crystals.
            if !fit.line().is_fitted() && crystal.skew.abs() > 95e-6 {
                continue;
            }
            let (from, to) = fit.range();
            let worst_us = fit.line().worst_us(to);
            for part in 0..=20 {
                let bound_us = fit.line().bound_us(from + (to - from) / 20 * part);
                prop_assert!(bound_us <= worst_us * 1.000_001, "{bound_us} {worst_us} {fit:?}");
            }
            for back_s in [0.0, 1.0, 60.0, 3600.0, 86_400.0] {
                crystal.check(fit, (now - back_s * 1e6).max(0.0))?;
            }
        }
    }

    #[test]
    fn any_numbers_are_survived(
        tick_hz in 1..=u32::MAX,
        samples in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 1..40),
        tick in any::<u64>(),
    ) {
        let samples = samples.into_iter().map(|(tick, host_us, half_rtt_us)| {
            ClockSample { boot: 1, tick, host_us, half_rtt_us }
        });
        let fit = Fit::new(tick_hz, samples).expect("samples");
        let _ = (fit.line().host_us(tick), fit.line().host_us(u64::MAX), fit.line().host_us(0));
        prop_assert!(fit.line().bound_us(tick) >= 0.0);
    }
}

fn crystal(tick_hz: u32, ppm: f64) -> Crystal {
    Crystal { tick_hz, first_tick: 12_345, skew: ppm * 1e-6, wander: (0.0, 1e9) }
}

/// So many questions, answered as fast in both directions.
fn ask(fit: &mut Option<Fit>, crystal: &Crystal, from_s: f64, count: usize, way_us: f64) {
    for index in 0..count {
        let sample = crystal.ask(from_s * 1e6 + index as f64 * INTERVAL_US, way_us, way_us);
        match fit {
            Some(fit) => fit.update(sample),
            None => *fit = Fit::new(crystal.tick_hz, [sample]),
        }
    }
}

#[test]
fn a_rate_is_fitted_closely() {
    // Round trips of 2 ms and of 30 ms: after so many samples the rate is known, and after an hour well.
    for (way_us, samples, ppm) in [(1e3, 6, 200.0), (1e3, 6, -20.0), (15e3, 80, 200.0)] {
        let (mut fit, crystal) = (None, crystal(1_000_000, ppm));
        ask(&mut fit, &crystal, 10.0, samples, way_us);
        assert!(fit.as_ref().expect("a fit").line().is_fitted(), "{way_us} {ppm}");
        ask(&mut fit, &crystal, 10.0 + samples as f64 * 10.0, 360, way_us);
        let line = fit.expect("a fit").line().clone();
        let skew = 1.0 / (1.0 + ppm * 1e-6) - 1.0;
        assert!((line.skew() - skew).abs() < 1e-8, "{} {skew}", line.skew());
        assert!(line.rate_error() < 20e-6, "{line:?}");
        let bound_us = line.bound_us(crystal.tick(3600e6));
        assert!(bound_us < way_us + 3000.0, "{bound_us}");
    }
}

#[test]
fn a_rate_of_few_samples_is_assumed() {
    let (mut fit, crystal) = (None, crystal(1_000_000, 50.0));
    ask(&mut fit, &crystal, 10.0, 2, 1e3);
    let line = fit.expect("a fit").line().clone();
    assert!(!line.is_fitted());
    assert!((line.skew(), line.rate_error()) == (0.0, 100e-6));
}

#[test]
fn short_round_trips_count_more() {
    let (mut fit, crystal) = (None, crystal(1_000_000, 0.0));
    // Every other answer takes 80 ms on its way back, which looks like a clock that is late by 40 ms.
    for index in 0..100u32 {
        let back_us = if index % 2 == 0 { 80e3 } else { 100.0 };
        let sample = crystal.ask(f64::from(index) * INTERVAL_US, 100.0, back_us);
        match &mut fit {
            Some(fit) => Fit::update(fit, sample),
            None => fit = Fit::new(crystal.tick_hz, [sample]),
        }
    }
    let fit = fit.expect("a fit");
    let error_us = fit.line().host_us(crystal.tick(500e6)) as f64 - 500e6;
    assert!(error_us.abs() < 20.0, "{error_us}");
}

#[test]
fn a_clock_that_jumped_is_followed_and_a_single_lie_is_not() {
    let (mut fit, crystal) = (None, crystal(1000, 30.0));
    ask(&mut fit, &crystal, 10.0, 100, 500.0);
    // The host slept for an hour, which its monotonic clock does not count.
    let jumped = |at_s: f64| {
        let mut sample = crystal.ask(at_s * 1e6, 500.0, 500.0);
        sample.tick += 3_600_000;
        sample
    };
    let error_us = |fit: &Option<Fit>, jumped_by: u64, at_s: f64| {
        let line = fit.as_ref().expect("a fit").line();
        (line.host_us(crystal.tick(at_s * 1e6) + jumped_by) as f64 - at_s * 1e6).abs()
    };
    for index in 0..3 {
        fit.as_mut().expect("a fit").update(jumped(1010.0 + f64::from(index) * 10.0));
        assert!(error_us(&fit, 0, 1010.0) < 2000.0, "{index}");
    }
    // One true answer in between, and it begins anew.
    ask(&mut fit, &crystal, 1040.0, 1, 500.0);
    for index in 0..4 {
        assert!(error_us(&fit, 0, 1050.0) < 2000.0, "{index}");
        fit.as_mut().expect("a fit").update(jumped(1050.0 + f64::from(index) * 10.0));
    }
    assert!(error_us(&fit, 3_600_000, 1080.0) < 5000.0);
}

#[test]
fn a_bad_resonator_is_followed_too() {
    let (mut fit, crystal) = (None, crystal(1_000_000, 10_000.0));
    ask(&mut fit, &crystal, 10.0, 30, 500.0);
    let line = fit.expect("a fit").line().clone();
    let at_us = 310e6;
    let error_us = (line.host_us(crystal.tick(at_us)) as f64 - at_us).abs();
    assert!(line.is_fitted() && error_us <= line.bound_us(crystal.tick(at_us)), "{error_us}");
}

#[test]
fn a_counter_that_runs_backwards_is_never_believed() {
    let sample = |index: u64| ClockSample {
        boot: 1,
        tick: 1_000_000 - index * 10_000,
        host_us: 1_000_000 + index * 10_000_000,
        half_rtt_us: 100,
    };
    let fit = Fit::new(1000, (0..50).map(sample)).expect("a fit");
    assert_eq!(fit.samples, [sample(0)]);
    // Nor where the round trips are too long to tell its direction.
    let vague = [30, 20, 40, 10].map(|tick| ClockSample {
        boot: 1,
        tick,
        host_us: 600_000_000,
        half_rtt_us: 60_000_000,
    });
    let fit = Fit::new(1000, [sample(0)].into_iter().chain(vague)).expect("a fit");
    assert_eq!(fit.samples, [sample(0)]);
}

#[test]
fn kept_samples_span_the_window() {
    let (mut fit, crystal) = (None, crystal(1_000_000, 30.0));
    ask(&mut fit, &crystal, 10.0, 8640, 500.0);
    let fit = fit.expect("a fit");
    let span = fit.samples[fit.samples.len() - 1].host_us - fit.samples[0].host_us;
    assert!((WINDOW_US..2 * WINDOW_US).contains(&span), "{span}");
    let longest = fit.samples.windows(2).map(|pair| pair[1].host_us - pair[0].host_us).max();
    assert!(longest < Some(WINDOW_US / 4), "{longest:?}");
}
