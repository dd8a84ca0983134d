//! What is remembered of ranges that are no longer in memory.

use super::{AbortedRange, Offset, Position};

/// Ranges of one partition whose markers are in one segment. None of them began before it, unless it is a cold one.
#[derive(Clone, Debug)]
pub(in crate::journal) struct Spilled {
    /// `first` of the segment.
    pub(in crate::journal) segment: Position,
    /// What ended before was forgotten already.
    since: Offset,
    /// Where the first of them begins, and the last one ends.
    lowest: Offset,
    last: Offset,
    crc: u32,
    /// Markers in this segment of ranges that stay in memory, because they began before it.
    elsewhere: Box<[Offset]>,
}

impl Spilled {
    /// Of ranges in the order of their ends; None if there is none.
    pub(super) fn of(
        segment: Position,
        since: Offset,
        ranges: &[AbortedRange],
        elsewhere: Vec<Offset>,
    ) -> Option<Self> {
        let lowest = ranges.iter().map(|range| range.first).min()?;
        let last = ranges.last()?.last;
        let elsewhere = elsewhere.into_boxed_slice();
        Some(Self { segment, since, lowest, last, crc: crc(ranges), elsewhere })
    }

    /// Whether one of them may have an offset from `from` up to, not including, `to`.
    pub(in crate::journal) fn may_overlap(&self, from: Offset, to: Offset) -> bool {
        from <= self.last && self.lowest < to
    }

    /// The ranges, from all that the segment tells; None if these are others.
    pub(in crate::journal) fn accept(&self, told: &[AbortedRange]) -> Option<Vec<AbortedRange>> {
        let is_one = |range: &&AbortedRange| {
            let is_elsewhere = self.elsewhere.binary_search(&range.last).is_ok();
            range.has_marker && range.last >= self.since && !is_elsewhere
        };
        let mut ranges: Vec<_> = told.iter().filter(is_one).copied().collect();
        ranges.sort_by_key(|range| range.last);
        (crc(&ranges) == self.crc).then_some(ranges)
    }
}

fn crc(ranges: &[AbortedRange]) -> u32 {
    // Their number tells none from one of zeros.
    let count = (ranges.len() as u64).to_le_bytes();
    ranges.iter().fold(crc32c::crc32c(&count), |crc, range| {
        [range.producer_id, range.first.0, range.last.0]
            .iter()
            .fold(crc, |crc, number| crc32c::crc32c_append(crc, &number.to_le_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(producer_id: i64, first: i64, last: i64) -> AbortedRange {
        AbortedRange { producer_id, first: Offset(first), last: Offset(last), has_marker: true }
    }

    #[test]
    fn only_what_was_spilled_is_accepted() {
        let ranges = [range(1, 10, 12), range(2, 11, 20)];
        let elsewhere = vec![Offset(15)];
        let spilled = Spilled::of(Position(0), Offset(12), &ranges, elsewhere).unwrap();
        // One that began before, as this segment alone tells it; one that was forgotten; in any order.
        let others = [range(3, 14, 15), range(1, 5, 8)];
        let told = [ranges[1], others[0], others[1], ranges[0]];
        assert_eq!(spilled.accept(&told), Some(ranges.to_vec()));
        for wrong in [
            &[][..],
            &ranges[..1],
            &[ranges[0], range(2, 11, 21)],
            &[ranges[0], range(4, 11, 20)],
            &[ranges[0], ranges[1], range(0, 0, 13)],
        ] {
            assert_eq!(spilled.accept(wrong), None, "{wrong:?}");
        }
        for (from, to, may) in
            [(0, 10, false), (0, 11, true), (20, 21, true), (21, 99, false), (13, 14, true)]
        {
            assert_eq!(spilled.may_overlap(Offset(from), Offset(to)), may, "{from} {to}");
        }
        assert!(Spilled::of(Position(0), Offset(0), &[], Vec::new()).is_none());
    }
}
