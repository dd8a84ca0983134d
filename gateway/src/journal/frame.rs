//! A frame in memory: one that is being built, and one that was.

use std::iter;

use bytes::{Buf, Bytes};

use super::{
    Append, BatchEntry, Moment, Offset, PartitionId, Position,
    disk::aligned,
    format::{
        Barrier, ENTRY_ALIGN, ENTRY_HEADER_BYTES, EntryHeader, EntryKind, FRAME_HEADER_BYTES,
        FactRef, FrameHeader, FrameKind, SEGMENT_HEADER_BYTES, Seed, SegmentHeader, align_up,
    },
    index::{Location, Placed},
};
use crate::record::BatchHeader;

/// Capacity that is kept when nothing is to be written.
const KEPT_BYTES: usize = 64 * 1024;

/// A frame under construction; its memory is used again for the next one.
#[derive(Debug)]
pub(super) struct FrameBuilder {
    seed: Seed,
    /// What goes to the file in one write: a segment's header if the frame is its first, then the frame.
    buffer: Vec<u8>,
    /// Where that begins in the buffer: aligned, so that it need not be copied.
    origin: usize,
    /// Where the frame begins in the buffer.
    start: usize,
    position: Position,
    entry_count: u32,
    /// Over the entries' CRC fields so far.
    entries_crc: u32,
    batches: Vec<(PartitionId, Placed)>,
}

/// A frame as it was written. It was in memory all the time, so payloads are not verified again.
#[derive(Debug)]
pub(super) struct WrittenFrame<'a> {
    pub(super) header: FrameHeader,
    pub(super) crc: u32,
    entries: &'a [u8],
}

impl<'a> WrittenFrame<'a> {
    /// None: the bytes do not begin with the frame of this position.
    pub(super) fn new(bytes: &'a [u8], seed: Seed, position: Position) -> Option<Self> {
        let (header, crc) = FrameHeader::decode(bytes.first_chunk()?, seed, position)?;
        let entries = bytes.get(FRAME_HEADER_BYTES..)?.get(..header.entries_bytes as usize)?;
        Some(Self { header, crc, entries })
    }

    /// The entries with their places and payloads.
    pub(super) fn entries(
        &self,
        seed: Seed,
    ) -> impl Iterator<Item = (EntryHeader, Position, &'a [u8])> {
        let start = self.header.position.plus(FRAME_HEADER_BYTES as u64);
        let (entries, mut at) = (self.entries, 0);
        iter::from_fn(move || {
            let rest = entries.get(at..)?;
            let position = start.plus(at as u64);
            let header = EntryHeader::decode(rest.first_chunk()?, seed, position)?;
            let payload = rest.get(ENTRY_HEADER_BYTES..)?.get(..header.length as usize)?;
            at += header.size();
            Some((header, position, payload))
        })
    }
}

impl FrameBuilder {
    pub(super) fn new(seed: Seed) -> Self {
        Self {
            seed,
            buffer: Vec::new(),
            origin: 0,
            start: 0,
            position: Position(0),
            entry_count: 0,
            entries_crc: 0,
            batches: Vec::new(),
        }
    }

    /// Starts a frame at a position, for so many bytes of entries; the header of its segment goes before it, if given.
    pub(super) fn begin(
        &mut self,
        position: Position,
        segment: Option<&SegmentHeader>,
        entries_bytes: usize,
    ) {
        let header = segment.map_or(0, |_| SEGMENT_HEADER_BYTES);
        let length = header + FrameHeader::length_for(entries_bytes);
        let length = usize::try_from(length).expect("fits in memory");
        self.origin = aligned(&mut self.buffer, length);
        if let Some(header) = segment {
            self.buffer.extend_from_slice(&header.encode());
            debug_assert_eq!(header.first.plus(SEGMENT_HEADER_BYTES), position);
        }
        self.start = self.buffer.len();
        self.buffer.resize(self.start + FRAME_HEADER_BYTES, 0);
        self.position = position;
        self.entry_count = 0;
        self.entries_crc = self.seed.crc(&[]);
        self.batches.clear();
    }

    /// Adds an append, batches first.
    pub(super) fn append(&mut self, append: &Append) {
        for batch in &append.batches {
            self.batch(batch);
        }
        for fact in &append.facts {
            let fact = FactRef { space: fact.space, key: &fact.key, value: fact.value.as_deref() };
            self.entry_with(EntryHeader::plain(EntryKind::Fact, 0), |out| fact.encode(out));
        }
    }

    /// Adds a slice of the state's snapshot.
    pub(super) fn slice(&mut self, index: u32, total: u32, payload: &[u8]) {
        let header = EntryHeader {
            partition: PartitionId(index),
            count: total,
            ..EntryHeader::plain(EntryKind::Slice, 0)
        };
        self.entry_with(header, |out| out.extend_from_slice(payload));
    }

    /// Adds a barrier.
    pub(super) fn barrier(&mut self, barrier: Barrier) {
        self.entry_with(EntryHeader::plain(EntryKind::Barrier, 0), |out| barrier.encode(out));
    }

    /// Adds the mark of an orderly end.
    pub(super) fn close(&mut self) {
        self.entry_with(EntryHeader::plain(EntryKind::Close, 0), |_| {});
    }

    /// Adds an entry of an earlier frame again.
    pub(super) fn carried(&mut self, header: EntryHeader, payload: &[u8]) {
        let max_timestamp = match header.kind {
            EntryKind::Batch => {
                super::reader::batch_header(payload).map_or(i64::MIN, |header| header.max_timestamp)
            }
            _ => i64::MIN,
        };
        let position = self.entry_with(header, |out| out.extend_from_slice(payload));
        if header.kind == EntryKind::Batch {
            self.place(position, header.partition, header.base_offset, &header, max_timestamp);
        }
    }

    /// Finishes the frame: what to write, and the CRC that the next frame names.
    pub(super) fn finish(
        &mut self,
        kind: FrameKind,
        previous_crc: u32,
        now: Moment,
        open_ms: u64,
    ) -> (&[u8], u32) {
        let entries = self.entries_bytes();
        let header = FrameHeader {
            kind,
            entries_bytes: u32::try_from(entries).expect("a frame is smaller than a segment"),
            position: self.position,
            previous_crc,
            entry_count: self.entry_count,
            entries_crc: self.entries_crc,
            append_time_ms: now.unix_ms,
            clock_quality: now.quality,
            open_ms,
        };
        let encoded = header.encode(self.seed);
        self.buffer[self.start..self.start + FRAME_HEADER_BYTES].copy_from_slice(&encoded);
        let padded = align_up((self.buffer.len() - self.origin) as u64);
        let padded = usize::try_from(padded).expect("fits in memory");
        self.buffer.resize(self.origin + padded, 0);
        (&self.buffer[self.origin..], FrameHeader::crc_of(&encoded))
    }

    /// Gives the finished frame away, without the segment's header before it.
    pub(super) fn take(&mut self) -> Bytes {
        let mut bytes = Bytes::from(std::mem::take(&mut self.buffer));
        bytes.advance(self.start.min(bytes.len()));
        bytes
    }

    /// Takes memory to build the next frames in.
    pub(super) fn reuse(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() > self.buffer.capacity() {
            self.buffer = buffer;
        }
    }

    /// Bytes of entries so far.
    pub(super) fn entries_bytes(&self) -> usize {
        self.buffer.len() - self.start - FRAME_HEADER_BYTES
    }

    /// Where the frame belongs.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Batches in the frame, to be indexed once it is durable.
    pub(super) fn batches(&self) -> &[(PartitionId, Placed)] {
        &self.batches
    }

    /// Whether more memory is held than an idle journal should.
    pub(super) fn is_swollen(&self) -> bool {
        self.buffer.capacity() > KEPT_BYTES
    }

    /// Lets go of it.
    pub(super) fn shrink(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BYTES);
        self.batches = Vec::new();
    }

    fn batch(&mut self, entry: &BatchEntry) {
        let batch = entry.batch.header();
        let header = EntryHeader {
            kind: EntryKind::Batch,
            length: 0,
            partition: entry.partition,
            // A validated batch has at least one record, so the delta is not negative.
            count: batch.last_offset_delta.unsigned_abs() + 1,
            base_offset: entry.base_offset,
        };
        let position = self.entry_with(header, |out| {
            let at = out.len();
            out.extend_from_slice(entry.batch.bytes());
            BatchHeader::stamp(&mut out[at..], entry.base_offset.0, entry.leader_epoch);
        });
        let header = EntryHeader { length: entry.batch.len() as u32, ..header };
        let max_timestamp = batch.max_timestamp;
        self.place(position, entry.partition, entry.base_offset, &header, max_timestamp);
    }

    fn place(
        &mut self,
        position: Position,
        partition: PartitionId,
        base_offset: Offset,
        header: &EntryHeader,
        max_timestamp: i64,
    ) {
        let length = header.length + ENTRY_HEADER_BYTES as u32;
        let location = Location { base_offset, position, length };
        self.batches
            .push((partition, Placed { location, end: header.end_offset(), max_timestamp }));
    }

    /// Adds an entry whose payload is written by a function; its length is filled in.
    fn entry_with(&mut self, header: EntryHeader, payload: impl FnOnce(&mut Vec<u8>)) -> Position {
        let at = self.buffer.len();
        let position = self.position.plus((at - self.start) as u64);
        self.buffer.resize(at + ENTRY_HEADER_BYTES, 0);
        payload(&mut self.buffer);
        let length = self.buffer.len() - at - ENTRY_HEADER_BYTES;
        let length = u32::try_from(length).expect("an append is smaller than a segment");
        let crc =
            EntryHeader { length, ..header }.seal(&mut self.buffer[at..], self.seed, position);
        self.entries_crc = crc32c::crc32c_append(self.entries_crc, &crc.to_le_bytes());
        self.entry_count += 1;
        let padded = self.buffer.len().next_multiple_of(ENTRY_ALIGN);
        self.buffer.resize(padded, 0);
        position
    }
}
