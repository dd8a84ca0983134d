//! Writes the file of one cold segment: entries as they come, chunks and header at the end.
//!
//! Nothing of it is live before its fact is durable, so whatever goes wrong, the file is removed.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::super::{
    CleanError, Disk, DiskFile, JournalId, Position,
    append::Replaced,
    format::{
        COLD_HEADER_BYTES, ChunkHeader, ColdHeader, ENTRY_ALIGN, ENTRY_HEADER_BYTES, EntryHeader,
        Seed, align_up,
    },
    index::{IndexFile, RangeIndex, Summary, placed},
    log::Readable,
    preparer::take_budget,
    recovery::End,
    segment::{COLD_FOLDER, SEGMENT_FOLDER, Segment},
};
use super::{ColdSegment, file::segment_header};

/// Written at once: what the cleaner holds in memory, and what a sync of the writer may have to wait for.
const BUFFER_BYTES: usize = 256 * 1024;
/// Written between two syncs, so that the last one is short: whoever syncs another file may wait for it.
const SYNC_BYTES: u64 = 1024 * 1024;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct ColdWriter {
    space: ColdSpace,
    journal: JournalId,
    seed: Seed,
    sequence: u64,
    /// What comes next, to be written at `written`.
    buffer: Vec<u8>,
    written: u64,
    synced: u64,
    index: RangeIndex,
}

/// A file with space, counted as used.
#[derive(Debug)]
pub(super) struct ColdSpace {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) name: String,
    pub(super) bytes: u64,
    /// Whether the file had a name in the segment folder.
    pub(super) was_spare: bool,
    pub(super) used_bytes: Arc<AtomicU64>,
    pub(super) max_bytes: u64,
}

impl ColdSpace {
    /// Removes the file.
    pub(super) fn give_up(self) {
        let Self { disk, file, name, bytes, used_bytes, .. } = self;
        drop(file);
        match disk.remove(&name) {
            Ok(()) => {
                used_bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::warn!(%error, file = name, "an unfinished cold segment stays until the next start");
            }
        }
    }

    fn reaches(&mut self, end: u64) -> Result<(), CleanError> {
        let more = end.saturating_sub(self.bytes);
        if more > 0 {
            if !take_budget(&self.used_bytes, more, self.max_bytes) {
                return Err(CleanError::NoSpace);
            }
            self.bytes = end;
        }
        Ok(())
    }
}

impl ColdWriter {
    pub(super) fn new(space: ColdSpace, journal: JournalId, sequence: u64) -> Self {
        Self {
            space,
            journal,
            seed: journal.seed(),
            sequence,
            buffer: Vec::new(),
            written: COLD_HEADER_BYTES,
            synced: COLD_HEADER_BYTES,
            index: RangeIndex::default(),
        }
    }

    /// Adds the next batch, in the order of partitions and offsets. How many bytes were written for it.
    pub(super) fn add(&mut self, header: EntryHeader, payload: &[u8]) -> Result<u64, CleanError> {
        let at = self.buffer.len();
        let place = self.written + at as u64;
        let position = Position::of_cold(self.sequence).plus(place);
        let header = EntryHeader { length: payload.len() as u32, ..header };
        self.buffer.resize(at + ENTRY_HEADER_BYTES, 0);
        self.buffer.extend_from_slice(payload);
        if let Some(entry) = self.buffer.get_mut(at..) {
            header.seal(entry, self.seed, position);
        }
        self.buffer.resize(self.buffer.len().next_multiple_of(ENTRY_ALIGN), 0);
        let placed = placed(&header, position, Some(payload));
        let added = self.index.partitions.entry(header.partition).or_default().insert(&placed);
        debug_assert!(added, "batches come in the order of their offsets");
        self.index.data = true;
        if self.buffer.len() < BUFFER_BYTES { Ok(0) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<u64, CleanError> {
        let length = self.buffer.len() as u64;
        self.space.reaches(self.written + length)?;
        self.space.file.write_at(&self.buffer, self.written)?;
        self.written += length;
        self.buffer.clear();
        if self.written - self.synced >= SYNC_BYTES {
            self.sync()?;
            self.synced = self.written;
        }
        Ok(length)
    }

    fn sync(&self) -> io::Result<()> {
        if planted!(ColdUnsynced) { Ok(()) } else { self.space.file.sync() }
    }

    /// Completes the file and makes it durable, its name too.
    pub(super) fn finish(
        &mut self,
        place: Replaced,
        settled_ms: u64,
        summary: &Summary,
    ) -> Result<ColdSegment, CleanError> {
        self.flush()?;
        let end = self.written;
        let Replaced { from, to } = place;
        let (journal, sequence) = (self.journal, self.sequence);
        let header = ColdHeader { journal, sequence, from, to, end, settled_ms };
        let header = header.encode();
        self.space.file.write_at(&header, 0)?;
        let mut at = align_up(end);
        for content in [std::mem::take(&mut self.index), RangeIndex::default()] {
            let bytes = self.chunk(at, end, settled_ms, &content, summary);
            self.space.reaches(at + bytes.len() as u64)?;
            self.space.file.write_at(&bytes, at)?;
            at += bytes.len() as u64;
        }
        if self.space.bytes > at {
            self.space.file.truncate(at)?;
            self.space.used_bytes.fetch_sub(self.space.bytes - at, Ordering::Relaxed);
            self.space.bytes = at;
        }
        self.sync()?;
        if self.space.was_spare {
            // First, so that never two names of one file are durable.
            self.space.disk.sync_folder(SEGMENT_FOLDER)?;
        }
        self.space.disk.sync_folder(COLD_FOLDER)?;
        let file = Arc::clone(&self.space.file);
        let segment = Arc::new(Segment { file, header: segment_header(journal, sequence, at) });
        let end = End::Known(Position::of_cold(sequence).plus(end));
        Ok(ColdSegment { readable: Readable { segment, end }, place, settled_ms })
    }

    fn chunk(
        &self,
        at: u64,
        end: u64,
        settled_ms: u64,
        content: &RangeIndex,
        summary: &Summary,
    ) -> Vec<u8> {
        let first = Position::of_cold(self.sequence);
        let header = ChunkHeader {
            sealed: true,
            data: content.data,
            payload_bytes: 0,
            at,
            sequence: self.sequence,
            first,
            from: first.plus(COLD_HEADER_BYTES),
            to: first.plus(end),
            last_frame: Position(0),
            last_crc: 0,
            payload_crc: 0,
            open_ms: settled_ms,
        };
        IndexFile::chunk(header, self.seed, content, summary)
    }

    /// Removes the file.
    pub(super) fn give_up(self) {
        self.space.give_up();
    }
}
