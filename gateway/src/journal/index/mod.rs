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
        if let Some(last) = self.chunks.last_mut() {
            if last.push(location, placed.max_timestamp) {
                return true;
            }
            last.seal();
        }
        self.chunks.push(Chunk::new(location, placed.max_timestamp));
        true
    }

    /// Batches from the last one that begins at or before `from`; from the first one if all begin later.
    pub(super) fn starting_at(&self, from: Offset) -> impl Iterator<Item = Location> {
        let chunk = self.chunk_of(from);
        let skip = self.chunks.get(chunk).map_or(0, |chunk| chunk.index_of(from));
        self.chunks.iter().skip(chunk).flat_map(Chunk::iter).skip(skip)
    }

    /// The few batches among which the first one from an offset on with a timestamp this late is;
    /// empty if there is none.
    pub(super) fn at_time(
        &self,
        from: Offset,
        timestamp_ms: i64,
    ) -> impl Iterator<Item = Location> {
        let first = self.chunk_of(from);
        let late = |chunk: &&Chunk| chunk.max_timestamp() >= timestamp_ms;
        let within = self.chunks.get(first).filter(late).map(|chunk| {
            let skip = chunk.index_of(from);
            chunk.iter().skip(skip)
        });
        // In the first chunk it may be one before the offset that is so late, in a later chunk not.
        let behind = self.chunks.iter().skip(first + 1).find(late).map(Chunk::iter);
        within.into_iter().flatten().chain(behind.into_iter().flatten())
    }

    /// Forgets batches that lie before a position; some of them may stay in the first chunk.
    pub(super) fn forget_below(&mut self, position: Position) {
        let gone = self.chunks.partition_point(|chunk| chunk.last_position() < position);
        self.chunks.drain(..gone);
    }

    fn chunk_of(&self, offset: Offset) -> usize {
        self.chunks.partition_point(|chunk| chunk.first_offset() <= offset).saturating_sub(1)
    }
}
