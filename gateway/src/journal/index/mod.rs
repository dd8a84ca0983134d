//! Where each batch of a partition is: a few bytes a batch.
//!
//! The segment in use has its index in memory. Of the others a file beside the segment holds it, with
//! all else that a scan would tell; what such a file lacks is scanned, so nothing depends on it.

mod cache;
mod chunk;
mod coverage;
mod delta;
mod events;
mod file;
mod range;
mod summary;
#[cfg(test)]
mod tests;

pub(super) use cache::{IndexCache, Size};
use chunk::Chunk;
pub(super) use coverage::{Coverage, Findings};
pub(super) use delta::Delta;
pub(super) use events::{Event, Events};
pub(super) use file::{IndexFile, index_name, segment_of_index};
pub(super) use range::{RangeIndex, SlicePlace, placed};
pub(super) use summary::{Run, Summary};

use super::{
    Offset, PartitionId, Position,
    format::{Cursor, ENTRY_HEADER_BYTES},
};

/// Batches of one partition in offset order.
#[derive(Debug, Default)]
pub(super) struct PartitionIndex {
    chunks: Vec<Chunk>,
    end: Offset,
    /// Of all batches.
    bytes: u64,
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
        self.bytes += batch_bytes(&location);
        if let Some(last) = self.chunks.last_mut() {
            if last.push(location, placed.max_timestamp) {
                return true;
            }
            last.seal();
        }
        self.chunks.push(Chunk::new(location, placed.max_timestamp));
        true
    }

    /// Bytes of all batches, without the headers of their entries.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where the newest batches begin that together have at least so many bytes; at the first one if all have less.
    pub(super) fn newest(&self, bytes: u64) -> Offset {
        let mut surplus = self.bytes.saturating_sub(bytes);
        let stays = |location: &Location| {
            let bytes = batch_bytes(location);
            let stays = bytes > surplus;
            surplus = surplus.saturating_sub(bytes);
            stays
        };
        let first = self.chunks.iter().flat_map(Chunk::iter).find(stays);
        first.map_or(self.end, |location| location.base_offset)
    }

    /// First offset of the batches that lie at or behind a position.
    pub(super) fn first_at(&self, position: Position) -> Option<Offset> {
        let chunk = self.chunks.partition_point(|chunk| chunk.first_position() < position);
        let chunks = self.chunks.iter().skip(chunk.saturating_sub(1));
        let mut locations = chunks.flat_map(Chunk::iter);
        let first = locations.find(|location| location.position >= position)?;
        Some(first.base_offset)
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

    /// One past the last offset.
    pub(super) fn end(&self) -> Offset {
        self.end
    }

    /// First offset, one past the last one, and the largest timestamp; none without a batch.
    pub(super) fn span(&self) -> Option<(Offset, Offset, i64)> {
        let first = self.chunks.first()?.first_offset();
        let max_timestamp = self.chunks.iter().map(Chunk::max_timestamp).max()?;
        Some((first, self.end, max_timestamp))
    }

    /// Adds the batches of the next range of the same segment.
    pub(super) fn extend(&mut self, next: Self) {
        self.end = self.end.max(next.end);
        self.bytes += next.bytes;
        self.chunks.extend(next.chunks);
    }

    /// Memory that the index takes.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.chunks.iter().map(Chunk::heap_bytes).sum::<usize>()
    }

    /// As an index file stores it.
    pub(super) fn encode(&self, partition: PartitionId, out: &mut Vec<u8>) {
        let count = u32::try_from(self.chunks.len()).expect("a segment is at most 1 GiB");
        out.extend_from_slice(&partition.0.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&self.end.0.to_le_bytes());
        self.chunks.iter().for_each(|chunk| chunk.encode(out));
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Option<(PartitionId, Self)> {
        let partition = PartitionId(cursor.u32()?);
        let count = cursor.u32()?;
        let mut index = Self { chunks: Vec::new(), end: Offset(cursor.i64()?), bytes: 0 };
        for _ in 0..count {
            let chunk = Chunk::decode(cursor)?;
            index.bytes += chunk.iter().map(|location| batch_bytes(&location)).sum::<u64>();
            index.chunks.push(chunk);
        }
        Some((partition, index))
    }

    fn chunk_of(&self, offset: Offset) -> usize {
        self.chunks.partition_point(|chunk| chunk.first_offset() <= offset).saturating_sub(1)
    }
}

fn batch_bytes(location: &Location) -> u64 {
    u64::from(location.length).saturating_sub(ENTRY_HEADER_BYTES as u64)
}
