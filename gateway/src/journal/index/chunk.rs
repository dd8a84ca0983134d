//! Up to 64 batches, delta encoded: about 5 bytes each.

use super::{Location, Offset, Position};
use crate::journal::format::{Cursor, ENTRY_ALIGN, ENTRY_HEADER_BYTES};

/// Batches per chunk: a lookup decodes half of them, the fixed part costs one byte a batch.
pub(super) const CHUNK_BATCHES: u8 = 64;

/// Locations of consecutive batches of one partition.
#[derive(Debug)]
pub(super) struct Chunk {
    first_offset: Offset,
    first_position: Position,
    last: Location,
    max_timestamp: i64,
    count: u8,
    /// Per batch: offset delta to the one before, gap after it (in units of the alignment), length; varints.
    deltas: Vec<u8>,
}

impl Chunk {
    pub(super) fn new(first: Location, timestamp: i64) -> Self {
        let mut chunk = Self {
            first_offset: first.base_offset,
            first_position: first.position,
            last: Location { length: 0, ..first },
            max_timestamp: timestamp,
            count: 0,
            deltas: Vec::new(),
        };
        chunk.push(first, timestamp);
        chunk
    }

    /// Adds a batch; false if the chunk is full.
    pub(super) fn push(&mut self, next: Location, timestamp: i64) -> bool {
        if self.count == CHUNK_BATCHES {
            return false;
        }
        // The index takes batches in offset order and frames in position order.
        let offset_delta = next.base_offset.0.wrapping_sub(self.last.base_offset.0);
        let gap = next.position.0.wrapping_sub(end_of(self.last).0) / ENTRY_ALIGN as u64;
        write_varint(&mut self.deltas, offset_delta.cast_unsigned());
        write_varint(&mut self.deltas, gap);
        write_varint(&mut self.deltas, u64::from(next.length) - ENTRY_HEADER_BYTES as u64);
        self.last = next;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count += 1;
        true
    }

    /// Gives back spare memory: nothing will be added.
    pub(super) fn seal(&mut self) {
        self.deltas.shrink_to_fit();
    }

    pub(super) fn first_offset(&self) -> Offset {
        self.first_offset
    }

    pub(super) fn first_position(&self) -> Position {
        self.first_position
    }

    pub(super) fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Memory that the chunk takes.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.deltas.capacity()
    }

    /// As an index file stores it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.first_offset.0.to_le_bytes());
        out.extend_from_slice(&self.first_position.0.to_le_bytes());
        out.extend_from_slice(&self.max_timestamp.to_le_bytes());
        out.extend_from_slice(&[self.count, 0]);
        let length = u16::try_from(self.deltas.len()).expect("64 batches of at most 30 bytes");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.deltas);
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        let first_offset = Offset(cursor.i64()?);
        let first_position = Position(cursor.u64()?);
        let max_timestamp = cursor.i64()?;
        let count = cursor.u8()?;
        cursor.u8()?;
        let length = usize::from(cursor.u16()?);
        let deltas = cursor.bytes(length)?.to_vec();
        let last = Location { base_offset: first_offset, position: first_position, length: 0 };
        let chunk = Self { first_offset, first_position, last, max_timestamp, count, deltas };
        let (mut last, mut batches) = (last, 0);
        for location in chunk.iter() {
            if location.base_offset < last.base_offset {
                return None;
            }
            (last, batches) = (location, batches + 1);
        }
        let whole = batches == usize::from(count) && (1..=CHUNK_BATCHES).contains(&count);
        whole.then_some(Self { last, ..chunk })
    }

    /// Number of the last batch that begins at or before an offset; 0 if there is none.
    pub(super) fn index_of(&self, offset: Offset) -> usize {
        self.iter().take_while(|found| found.base_offset <= offset).count().saturating_sub(1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Location> {
        let mut deltas = self.deltas.as_slice();
        let mut last =
            Location { base_offset: self.first_offset, position: self.first_position, length: 0 };
        std::iter::from_fn(move || {
            let offset_delta = read_varint(&mut deltas)?.cast_signed();
            let gap = read_varint(&mut deltas)?.checked_mul(ENTRY_ALIGN as u64)?;
            let payload = read_varint(&mut deltas)?;
            last = Location {
                base_offset: Offset(last.base_offset.0.wrapping_add(offset_delta)),
                position: Position(end_of(last).0.checked_add(gap)?),
                length: u32::try_from(payload.checked_add(ENTRY_HEADER_BYTES as u64)?).ok()?,
            };
            Some(last)
        })
    }
}

/// First address after an entry and its padding.
fn end_of(location: Location) -> Position {
    let length = u64::from(location.length).next_multiple_of(ENTRY_ALIGN as u64);
    Position(location.position.0.saturating_add(length))
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
