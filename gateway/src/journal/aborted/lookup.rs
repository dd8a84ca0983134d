//! All aborted ranges that a reader needs: from memory, and from the segments that hold their markers.

use std::sync::atomic::Ordering;

use super::{AbortedRange, Offset};
use crate::journal::{Journal, PartitionId, ReadError, lookup::Reach, shared::Shared};

impl Journal {
    /// Aborted transactions with an offset from `from` up to, not including, `to`, by their last offsets. Below
    /// the stable end all are known. Blocks on file I/O: call it off the async workers.
    ///
    /// # Errors
    /// What tells them cannot be read: without them nothing of the range may be served as committed.
    pub fn aborted(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedRange>, ReadError> {
        let found = find(self.shared(), partition, (from, to), Reach::Files);
        if matches!(found, Err(ReadError::Damaged { .. })) {
            self.shared().stats.damaged_reads.fetch_add(1, Ordering::Relaxed);
        }
        Ok(found?.unwrap_or_default())
    }

    /// Tells whether batches and aborted ranges fit together that were read one after the other: if it is the same before
    /// and after, nothing of the partition was cleaned or deleted in between. Else a range may be missing whose batches
    /// were read, or be there without its marker.
    #[must_use]
    pub fn forgotten(&self, partition: PartitionId) -> u64 {
        self.shared().log().forgotten(partition)
    }

    /// As [`Journal::aborted`], if no file has to be read for it; never blocks.
    #[must_use]
    pub fn aborted_in_memory(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> Option<Vec<AbortedRange>> {
        find(self.shared(), partition, (from, to), Reach::Memory).unwrap_or_default()
    }

    /// Those of them without a marker; never blocks.
    #[must_use]
    pub fn aborted_without_marker(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> Vec<AbortedRange> {
        self.shared().log().unmarked(partition, from, to)
    }
}

/// Ranges with an offset from `from` up to, not including, `to`, by their last offsets. None: some are out of reach. The
/// log is not locked while files are read.
pub(in crate::journal) fn find(
    shared: &Shared,
    partition: PartitionId,
    (from, to): (Offset, Offset),
    reach: Reach,
) -> Result<Option<Vec<AbortedRange>>, ReadError> {
    let (mut found, spilled) = shared.log().aborted(partition, from, to);
    if spilled.is_empty() || planted!(SpilledForgotten) {
        return Ok(Some(found));
    }
    for (spilled, readable) in spilled {
        // As long as the ranges count their segment is part of the log.
        let lost = || ReadError::Damaged { position: spilled.segment };
        let readable = readable.ok_or_else(lost)?;
        let segment = &readable.segment;
        let ranges = match reach {
            Reach::Memory => match shared.indexes.held_aborted(segment, partition) {
                Some(ranges) => ranges,
                None => return Ok(None),
            },
            Reach::Files => shared
                .indexes
                .aborted(segment, readable.end, partition, &spilled)?
                .ok_or_else(lost)?,
        };
        let overlaps = |range: &&AbortedRange| range.last >= from && range.first < to;
        found.extend(ranges.iter().filter(overlaps));
    }
    // What was given up at one moment shares its end with the last marker before.
    found.sort_by_key(|range| (range.last, !range.has_marker));
    Ok(Some(found))
}
