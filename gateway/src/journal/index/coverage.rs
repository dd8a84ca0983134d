//! How much of a segment its index file covers, and whether it can be believed (FORMAT.md, Index files).

use super::{IndexFile, RangeIndex, Summary, index_name};
use crate::journal::{
    Disk, Position,
    format::{ChunkHeader, FRAME_HEADER_BYTES, FrameHeader, Seed},
    recovery::End,
    segment::Segment,
};

/// What an index file covers, from the start of the segment on without gaps.
#[derive(Debug, Default)]
pub(in crate::journal) struct Coverage {
    pub(in crate::journal) chunks: Vec<(ChunkHeader, RangeIndex)>,
}

/// What was found wrong with index files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::journal) struct Findings {
    pub(in crate::journal) missing: u64,
    pub(in crate::journal) damaged: u64,
    pub(in crate::journal) stale: u64,
    /// Snapshots with a damaged slice.
    pub(in crate::journal) snapshots: u64,
}

impl Findings {
    fn damaged(&mut self, segment: &Segment, at: u64, length: u64) {
        self.damaged += 1;
        let file = index_name(segment.header.sequence);
        tracing::warn!(file, at, length, "damaged index: what it should cover is scanned");
    }

    fn stale(&mut self, segment: &Segment, chunk: &ChunkHeader, why: &str) {
        self.stale += 1;
        let file = index_name(segment.header.sequence);
        let (at, to) = (chunk.at, chunk.to.0);
        let length = chunk.length();
        tracing::warn!(file, at, length, to, "index not used, its segment is scanned: {why}");
    }
}

impl Coverage {
    /// The summary of a segment whose index file is sealed where the next segment says that the log
    /// in it ends: a few short reads, whatever the segment's size.
    pub(in crate::journal) fn sealed(
        disk: &dyn Disk,
        seed: Seed,
        segment: &Segment,
        (end, next_crc): (Position, u32),
    ) -> Option<(ChunkHeader, Summary)> {
        let file = IndexFile::open(disk, seed, &segment.header)?;
        let chunk = file.last_header()?;
        let fits = chunk.sealed
            && file.is_of_segment(&chunk)
            && chunk.to == end
            && agrees(segment, seed, &chunk, End::Known(end), next_crc).is_ok();
        let (_, summary) = file.content(&chunk).filter(|_| fits)?;
        Some((chunk, summary?))
    }

    /// Everything that can be believed. `next_crc` is what the next segment names, 0 if that is not known.
    pub(in crate::journal) fn find(
        disk: &dyn Disk,
        seed: Seed,
        segment: &Segment,
        end: End,
        next_crc: u32,
        findings: &mut Findings,
    ) -> Self {
        let Some(file) = IndexFile::open(disk, seed, &segment.header) else {
            findings.missing += 1;
            return Self::default();
        };
        let mut coverage = Self::default();
        while coverage.next_at() < file.file_bytes() {
            let at = coverage.next_at();
            let from = coverage.end().unwrap_or(segment.header.frames());
            let Some(chunk) = file.header(at) else {
                findings.damaged(segment, at, file.file_bytes() - at);
                break;
            };
            if !file.is_of_segment(&chunk) || chunk.from != from || chunk.to < from {
                findings.stale(segment, &chunk, "not of this place");
                break;
            }
            let Some((content, _)) = file.content(&chunk) else {
                findings.damaged(segment, at, chunk.length());
                break;
            };
            coverage.chunks.push((chunk, content));
        }
        if let Some((last, _)) = coverage.chunks.last()
            && let Err(why) = agrees(segment, seed, last, end, next_crc)
        {
            findings.stale(segment, last, why);
            coverage.chunks.clear();
        }
        coverage
    }

    /// One past the last position covered.
    pub(in crate::journal) fn end(&self) -> Option<Position> {
        self.last().map(|chunk| chunk.to)
    }

    pub(in crate::journal) fn last(&self) -> Option<&ChunkHeader> {
        self.chunks.last().map(|(chunk, _)| chunk)
    }

    /// Place in the file of the next chunk.
    pub(in crate::journal) fn next_at(&self) -> u64 {
        self.last().map_or(0, |chunk| chunk.at + chunk.length())
    }

    /// Bytes of log covered.
    pub(in crate::journal) fn bytes(&self) -> u64 {
        self.chunks.iter().map(|(chunk, _)| chunk.to.0 - chunk.from.0).sum()
    }
}

/// Whether the log holds what the chunk covers, as far as one or two headers tell.
fn agrees(
    segment: &Segment,
    seed: Seed,
    last: &ChunkHeader,
    end: End,
    next_crc: u32,
) -> Result<(), &'static str> {
    if let End::Known(end) = end {
        if last.to > end {
            return Err("it covers more than the log holds");
        }
        if last.to == end && next_crc != 0 && last.last_crc != next_crc {
            return Err("the next segment was begun after another frame");
        }
    }
    // The segment's file may have been put back from elsewhere, its index not.
    match frame_at(segment, seed, last.last_frame) {
        Some((frame, crc))
            if crc == last.last_crc && last.last_frame.plus(frame.length()) == last.to => {}
        _ => return Err("the last frame that it covers is not there"),
    }
    if matches!(end, End::Known(end) if last.to == end) {
        return Ok(());
    }
    match frame_at(segment, seed, last.to) {
        Some((frame, _)) if frame.previous_crc != last.last_crc => {
            Err("the log goes on after another frame")
        }
        _ => Ok(()),
    }
}

fn frame_at(segment: &Segment, seed: Seed, position: Position) -> Option<(FrameHeader, u32)> {
    let at = position.0.checked_sub(segment.header.first.0)?;
    let mut bytes = [0; FRAME_HEADER_BYTES];
    segment.file.read_at(&mut bytes, at).ok()?;
    FrameHeader::decode(&bytes, seed, position)
}
