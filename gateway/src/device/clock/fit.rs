//! The clock of one boot: which samples the line goes through.
//!
//! At most [`SAMPLES`] are kept, spread over a window, of two neighbours the one with the shorter round
//! trip. A sample that contradicts the line is refused. Several in a row that contradict it and agree with
//! each other mean that the clock jumped (the host slept, the device stopped its timer): the line starts
//! over with them.

use headwater_protocol::ClockSample;

use super::line::{Line, WANDER_RATE};

/// Samples kept: one in two minutes of a full window.
const SAMPLES: usize = 16;
/// The least time that the kept samples span once there are older ones, microseconds. Longer means a mean of
/// more weather, shorter a rate that one slow answer moves.
const WINDOW_US: u64 = 30 * 60 * 1_000_000;
/// Refused samples in a row, on one line, that are believed: a second when a session begins, later 40.
const JUMP: usize = 4;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Fit {
    tick_hz: u32,
    /// By tick, with host times that rise too.
    samples: Vec<ClockSample>,
    /// Refused since the last one taken.
    refused: Vec<ClockSample>,
    line: Line,
    /// The last tick that was taken, whether or not its sample is kept.
    newest: u64,
}

impl Fit {
    /// Through samples of one boot in the order in which they came; none if there are none. `tick_hz` is not 0.
    pub(super) fn new(
        tick_hz: u32,
        samples: impl IntoIterator<Item = ClockSample>,
    ) -> Option<Self> {
        let mut samples = samples.into_iter();
        let first = samples.next()?;
        let line = Line::through(tick_hz, &[first])?;
        let (kept, refused) = (vec![first], Vec::new());
        let mut fit = Self { tick_hz, samples: kept, refused, line, newest: first.tick };
        samples.for_each(|sample| fit.update(sample));
        Some(fit)
    }

    /// Takes or refuses the next sample.
    pub(super) fn update(&mut self, sample: ClockSample) {
        if sample.tick < self.newest || self.line.is_contradicted(&sample) {
            return self.refuse(sample);
        }
        self.refused.clear();
        self.newest = sample.tick;
        self.samples.push(sample);
        self.thin();
        self.drop_old();
        self.draw();
    }

    /// The line.
    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// The first and the last tick that samples speak of.
    pub(super) fn range(&self) -> (u64, u64) {
        (self.samples.first().map_or(self.newest, |first| first.tick), self.newest)
    }

    fn refuse(&mut self, sample: ClockSample) {
        if self.refused.len() == JUMP {
            self.refused.remove(0);
        }
        self.refused.push(sample);
        if self.refused.len() == JUMP
            && self.refused.is_sorted_by_key(|sample| sample.tick)
            && Line::is_straight(self.tick_hz, &self.refused)
        {
            self.samples = std::mem::take(&mut self.refused);
            self.newest = sample.tick;
            self.draw();
        }
    }

    fn draw(&mut self) {
        if let Some(line) = Line::through(self.tick_hz, &self.samples) {
            self.line = line;
        }
    }

    /// Of the two samples that are nearest to each other, lets go of the one that says less. The first one
    /// stays: it is the far end of the lever.
    fn thin(&mut self) {
        if self.samples.len() <= SAMPLES {
            return;
        }
        let gaps = self.samples.windows(2).enumerate().filter_map(|(index, pair)| match pair {
            [before, after] => {
                let worse = index == 0 || after.half_rtt_us >= before.half_rtt_us;
                Some((after.tick - before.tick, index + usize::from(worse)))
            }
            _ => None,
        });
        if let Some((_, index)) = gaps.min_by_key(|(gap, _)| *gap) {
            self.samples.remove(index);
        }
    }

    /// Lets go of the oldest samples as far as the others span the window, and do not know the rate worse than
    /// it wanders: slow counters take longer than that.
    fn drop_old(&mut self) {
        while let [_, rest @ ..] = self.samples.as_slice()
            && let [first, .., last] = rest
            && last.host_us.saturating_sub(first.host_us) >= WINDOW_US
            && Line::through(self.tick_hz, rest)
                .is_some_and(|line| line.is_fitted() && line.rate_error() <= WANDER_RATE)
        {
            self.samples.remove(0);
        }
    }
}

#[cfg(test)]
#[path = "../tests/clock.rs"]
mod tests;
