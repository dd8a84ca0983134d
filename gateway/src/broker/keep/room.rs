//! Which log starts have to move so that segments can leave a full log, and whether that is worth it. No file, no clock.
//!
//! Segments leave from the oldest on. One in which a topic holds data that has to stay can only go if that is copied
//! elsewhere; above a limit of copied bytes per freed one it stays, and whoever waits for space is blocked. Cold segments
//! come first, and leave in any order: what has to stay in one is in nobody's way.

use std::collections::BTreeMap;

use crate::journal::{Holding, Offset, PartitionId};

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// New log starts.
    pub(super) starts: BTreeMap<PartitionId, Offset>,
    /// Segments that nothing but data to be copied holds afterwards.
    pub(super) segments: usize,
    /// Who keeps more from being freed, if that was wanted.
    pub(super) blocked_by: Option<PartitionId>,
}

/// Makes room for `wanted` segments. `limit` tells how far the log start of a partition may move for that; `copied_per_freed`
/// is how many bytes may be copied to free one.
pub(super) fn plan(
    holdings: &[Holding],
    wanted: u64,
    copied_per_freed: u64,
    limit: impl Fn(PartitionId) -> Offset,
) -> Plan {
    let mut plan = Plan::default();
    let (mut total, mut copied) = (0, 0);
    let mut starts = BTreeMap::new();
    for (number, holding) in holdings.iter().enumerate() {
        let (mut kept, mut blocked_by) = (0, None);
        for held in &holding.live {
            if held.end <= limit(held.partition) {
                starts.insert(held.partition, held.end);
            } else {
                kept += held.bytes.unwrap_or(holding.bytes);
                blocked_by = Some(held.partition);
            }
        }
        let gains = kept <= holding.bytes.saturating_sub(kept).saturating_mul(copied_per_freed);
        if holding.is_cold && !gains {
            continue;
        }
        total += holding.bytes;
        copied += kept;
        let freed = total.saturating_sub(copied);
        if copied <= freed.saturating_mul(copied_per_freed) {
            plan = Plan { starts: starts.clone(), segments: number + 1, blocked_by: None };
            if freed >= wanted.saturating_mul(holding.bytes) {
                return plan;
            }
        } else {
            plan.blocked_by = plan.blocked_by.or(blocked_by);
            if copied_per_freed == 0 {
                return plan;
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Held;

    const KEPT: u32 = 9;
    const SEGMENT: u64 = 1000;

    /// A segment with (partition, end, bytes).
    fn holding(live: &[(u32, i64, u64)]) -> Holding {
        let held = |&(partition, end, bytes): &(u32, i64, u64)| Held {
            partition: PartitionId(partition),
            end: Offset(end),
            bytes: Some(bytes),
        };
        Holding { bytes: SEGMENT, is_cold: false, live: live.iter().map(held).collect() }
    }

    fn cold(live: &[(u32, i64, u64)]) -> Holding {
        Holding { is_cold: true, ..holding(live) }
    }

    /// Partition 9 keeps everything, 8 what is behind offset 50, the others nothing.
    fn limit(partition: PartitionId) -> Offset {
        match partition.0 {
            KEPT => Offset(0),
            8 => Offset(50),
            _ => Offset(i64::MAX),
        }
    }

    fn check(
        holdings: &[Holding],
        wanted: u64,
        copied_per_freed: u64,
        expect: (&[(u32, i64)], usize, Option<u32>),
    ) {
        let found = plan(holdings, wanted, copied_per_freed, limit);
        let starts: Vec<_> = found.starts.iter().map(|(id, start)| (id.0, start.0)).collect();
        let found = (&starts[..], found.segments, found.blocked_by.map(|id| id.0));
        assert_eq!(found, expect, "{holdings:?}, {wanted} wanted");
    }

    #[test]
    fn no_more_goes_than_is_wanted() {
        let holdings = [
            holding(&[(1, 10, 900), (2, 5, 50)]),
            holding(&[(1, 20, 900)]),
            holding(&[(1, 30, 900)]),
        ];
        check(&holdings, 1, 0, (&[(1, 10), (2, 5)], 1, None));
        check(&holdings, 2, 0, (&[(1, 20), (2, 5)], 2, None));
        check(&holdings, 9, 0, (&[(1, 30), (2, 5)], 3, None));
        check(&[], 1, 0, (&[], 0, None));
    }

    #[test]
    fn what_stays_holds_its_segment_and_all_behind_it() {
        let free = || holding(&[(1, 10, 900)]);
        let held = || holding(&[(1, 20, 10), (KEPT, 3, 1)]);
        check(&[held(), free()], 1, 0, (&[], 0, Some(KEPT)));
        check(&[free(), held(), free()], 2, 0, (&[(1, 10)], 1, Some(KEPT)));
        // Unreplicated from 50 on.
        check(&[holding(&[(8, 50, 9)]), holding(&[(8, 51, 9)])], 2, 0, (&[(8, 50)], 1, Some(8)));
        // Nothing live at all: it is on its way.
        check(&[holding(&[]), held()], 1, 0, (&[], 1, None));
    }

    #[test]
    fn what_stays_in_a_cold_segment_is_in_nobodys_way() {
        let (kept, free) = (|| cold(&[(KEPT, 3, 1000)]), || holding(&[(1, 20, 900)]));
        check(&[kept(), free()], 1, 2, (&[(1, 20)], 2, None));
        // Nobody's records go for nothing.
        check(&[cold(&[(1, 10, 10), (KEPT, 3, 990)])], 1, 2, (&[], 0, None));
        check(&[cold(&[(1, 10, 10), (KEPT, 3, 990)]), free()], 1, 2, (&[(1, 20)], 2, None));
        // All of it, or enough of it to copy the rest.
        check(&[cold(&[(1, 10, 1000)]), free()], 1, 2, (&[(1, 10)], 1, None));
        check(&[kept(), cold(&[(1, 10, 500), (KEPT, 6, 500)])], 1, 2, (&[(1, 10)], 2, None));
    }

    #[test]
    fn a_freed_byte_costs_at_most_two_copied_ones() {
        // 600 copied to free 400: fine. 700 for 300: not.
        check(&[holding(&[(1, 10, 400), (KEPT, 3, 600)])], 1, 2, (&[(1, 10)], 1, None));
        check(&[holding(&[(1, 10, 300), (KEPT, 3, 700)])], 1, 2, (&[], 0, Some(KEPT)));
        // What is too dear alone is not with the next one.
        let dear = || holding(&[(1, 10, 300), (KEPT, 3, 700)]);
        check(&[dear(), holding(&[(1, 20, 900)])], 1, 2, (&[(1, 20)], 2, None));
        // Not counted yet: all of the segment might be its own.
        let mut unknown = holding(&[(1, 10, 1), (KEPT, 3, 0)]);
        unknown.live[1].bytes = None;
        check(&[unknown], 1, 2, (&[], 0, Some(KEPT)));
    }
}
