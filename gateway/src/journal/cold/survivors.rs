//! What of one partition is copied when its segments are cleaned: batch by batch, in order. No I/O.

use std::collections::HashMap;

use super::super::{AbortedRange, Offset};
use crate::record::{BatchHeader, TransactionOutcome};

/// Decides over the batches of one partition in one pass.
#[derive(Clone, Debug)]
pub(super) struct Survivors {
    bounds: Bounds,
    ranges: Vec<Range>,
    /// Producers, and whether data of theirs was kept since their last marker.
    kept: HashMap<i64, bool>,
}

/// Where the pass stands in the partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// First offset of the pass.
    pub(super) first: Offset,
    /// One past its last.
    pub(super) end: Offset,
    /// What lies below is dead.
    pub(super) log_start: Offset,
    /// One past the last offset of the partition: the batch that ends here stays, whatever it is, so that
    /// who reads to the end gets there.
    pub(super) log_end: Offset,
}

/// An aborted range that the pass touches.
#[derive(Clone, Copy, Debug)]
struct Range {
    range: AbortedRange,
    /// Whether some data or the marker of it was kept.
    kept: bool,
}

/// What became of the aborted ranges that end in the pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// To be kept with the copy.
    pub(super) kept: Vec<AbortedRange>,
    /// Nothing is left of them.
    pub(super) gone: Vec<AbortedRange>,
}

impl Survivors {
    /// With the aborted ranges that overlap the pass.
    pub(super) fn new(bounds: Bounds, aborted: Vec<AbortedRange>) -> Self {
        let ranges = aborted.into_iter().map(|range| Range { range, kept: false }).collect();
        Self { bounds, ranges, kept: HashMap::new() }
    }

    /// Whether a batch is live.
    pub(super) fn keeps(
        &mut self,
        batch: &BatchHeader,
        marker: Option<TransactionOutcome>,
    ) -> bool {
        let (base, end) = (Offset(batch.base_offset), Offset(batch.last_offset() + 1));
        let is_last = end >= self.bounds.log_end;
        if end <= self.bounds.log_start && !is_last {
            return false;
        }
        let Some(outcome) = marker else {
            let aborted = self.aborted(batch, base);
            let keeps = aborted.is_none() || is_last;
            if keeps && let Some(range) = aborted {
                range.kept = true;
            }
            return keeps;
        };
        let data_kept = self.kept.remove(&batch.producer_id).unwrap_or(false);
        let first = self.bounds.first;
        match outcome {
            TransactionOutcome::Commit => data_kept || is_last,
            TransactionOutcome::Abort => {
                let ends = |it: &&mut Range| {
                    it.range.producer_id == batch.producer_id && it.range.last == base
                };
                // One that ended nothing means nothing.
                let Some(range) = self.ranges.iter_mut().find(ends) else { return is_last };
                range.kept |= range.range.first < first;
                range.kept || is_last
            }
        }
    }

    /// Whether a batch is data of an aborted transaction.
    pub(super) fn is_aborted(&self, batch: &BatchHeader) -> bool {
        let base = Offset(batch.base_offset);
        self.ranges.iter().any(|range| range.holds(batch, base))
    }

    /// Notes that something of a batch was copied, after compaction.
    pub(super) fn copied(&mut self, batch: &BatchHeader) {
        if batch.is_transactional() && !batch.is_control() {
            self.kept.insert(batch.producer_id, true);
        }
    }

    /// What became of the aborted ranges. One that ends behind the pass goes on as it is.
    pub(super) fn finish(self) -> Outcome {
        let mut outcome = Outcome::default();
        let Bounds { first, end, .. } = self.bounds;
        for Range { range, kept } in self.ranges {
            if range.last >= end {
                continue;
            }
            // Data of before the pass may be there still.
            if kept || range.first < first {
                outcome.kept.push(range);
            } else {
                outcome.gone.push(range);
            }
        }
        outcome
    }

    fn aborted(&mut self, batch: &BatchHeader, base: Offset) -> Option<&mut Range> {
        self.ranges.iter_mut().find(|range| range.holds(batch, base))
    }
}

impl Range {
    fn holds(&self, batch: &BatchHeader, base: Offset) -> bool {
        let AbortedRange { producer_id, first, last, .. } = self.range;
        batch.is_transactional()
            && !batch.is_control()
            && batch.producer_id == producer_id
            && first <= base
            && base <= last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: i16 = 0x10;
    const CONTROL: i16 = 0x30;

    fn header(offset: i64, producer_id: i64, attributes: i16) -> BatchHeader {
        BatchHeader {
            base_offset: offset,
            leader_epoch: 0,
            attributes,
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            record_count: 1,
        }
    }

    fn range(producer_id: i64, first: i64, last: i64) -> AbortedRange {
        AbortedRange { producer_id, first: Offset(first), last: Offset(last), has_marker: true }
    }

    /// `.` plain, `a`-`c` data of a producer, `A`-`C` its commit, `X`-`Z` its abort. What stays.
    fn check(
        first: i64,
        log_start: i64,
        log_end: i64,
        log: &str,
        aborted: &[AbortedRange],
    ) -> String {
        let (bounds_end, mut kept) = (first + log.len() as i64, String::new());
        let bounds = Bounds {
            first: Offset(first),
            end: Offset(bounds_end),
            log_start: Offset(log_start),
            log_end: Offset(log_end),
        };
        let mut survivors = Survivors::new(bounds, aborted.to_vec());
        for (n, what) in log.chars().enumerate() {
            let offset = first + n as i64;
            let (batch, marker) = match what {
                '.' => (header(offset, -1, 0), None),
                'a'..='c' => (header(offset, what as i64, DATA), None),
                'A'..='C' => {
                    let producer = what.to_ascii_lowercase() as i64;
                    (header(offset, producer, CONTROL), Some(TransactionOutcome::Commit))
                }
                _ => {
                    let producer = i64::from(what as u8 - b'X' + b'a');
                    (header(offset, producer, CONTROL), Some(TransactionOutcome::Abort))
                }
            };
            if survivors.keeps(&batch, marker) {
                survivors.copied(&batch);
                kept.push(what);
            }
        }
        let Outcome { kept: ranges, gone } = survivors.finish();
        format!("{kept} {} {}", ranges.len(), gone.len())
    }

    #[test]
    fn what_stays() {
        let a = i64::from(b'a');
        let end = 1000;
        // Plain data above the log's start.
        assert_eq!(check(0, 2, end, "....", &[]), ".. 0 0");
        // A committed transaction keeps its marker, an aborted one nothing.
        assert_eq!(check(0, 0, end, "a.aA", &[]), "a.aA 0 0");
        assert_eq!(check(0, 0, end, "a.aX", &[range(a, 0, 3)]), ". 0 1");
        // Of another producer, or of another transaction of the same one.
        assert_eq!(check(0, 0, end, "abXaA", &[range(a, 0, 2)]), "baA 0 1");
        // It began before the pass: the marker and the range stay.
        assert_eq!(check(10, 0, end, "aX.", &[range(a, 4, 11)]), "X. 1 0");
        // Its marker is behind the pass: the data goes, the range goes on elsewhere.
        assert_eq!(check(10, 0, end, "a.", &[range(a, 10, 99)]), ". 0 0");
        // A marker without anything.
        assert_eq!(check(0, 0, end, ".A.X", &[]), ".. 0 0");
        // The last batch stays, whatever it is.
        assert_eq!(check(0, 0, 4, "..aX", &[range(a, 2, 3)]), "..X 0 1");
        assert_eq!(check(0, 0, 3, "..a", &[range(a, 2, 2)]), "..a 1 0");
        assert_eq!(check(0, 3, 3, "...", &[]), ". 0 0");
    }
}
