//! Walks the frames of one segment and tells what each place holds: a frame, damage, or the end.

use std::io;

use super::super::{
    Position,
    format::{
        ALIGN, ENTRY_ALIGN, ENTRY_HEADER_BYTES, EntryHeader, EntryKind, FRAME_HEADER_BYTES,
        FrameHeader, Seed,
    },
    index::SlicePlace,
    segment::Segment,
};

/// How far behind the covered part of a segment valid frames are looked for, if something else is where the next one is
/// due. Index files are never that far behind the log; a file that was used before holds its old bytes up to its end.
pub(in crate::journal) const SEARCH_BYTES: u64 = 10 * 1024 * 1024;
/// Nobody looks for less than this: what is due here may be lost with its neighbours.
const SEARCH_LEAST: u64 = 4 * 1024 * 1024;
/// Read at once while scanning.
const WINDOW_BYTES: usize = 1024 * 1024;

/// Position in the frames of a segment.
#[derive(Debug)]
pub(in crate::journal) struct Scanner<'a> {
    window: Window<'a>,
    seed: Seed,
    at: Position,
    end: End,
    /// None: to the end of the segment.
    search_end: Option<Position>,
    closed: bool,
}

/// Where the frames of a segment end.
#[derive(Clone, Copy, Debug)]
pub(in crate::journal) enum End {
    /// A later segment says so: everything before is durable.
    Known(Position),
    /// Wherever the last valid frame ends.
    Open,
}

/// What is found at a place.
#[derive(Debug)]
pub(in crate::journal) enum Step {
    /// A frame, intact to the last entry.
    Frame(Frame),
    /// Not intact, although valid frames follow.
    Damage(Damage),
    /// No frame, and none follows.
    End(Tail),
}

/// An intact frame.
#[derive(Debug)]
pub(in crate::journal) struct Frame {
    pub(in crate::journal) header: FrameHeader,
    pub(in crate::journal) crc: u32,
    pub(in crate::journal) entries: Vec<FoundEntry>,
}

/// A damaged range with the entries that can still be told apart in it.
#[derive(Debug)]
pub(in crate::journal) struct Damage {
    pub(in crate::journal) from: Position,
    pub(in crate::journal) to: Position,
    pub(in crate::journal) survivors: Vec<FoundEntry>,
}

/// What is at the end of an open segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) enum Tail {
    /// Nothing of this journal.
    Clean,
    /// A frame's header at exactly the place where the next frame was due, with a bad body.
    Torn {
        /// Length of the frame.
        length: u64,
    },
    /// The block where the next frame was due cannot be read.
    Unreadable,
}

/// An entry with its place.
#[derive(Clone, Copy, Debug)]
pub(in crate::journal) struct FoundEntry {
    pub(in crate::journal) header: EntryHeader,
    pub(in crate::journal) position: Position,
    /// Whether the payload is intact too.
    pub(in crate::journal) intact: bool,
}

impl<'a> Scanner<'a> {
    pub(in crate::journal) fn new(segment: &'a Segment, seed: Seed, end: End) -> io::Result<Self> {
        Self::resume(segment, seed, end, segment.header.frames())
    }

    /// Begins where a frame is due further on.
    pub(in crate::journal) fn resume(
        segment: &'a Segment,
        seed: Seed,
        end: End,
        at: Position,
    ) -> io::Result<Self> {
        let window = Window::new(segment)?;
        Ok(Self { window, seed, at, end, search_end: None, closed: false })
    }

    /// Begins behind what an index file covers, or at the first frame if it covers nothing.
    pub(in crate::journal) fn behind(
        segment: &'a Segment,
        seed: Seed,
        end: End,
        covered: Option<Position>,
    ) -> io::Result<Self> {
        let at = covered.unwrap_or(segment.header.frames());
        let search_end = covered.map(|covered| covered.plus(SEARCH_BYTES));
        Ok(Self { search_end, ..Self::resume(segment, seed, end, at)? })
    }

    /// Address of the next step.
    pub(in crate::journal) fn position(&self) -> Position {
        self.at
    }

    /// Bytes read from the file.
    pub(in crate::journal) fn scanned_bytes(&self) -> u64 {
        self.window.read_bytes
    }

    /// What is at the next place.
    pub(in crate::journal) fn step(&mut self) -> Step {
        let limit = self.limit();
        if self.at >= limit || self.closed {
            return Step::End(Tail::Clean);
        }
        let Some((header, crc)) = self.frame_header(self.at) else {
            return self.no_frame(limit);
        };
        let frame_end = self.at.plus(header.length());
        if let Some(entries) = self.intact_entries(&header) {
            self.at = frame_end;
            // Nothing follows an orderly end: no need to search the rest of the segment.
            self.closed = entries.iter().any(|entry| entry.header.kind == EntryKind::Close);
            return Step::Frame(Frame { header, crc, entries });
        }
        if matches!(self.end, End::Open) && self.find_frame(frame_end, limit).is_none() {
            return Step::End(Tail::Torn { length: header.length() });
        }
        let entries_end = self.at.plus(FRAME_HEADER_BYTES as u64 + u64::from(header.entries_bytes));
        self.damage(self.at.plus(FRAME_HEADER_BYTES as u64), entries_end, frame_end)
    }

    /// Payload of an entry that was found.
    pub(in crate::journal) fn payload(&mut self, entry: &FoundEntry) -> &[u8] {
        let at = entry.position.plus(ENTRY_HEADER_BYTES as u64);
        self.window.get(at, entry.header.length as usize).unwrap_or_default()
    }

    /// Payload of a snapshot slice that an index tells of, if the slice is there.
    pub(in crate::journal) fn slice(&mut self, place: &SlicePlace) -> Option<&[u8]> {
        let seed = self.seed;
        let entry = self.window.get(place.position, place.length as usize)?;
        let header =
            EntryHeader::decode(entry.first_chunk::<ENTRY_HEADER_BYTES>()?, seed, place.position)?;
        let fits = header.kind == EntryKind::Slice
            && (header.partition.0, header.count) == (place.index, place.total)
            && EntryHeader::verify(entry, seed, place.position);
        entry.get(ENTRY_HEADER_BYTES..).filter(|_| fits)
    }

    /// Raw bytes, cut off at the end of the file.
    pub(in crate::journal) fn raw(&mut self, at: Position, length: u64) -> &[u8] {
        let there = self.window.segment.header.first.plus(self.window.file_bytes);
        let length = length.min(there.0.saturating_sub(at.0));
        usize::try_from(length).ok().and_then(|length| self.window.get(at, length)).unwrap_or(&[])
    }

    fn limit(&self) -> Position {
        match self.end {
            End::Known(end) => end.min(self.window.segment.header.end()),
            End::Open => self.window.segment.header.end(),
        }
    }

    fn no_frame(&mut self, limit: Position) -> Step {
        let unreadable = self.window.is_unreadable(self.at);
        match (self.find_frame(self.at.plus(ALIGN), limit), self.end) {
            (Some(next), _) => self.damage(self.at, next, next),
            (None, End::Known(end)) => self.damage(self.at, limit, end),
            (None, End::Open) if unreadable => Step::End(Tail::Unreadable),
            (None, End::Open) => Step::End(Tail::Clean),
        }
    }

    /// The header of a frame that fits before the limit.
    fn frame_header(&mut self, at: Position) -> Option<(FrameHeader, u32)> {
        let limit = self.limit();
        let bytes = self.window.get(at, FRAME_HEADER_BYTES)?.first_chunk()?;
        let (header, crc) = FrameHeader::decode(bytes, self.seed, at)?;
        (at.plus(header.length()) <= limit).then_some((header, crc))
    }

    /// The entries of a frame, if it is intact as a whole.
    fn intact_entries(&mut self, frame: &FrameHeader) -> Option<Vec<FoundEntry>> {
        let seed = self.seed;
        let start = frame.position.plus(FRAME_HEADER_BYTES as u64);
        let body = self.window.get(start, frame.entries_bytes as usize)?;
        let mut entries = Vec::new();
        let mut entries_crc = seed.crc(&[]);
        let mut at = 0;
        while let Some(bytes) = body.get(at..).filter(|rest| !rest.is_empty()) {
            let position = start.plus(at as u64);
            let encoded = bytes.first_chunk::<ENTRY_HEADER_BYTES>()?;
            let header = EntryHeader::decode(encoded, seed, position)?;
            let entry = bytes.get(..ENTRY_HEADER_BYTES + header.length as usize)?;
            if !EntryHeader::verify(entry, seed, position) && !planted!(TornServed) {
                return None;
            }
            entries_crc = crc32c::crc32c_append(entries_crc, &EntryHeader::stored_crc(encoded));
            entries.push(FoundEntry { header, position, intact: true });
            at += header.size();
        }
        let whole = entries.len() == frame.entry_count as usize && entries_crc == frame.entries_crc;
        (whole || planted!(TornServed)).then_some(entries)
    }

    /// The next place at which a frame of this journal begins.
    fn find_frame(&mut self, from: Position, limit: Position) -> Option<Position> {
        // Further on the index has stopped for a reason of its own, and tells nothing.
        let limit = match self.end {
            End::Open => {
                self.search_end.filter(|end| from.plus(SEARCH_LEAST) < *end).unwrap_or(limit)
            }
            End::Known(_) => limit,
        };
        let mut at = from;
        while at < limit {
            if !self.window.holds(at) {
                at = self.window.next_data(at)?;
            }
            if self.frame_header(at).is_some() {
                return Some(at);
            }
            at = at.plus(ALIGN);
        }
        None
    }

    /// Classifies the entries between two places one by one, and goes on behind the damage.
    fn damage(&mut self, from: Position, to: Position, next: Position) -> Step {
        let start = self.at;
        let mut survivors = Vec::new();
        let mut at = from;
        while at < to {
            let Some(header) = self.entry_header(at, to) else {
                at = at.plus(ENTRY_ALIGN as u64);
                continue;
            };
            let length = ENTRY_HEADER_BYTES + header.length as usize;
            let seed = self.seed;
            let intact = self
                .window
                .get(at, length)
                .is_some_and(|entry| EntryHeader::verify(entry, seed, at));
            survivors.push(FoundEntry { header, position: at, intact });
            at = at.plus(header.size() as u64);
        }
        self.at = next;
        Step::Damage(Damage { from: start, to: next, survivors })
    }

    fn entry_header(&mut self, at: Position, limit: Position) -> Option<EntryHeader> {
        let bytes = self.window.get(at, ENTRY_HEADER_BYTES)?.first_chunk()?;
        let header = EntryHeader::decode(bytes, self.seed, at)?;
        let end = at.plus(ENTRY_HEADER_BYTES as u64 + u64::from(header.length));
        (end <= limit).then_some(header)
    }
}

/// The part of a segment's file that is in memory.
#[derive(Debug)]
struct Window<'a> {
    segment: &'a Segment,
    file_bytes: u64,
    buffer: Vec<u8>,
    /// Place in the file of the buffer's first byte.
    start: u64,
    read_bytes: u64,
    unreadable: Vec<u64>,
}

impl<'a> Window<'a> {
    fn new(segment: &'a Segment) -> io::Result<Self> {
        let file_bytes = segment.file.len()?.min(segment.header.length);
        Ok(Self {
            segment,
            file_bytes,
            buffer: Vec::new(),
            start: 0,
            read_bytes: 0,
            unreadable: Vec::new(),
        })
    }

    /// Bytes at a position; none past the end of the file.
    fn get(&mut self, position: Position, length: usize) -> Option<&[u8]> {
        let at = position.0.checked_sub(self.segment.header.first.0)?;
        let end = at.checked_add(length as u64)?;
        if end > self.file_bytes {
            return None;
        }
        if at < self.start || end > self.start + self.buffer.len() as u64 {
            self.load(at, length);
        }
        let from = usize::try_from(at - self.start).ok()?;
        self.buffer.get(from..from + length)
    }

    /// Whether a block is in memory.
    fn holds(&self, position: Position) -> bool {
        let at = position.0.saturating_sub(self.segment.header.first.0);
        (self.start..self.start + self.buffer.len() as u64).contains(&at)
    }

    /// The block that this position, or the next one that was ever written, is in.
    fn next_data(&self, position: Position) -> Option<Position> {
        let at = position.0.checked_sub(self.segment.header.first.0)?;
        let next = self.segment.file.next_data(at).unwrap_or(Some(at))?;
        Some(self.segment.header.first.plus(next / ALIGN * ALIGN))
    }

    /// Moves the window to a place, keeping what is already in memory.
    fn load(&mut self, at: u64, length: usize) {
        let start = at / ALIGN * ALIGN;
        let wanted = (at - start) + length as u64;
        let size = wanted.max(WINDOW_BYTES as u64).min(self.file_bytes - start);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let kept = start
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|&skip| skip < self.buffer.len())
            .map_or(0, |skip| {
                self.buffer.copy_within(skip.., 0);
                self.buffer.len() - skip
            });
        self.buffer.resize(size, 0);
        self.start = start;
        if let Some(missing) = self.buffer.get_mut(kept..) {
            let at = start + kept as u64;
            self.read_bytes += missing.len() as u64;
            if self.segment.file.read_at(missing, at).is_err() {
                self.load_by_block(kept);
            }
        }
    }

    /// A block that the disk refuses is taken as zeros: no CRC accepts them.
    fn load_by_block(&mut self, from: usize) {
        let blocks = self.buffer.get_mut(from..).unwrap_or_default().chunks_mut(ALIGN as usize);
        for (index, block) in (0..).zip(blocks) {
            let at = self.start + from as u64 + index * ALIGN;
            if self.segment.file.read_at(block, at).is_err() {
                block.fill(0);
                let block_at = at / ALIGN * ALIGN;
                if !self.unreadable.contains(&block_at) {
                    self.unreadable.push(block_at);
                }
            }
        }
    }

    fn is_unreadable(&self, position: Position) -> bool {
        let at = position.0.saturating_sub(self.segment.header.first.0) / ALIGN * ALIGN;
        self.unreadable.contains(&at)
    }
}
