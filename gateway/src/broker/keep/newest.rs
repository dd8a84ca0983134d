//! Topics that refuse new records for good when the storage is full: who was told what, so that it is never silent.
//!
//! An episode begins with a gap record, durable before the first record is refused; until it is, writers are asked to try
//! again. It ends with one that counts what was refused, before the next record that is taken. See [`super::Gap`].

use std::collections::BTreeMap;

use super::{Gap, GapReason};
use crate::journal::{Offset, PartitionId};

/// Episodes by partition.
#[derive(Debug, Default)]
pub(in crate::broker) struct Newest {
    episodes: BTreeMap<PartitionId, Episode>,
    /// Since start.
    refused: u64,
}

/// New records of a partition are being refused.
#[derive(Debug)]
struct Episode {
    /// Where the gap record that begins it is.
    begun_at: Offset,
    refused: u64,
}

/// What to do with records for which there is no space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Step {
    /// Append a gap record first.
    Begin,
    /// Ask to try again: it is not durable yet.
    Wait,
    /// Refuse them.
    Refuse,
}

impl Newest {
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.episodes.is_empty()
    }

    /// What to do with records of a partition that is durable up to an offset.
    pub(in crate::broker) fn step(&self, partition: PartitionId, durable_end: Offset) -> Step {
        match self.episodes.get(&partition) {
            None => Step::Begin,
            Some(episode) if durable_end > episode.begun_at => Step::Refuse,
            Some(_) => Step::Wait,
        }
    }

    /// The gap record that begins an episode was appended at an offset.
    pub(in crate::broker) fn begin(&mut self, partition: PartitionId, begun_at: Offset) {
        tracing::warn!(
            partition = partition.0,
            "storage is full: new records are refused for good"
        );
        self.episodes.insert(partition, Episode { begun_at, refused: 0 });
    }

    /// So many records were refused.
    pub(in crate::broker) fn refuse(&mut self, partition: PartitionId, records: u64) {
        self.refused += records;
        if let Some(episode) = self.episodes.get_mut(&partition) {
            episode.refused += records;
        }
    }

    /// The gap record that is due before the next record of a partition, which ends at an offset.
    pub(in crate::broker) fn end_of(&self, partition: PartitionId, end: Offset) -> Option<Gap> {
        let episode = self.episodes.get(&partition)?;
        let reason = GapReason::OverflowNewest;
        Some(Gap { from: end, to: end, count: episode.refused, reason })
    }

    /// That gap record was appended, or nothing was refused: the episode is over.
    pub(in crate::broker) fn end(&mut self, partition: PartitionId) {
        if let Some(episode) = self.episodes.remove(&partition) {
            let refused = episode.refused;
            tracing::warn!(partition = partition.0, refused, "storage has space again");
        }
    }

    /// Forgets partitions that were deleted.
    pub(in crate::broker) fn forget(&mut self, partitions: &[PartitionId]) {
        self.episodes.retain(|partition, _| !partitions.contains(partition));
    }

    /// Records refused since start.
    pub(in crate::broker) fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_refused_before_the_gap_record_is_durable() {
        const P: PartitionId = PartitionId(3);
        let mut newest = Newest::default();
        assert_eq!(newest.step(P, Offset(7)), Step::Begin);
        newest.begin(P, Offset(7));
        assert_eq!(newest.step(P, Offset(7)), Step::Wait);
        assert_eq!(newest.step(P, Offset(8)), Step::Refuse);
        assert_eq!(newest.step(PartitionId(4), Offset(8)), Step::Begin);
        newest.refuse(P, 5);
        newest.refuse(P, 2);
        let gap = newest.end_of(P, Offset(8)).expect("begun");
        assert_eq!((gap.from, gap.to, gap.count), (Offset(8), Offset(8), 7));
        newest.end(P);
        assert!(newest.is_empty() && newest.end_of(P, Offset(9)).is_none());
        assert_eq!(newest.refused(), 7);
        newest.begin(P, Offset(9));
        newest.forget(&[P]);
        assert!(newest.is_empty());
    }
}
