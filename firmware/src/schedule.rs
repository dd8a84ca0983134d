//! When the next sample is due: a fixed rate without drift.
//!
//! Deadlines are multiples of the period from the first one, whatever the loop's delays were. A
//! deadline that was slept through is counted and left out, never sampled late in a burst.

/// A fixed-rate schedule in ticks of the board's extended 64-bit counter.
#[derive(Clone, Debug)]
pub struct Schedule {
    period: u64,
    next: u64,
}

/// A sample that is to be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The deadline: give this tick to the reading, so that a fixed rate stays one on the wire.
    pub tick: u64,
    /// Deadlines before this one that nobody came for; their samples are missing.
    pub skipped: u64,
}

impl Schedule {
    /// Every `period` ticks (0 counts as 1), first at `first`.
    #[must_use]
    pub const fn every(period: u64, first: u64) -> Self {
        Self { period: if period == 0 { 1 } else { period }, next: first }
    }

    /// The sample that is due at `now`, if any; of several the latest.
    pub fn due(&mut self, now: u64) -> Option<Due> {
        let late = now.checked_sub(self.next)?;
        let (skipped, rest) = divide(late, self.period);
        let tick = now - rest;
        self.next = tick.saturating_add(self.period);
        Some(Due { tick, skipped })
    }

    /// Tick of the next deadline.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Ticks between deadlines.
    #[must_use]
    pub const fn period(&self) -> u64 {
        self.period
    }
}

/// Quotient and remainder by shifts: the compiler's 64-bit division costs a Cortex-M0 half a
/// kilobyte, and the quotient is nearly always 0.
fn divide(mut rest: u64, divisor: u64) -> (u64, u64) {
    let mut step = divisor;
    while step <= rest >> 1 {
        step <<= 1;
    }
    let mut quotient = 0;
    loop {
        quotient <<= 1;
        if rest >= step {
            rest -= step;
            quotient |= 1;
        }
        if step == divisor {
            return (quotient, rest);
        }
        step >>= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_do_not_drift_and_skipped_ones_are_counted() {
        let mut schedule = Schedule::every(100, 1_000);
        for (now, expect) in [
            (0, None),
            (999, None),
            (1_000, Some((1_000, 0))),
            (1_001, None),
            (1_130, Some((1_100, 0))),
            (1_199, None),
            (1_200, Some((1_200, 0))),
            (1_650, Some((1_600, 3))),
            (1_700, Some((1_700, 0))),
        ] {
            let due = schedule.due(now);
            assert_eq!(due, expect.map(|(tick, skipped)| Due { tick, skipped }), "at {now}");
        }
        assert_eq!(schedule.next(), 1_800);
    }

    #[test]
    fn the_end_of_time_and_a_zero_period_do_not_overflow() {
        let mut schedule = Schedule::every(0, u64::MAX - 1);
        assert_eq!(schedule.due(u64::MAX), Some(Due { tick: u64::MAX, skipped: 1 }));
        assert_eq!(schedule.next(), u64::MAX);
    }

    #[test]
    fn division_by_shifts_is_division() {
        let values = [
            1,
            2,
            3,
            7,
            100,
            12_500_000,
            u64::from(u32::MAX),
            u64::MAX / 3,
            u64::MAX - 1,
            u64::MAX,
        ];
        for rest in values.into_iter().chain([0]) {
            for divisor in values {
                assert_eq!(
                    divide(rest, divisor),
                    (rest / divisor, rest % divisor),
                    "{rest} {divisor}"
                );
            }
        }
    }
}
