//! The aborted ranges of one partition that are in memory. Durable ones only.

use super::{AbortedRange, Offset, Spilled};
use crate::journal::index::Run;

/// Ranges whose lowest first offset is kept: a query looks into a block only if something in it may
/// match.
const BLOCK_RANGES: usize = 64;

/// Ranges in the order of their last offsets.
#[derive(Debug, Default)]
pub(in crate::journal) struct Aborted {
    ranges: Vec<AbortedRange>,
    /// Lowest first offset of each block: a transaction may have begun long before it was aborted.
    lowest: Vec<Offset>,
}

impl Aborted {
    /// Adds a range, as a rule the one that ends last: markers become durable in order. Ranges
    /// given up at once may share an end.
    pub(in crate::journal) fn insert(&mut self, range: AbortedRange) {
        let at = self.ranges.partition_point(|known| known.last <= range.last);
        self.ranges.insert(at, range);
        self.index_from(at / BLOCK_RANGES);
    }

    /// Forgets a range that nothing is left of.
    pub(in crate::journal) fn remove(&mut self, range: &AbortedRange) {
        let at = self.ranges.partition_point(|known| known.last < range.last);
        let same = self.ranges.iter().skip(at).take_while(|known| known.last == range.last);
        if let Some(further) = same.into_iter().position(|known| known == range) {
            self.ranges.remove(at + further);
            self.index_from((at + further) / BLOCK_RANGES);
        }
    }

    /// Forgets what lies before the log's start.
    pub(in crate::journal) fn forget_before(&mut self, start: Offset) {
        let dead = self.ranges.partition_point(|known| known.last < start);
        // Not one by one: the rest moves each time.
        if dead >= BLOCK_RANGES || dead == self.ranges.len() {
            self.ranges.drain(..dead);
            self.index_from(0);
        }
    }

    /// Ranges with an offset from `from` up to, not including, `to`, by their last offsets.
    pub(in crate::journal) fn overlapping(&self, from: Offset, to: Offset) -> Vec<AbortedRange> {
        let mut found = Vec::new();
        let mut at = self.ranges.partition_point(|known| known.last < from);
        while at < self.ranges.len() {
            let block = at / BLOCK_RANGES;
            let end = ((block + 1) * BLOCK_RANGES).min(self.ranges.len());
            if self.lowest.get(block).is_some_and(|&lowest| lowest < to) {
                let within = self.ranges.get(at..end).unwrap_or_default();
                found.extend(within.iter().filter(|known| known.first < to));
            }
            at = end;
        }
        found
    }

    /// Those without a marker that have an offset from `from` up to, not including, `to`.
    pub(in crate::journal) fn unmarked(&self, from: Offset, to: Offset) -> Vec<AbortedRange> {
        let mut found = self.overlapping(from, to);
        found.retain(|range| !range.has_marker);
        found
    }

    pub(in crate::journal) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Lets go of what a segment that was left tells by itself; None if that is nothing. What ended before `since` means
    /// nothing any more.
    pub(in crate::journal) fn spill(&mut self, run: &Run, since: Offset) -> Option<Spilled> {
        let from = self.ranges.partition_point(|known| known.last < run.first);
        let to = self.ranges.partition_point(|known| known.last < run.end);
        let within = self.ranges.get(from..to).unwrap_or_default();
        let marked = within.iter().filter(|range| range.has_marker && range.last >= since);
        let (gone, elsewhere): (Vec<AbortedRange>, Vec<_>) =
            marked.partition(|range| run.segment.is_cold() || range.first >= run.first);
        let elsewhere = elsewhere.into_iter().map(|range| range.last).collect();
        let spilled = Spilled::of(run.segment, since, &gone, elsewhere)?;
        let mut gone = gone.iter().peekable();
        self.ranges.retain(|range| gone.next_if_eq(&range).is_none());
        self.index_from(from / BLOCK_RANGES);
        Some(spilled)
    }

    fn index_from(&mut self, block: usize) {
        self.lowest.truncate(block);
        let rest = self.ranges.get(block * BLOCK_RANGES..).unwrap_or_default();
        let lowest = |block: &[AbortedRange]| block.iter().map(|range| range.first).min();
        self.lowest.extend(rest.chunks(BLOCK_RANGES).filter_map(lowest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(producer_id: i64, first: i64, last: i64) -> AbortedRange {
        AbortedRange { producer_id, first: Offset(first), last: Offset(last), has_marker: true }
    }

    #[test]
    fn every_query_equals_a_plain_filter() {
        let mut aborted = Aborted::default();
        let mut list = Vec::new();
        for n in 0..300i64 {
            // One in ten is long, and two in a row may end together.
            let length = if n % 10 == 0 { 200 } else { n % 7 };
            let last = 1000 + n / 2 * 8;
            list.push(range(n, last - length, last));
            aborted.insert(range(n, last - length, last));
        }
        let check = |aborted: &Aborted, list: &[AbortedRange]| {
            for from in (700..2300).step_by(13) {
                for to in (from..2300).step_by(101) {
                    let expected: Vec<_> = list
                        .iter()
                        .filter(|it| it.last >= Offset(from) && it.first < Offset(to))
                        .copied()
                        .collect();
                    assert_eq!(aborted.overlapping(Offset(from), Offset(to)), expected);
                }
            }
        };
        check(&aborted, &list);
        // Late ones find their place.
        let late = range(-1, 5, 1500);
        aborted.insert(late);
        list.insert(list.partition_point(|it| it.last <= late.last), late);
        check(&aborted, &list);
        // What is before the start may be forgotten, the rest stays.
        for start in [1001, 1300, 1700] {
            aborted.forget_before(Offset(start));
            assert!(aborted.ranges.iter().filter(|it| it.last < Offset(start)).count() < 64);
            let expected: Vec<_> =
                list.iter().filter(|it| it.last >= Offset(start)).copied().collect();
            assert_eq!(aborted.overlapping(Offset(start), Offset(i64::MAX)), expected);
        }
        aborted.forget_before(Offset(9999));
        assert_eq!(aborted.overlapping(Offset(0), Offset(i64::MAX)), []);
    }
}
