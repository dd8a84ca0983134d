//! The index file of one segment: finding, reading and adding chunks.

use std::{io, sync::Arc};

use super::{RangeIndex, Summary};
use crate::journal::{
    Disk, DiskFile, Position,
    format::{CHUNK_HEADER_BYTES, CHUNK_TRAILER_BYTES, ChunkHeader, Seed, SegmentHeader},
    segment::{SEGMENT_FOLDER, sequence_in},
};

/// Ends the names of index files.
const INDEX_SUFFIX: &str = ".idx";

/// Name of the index file of a segment within the data folder.
pub(in crate::journal) fn index_name(sequence: u64) -> String {
    format!("{SEGMENT_FOLDER}/{sequence:016x}{INDEX_SUFFIX}")
}

/// The segment's sequence in a file name (without its folder), if it is one of an index file.
pub(in crate::journal) fn segment_of_index(name: &str) -> Option<u64> {
    sequence_in(name, INDEX_SUFFIX)
}

/// An open index file.
#[derive(Debug)]
pub(in crate::journal) struct IndexFile {
    file: Arc<dyn DiskFile>,
    file_bytes: u64,
    seed: Seed,
    segment: SegmentHeader,
}

impl IndexFile {
    /// None: there is no such file, or it cannot be opened.
    pub(in crate::journal) fn open(
        disk: &dyn Disk,
        seed: Seed,
        segment: &SegmentHeader,
    ) -> Option<Self> {
        let file = disk.open(&index_name(segment.sequence)).ok()?;
        let file_bytes = file.len().ok().filter(|&bytes| bytes > 0)?;
        Some(Self { file, file_bytes, seed, segment: *segment })
    }

    /// The chunks in a file that holds other things, too.
    pub(in crate::journal) fn within(
        file: Arc<dyn DiskFile>,
        seed: Seed,
        segment: SegmentHeader,
    ) -> io::Result<Self> {
        let file_bytes = file.len()?;
        Ok(Self { file, file_bytes, seed, segment })
    }

    pub(in crate::journal) fn create(
        disk: &dyn Disk,
        seed: Seed,
        segment: &SegmentHeader,
    ) -> io::Result<Self> {
        let name = index_name(segment.sequence);
        let file = match disk.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = disk.create(&name)?;
                disk.sync_folder(SEGMENT_FOLDER)?;
                file
            }
            opened => opened?,
        };
        let file_bytes = file.len()?;
        Ok(Self { file, file_bytes, seed, segment: *segment })
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The header of the chunk at a place, of whatever segment, if the chunk fits into the file.
    pub(in crate::journal) fn header(&self, at: u64) -> Option<ChunkHeader> {
        let mut bytes = [0; CHUNK_HEADER_BYTES];
        self.file.read_at(&mut bytes, at).ok()?;
        let header = ChunkHeader::decode(&bytes, self.seed, at)?;
        (at + header.length() <= self.file_bytes).then_some(header)
    }

    /// The header of the last chunk.
    pub(in crate::journal) fn last_header(&self) -> Option<ChunkHeader> {
        let mut trailer = [0; CHUNK_TRAILER_BYTES];
        let at = self.file_bytes.checked_sub(CHUNK_TRAILER_BYTES as u64)?;
        self.file.read_at(&mut trailer, at).ok()?;
        let header = self.header(ChunkHeader::last_at(trailer, self.seed, self.file_bytes)?)?;
        (header.at + header.length() == self.file_bytes).then_some(header)
    }

    pub(in crate::journal) fn is_of_segment(&self, chunk: &ChunkHeader) -> bool {
        chunk.sequence == self.segment.sequence && chunk.first == self.segment.first
    }

    /// What a chunk says.
    pub(in crate::journal) fn content(
        &self,
        chunk: &ChunkHeader,
    ) -> Option<(RangeIndex, Option<Summary>)> {
        let mut payload = vec![0; chunk.payload_bytes as usize];
        self.file.read_at(&mut payload, chunk.at + CHUNK_HEADER_BYTES as u64).ok()?;
        if chunk.payload_crc != self.seed.crc_at(Position(chunk.at), &payload) {
            return None;
        }
        RangeIndex::decode(&payload, self.segment.first)
    }

    /// Cuts off what lies behind the last good chunk; how many bytes that freed.
    pub(in crate::journal) fn cut(&mut self, at: u64) -> io::Result<u64> {
        let spare = self.file_bytes.saturating_sub(at);
        if spare > 0 {
            self.file.truncate(at)?;
            self.file_bytes = at;
        }
        Ok(spare)
    }

    /// The bytes of a sealed chunk.
    pub(in crate::journal) fn chunk(
        chunk: ChunkHeader,
        seed: Seed,
        content: &RangeIndex,
        summary: &Summary,
    ) -> Vec<u8> {
        chunk.encode(seed, &content.encode(Some(summary))).1
    }

    /// Adds a chunk and makes it durable, if `take` has so many bytes for it.
    pub(in crate::journal) fn add(
        &mut self,
        chunk: ChunkHeader,
        content: &RangeIndex,
        summary: Option<&Summary>,
        take: impl FnOnce(u64) -> bool,
    ) -> io::Result<ChunkHeader> {
        let payload = content.encode(summary);
        let chunk = ChunkHeader { at: self.file_bytes, ..chunk };
        let (chunk, bytes) = chunk.encode(self.seed, &payload);
        if !take(bytes.len() as u64) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "storage.max_bytes is in use"));
        }
        self.file.write_at(&bytes, chunk.at)?;
        self.file.sync()?;
        self.file_bytes = chunk.at + bytes.len() as u64;
        Ok(chunk)
    }
}
