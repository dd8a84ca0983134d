//! From the entries of all segments to state and index.

use std::{io, sync::Arc};

use super::{
    super::{
        Change, Position, RecoveryReport, State,
        format::{
            Barrier, ENTRY_HEADER_BYTES, EntryHeader, EntryKind, FactRef, SEGMENT_HEADER_BYTES,
            Seed,
        },
        index::{Location, Placed},
        log::Log,
        reader::batch_header,
        segment::Segment,
        state::SnapshotReader,
    },
    carried::Carried,
    scan::{Damage, End, FoundEntry, Frame, Scanner, Step, Tail},
    survey::Found,
};
use crate::record::BatchHeader;

/// Builds state and index, segment by segment in order.
#[derive(Debug)]
pub(super) struct Replay {
    seed: Seed,
    pub(super) state: State,
    pub(super) log: Log,
    pub(super) report: RecoveryReport,
    /// CRC of the last frame, none after damage.
    last_crc: Option<u32>,
    /// Where the last frame ends.
    frames_end: Position,
    /// Age of the journal at the last frame.
    pub(super) open_ms: u64,
    /// Whether entries change the state yet: not before the segment whose snapshot it began with.
    pub(super) into_state: bool,
    /// Damage where entries were to change the state.
    pub(super) state_damaged: bool,
}

/// How the log ends.
#[derive(Debug, Default)]
pub(super) struct LogEnd {
    /// Everything from here on is void.
    pub(super) cut: Position,
    /// CRC of the last frame before the cut.
    pub(super) cut_crc: u32,
    /// The last frame's entries, if nothing proves them durable.
    pub(super) carried: Option<Carried>,
    /// Whether the last frame is the mark of an orderly end.
    pub(super) closed: bool,
    /// What lies behind the last frame.
    pub(super) tail: Option<(Arc<Segment>, Position, Tail)>,
}

impl LogEnd {
    /// Where the last segment holds nothing any more, not even something torn.
    pub(super) fn unused(&self) -> Option<(Arc<Segment>, Position)> {
        let (segment, at, tail) = self.tail.as_ref()?;
        let torn = match tail {
            Tail::Clean => 0,
            Tail::Torn { length } => *length,
            Tail::Unreadable => return None,
        };
        Some((Arc::clone(segment), at.plus(torn)))
    }
}

impl Replay {
    pub(super) fn new(seed: Seed) -> Self {
        Self {
            seed,
            state: State::default(),
            log: Log::default(),
            report: RecoveryReport::default(),
            last_crc: None,
            frames_end: Position(0),
            open_ms: 0,
            into_state: false,
            state_damaged: false,
        }
    }

    /// A segment that is not the last: it ends where the next one says, and all in it is durable.
    pub(super) fn sealed(&mut self, found: &Found, end: End) -> io::Result<()> {
        let segment = &found.segment;
        self.enter(found);
        let mut scanner = Scanner::new(segment, self.seed, end)?;
        loop {
            match scanner.step() {
                Step::Frame(frame) => {
                    self.chain(&frame, segment);
                    self.entries(&mut scanner, &frame.entries, frame.header.open_ms);
                }
                Step::Damage(damage) => self.damage(&mut scanner, &damage, segment),
                Step::End(_) => break,
            }
        }
        self.report.scanned_bytes += scanner.scanned_bytes();
        Ok(())
    }

    /// The last segment. The last frame with data is held back until a later frame proves it.
    pub(super) fn last(&mut self, found: &Found) -> io::Result<LogEnd> {
        let segment = &found.segment;
        // As long as the segment holds no data, the log ends in the one before.
        let (before, before_crc) = if found.header_intact {
            (segment.header.previous_end, segment.header.previous_crc)
        } else {
            (self.frames_end, self.last_crc.unwrap_or(0))
        };
        self.enter(found);
        let mut scanner = Scanner::new(segment, self.seed, End::Open)?;
        let mut end = LogEnd { cut: before, cut_crc: before_crc, ..LogEnd::default() };
        let mut held: Option<(Frame, u32)> = None;
        loop {
            let at = scanner.position();
            match scanner.step() {
                Step::Frame(frame) => {
                    let before = self.last_crc.unwrap_or(0);
                    self.chain(&frame, segment);
                    self.release(&mut scanner, held.take(), &mut end);
                    end.closed =
                        frame.entries.iter().any(|entry| entry.header.kind == EntryKind::Close);
                    if frame.entries.iter().any(|entry| Carried::takes(entry.header.kind)) {
                        self.barriers(&mut scanner, &frame);
                        held = Some((frame, before));
                    } else {
                        self.entries(&mut scanner, &frame.entries, frame.header.open_ms);
                    }
                }
                Step::Damage(damage) => {
                    self.release(&mut scanner, held.take(), &mut end);
                    self.damage(&mut scanner, &damage, segment);
                    (end.cut, end.cut_crc) = (damage.to, 0);
                    end.closed = false;
                }
                Step::End(tail) => {
                    end.tail = Some((Arc::clone(segment), at, tail));
                    break;
                }
            }
        }
        if planted!(CarriedInPlace) {
            self.release(&mut scanner, held.take(), &mut end);
        }
        if let Some((frame, crc)) = held {
            if frame.header.position > segment.header.frames() {
                (end.cut, end.cut_crc) = (frame.header.position, crc);
            } else {
                // It is the first frame: without it the segment is empty.
                (end.cut, end.cut_crc) = (before, before_crc);
            }
            end.carried = Some(carry(&mut scanner, &frame));
        }
        self.report.scanned_bytes += scanner.scanned_bytes();
        Ok(end)
    }

    /// A held frame turned out to be proven: it stays where it is.
    fn release(&mut self, scanner: &mut Scanner<'_>, held: Option<(Frame, u32)>, end: &mut LogEnd) {
        if let Some((frame, _)) = held {
            self.entries(scanner, &frame.entries, frame.header.open_ms);
            end.cut = frame.header.position.plus(frame.header.length());
            end.cut_crc = frame.crc;
        }
    }

    /// Barriers count even in a frame that is held back: what they bumped must not be used again.
    fn barriers(&mut self, scanner: &mut Scanner<'_>, frame: &Frame) {
        for entry in frame.entries.iter().filter(|entry| entry.header.kind == EntryKind::Barrier) {
            let payload = scanner.payload(entry);
            apply(&mut self.state, &entry.header, Some(payload), frame.header.open_ms);
        }
    }

    fn enter(&mut self, found: &Found) {
        let segment = &found.segment;
        if !found.header_intact {
            self.report.damaged_ranges += 1;
            self.report.damaged_bytes += SEGMENT_HEADER_BYTES;
            self.last_crc = None;
            return;
        }
        let follows = |crc| crc == segment.header.previous_crc || planted!(SkipChainCheck);
        if self.last_crc.is_some_and(|crc| !follows(crc)) {
            self.broken_chain(segment, segment.header.first);
            self.last_crc = Some(segment.header.previous_crc);
        }
    }

    fn chain(&mut self, frame: &Frame, segment: &Segment) {
        let follows = |crc| crc == frame.header.previous_crc || planted!(SkipChainCheck);
        if self.last_crc.is_some_and(|crc| !follows(crc)) {
            self.broken_chain(segment, frame.header.position);
        }
        self.last_crc = Some(frame.crc);
        self.frames_end = frame.header.position.plus(frame.header.length());
        self.open_ms = self.open_ms.max(frame.header.open_ms);
    }

    fn broken_chain(&mut self, segment: &Segment, position: Position) {
        self.report.broken_chains += 1;
        self.state_damaged |= self.into_state;
        let sequence = segment.header.sequence;
        tracing::error!(
            segment = sequence,
            position = position.0,
            "frames before this are missing"
        );
    }

    fn damage(&mut self, scanner: &mut Scanner<'_>, damage: &Damage, segment: &Segment) {
        let length = damage.to.0 - damage.from.0;
        self.report.damaged_ranges += 1;
        self.report.damaged_bytes += length;
        self.state_damaged |= self.into_state;
        tracing::error!(
            segment = segment.header.sequence,
            position = damage.from.0,
            length,
            survivors = damage.survivors.iter().filter(|entry| entry.intact).count(),
            "damaged range: what survives in it is served, the rest is lost"
        );
        self.entries(scanner, &damage.survivors, self.open_ms);
        self.last_crc = None;
    }

    fn entries(&mut self, scanner: &mut Scanner<'_>, entries: &[FoundEntry], open_ms: u64) {
        for entry in entries {
            let payload = scanner.payload(entry);
            let payload = entry.intact.then_some(payload);
            if entry.header.kind == EntryKind::Batch {
                let max_timestamp =
                    payload.and_then(batch_header).map_or(i64::MIN, |header| header.max_timestamp);
                self.index(entry, max_timestamp);
            }
            if self.into_state {
                apply(&mut self.state, &entry.header, payload, open_ms);
            }
        }
    }

    fn index(&mut self, entry: &FoundEntry, max_timestamp: i64) {
        let location = Location {
            base_offset: entry.header.base_offset,
            position: entry.position,
            length: ENTRY_HEADER_BYTES as u32 + entry.header.length,
        };
        let placed = Placed { location, end: entry.header.end_offset(), max_timestamp };
        if !self.log.insert(entry.header.partition, &placed) {
            self.report.damaged_ranges += 1;
            tracing::error!(
                partition = entry.header.partition.0,
                offset = entry.header.base_offset.0,
                position = entry.position.0,
                "offsets stored twice: the first ones are served"
            );
        }
    }
}

/// The one step from a stored entry to the state. Without its payload a batch still takes its offsets.
pub(super) fn apply(state: &mut State, header: &EntryHeader, payload: Option<&[u8]>, open_ms: u64) {
    match (header.kind, payload) {
        (EntryKind::Batch, payload) => {
            let batch = payload.and_then(batch_header).unwrap_or_else(|| anonymous(header));
            let change = Change::Batch {
                partition: header.partition,
                base_offset: header.base_offset,
                leader_epoch: batch.leader_epoch,
                header: &batch,
            };
            state.apply(change, open_ms);
        }
        (EntryKind::Fact, Some(payload)) => {
            if let Some(FactRef { space, key, value }) = FactRef::decode(payload)
                && !(planted!(OldFactWins) && state.fact(space, key).is_some())
            {
                state.apply(Change::Fact { space, key, value }, open_ms);
            }
        }
        (EntryKind::Barrier, Some(payload)) => {
            if let Some(Barrier { incarnation, leader_epoch }) = Barrier::decode(payload) {
                state.apply(Change::Barrier { incarnation, leader_epoch }, open_ms);
            }
        }
        (EntryKind::Fact | EntryKind::Barrier, None) | (EntryKind::Slice | EntryKind::Close, _) => {
        }
    }
}

/// Stands for the header of a batch whose payload is damaged: its offsets are taken, its producer is unknown.
fn anonymous(entry: &EntryHeader) -> BatchHeader {
    BatchHeader {
        base_offset: entry.base_offset.0,
        leader_epoch: 0,
        attributes: 0,
        last_offset_delta: i32::try_from(entry.count).map_or(i32::MAX, |count| count.max(1) - 1),
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
    }
}

fn carry(scanner: &mut Scanner<'_>, frame: &Frame) -> Carried {
    let mut carried = Carried {
        entries: Vec::new(),
        payloads: Vec::new(),
        open_ms: frame.header.open_ms,
        length: frame.header.length(),
    };
    for entry in frame.entries.iter().filter(|entry| Carried::takes(entry.header.kind)) {
        let start = carried.payloads.len();
        carried.payloads.extend_from_slice(scanner.payload(entry));
        carried.entries.push((entry.header, start..carried.payloads.len()));
    }
    carried
}

/// The snapshot that a segment begins with, if all of it is there.
pub(super) fn snapshot(segment: &Segment, seed: Seed, end: End) -> io::Result<Option<State>> {
    let mut scanner = Scanner::new(segment, seed, end)?;
    let mut reader = SnapshotReader::default();
    loop {
        let entries = match scanner.step() {
            Step::Frame(frame) => frame.entries,
            Step::Damage(damage) => damage.survivors,
            Step::End(_) => return Ok(None),
        };
        for entry in entries.iter().filter(|entry| entry.header.kind == EntryKind::Slice) {
            if !entry.intact {
                return Ok(None);
            }
            let (index, total) = (entry.header.partition.0, entry.header.count);
            if let Some(state) = reader.slice(index, total, scanner.payload(entry)) {
                return Ok(Some(state));
            }
        }
    }
}
