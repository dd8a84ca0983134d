//! A cold segment's file as readers find it.

use std::{collections::BTreeMap, io, sync::Arc};

use super::super::{
    AbortedRange, Disk, JournalId, PartitionId, Position,
    append::Replaced,
    format::{COLD_HEADER_BYTES, ChunkHeader, ColdHeader, Seed, SegmentHeader, align_up},
    index::{IndexFile, PartitionIndex, Summary, placed},
    log::Readable,
    recovery::{ColdStep, End, Scanner},
    segment::{Segment, cold_name},
};

/// A cold segment, found to be whole enough to be read.
#[derive(Clone, Debug)]
pub(in crate::journal) struct ColdSegment {
    pub(in crate::journal) readable: Readable,
    /// What it stands for.
    pub(in crate::journal) place: Replaced,
    /// Ms of open journal when the youngest of its data left its segment.
    pub(in crate::journal) settled_ms: u64,
}

/// Why a file is not what a fact tells of.
#[derive(Debug)]
pub(in crate::journal) enum ColdError {
    /// There is none.
    Missing,
    /// Nothing tells which offsets it stands for.
    Damaged,
    /// It stands for other positions, or is of another journal.
    Foreign,
    Io(io::Error),
}

/// The chunks behind the entries.
struct Chunks {
    chunk: ChunkHeader,
    summary: Summary,
    /// Whether both are there.
    whole: bool,
}

impl ColdSegment {
    /// Opens the file of a fact; whether something in it is damaged that can be done without.
    pub(in crate::journal) fn open(
        disk: &dyn Disk,
        journal: JournalId,
        sequence: u64,
        place: Replaced,
    ) -> Result<(Self, Summary, bool), ColdError> {
        let file = disk.open(&cold_name(sequence)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ColdError::Missing,
            _ => ColdError::Io(error),
        })?;
        let mut block = vec![0; COLD_HEADER_BYTES as usize];
        let header = file.read_at(&mut block, 0).ok().and_then(|()| ColdHeader::decode(&block));
        if let Some(header) = header {
            let told = Replaced { from: header.from, to: header.to };
            if header.journal != journal || header.sequence != sequence || told != place {
                return Err(ColdError::Foreign);
            }
        }
        let length = file.len().map_err(ColdError::Io)?;
        let segment = Arc::new(Segment { file, header: segment_header(journal, sequence, length) });
        let end = header.map(|header| header.end);
        let chunks = chunks(&segment, journal.seed(), end).ok_or(ColdError::Damaged)?;
        let readable = Readable { segment, end: End::Known(chunks.chunk.to) };
        let damaged = header.is_none() || !chunks.whole;
        let cold = Self { readable, place, settled_ms: chunks.chunk.open_ms };
        Ok((cold, chunks.summary, damaged))
    }

    pub(in crate::journal) fn first(&self) -> Position {
        self.readable.segment.header.first
    }

    pub(in crate::journal) fn sequence(&self) -> u64 {
        self.readable.segment.header.sequence
    }
}

/// A cold segment's addresses in the form of a segment's.
pub(in crate::journal) fn segment_header(
    journal: JournalId,
    sequence: u64,
    length: u64,
) -> SegmentHeader {
    let first = Position::of_cold(sequence);
    SegmentHeader {
        journal,
        sequence,
        first,
        length,
        previous_end: first,
        previous_crc: 0,
        max_bytes: 0,
    }
}

/// Where each batch is: from the index chunk, or by looking at the entries.
pub(in crate::journal) fn index(
    segment: &Segment,
    seed: Seed,
    end: End,
) -> io::Result<BTreeMap<PartitionId, PartitionIndex>> {
    let End::Known(to) = end else { return Ok(BTreeMap::new()) };
    let file = IndexFile::within(Arc::clone(&segment.file), seed, segment.header)?;
    let chunk = file.header(align_up(segment.at(to))).filter(|chunk| file.is_of_segment(chunk));
    if let Some((content, _)) = chunk.and_then(|chunk| file.content(&chunk)) {
        return Ok(content.partitions);
    }
    let mut scanner = Scanner::new(segment, seed, end)?;
    let mut partitions: BTreeMap<PartitionId, PartitionIndex> = BTreeMap::new();
    while let Some(step) = scanner.cold_step() {
        let ColdStep::Entry(entry) = step else {
            // What was here cannot be told from what was cleaned away.
            return Err(io::Error::new(io::ErrorKind::InvalidData, "index and entries damaged"));
        };
        let payload = entry.intact.then(|| scanner.payload(&entry));
        let placed = placed(&entry.header, entry.position, payload);
        partitions.entry(entry.header.partition).or_default().insert(&placed);
    }
    Ok(partitions)
}

/// The aborted ranges that are kept with it; none if nothing tells them.
pub(in crate::journal) fn aborted(
    segment: &Segment,
    seed: Seed,
    end: End,
) -> Vec<(PartitionId, AbortedRange)> {
    let End::Known(to) = end else { return Vec::new() };
    let found = chunks(segment, seed, Some(segment.at(to)));
    found.map_or_else(Vec::new, |chunks| chunks.summary.aborted)
}

fn chunks(segment: &Segment, seed: Seed, end: Option<u64>) -> Option<Chunks> {
    let file = IndexFile::within(Arc::clone(&segment.file), seed, segment.header).ok()?;
    let read = |chunk: ChunkHeader| {
        let chunk = Some(chunk).filter(|chunk| file.is_of_segment(chunk) && chunk.sealed)?;
        let (_, summary) = file.content(&chunk)?;
        Some((chunk, summary?))
    };
    let last = file.last_header().and_then(read);
    let end = end.or_else(|| Some(segment.at(last.as_ref()?.0.to)));
    let first = end.and_then(|end| file.header(align_up(end))).and_then(read);
    let whole = first.is_some() && last.is_some();
    let (chunk, summary) = first.or(last)?;
    Some(Chunks { chunk, summary, whole })
}
