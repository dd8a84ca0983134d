//! The bytes of the journal (FORMAT.md is normative): pure encoding and decoding, no files, no state.
//!
//! Numbers are little-endian, except inside stored batches, which are Kafka's. Everything is aligned
//! so that no write ever touches a block that an earlier sync made durable.

mod cold;
mod entry;
mod field;
mod frame;
mod identity;
mod index;
mod segment;
#[cfg(test)]
mod tests;

pub(super) use cold::{COLD_HEADER_BYTES, ColdHeader};
pub(super) use entry::{
    BARRIER_BYTES, Barrier, ENTRY_ALIGN, ENTRY_HEADER_BYTES, EntryHeader, EntryKind,
    FACT_OVERHEAD_BYTES, FactRef, entry_size,
};
pub(super) use field::Cursor;
pub(super) use frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
pub use identity::JournalId;
pub(super) use identity::Seed;
pub(super) use index::{CHUNK_HEADER_BYTES, CHUNK_TRAILER_BYTES, ChunkHeader};
pub(super) use segment::{HeaderError, SEGMENT_HEADER_BYTES, SegmentHeader};

/// Version of every format here; a reader refuses a larger one.
pub const FORMAT_VERSION: u16 = 1;

/// Frames start and end at multiples of this (`journal.align`): the unit that a medium rewrites.
/// With 512 B the page of acknowledged frames would be written again by the next one.
pub(super) const ALIGN: u64 = 4096;

/// Rounds up to whole blocks.
pub(super) const fn align_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGN)
}
