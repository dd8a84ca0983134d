//! A line through clock samples, and how far it may be off.
//!
//! Let `e` be a sample's distance from the line plus its own radius: at that tick the line is off by `e` at
//! most. Two samples bound how wrong the rate is: by the sum of their `e` over the time between them. The
//! bound elsewhere follows from the nearest good sample, the wrong rate, and what the crystal may wander.

use headwater_protocol::ClockSample;

/// How far two crystal clocks are taken to run apart while nothing else is known.
const ASSUMED_RATE: f64 = 100e-6;
/// A rate counts once it is known this closely.
const FITTED_RATE: f64 = 50e-6;
/// How far a crystal's rate strays from its mean, with temperature above all.
pub(super) const WANDER_RATE: f64 = 10e-6;
/// Crystals this far off exist, ceramic resonators nearly: no reason to refuse samples before the rate is known.
const PLAUSIBLE_RATE: f64 = 500e-6;
/// The host's times are whole microseconds.
const ROUNDING_US: f64 = 1.0;
/// Added to a radius that becomes a weight: the host's own jitter. Else one lucky sample outweighs all.
const JITTER_US: f64 = 50.0;

/// Host time over the ticks of one boot.
#[derive(Clone, Debug)]
pub(super) struct Line {
    tick_hz: u32,
    origin: ClockSample,
    /// At the origin's tick, microseconds from the origin's host time.
    offset_us: f64,
    /// Host time passes faster than ticks say by this part.
    skew: f64,
    rate: Rate,
    knots: Vec<Knot>,
}

/// How well the rate is known.
#[derive(Clone, Copy, Debug)]
enum Rate {
    Assumed,
    /// The bound of its error, wander apart.
    Fitted(f64),
}

/// A sample in the line's terms.
#[derive(Clone, Copy, Debug)]
struct Point {
    /// Microseconds by the tick's nominal rate.
    x: f64,
    /// Microseconds of the host, less `x`.
    y: f64,
    /// Microseconds by which `y` may be off for the middle of the tick.
    radius: f64,
}

/// The line's error is known here.
#[derive(Clone, Copy, Debug)]
struct Knot {
    x: f64,
    error_us: f64,
}

impl Line {
    /// The line through samples in the order of their ticks; none if there are none. `tick_hz` is not 0.
    pub(super) fn through(tick_hz: u32, samples: &[ClockSample]) -> Option<Self> {
        let origin = *samples.last()?;
        let points: Vec<Point> =
            samples.iter().map(|sample| Point::new(tick_hz, &origin, sample)).collect();
        let (offset_us, skew, rate) = match regression(&points) {
            Some((offset_us, skew, error)) if is_fitted(skew, error) => {
                (offset_us, skew, Rate::Fitted(error))
            }
            _ => (level(&points), 0.0, Rate::Assumed),
        };
        let knots = points
            .iter()
            .map(|point| Knot { x: point.x, error_us: point.error_us(offset_us, skew) })
            .collect();
        Some(Self { tick_hz, origin, offset_us, skew, rate, knots })
    }

    /// Whether the samples are on one line of any rate.
    pub(super) fn is_straight(tick_hz: u32, samples: &[ClockSample]) -> bool {
        let Some(origin) = samples.last() else { return false };
        let points: Vec<Point> =
            samples.iter().map(|sample| Point::new(tick_hz, origin, sample)).collect();
        regression(&points).is_some_and(|(offset_us, skew, _)| {
            // Twice its radius: a regression may pass a true interval by.
            let is_near =
                |point: &Point| point.error_us(offset_us, skew) <= 3.0 * point.radius + JITTER_US;
            points.iter().all(is_near)
        })
    }

    /// Whether the rate was fitted.
    pub(super) fn is_fitted(&self) -> bool {
        matches!(self.rate, Rate::Fitted(_))
    }

    /// Nominal ticks per second.
    pub(super) fn tick_hz(&self) -> u32 {
        self.tick_hz
    }

    /// Host time passes faster than ticks say by this part; 0 while the rate is not fitted.
    pub(super) fn skew(&self) -> f64 {
        self.skew
    }

    /// The bound of the rate's error, wander apart.
    pub(super) fn rate_error(&self) -> f64 {
        match self.rate {
            Rate::Assumed => ASSUMED_RATE,
            Rate::Fitted(error) => error,
        }
    }

    /// When `tick` was, microseconds of the host's clock. Negative: before that began.
    pub(super) fn host_us(&self, tick: u64) -> i128 {
        let x = nominal_us(self.tick_hz, self.origin.tick, tick);
        let since_origin = x * (1.0 + self.skew) + self.offset_us;
        i128::from(self.origin.host_us).saturating_add(since_origin.round() as i128)
    }

    /// How far [`Self::host_us`] may be from the instant at which a reading got that tick, microseconds.
    pub(super) fn bound_us(&self, tick: u64) -> f64 {
        let x = nominal_us(self.tick_hz, self.origin.tick, tick);
        self.reach_us(x, self.drift()) + half_tick_us(self.tick_hz) + ROUNDING_US
    }

    /// The largest [`Self::bound_us`] from the first sample to the tick `to`.
    pub(super) fn worst_us(&self, to: u64) -> f64 {
        let drift = self.drift();
        let last = nominal_us(self.tick_hz, self.origin.tick, to);
        let mut ends: Vec<f64> = self.knots.iter().map(|knot| knot.x).collect();
        ends.push(last);
        let mut worst = self.reach_us(last, drift);
        for pair in ends.windows(2) {
            if let [from, to] = *pair {
                // Between two of them the bounds meet in the middle, at worst.
                let sum = self.reach_us(from, drift) + self.reach_us(to, drift);
                worst = worst.max((sum + drift * (to - from).abs()) / 2.0);
            }
        }
        worst + half_tick_us(self.tick_hz) + ROUNDING_US
    }

    /// Whether a sample cannot be true if the line is.
    pub(super) fn is_contradicted(&self, sample: &ClockSample) -> bool {
        let point = Point::new(self.tick_hz, &self.origin, sample);
        let rate = match self.rate {
            Rate::Assumed => PLAUSIBLE_RATE,
            Rate::Fitted(error) => error + WANDER_RATE,
        };
        point.distance_us(self.offset_us, self.skew) > point.radius + self.reach_us(point.x, rate)
    }

    /// How fast the line may part from the truth.
    fn drift(&self) -> f64 {
        match self.rate {
            Rate::Assumed => ASSUMED_RATE,
            Rate::Fitted(error) => error + WANDER_RATE,
        }
    }

    /// The error at `x` by the knot that bounds it best.
    fn reach_us(&self, x: f64, rate: f64) -> f64 {
        let reach = |knot: &Knot| knot.error_us + rate * (x - knot.x).abs();
        self.knots.iter().map(reach).fold(f64::INFINITY, f64::min)
    }
}

impl Point {
    fn new(tick_hz: u32, origin: &ClockSample, sample: &ClockSample) -> Self {
        let x = nominal_us(tick_hz, origin.tick, sample.tick);
        let host = i128::from(sample.host_us) - i128::from(origin.host_us);
        // The tick was read anywhere between its beginning and its end.
        let radius = sample.half_rtt_us as f64 + half_tick_us(tick_hz) + ROUNDING_US;
        Self { x, y: host as f64 - x, radius }
    }

    fn distance_us(&self, offset_us: f64, skew: f64) -> f64 {
        (offset_us + skew * self.x - self.y).abs()
    }

    /// How far the line may be off here.
    fn error_us(&self, offset_us: f64, skew: f64) -> f64 {
        self.distance_us(offset_us, skew) + self.radius
    }

    fn weight(&self) -> f64 {
        (self.radius + JITTER_US).powi(-2)
    }
}

/// A rate known closely, or one that proves the assumption wrong.
fn is_fitted(skew: f64, error: f64) -> bool {
    skew > -1.0 && (error < FITTED_RATE || skew.abs() - error > ASSUMED_RATE)
}

/// Offset, skew and the bound of the skew's error; none if all points are of one tick.
fn regression(points: &[Point]) -> Option<(f64, f64, f64)> {
    let sum = |of: &dyn Fn(&Point) -> f64| points.iter().map(|p| p.weight() * of(p)).sum::<f64>();
    let total = sum(&|_| 1.0);
    let (mean_x, mean_y) = (sum(&|p| p.x) / total, sum(&|p| p.y) / total);
    let spread = sum(&|p| (p.x - mean_x).powi(2));
    if spread <= 0.0 {
        return None;
    }
    let skew = sum(&|p| (p.x - mean_x) * (p.y - mean_y)) / spread;
    let offset_us = mean_y - skew * mean_x;
    let mut error = f64::INFINITY;
    for (index, from) in points.iter().enumerate() {
        for to in points.iter().skip(index + 1).filter(|to| to.x > from.x) {
            let sum = from.error_us(offset_us, skew) + to.error_us(offset_us, skew);
            error = error.min(sum / (to.x - from.x));
        }
    }
    error.is_finite().then_some((offset_us, skew, error))
}

/// The offset by the point that bounds the present best.
fn level(points: &[Point]) -> f64 {
    let bound = |point: &Point| point.radius + ASSUMED_RATE * point.x.abs();
    let best = points.iter().min_by(|a, b| bound(a).total_cmp(&bound(b)));
    best.map_or(0.0, |point| point.y)
}

/// Microseconds from one tick to another by the nominal rate. The difference is exact: only what is far away
/// loses precision, one part in 10^15.
fn nominal_us(tick_hz: u32, from: u64, to: u64) -> f64 {
    (i128::from(to) - i128::from(from)) as f64 * 1e6 / f64::from(tick_hz)
}

fn half_tick_us(tick_hz: u32) -> f64 {
    0.5e6 / f64::from(tick_hz)
}
