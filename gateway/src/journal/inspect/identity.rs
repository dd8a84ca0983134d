//! A journal of which no segment header is left: its identity, from the frames.
//!
//! Nothing needs the journal id but the seed of all CRCs, which is the id's CRC. A CRC can be run backwards: each
//! frame header tells the seed that it was made with, and frames that agree on one are of that journal. An id with
//! this CRC does all that the lost one did.

use std::{collections::BTreeMap, io};

use crate::journal::{
    Disk, JournalId, Position,
    format::{ALIGN, FRAME_HEADER_BYTES, FrameHeader, SEGMENT_HEADER_BYTES, Seed, SegmentHeader},
    segment::{SEGMENT_FOLDER, sequence_of},
};

/// Frames that have to agree: one alone could say anything.
const MIN_FRAMES: usize = 2;
/// CRC-32C, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// What ids begin with that were made up for a lost one.
const ID_PREFIX: &[u8; 12] = b"headwater-id";
const MIN_MAX_BYTES: u64 = 16 << 20;
/// Segments are `storage.max_bytes` by this, unless the limits of their size say otherwise.
const SEGMENTS: u64 = 16;

/// Segment headers that were put together.
#[derive(Debug)]
pub(super) struct Rebuilt {
    /// By file.
    pub(super) headers: BTreeMap<String, SegmentHeader>,
    /// Files with frames of something else.
    pub(super) strangers: Vec<String>,
}

/// A frame's header with its place.
struct FoundFrame {
    file: usize,
    at: u64,
    header: FrameHeader,
    crc: u32,
}

struct Candidate {
    name: String,
    sequence: u64,
    length: u64,
    /// Blocks that look like frame headers.
    blocks: Vec<(u64, [u8; FRAME_HEADER_BYTES])>,
}

/// Headers for all segment files that hold frames of the journal that most frames are of. None: no two frames agree.
pub(super) fn rebuild(disk: &dyn Disk) -> io::Result<Option<Rebuilt>> {
    let mut files = Vec::new();
    for name in disk.list(SEGMENT_FOLDER)? {
        let Some(sequence) = sequence_of(&name) else { continue };
        files.push(candidate(disk, format!("{SEGMENT_FOLDER}/{name}"), sequence)?);
    }
    let blocks = files.iter().flat_map(|file| &file.blocks);
    let Some(seed) = most_common(blocks.map(|(_, block)| seed_of(block))) else { return Ok(None) };
    let journal = id_with(seed);
    let frames = frames(&files, journal.seed());
    let mut rebuilt = Rebuilt { headers: BTreeMap::new(), strangers: Vec::new() };
    for (index, file) in files.iter().enumerate() {
        match header(&frames, index, file, journal) {
            Some(header) => drop(rebuilt.headers.insert(file.name.clone(), header)),
            None if !file.blocks.is_empty() => rebuilt.strangers.push(file.name.clone()),
            None => {}
        }
    }
    Ok(Some(rebuilt))
}

fn candidate(disk: &dyn Disk, name: String, sequence: u64) -> io::Result<Candidate> {
    let file = disk.open(&name)?;
    let length = file.len()?;
    let mut blocks = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES;
    while at + ALIGN <= length {
        let mut block = [0; FRAME_HEADER_BYTES];
        if file.read_at(&mut block, at).is_ok() && FrameHeader::has_magic(&block) {
            blocks.push((at, block));
        }
        at += ALIGN;
    }
    Ok(Candidate { name, sequence, length, blocks })
}

/// The most frequent value, if it comes often enough.
fn most_common(values: impl Iterator<Item = u32>) -> Option<u32> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    let (value, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    (count >= MIN_FRAMES).then_some(value)
}

/// Intact frame headers, in the order of their files.
fn frames(files: &[Candidate], seed: Seed) -> Vec<FoundFrame> {
    let mut found = Vec::new();
    for (file, candidate) in files.iter().enumerate() {
        for (at, block) in &candidate.blocks {
            let position = FrameHeader::position_of(block);
            let decoded = position.and_then(|position| FrameHeader::decode(block, seed, position));
            found.extend(decoded.map(|(header, crc)| FoundFrame { file, at: *at, header, crc }));
        }
    }
    found
}

/// The header that a file had, from its first frame and from the frame that this one names as its predecessor.
fn header(
    frames: &[FoundFrame],
    file: usize,
    candidate: &Candidate,
    journal: JournalId,
) -> Option<SegmentHeader> {
    let own = frames.iter().find(|frame| frame.file == file)?;
    let first = Position(own.header.position.0.checked_sub(own.at)?);
    let is_first = own.at == SEGMENT_HEADER_BYTES;
    let previous_crc = if is_first { own.header.previous_crc } else { 0 };
    let before = frames.iter().find(|frame| {
        previous_crc != 0 && frame.crc == previous_crc && frame.header.position < first
    });
    let previous_end = match before {
        Some(before) => before.header.position.plus(before.header.length()),
        // The first one of all has nothing before it.
        None if is_first && previous_crc == 0 && first == Position(0) => Position(0),
        None => first,
    };
    Some(SegmentHeader {
        journal,
        sequence: candidate.sequence,
        first,
        length: candidate.length.max(SEGMENT_HEADER_BYTES + ALIGN),
        previous_end,
        previous_crc: before.map_or(0, |_| previous_crc),
        max_bytes: (candidate.length * SEGMENTS).max(MIN_MAX_BYTES),
    })
}

/// The seed with which a frame header has the CRC that it has.
fn seed_of(block: &[u8; FRAME_HEADER_BYTES]) -> u32 {
    let (bytes, _) = block.split_at(FRAME_HEADER_BYTES - 4);
    backwards(FrameHeader::crc_of(block), bytes)
}

/// An id with this CRC.
fn id_with(seed: u32) -> JournalId {
    let table = table();
    let mut state = !seed;
    for _ in 0..4 {
        state = step_back(&table, state, 0);
    }
    let last = !crc32c::crc32c(ID_PREFIX) ^ state;
    let mut id = [0; 16];
    let (prefix, suffix) = id.split_at_mut(ID_PREFIX.len());
    prefix.copy_from_slice(ID_PREFIX);
    suffix.copy_from_slice(&last.to_le_bytes());
    JournalId(id)
}

/// The CRC that these bytes were appended to.
fn backwards(crc: u32, bytes: &[u8]) -> u32 {
    let table = table();
    !bytes.iter().rev().fold(!crc, |state, byte| step_back(&table, state, *byte))
}

fn step_back(table: &[u32; 256], state: u32, byte: u8) -> u32 {
    // The top bytes of the table are all different.
    let index = table.iter().position(|entry| entry >> 24 == state >> 24).unwrap_or(0);
    let entry = table.get(index).copied().unwrap_or(0);
    ((state ^ entry) << 8) | (index as u32 ^ u32::from(byte))
}

fn table() -> [u32; 256] {
    std::array::from_fn(|index| {
        (0..8).fold(
            index as u32,
            |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crc_runs_backwards_and_an_id_has_the_crc_that_is_wanted() {
        for seed in [0, 1, 0xffff_ffff, 0x1234_5678, 0xdead_beef] {
            let bytes = b"some bytes of a frame header";
            assert_eq!(backwards(crc32c::crc32c_append(seed, bytes), bytes), seed);
            let JournalId(id) = id_with(seed);
            assert_eq!(crc32c::crc32c(&id), seed);
        }
    }

    #[test]
    fn one_frame_alone_is_not_believed() {
        assert_eq!(most_common([7].into_iter()), None);
        assert_eq!(most_common([7, 8, 9].into_iter()), None);
        assert_eq!(most_common([7, 8, 7].into_iter()), Some(7));
    }
}
