//! Which files are there and what each one is: a segment, prepared space, or nothing of this journal.

use std::{collections::BTreeMap, sync::Arc};

use super::super::{
    Disk, DiskFile, JournalId, OpenError, Position,
    format::{
        ALIGN, FORMAT_VERSION, FRAME_HEADER_BYTES, FrameHeader, HeaderError, SEGMENT_HEADER_BYTES,
        SegmentHeader,
    },
    segment::{Prepared, SEGMENT_FOLDER, Segment, Spare, sequence_of, spare_number_of},
};
use super::{
    super::index::{index_name, segment_of_index},
    leftovers::DeadFile,
};

/// The files of the segment folder, sorted out.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// None: there is no journal yet.
    pub(super) journal: Option<JournalId>,
    /// By sequence.
    pub(super) segments: BTreeMap<u64, Found>,
    /// Space without content, by the sequence in its name.
    pub(super) spares: BTreeMap<u64, SpareFile>,
    /// Files that left the log; what is in them means nothing.
    pub(super) recycled: Vec<Spare>,
    /// Addresses that files may hold which were named for a new segment and still have an old header.
    begun_bytes: u64,
    /// Lengths of the index files, by the sequence in their names.
    pub(super) indexes: BTreeMap<u64, u64>,
    /// Files to set aside: doubled, or unreadable.
    pub(super) misfits: Vec<String>,
    /// Largest sequence in any name or header.
    pub(super) last_sequence: u64,
    /// Largest sequence in any header.
    pub(super) newest_sequence: u64,
    /// `storage.max_bytes` in that header.
    pub(super) max_bytes: Option<u64>,
    /// First address behind every segment that was ever begun, as far as the files tell.
    pub(super) next_first: Position,
}

/// A segment's file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) segment: Arc<Segment>,
    /// Whether the header was intact; if not, it was put together from the frames.
    pub(super) header_intact: bool,
}

/// A file that holds space but no segment.
#[derive(Debug)]
pub(super) struct SpareFile {
    pub(super) name: String,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) length: u64,
}

impl Found {
    /// Whether it begins at a position.
    pub(super) fn is_at(&self, first: Position) -> bool {
        self.segment.header.first == first
    }

    /// For removal.
    pub(super) fn into_dead(self) -> DeadFile {
        let length = self.segment.file.len().unwrap_or(0);
        DeadFile { name: self.name, length }
    }

    /// For use again, with the number in its name.
    pub(super) fn into_spare(self) -> (u64, Spare) {
        let length = self.segment.file.len().unwrap_or(0);
        let sequence = self.segment.header.sequence;
        let number = self.name.rsplit('/').next().and_then(sequence_of).unwrap_or(sequence);
        (number, Spare { file: Arc::clone(&self.segment.file), name: self.name, length })
    }
}

impl SpareFile {
    /// For removal.
    pub(super) fn into_dead(self) -> DeadFile {
        DeadFile { name: self.name, length: self.length }
    }

    /// For use, under the sequence of its name.
    pub(super) fn prepared(self, sequence: u64) -> Prepared {
        Prepared { file: self.file, sequence, length: self.length }
    }
}

/// A file whose first block is no header.
struct Unheaded {
    name: String,
    sequence: u64,
    file: Arc<dyn DiskFile>,
    length: u64,
    /// The disk refused to read it; what was never written reads as zeros.
    refused: bool,
}

impl Survey {
    /// Index files of no segment, for removal.
    pub(super) fn unowned_indexes(&mut self, owned: impl Fn(u64) -> bool) -> Vec<DeadFile> {
        let indexes = std::mem::take(&mut self.indexes).into_iter();
        let unowned = indexes.filter(|(sequence, _)| !owned(*sequence));
        unowned.map(|(sequence, length)| DeadFile { name: index_name(sequence), length }).collect()
    }

    pub(super) fn take(disk: &dyn Disk) -> Result<Self, OpenError> {
        let mut survey = Self::default();
        let mut unheaded = Vec::new();
        let mut owner = String::new();
        let names = disk.list(SEGMENT_FOLDER).map_err(OpenError::io("list the journal folder"))?;
        for file_name in names {
            if let Some(number) = spare_number_of(&file_name) {
                survey.last_sequence = survey.last_sequence.max(number);
                let name = format!("{SEGMENT_FOLDER}/{file_name}");
                let file = disk.open(&name).map_err(OpenError::io(format!("open {name}")))?;
                let length = file.len().map_err(OpenError::io(format!("length of {name}")))?;
                survey.recycled.push(Spare { file, name, length });
                continue;
            }
            if let Some(sequence) = segment_of_index(&file_name) {
                // A sequence that an index file names is not used again: it would be taken for the new one's.
                survey.last_sequence = survey.last_sequence.max(sequence);
                let length = disk.open(&index_name(sequence)).and_then(|file| file.len());
                survey.indexes.insert(sequence, length.unwrap_or(0));
                continue;
            }
            let Some(sequence) = sequence_of(&file_name) else {
                tracing::warn!(file = file_name, "not a segment, left alone");
                continue;
            };
            survey.last_sequence = survey.last_sequence.max(sequence);
            let name = format!("{SEGMENT_FOLDER}/{file_name}");
            let file = disk.open(&name).map_err(OpenError::io(format!("open {name}")))?;
            let length = file.len().map_err(OpenError::io(format!("length of {name}")))?;
            let mut block = [0; SEGMENT_HEADER_BYTES as usize];
            // Once more: some errors pass, and without its header a segment is hardly a segment.
            let refused = length >= SEGMENT_HEADER_BYTES
                && file.read_at(&mut block, 0).is_err()
                && file.read_at(&mut block, 0).is_err();
            if refused {
                tracing::error!(file = name, "the header of this file cannot be read");
                block.fill(0);
            }
            match SegmentHeader::decode(&block) {
                Err(HeaderError::Version(found)) => {
                    return Err(OpenError::Version { file: name, found, known: FORMAT_VERSION });
                }
                Err(HeaderError::Unreadable) => {
                    unheaded.push(Unheaded { name, sequence, file, length, refused });
                }
                Ok(header) => {
                    let known = *survey.journal.get_or_insert(header.journal);
                    if known != header.journal {
                        return Err(OpenError::Foreign { file: name, other: owner });
                    }
                    owner.clone_from(&name);
                    survey.add(name, sequence, Segment { file, header }, true);
                }
            }
        }
        survey.sort_out(unheaded)?;
        Ok(survey)
    }

    fn add(&mut self, name: String, named: u64, segment: Segment, header_intact: bool) {
        let sequence = segment.header.sequence;
        if named > sequence {
            // Perhaps space used again, whose first frame is there and its header is not.
            self.begun_bytes += segment.header.length;
        }
        self.last_sequence = self.last_sequence.max(sequence);
        if sequence >= self.newest_sequence {
            self.newest_sequence = sequence;
            if header_intact {
                self.max_bytes = Some(segment.header.max_bytes);
            }
        }
        self.next_first = self.next_first.max(segment.header.end());
        let found = Found { name, segment: Arc::new(segment), header_intact };
        let Some(other) = self.segments.remove(&sequence) else {
            self.segments.insert(sequence, found);
            return;
        };
        // A copied file: the one under the right name stays.
        let (keep, double) = if named == sequence { (found, other) } else { (other, found) };
        tracing::error!(
            file = double.name,
            kept = keep.name,
            position = double.segment.header.first.0,
            length = double.segment.file.len().unwrap_or(0),
            "two files hold one segment: this one is set aside"
        );
        self.misfits.push(double.name);
        self.segments.insert(sequence, keep);
    }

    fn sort_out(&mut self, unheaded: Vec<Unheaded>) -> Result<(), OpenError> {
        for file in unheaded {
            match self.journal.and_then(|journal| self.rebuild_header(journal, &file)) {
                Some(header) => {
                    tracing::error!(file = file.name, "segment header is damaged, frames are not");
                    let segment = Segment { file: file.file, header };
                    self.add(file.name, file.sequence, segment, false);
                }
                None if self.journal.is_none() && looks_used(&file) => {
                    return Err(OpenError::NoIdentity { file: file.name });
                }
                None => {
                    // Begun or only prepared; if begun, nothing in it was ever acknowledged, but its
                    // addresses may be on the medium.
                    self.next_first = self.next_first.plus(file.length.next_multiple_of(ALIGN));
                    let Unheaded { name, sequence, file, length, .. } = file;
                    self.spares.insert(sequence, SpareFile { name, file, length });
                }
            }
        }
        self.next_first = self.next_first.plus(self.begun_bytes);
        Ok(())
    }

    /// A header that fits the frames in the file: each of them tells its own position. The first
    /// frame alone is no proof that the header was ever there: both are written at once, and until
    /// both are durable the segment does not exist. A later frame is one, or a later segment, or a
    /// header that is there but cannot be read. Frames of before the file was used again are none.
    fn rebuild_header(&self, journal: JournalId, file: &Unheaded) -> Option<SegmentHeader> {
        let mut header: Option<SegmentHeader> = None;
        let mut frames = 0;
        frame_candidates(file, |at, block| {
            let first = FrameHeader::position_of(block)
                .filter(|&position| FrameHeader::decode(block, journal.seed(), position).is_some())
                .and_then(|position| position.0.checked_sub(at));
            if let Some(first) = first {
                let same = header.is_none_or(|header| header.first == Position(first));
                frames += u64::from(same);
                header.get_or_insert(SegmentHeader {
                    journal,
                    sequence: file.sequence,
                    first: Position(first),
                    length: file.length,
                    previous_end: Position(first),
                    previous_crc: 0,
                    max_bytes: 0,
                });
            }
            frames > 1
        });
        header
            .filter(|header| frames > 1 || file.refused || self.is_referred_to(header))
            .filter(|header| !self.is_before_its_time(header))
    }

    /// Addresses grow with the sequence: a file named for a later segment than one that lies behind
    /// it holds what was there before it was used again.
    fn is_before_its_time(&self, segment: &SegmentHeader) -> bool {
        let known = self.segments.values().map(|other| other.segment.header);
        known
            .into_iter()
            .any(|other| other.sequence < segment.sequence && other.first > segment.first)
    }

    fn is_referred_to(&self, segment: &SegmentHeader) -> bool {
        self.segments.values().any(|later| {
            let end = later.segment.header.previous_end;
            segment.first < end && end <= segment.end()
        })
    }
}

/// Calls a function with every block of a file that looks like the start of a frame, until it says stop.
fn frame_candidates(
    file: &Unheaded,
    mut found: impl FnMut(u64, &[u8; FRAME_HEADER_BYTES]) -> bool,
) {
    let mut block = [0; FRAME_HEADER_BYTES];
    let mut at = SEGMENT_HEADER_BYTES;
    while at + ALIGN <= file.length {
        // Prepared space was never written to: reading all of it would take a card seconds.
        match file.file.next_data(at) {
            Ok(Some(next)) => at = at.max(next / ALIGN * ALIGN),
            Ok(None) => return,
            Err(_) => {}
        }
        if at + ALIGN > file.length {
            return;
        }
        if file.file.read_at(&mut block, at).is_ok() && found(at, &block) {
            return;
        }
        at += ALIGN;
    }
}

/// Whether a file holds frames behind its first one, of whatever journal. The first frame of a
/// new journal holds nothing but a barrier, so a file with only that was never written to.
fn looks_used(file: &Unheaded) -> bool {
    let mut used = false;
    frame_candidates(file, |at, block| {
        used = at > SEGMENT_HEADER_BYTES && FrameHeader::has_magic(block);
        used
    });
    used
}
