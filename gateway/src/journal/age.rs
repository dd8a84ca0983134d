//! When which part of the log was appended, by the time that the journal has been open: marks, the coarser the more time
//! the log spans.
//!
//! The wall clock is not asked: however it steps, data ages by no more than the time that passed. Time during which
//! the journal was not open does not count.

use super::{Offset, Position};

/// Marks closer than this are one.
const CLOSEST_MS: u64 = 1_000;
/// Marks kept: 64 KiB of memory. A week has one in five minutes at least.
const MOST_MARKS: usize = 4096;

/// What is kept of the age of one partition's data in one cold segment.
const MOST_AGED: usize = 8;

/// Everything of a partition below the offset was appended at this time or earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aged {
    pub(super) end: Offset,
    pub(super) open_ms: u64,
}

impl Aged {
    /// Leaves out what can be done without: data then passes for younger than it is, by an eighth of what there is.
    pub(super) fn thin(aged: &mut Vec<Self>) {
        while aged.len() > MOST_AGED {
            let last = aged.len() - 1;
            let mut number = 0;
            aged.retain(|_| {
                number += 1;
                (last - (number - 1)).is_multiple_of(2)
            });
        }
    }
}

/// Marks in order of both position and time.
#[derive(Debug)]
pub(super) struct Ages {
    settled: Vec<Mark>,
    /// The newest, which later ones replace until it is far enough from those before.
    newest: Option<Mark>,
    /// How close marks are.
    spacing_ms: u64,
}

/// Everything before the position was appended at this time or earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    position: Position,
    open_ms: u64,
}

impl Default for Ages {
    fn default() -> Self {
        Self { settled: Vec::new(), newest: None, spacing_ms: CLOSEST_MS }
    }
}

impl Ages {
    /// Notes that the log ends at a position at this time.
    pub(super) fn note(&mut self, position: Position, open_ms: u64) {
        let last = self.newest.or(self.settled.last().copied());
        if last.is_some_and(|last| position <= last.position) {
            return;
        }
        // A clock that stood still or damage may have told less: never younger than what came before.
        let open_ms = last.map_or(open_ms, |last| open_ms.max(last.open_ms));
        let mark = Mark { position, open_ms };
        if let Some(newest) = self.newest {
            let since = self.settled.last().map(|last| newest.open_ms - last.open_ms);
            let until = open_ms - newest.open_ms;
            if since.is_none_or(|since| since.max(until) >= self.spacing_ms) {
                self.settle(newest);
            }
        }
        self.newest = Some(mark);
    }

    /// Up to where everything was appended at this time or earlier.
    pub(super) fn until(&self, open_ms: u64) -> Position {
        if let Some(newest) = self.newest.filter(|newest| newest.open_ms <= open_ms) {
            return newest.position;
        }
        let after = self.settled.partition_point(|mark| mark.open_ms <= open_ms);
        let mark = after.checked_sub(1).and_then(|at| self.settled.get(at));
        mark.map_or(Position(0), |mark| mark.position)
    }

    /// The time at or before which everything before a position was appended; none if that is not known yet.
    pub(super) fn by(&self, position: Position) -> Option<u64> {
        let after = self.settled.partition_point(|mark| mark.position < position);
        let newest = self.newest.filter(|newest| newest.position >= position);
        self.settled.get(after).copied().or(newest).map(|mark| mark.open_ms)
    }

    /// Forgets what is no longer part of the log.
    pub(super) fn forget_before(&mut self, start: Position) {
        let gone = self.settled.partition_point(|mark| mark.position < start);
        self.settled.drain(..gone);
        if self.settled.len() < MOST_MARKS / 4 {
            self.spacing_ms = CLOSEST_MS.max(self.spacing_ms / 2);
        }
    }

    fn settle(&mut self, mark: Mark) {
        if self.settled.len() == MOST_MARKS {
            self.spacing_ms = self.spacing_ms.saturating_mul(2);
            let mut number = 0;
            self.settled.retain(|_| {
                number += 1;
                number % 2 == 0
            });
        }
        self.settled.push(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ages(marks: &[(u64, u64)]) -> Ages {
        let mut ages = Ages::default();
        marks.iter().for_each(|&(position, open_ms)| ages.note(Position(position), open_ms));
        ages
    }

    #[test]
    fn what_lies_before_a_mark_is_that_old() {
        let ages = ages(&[(10, 0), (20, 1_000), (30, 2_000), (40, 2_500), (50, 2_600)]);
        // Time -> position up to which everything is that old.
        for (open_ms, until) in
            [(0, 10), (999, 10), (1_000, 20), (2_000, 30), (2_500, 30), (2_599, 30), (2_600, 50)]
        {
            assert_eq!(ages.until(open_ms), Position(until), "{open_ms}");
        }
        assert_eq!(Ages::default().until(u64::MAX), Position(0));
    }

    #[test]
    fn steady_writing_comes_of_age() {
        let mut ages = Ages::default();
        (1..=100_000u64).for_each(|n| ages.note(Position(n), n * 10));
        for open_ms in [5_000, 500_000, 900_000] {
            let until = ages.until(open_ms).0 * 10;
            assert!((open_ms - 2_000..=open_ms).contains(&until), "{until} for {open_ms}");
        }
    }

    #[test]
    fn a_time_that_goes_back_makes_nothing_older() {
        let ages = ages(&[(10, 5_000), (20, 3_000), (15, 9_000), (30, 7_000)]);
        assert_eq!(ages.until(4_999), Position(0));
        assert_eq!(ages.until(6_999), Position(20));
        assert_eq!(ages.until(7_000), Position(30));
    }

    #[test]
    fn marks_are_bounded_and_close_for_what_they_span() {
        let mut ages = Ages::default();
        let day_ms = 86_400_000;
        (1..=day_ms / 1_000).for_each(|n| ages.note(Position(n), n * 1_000));
        assert!(ages.settled.len() <= MOST_MARKS);
        for (open_ms, coarse) in [(day_ms - 60_000, 60_000), (day_ms / 2, 60_000), (60_000, 60_000)]
        {
            let until = ages.until(open_ms).0 * 1_000;
            assert!(until <= open_ms && open_ms - until <= coarse, "{until} for {open_ms}");
        }
        ages.forget_before(Position(80_000));
        assert!(ages.settled.iter().all(|mark| mark.position >= Position(80_000)));
        assert_eq!(ages.until(day_ms), Position(86_400));
        for n in 1..9 {
            ages.forget_before(Position(80_000 + n));
        }
        assert_eq!(ages.spacing_ms, CLOSEST_MS);
    }
}
