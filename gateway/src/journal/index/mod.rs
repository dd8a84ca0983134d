//! Where each batch of a partition is: a few bytes a batch, held in memory, rebuilt by a scan.

mod chunk;
#[cfg(test)]
mod tests;

use chunk::Chunk;

use super::{Offset, Position};

/// Batches of one partition in offset order.
#[derive(Debug, Default)]
pub(super) struct PartitionIndex {
    chunks: Vec<Chunk>,
    end: Offset,
}

/// Place of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) base_offset: Offset,
    pub(super) position: Position,
    /// Header and payload, without padding.
    pub(super) length: u32,
}

/// A batch to index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) location: Location,
    /// One past its last offset.
    pub(super) end: Offset,
    pub(super) max_timestamp: i64,
}

impl PartitionIndex {
    /// Adds the next batch; false if it does not lie behind all others.
    pub(super) fn insert(&mut self, placed: &Placed) -> bool {
        let location = placed.location;
        let behind = location.base_offset >= self.end && placed.end > location.base_offset;
        if !behind {
            return false;
        }
        self.end = placed.end;
        let mut running_max = placed.max_timestamp;
        if let Some(last) = self.chunks.last_mut() {
            running_max = running_max.max(last.max_timestamp());
            if last.push(location, running_max) {
                return true;
            }
            last.seal();
        }
        self.chunks.push(Chunk::new(location, running_max));
        true
    }

    /// Batches from the last one that begins at or before `from`; from the first one if all begin later.
    pub(super) fn from_offset(&self, from: Offset) -> impl Iterator<Item = Location> {
        let chunk = self.chunks.partition_point(|chunk| chunk.first_offset() <= from);
        let chunk = chunk.saturating_sub(1);
        let skip = self.chunks.get(chunk).map_or(0, |chunk| {
            chunk.iter().take_while(|found| found.base_offset <= from).count().saturating_sub(1)
        });
        self.chunks.iter().skip(chunk).flat_map(Chunk::iter).skip(skip)
    }

    /// The few batches among which the first one with a timestamp this late is; empty if there is none.
    pub(super) fn at_time(&self, timestamp_ms: i64) -> impl Iterator<Item = Location> {
        let chunk = self.chunks.partition_point(|chunk| chunk.max_timestamp() < timestamp_ms);
        self.chunks.iter().skip(chunk).take(1).flat_map(Chunk::iter)
    }
}
