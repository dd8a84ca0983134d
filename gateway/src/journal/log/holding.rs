//! What holds what, and how much of it.

use std::collections::HashMap;

use super::{
    Held, Holding, KEPT_SNAPSHOTS, Log, Offset, PartitionId, PartitionIndex, Position, Readable,
    Run,
};
use crate::journal::format::SegmentHeader;

impl Log {
    /// What a partition has in cold segments and in those that were left, oldest first.
    pub(in crate::journal) fn runs(
        &self,
        partition: PartitionId,
    ) -> impl DoubleEndedIterator<Item = (Run, &Readable)> {
        let runs = self.partitions.get(&partition).map_or(&[][..], |log| &log.runs);
        runs.iter().filter_map(|run| Some((*run, self.readable(run.segment)?)))
    }

    /// The offset below which everything that lies in cold segments was appended by a time of open journal.
    pub(in crate::journal) fn cold_by(&self, partition: PartitionId, open_ms: u64) -> Offset {
        let aged = self.partitions.get(&partition).map_or(&[][..], |log| &log.aged);
        let by = aged.iter().rev().find(|aged| aged.open_ms <= open_ms);
        by.map_or(Offset(0), |aged| aged.end)
    }

    /// Where the segment in use begins, and the batches of a partition in it.
    pub(in crate::journal) fn active(
        &self,
        partition: PartitionId,
    ) -> (Option<Position>, Option<&PartitionIndex>) {
        (self.active, self.partitions.get(&partition).map(|log| &log.active))
    }

    /// Bytes of a partition's batches in a segment that was left, if they were counted.
    pub(in crate::journal) fn bytes_in(
        &self,
        partition: PartitionId,
        segment: Position,
    ) -> Option<u64> {
        self.partitions.get(&partition)?.bytes.get(&segment).copied()
    }

    /// Notes how many bytes of a partition's batches are in a segment that was left.
    pub(in crate::journal) fn note_bytes(
        &mut self,
        partition: PartitionId,
        segment: Position,
        bytes: u64,
    ) {
        if self.readable(segment).is_some()
            && let Some(log) = self.partitions.get_mut(&partition)
        {
            log.bytes.insert(segment, bytes);
        }
    }

    /// All cold segments, then the oldest segments that the state does not need, at most so many, with the partitions
    /// that have live batches there.
    pub(in crate::journal) fn holdings(&self, most: usize) -> Vec<Holding> {
        let is_complete = self.snapshots.len() == KEPT_SNAPSHOTS;
        let state = self.snapshots.first().filter(|_| is_complete).copied().unwrap_or_default();
        let cold = self.cold.iter().map(|cold| &cold.readable);
        let hot = self.segments.range(..state).take(most).map(|(_, readable)| readable);
        let mut holdings: Vec<Holding> = Vec::new();
        let mut places = HashMap::new();
        for readable in cold.chain(hot) {
            let SegmentHeader { first, length: bytes, .. } = readable.segment.header;
            places.insert(first, holdings.len());
            holdings.push(Holding { bytes, is_cold: first.is_cold(), live: Vec::new() });
        }
        for (&partition, log) in &self.partitions {
            for run in log.live_runs() {
                let place = places.get(&run.segment).and_then(|&place| holdings.get_mut(place));
                let Some(holding) = place else { continue };
                let bytes = log.bytes.get(&run.segment).copied();
                holding.live.push(Held { partition, end: run.end, bytes });
            }
        }
        holdings
    }
}
