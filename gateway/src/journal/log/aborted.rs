//! Aborted ranges: which are in memory, and where the others are.

use std::collections::HashSet;

use super::{AbortedRange, Log, Offset, PartitionId, PartitionLog, Readable, Replacement, Spilled};
use crate::journal::aborted::MOST_RESIDENT;

impl Log {
    /// Notes a transaction that was aborted durably.
    pub(in crate::journal) fn add_aborted(&mut self, partition: PartitionId, range: AbortedRange) {
        self.partitions.entry(partition).or_default().aborted.insert(range);
    }

    /// Sets how many may stay in memory beside those of the segment in use.
    pub(in crate::journal) fn keep_aborted(&mut self, most: usize) {
        self.most_aborted = Some(most);
        self.spill_aborted();
    }

    /// How many are in memory.
    pub(in crate::journal) fn resident_aborted(&self) -> usize {
        self.partitions.values().map(|log| log.aborted.len()).sum()
    }

    /// Those in memory with an offset in a range, by their last offsets, and where others may be.
    pub(in crate::journal) fn aborted(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> (Vec<AbortedRange>, Vec<(Spilled, Option<Readable>)>) {
        let Some(log) = self.partitions.get(&partition) else { return Default::default() };
        let spilled = log.spilled.iter().filter(|spilled| spilled.may_overlap(from, to));
        let places = spilled.map(|it| (it.clone(), self.readable(it.segment).cloned()));
        (log.aborted.overlapping(from, to), places.collect())
    }

    /// How often aborted ranges of a partition may have gone, together with their batches.
    pub(in crate::journal) fn forgotten(&self, partition: PartitionId) -> u64 {
        self.partitions.get(&partition).map_or(0, |log| log.forgotten)
    }

    /// Those without a marker that have an offset in a range. They are always in memory.
    pub(in crate::journal) fn unmarked(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> Vec<AbortedRange> {
        let log = self.partitions.get(&partition);
        log.map_or_else(Vec::new, |log| log.aborted.unmarked(from, to))
    }

    /// Lets go of what segments that were left tell again, if too many are in memory.
    pub(super) fn spill_aborted(&mut self) {
        if self.resident_aborted() > self.most_aborted.unwrap_or(MOST_RESIDENT) {
            self.partitions.values_mut().for_each(PartitionLog::spill_aborted);
        }
    }

    /// The kept ones are those of the cold segment now.
    pub(super) fn replace_aborted(&mut self, with: &Replacement) {
        for (partition, range) in &with.gone {
            if let Some(log) = self.partitions.get_mut(partition) {
                log.aborted.remove(range);
            }
        }
        for (partition, range) in with.cold.iter().flat_map(|(_, summary)| &summary.aborted) {
            if let Some(log) = self.partitions.get_mut(partition) {
                log.insert_aborted(*range);
            }
        }
        self.spill_aborted();
    }
}

impl PartitionLog {
    /// Adds a range, unless it is known.
    pub(super) fn insert_aborted(&mut self, range: AbortedRange) {
        let known = self.aborted.overlapping(range.last, Offset(range.last.0 + 1));
        if !known.contains(&range) && range.last >= self.log_start {
            self.aborted.insert(range);
        }
    }

    fn spill_aborted(&mut self) {
        if self.aborted.len() == 0 {
            return;
        }
        // Of a segment all are in memory that can go, or none.
        let known: HashSet<_> = self.spilled.iter().map(|spilled| spilled.segment).collect();
        for run in self.runs.iter().filter(|run| !known.contains(&run.segment)) {
            self.spilled.extend(self.aborted.spill(run, self.log_start));
        }
    }
}
