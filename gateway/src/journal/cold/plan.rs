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

/// What a cold segment is, whatever is in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Bytes of batches that one takes.
    pub(super) capacity: u64,
    /// Bytes of its file beside them. Without these a copy of what is all alive would look like a gain.
    pub(super) overhead: u64,
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
/// So many neighbours that fit into one are merged whatever it costs: each cold segment costs memory and a file. What lives
/// on is copied once more each time that what is there of it grows by this factor.
const MANY: usize = 8;

impl Plan {
    /// Copied bytes per freed byte.
    pub(super) fn cost(&self) -> f64 {
        if self.freed_bytes == 0 {
            return f64::INFINITY;
        }
        self.copied_bytes as f64 / self.freed_bytes as f64
    }

    /// The cheapest, if it costs at most so much.
    pub(super) fn cheapest(
        oldest: &[Candidate],
        cold: &[Candidate],
        shape: Shape,
        max_cost: f64,
    ) -> Option<Self> {
        let plans = Self::oldest(oldest, shape).into_iter().chain(Self::cold(cold, shape));
        plans.filter(|plan| plan.cost() <= max_cost).min_by(|a, b| a.cost().total_cmp(&b.cost()))
    }

    /// The cheapest way through the oldest segments.
    pub(super) fn oldest(oldest: &[Candidate], shape: Shape) -> Option<Self> {
        let mut best: Option<Self> = None;
        let mut way = Way::default();
        let mut first_step = 0;
        for (index, candidate) in oldest.iter().enumerate() {
            way.add(*candidate);
            // One that alone is too much is copied alone.
            if way.most_bytes <= shape.capacity || index == 0 {
                first_step = index + 1;
            }
            let plan = way.plan(Sources::Oldest(first_step), shape);
            if best.as_ref().is_none_or(|best| plan.cost() <= best.cost()) {
                best = Some(plan);
            }
        }
        best
    }

    /// The cheapest merge of neighbours, or a cold segment alone that is copied without what died in it.
    pub(super) fn cold(cold: &[Candidate], shape: Shape) -> Option<Self> {
        let mut best: Option<Self> = None;
        for from in 0..cold.len() {
            let mut way = Way::default();
            for (index, candidate) in cold.iter().enumerate().skip(from) {
                way.add(*candidate);
                if way.most_bytes > shape.capacity && index > from {
                    break;
                }
                let plan = way.plan(Sources::Cold(from..index + 1), shape);
                if best.as_ref().is_none_or(|best| plan.cost() < best.cost()) {
                    best = Some(plan);
                }
            }
        }
        best
    }

    /// The smallest of many neighbours that are all small, and of about one size unless there are very many.
    pub(super) fn fewer(cold: &[Candidate], shape: Shape) -> Option<Self> {
        let largest = shape.capacity / MANY as u64;
        let is_any = cold.len() > MANY * MANY;
        let plans = cold.windows(MANY).enumerate().filter_map(|(from, group)| {
            let sizes = group.iter().map(|candidate| candidate.most_bytes);
            let (most, total) = (sizes.clone().max()?, sizes.sum::<u64>());
            if most > largest || !is_any && most > total / MANY as u64 * 2 {
                return None;
            }
            let mut way = Way::default();
            group.iter().for_each(|candidate| way.add(*candidate));
            Some(way.plan(Sources::Cold(from..from + MANY), shape))
        });
        plans.min_by_key(|plan| plan.copied_bytes)
    }
}

/// Candidates next to each other.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    file_bytes: u64,
    live_bytes: u64,
    most_bytes: u64,
}

impl Way {
    fn add(&mut self, candidate: Candidate) {
        self.file_bytes += candidate.file_bytes;
        self.live_bytes += candidate.live_bytes;
        self.most_bytes += candidate.most_bytes;
    }

    fn plan(self, sources: Sources, shape: Shape) -> Plan {
        let Self { file_bytes, live_bytes: copied_bytes, .. } = self;
        let stays = if copied_bytes > 0 { copied_bytes + shape.overhead } else { 0 };
        Plan { sources, copied_bytes, freed_bytes: file_bytes.saturating_sub(stays) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { capacity: 100, overhead: 0 };

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
            let plan = Plan::oldest(&candidates(live), SHAPE).unwrap();
            assert_eq!(plan.sources, Sources::Oldest(steps), "{live:?}");
            assert!((plan.cost() - cost).abs() < 1e-9 || plan.cost() == cost, "{live:?}");
        }
        assert_eq!(Plan::oldest(&[], SHAPE), None);
    }

    #[test]
    fn a_way_that_was_begun_is_gone_to_its_end() {
        // All alive, then nearly dead: each step leaves a cheaper way.
        let mut left = candidates(&[100, 100, 10, 10, 10]);
        let mut cost = 2.0;
        while !left.is_empty() {
            let plan = Plan::oldest(&left, SHAPE).unwrap();
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
            Plan::cheapest(&live, &cold, SHAPE, MAX_COST).map(|plan| plan.sources)
        };
        assert_eq!(cheapest(&[66], &[]), Some(Sources::Oldest(1)));
        assert_eq!(cheapest(&[67], &[]), None);
        assert_eq!(cheapest(&[67, 65], &[]), Some(Sources::Oldest(1)));
        assert_eq!(cheapest(&[], &[67]), None);
        assert_eq!(cheapest(&[60], &[50]), Some(Sources::Cold(0..1)));
        assert_eq!(cheapest(&[40], &[50]), Some(Sources::Oldest(1)));
        // Neighbours that fit into one, and only those.
        assert_eq!(cheapest(&[], &[90, 20, 30, 90]), Some(Sources::Cold(1..2)));
        assert_eq!(
            Plan::cold(&candidates(&[99, 1, 0]), SHAPE).unwrap().sources,
            Sources::Cold(2..3)
        );
    }

    #[test]
    fn there_are_never_many_small_ones() {
        let fewer = |live: &[u64]| Plan::fewer(&candidates(live), SHAPE).map(|plan| plan.sources);
        assert_eq!(fewer(&[1; 7]), None);
        assert_eq!(fewer(&[1; 8]), Some(Sources::Cold(0..8)));
        assert_eq!(fewer(&[12, 12, 1, 1, 1, 1, 1, 1, 1, 1, 9]), Some(Sources::Cold(2..10)));
        assert_eq!(fewer(&[12, 1, 1, 1, 1, 1, 1, 1]), None, "one is much larger");
        assert_eq!(fewer(&[[12, 1, 1, 1, 1, 1, 1]; 10].concat()), Some(Sources::Cold(1..9)));
        assert_eq!(fewer(&[1, 1, 1, 1, 13, 1, 1, 1, 1]), None, "the one between them is large");
        // However much there is, what is copied is a small multiple of it.
        let (mut cold, mut copied) = (Vec::new(), 0);
        for _ in 0..10_000 {
            cold.extend([1]);
            let shape = Shape { capacity: 1000, overhead: 0 };
            while let Some(plan) = Plan::fewer(&candidates(&cold), shape) {
                let Sources::Cold(range) = plan.sources else { unreachable!() };
                copied += plan.copied_bytes;
                let merged = cold.drain(range.clone()).sum();
                cold.insert(range.start, merged);
            }
        }
        assert!(cold.len() < 10_000 / 125 + 64, "{}", cold.len());
        assert!(copied < 10_000 * 5, "{copied}");
    }

    #[test]
    fn what_a_file_takes_in_any_case_is_not_gained_by_copying_it() {
        let small = |live_bytes| Candidate {
            file_bytes: 30 + live_bytes,
            live_bytes,
            most_bytes: live_bytes,
        };
        let shape = Shape { capacity: 100, overhead: 30 };
        assert_eq!(Plan::cold(&[small(10)], shape).unwrap().cost(), f64::INFINITY);
        // The more of them, the more is gained.
        let plan = Plan::cold(&[small(10), small(10), small(10)], shape).unwrap();
        assert_eq!((plan.sources.clone(), plan.cost()), (Sources::Cold(0..3), 0.5));
        assert_eq!(Plan::oldest(&[small(70)], shape).unwrap().cost(), f64::INFINITY);
        // Where nothing is left there is no file.
        assert_eq!(Plan::cold(&[small(0)], shape).unwrap().cost(), 0.0);
    }
}
