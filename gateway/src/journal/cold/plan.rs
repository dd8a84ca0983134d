//! What to clean, and whether it is worth its cost. No I/O.
//!
//! Only the oldest segments can go, in order. A segment that is all alive may stand before others that are nearly
//! dead: what counts is the cost of the whole way. Cold segments next to each other are merged on the same terms.

use std::ops::Range;

/// Bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// That are freed when it goes.
    pub(super) file_bytes: u64,
    /// That will have to be copied before, as far as can be told.
    pub(super) live_bytes: u64,
    /// That may have to be copied.
    pub(super) most_bytes: u64,
}

/// What to copy into one cold segment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) sources: Sources,
    /// On the whole way, of which this may be the first step.
    copied_bytes: u64,
    freed_bytes: u64,
}

/// Of the candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sources {
    /// So many of the oldest segments.
    Oldest(usize),
    /// Neighbours among the cold ones.
    Cold(Range<usize>),
}

/// Copied bytes per freed byte: above this nothing is cleaned, full or not.
pub(super) const MAX_COST: f64 = 2.0;
/// As long as there is space, copying is put off until it is this cheap: every copy wears the medium.
pub(super) const IDLE_COST: f64 = 0.5;

impl Plan {
    /// Copied bytes per freed byte.
    pub(super) fn cost(&self) -> f64 {
        if self.freed_bytes == 0 {
            return f64::INFINITY;
        }
        self.copied_bytes as f64 / self.freed_bytes as f64
    }

    /// The cheapest, if it costs at most so much. `capacity` is what one cold segment takes.
    pub(super) fn cheapest(
        oldest: &[Candidate],
        cold: &[Candidate],
        capacity: u64,
        max_cost: f64,
    ) -> Option<Self> {
        let plans = Self::oldest(oldest, capacity).into_iter().chain(Self::cold(cold, capacity));
        plans.filter(|plan| plan.cost() <= max_cost).min_by(|a, b| a.cost().total_cmp(&b.cost()))
    }

    /// The cheapest way through the oldest segments.
    pub(super) fn oldest(oldest: &[Candidate], capacity: u64) -> Option<Self> {
        let mut best: Option<Self> = None;
        let (mut copied_bytes, mut freed_bytes, mut most_bytes) = (0, 0, 0);
        let mut first_step = 0;
        for (index, candidate) in oldest.iter().enumerate() {
            copied_bytes += candidate.live_bytes;
            freed_bytes += candidate.freed();
            most_bytes += candidate.most_bytes;
            // One that alone is too much is copied alone.
            if most_bytes <= capacity || index == 0 {
                first_step = index + 1;
            }
            let plan = Self { sources: Sources::Oldest(first_step), copied_bytes, freed_bytes };
            if best.as_ref().is_none_or(|best| plan.cost() <= best.cost()) {
                best = Some(plan);
            }
        }
        best
    }

    /// The cheapest merge of neighbours, or a cold segment alone that is copied without what died in it.
    pub(super) fn cold(cold: &[Candidate], capacity: u64) -> Option<Self> {
        let mut best: Option<Self> = None;
        for from in 0..cold.len() {
            let (mut copied_bytes, mut freed_bytes, mut most_bytes) = (0, 0, 0);
            for (index, candidate) in cold.iter().enumerate().skip(from) {
                copied_bytes += candidate.live_bytes;
                freed_bytes += candidate.freed();
                most_bytes += candidate.most_bytes;
                if most_bytes > capacity && index > from {
                    break;
                }
                let sources = Sources::Cold(from..index + 1);
                let plan = Self { sources, copied_bytes, freed_bytes };
                if best.as_ref().is_none_or(|best| plan.cost() < best.cost()) {
                    best = Some(plan);
                }
            }
        }
        best
    }
}

impl Candidate {
    fn freed(self) -> u64 {
        self.file_bytes.saturating_sub(self.live_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(live: &[u64]) -> Vec<Candidate> {
        let candidate =
            |&live_bytes: &u64| Candidate { file_bytes: 100, live_bytes, most_bytes: live_bytes };
        live.iter().map(candidate).collect()
    }

    #[test]
    fn the_oldest_go_as_far_as_it_pays() {
        // Live bytes of 100 each -> segments of the first step, cost.
        let cases: [(&[u64], usize, f64); 8] = [
            (&[50], 1, 1.0),
            (&[0, 0, 0], 3, 0.0),
            (&[100, 0], 2, 1.0),
            (&[100, 100, 0, 0], 1, 1.0),
            (&[10, 100], 1, 10.0 / 90.0),
            (&[100, 100, 100], 1, f64::INFINITY),
            (&[90, 20, 20, 90], 1, 130.0 / 170.0),
            (&[40, 40, 40], 2, 120.0 / 180.0),
        ];
        for (live, steps, cost) in cases {
            let plan = Plan::oldest(&candidates(live), 100).unwrap();
            assert_eq!(plan.sources, Sources::Oldest(steps), "{live:?}");
            assert!((plan.cost() - cost).abs() < 1e-9 || plan.cost() == cost, "{live:?}");
        }
        assert_eq!(Plan::oldest(&[], 100), None);
    }

    #[test]
    fn a_way_that_was_begun_is_gone_to_its_end() {
        // All alive, then nearly dead: each step leaves a cheaper way.
        let mut left = candidates(&[100, 100, 10, 10, 10]);
        let mut cost = 2.0;
        while !left.is_empty() {
            let plan = Plan::oldest(&left, 100).unwrap();
            assert!(plan.cost() <= cost, "{left:?}");
            cost = plan.cost();
            let Sources::Oldest(count) = plan.sources else { unreachable!() };
            left.drain(..count);
        }
    }

    #[test]
    fn above_two_copied_bytes_for_a_freed_one_nothing_is_cleaned() {
        let cheapest = |live: &[u64], cold: &[u64]| {
            let (live, cold) = (candidates(live), candidates(cold));
            Plan::cheapest(&live, &cold, 100, MAX_COST).map(|plan| plan.sources)
        };
        assert_eq!(cheapest(&[66], &[]), Some(Sources::Oldest(1)));
        assert_eq!(cheapest(&[67], &[]), None);
        assert_eq!(cheapest(&[67, 65], &[]), Some(Sources::Oldest(1)));
        assert_eq!(cheapest(&[], &[67]), None);
        assert_eq!(cheapest(&[60], &[50]), Some(Sources::Cold(0..1)));
        assert_eq!(cheapest(&[40], &[50]), Some(Sources::Oldest(1)));
        // Neighbours that fit into one, and only those.
        assert_eq!(cheapest(&[], &[90, 20, 30, 90]), Some(Sources::Cold(1..2)));
        assert_eq!(Plan::cold(&candidates(&[99, 1, 0]), 100).unwrap().sources, Sources::Cold(2..3));
    }
}
