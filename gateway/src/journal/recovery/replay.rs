//! From the entries of all segments to state and index.

use std::{io, sync::Arc};

use super::{
    super::{
        AbortedRange, Change, Disk, Offset, PartitionId, Position, RecoveryReport, State,
        format::{
            Barrier, ChunkHeader, EntryHeader, EntryKind, FactRef, SEGMENT_HEADER_BYTES, Seed,
        },
        index::{Coverage, Event, Events, Findings, Summary, placed},
        log::{Log, Readable},
        reader::batch_header,
        segment::{Segment, segment_name},
        state::{SnapshotReader, Transactions},
    },
    carried::Carried,
    scan::{Damage, End, FoundEntry, Frame, Scanner, Step, Tail},
    survey::Found,
};
use crate::record::{BatchHeader, TRANSACTIONAL_BIT, TransactionMarker, TransactionOutcome};

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
    into_state: bool,
    /// Damage where entries were to change the state.
    pub(super) state_damaged: bool,
    /// Of the segment that is being replayed, and its `first`.
    summary: Summary,
    segment: Position,
    /// What a barrier in the frame that is held back says.
    pub(super) held_barrier: Barrier,
    earlier: Earlier,
}

/// Where entries do not change the state yet: what it takes to find the transactions that were aborted there.
#[derive(Debug, Default)]
struct Earlier {
    transactions: Transactions,
    /// None until a snapshot or a barrier tells.
    incarnation: Option<u64>,
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
            summary: Summary::default(),
            segment: Position(0),
            held_barrier: Barrier::default(),
            earlier: Earlier::default(),
        }
    }

    /// A segment of which only the offsets and transactions are needed, if its index file is whole;
    /// false if it has to be looked at.
    pub(super) fn summarised(
        &mut self,
        disk: &dyn Disk,
        found: &Found,
        end: End,
        next_crc: u32,
    ) -> bool {
        let End::Known(limit) = end else { return false };
        let segment = &found.segment;
        let sealed = Coverage::sealed(disk, self.seed, segment, (limit, next_crc));
        let Some((chunk, summary)) = sealed else { return false };
        self.enter(found);
        self.replay_events(&summary.events);
        self.summary = summary;
        self.report.indexed_bytes += limit.0 - segment.header.frames().0;
        self.resume(&chunk);
        self.finish(segment, end);
        true
    }

    /// What the index file of a segment covers.
    pub(super) fn coverage(
        &self,
        disk: &dyn Disk,
        segment: &Segment,
        end: End,
        next_crc: u32,
        findings: &mut Findings,
    ) -> Coverage {
        Coverage::find(disk, self.seed, segment, end, next_crc, findings)
    }

    /// Finds the transactions that were aborted in a range whose entries nobody looks at.
    fn replay_events(&mut self, events: &Events) {
        for event in events.iter() {
            let (log, summary) = (&self.log, &self.summary);
            let aborted = self.earlier.replay(event, |partition| ends(log, summary, partition));
            self.add_aborted(aborted);
        }
    }

    /// What the oldest segment that there still is began with.
    pub(super) fn begin_with(&mut self, snapshot: &State) {
        // Of partitions whose batches are all in cold segments, too.
        for (partition, known) in snapshot.partitions() {
            self.log.ends_at(partition, known.log_end);
        }
        let transactions = snapshot.transactions().clone();
        self.earlier = Earlier { transactions, incarnation: Some(snapshot.incarnation()) };
    }

    /// From here on entries change the state, which is that of a snapshot or empty. A transaction that is open
    /// by the entries, but not by the snapshot, has lost its marker to damage: it counts as aborted.
    pub(super) fn enter_state(&mut self, state: State) {
        let mut lost = self.earlier.transactions.without(&state);
        let ranges = lost.give_up(|partition| self.log.durable_end(partition));
        if !ranges.is_empty() {
            tracing::error!(count = ranges.len(), "transactions without an end count as aborted");
        }
        self.add_aborted(ranges);
        self.state = state;
        self.into_state = true;
    }

    /// A segment that is not the last: it ends where the next one says, and all in it is durable.
    pub(super) fn left(&mut self, found: &Found, end: End, coverage: &Coverage) -> io::Result<()> {
        let segment = &found.segment;
        self.enter(found);
        self.covered(segment, coverage);
        let mut scanner = Scanner::behind(segment, self.seed, end, coverage.end())?;
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
        self.finish(segment, end);
        Ok(())
    }

    /// Takes over what an index file covers.
    fn covered(&mut self, segment: &Segment, coverage: &Coverage) {
        for (chunk, content) in &coverage.chunks {
            self.log.note_age(chunk.to, chunk.open_ms);
            if self.into_state {
                let aborted = content.delta.apply(&mut self.state);
                self.add_aborted(aborted);
            } else {
                self.replay_events(&content.events);
            }
            self.summary.extend(segment.header.first, &content.partitions);
        }
        self.report.indexed_bytes += coverage.bytes();
        if let Some(last) = coverage.last() {
            self.resume(last);
        }
    }

    /// Stands behind the frames that a chunk covers.
    fn resume(&mut self, chunk: &ChunkHeader) {
        self.last_crc = Some(chunk.last_crc);
        self.frames_end = chunk.to;
        self.open_ms = self.open_ms.max(chunk.open_ms);
        self.log.note_age(self.frames_end, self.open_ms);
    }

    /// Hands the segment over to the log.
    fn finish(&mut self, segment: &Arc<Segment>, end: End) {
        let summary = std::mem::take(&mut self.summary);
        let readable = Readable { segment: Arc::clone(segment), end };
        let doubled = self.log.add_left(readable, &summary);
        if doubled > 0 {
            self.report.damaged_ranges += doubled;
            self.report.doubled_offsets += doubled;
            let header = segment.header;
            self.report.note(header.first, 0);
            let file = segment_name(header.sequence);
            let (position, length) = (header.first.0, header.length);
            tracing::error!(
                file,
                position,
                length,
                doubled,
                "offsets stored twice: the first ones are served"
            );
        }
    }

    /// The last segment. The last frame with data is held back until a later frame proves it.
    pub(super) fn last(&mut self, found: &Found, coverage: Coverage) -> io::Result<LogEnd> {
        let segment = &found.segment;
        // As long as the segment holds no data, the log ends in the one before.
        let (before, before_crc) = if found.header_intact {
            (segment.header.previous_end, segment.header.previous_crc)
        } else {
            (self.frames_end, self.last_crc.unwrap_or(0))
        };
        self.enter(found);
        let mut end = LogEnd { cut: before, cut_crc: before_crc, ..LogEnd::default() };
        self.covered(segment, &coverage);
        let covered = coverage.end();
        if let Some(last) = coverage.last().filter(|chunk| chunk.data) {
            // All of it is durable, and some of it is data.
            (end.cut, end.cut_crc) = (last.to, last.last_crc);
        }
        drop(coverage);
        let mut scanner = Scanner::behind(segment, self.seed, End::Open, covered)?;
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
        if end.cut > segment.header.first {
            self.finish(segment, End::Known(end.cut));
        }
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

    /// Barriers count even in a frame that is held back: what they bumped must not be used again. The state
    /// takes them over with the frame, in their order: they end transactions.
    fn barriers(&mut self, scanner: &mut Scanner<'_>, frame: &Frame) {
        for entry in frame.entries.iter().filter(|entry| entry.header.kind == EntryKind::Barrier) {
            if let Some(barrier) = Barrier::decode(scanner.payload(entry)) {
                let held = &mut self.held_barrier;
                held.incarnation = held.incarnation.max(barrier.incarnation);
                held.leader_epoch = held.leader_epoch.max(barrier.leader_epoch);
            }
        }
    }

    fn enter(&mut self, found: &Found) {
        let segment = &found.segment;
        self.segment = segment.header.first;
        if !found.header_intact {
            self.report.damaged_ranges += 1;
            self.report.damaged_headers += 1;
            self.report.damaged_bytes += SEGMENT_HEADER_BYTES;
            self.report.note(self.segment, SEGMENT_HEADER_BYTES);
            tracing::error!(
                file = found.name,
                position = self.segment.0,
                length = SEGMENT_HEADER_BYTES,
                "segment header put together from the frames; what is void before it is not known"
            );
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
        self.log.note_age(self.frames_end, self.open_ms);
    }

    fn broken_chain(&mut self, segment: &Segment, position: Position) {
        self.report.broken_chains += 1;
        self.report.note(position, 0);
        self.state_damaged |= self.into_state;
        tracing::error!(
            file = segment_name(segment.header.sequence),
            position = position.0,
            "frames before this are missing"
        );
    }

    fn damage(&mut self, scanner: &mut Scanner<'_>, damage: &Damage, segment: &Segment) {
        let length = damage.to.0 - damage.from.0;
        self.report.damaged_ranges += 1;
        self.report.damaged_bytes += length;
        self.report.note(damage.from, length);
        self.state_damaged |= self.into_state;
        tracing::error!(
            file = segment_name(segment.header.sequence),
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
                self.index(entry, payload);
            }
            let aborted = if self.into_state {
                apply(&mut self.state, &entry.header, payload, open_ms)
            } else {
                let (log, summary) = (&self.log, &self.summary);
                let end = |partition| ends(log, summary, partition);
                self.earlier.apply(&entry.header, payload, end)
            };
            self.add_aborted(aborted);
        }
    }

    fn add_aborted(&mut self, aborted: Vec<(PartitionId, AbortedRange)>) {
        for (partition, range) in aborted {
            self.log.add_aborted(partition, range);
        }
    }

    fn index(&mut self, entry: &FoundEntry, payload: Option<&[u8]>) {
        let partition = entry.header.partition;
        let placed = placed(&entry.header, entry.position, payload);
        let known = self.summary.end(partition).unwrap_or(Offset(0));
        let end = known.max(self.log.indexed_end(partition));
        let base_offset = placed.location.base_offset;
        if base_offset >= end && placed.end > base_offset {
            self.summary.add(self.segment, partition, &placed);
        } else {
            self.report.damaged_ranges += 1;
            self.report.doubled_offsets += 1;
            let length = entry.header.size() as u64;
            self.report.note(entry.position, length);
            tracing::error!(
                length,
                partition = entry.header.partition.0,
                offset = entry.header.base_offset.0,
                position = entry.position.0,
                "offsets stored twice: the first ones are served"
            );
        }
    }
}

/// Where a partition ends, the segment that is being replayed included.
fn ends(log: &Log, summary: &Summary, partition: PartitionId) -> Offset {
    log.durable_end(partition).max(summary.end(partition).unwrap_or(Offset(0)))
}

impl Earlier {
    /// As the state would: markers and barriers end transactions.
    fn apply(
        &mut self,
        header: &EntryHeader,
        payload: Option<&[u8]>,
        log_end: impl Fn(PartitionId) -> Offset,
    ) -> Vec<(PartitionId, AbortedRange)> {
        let Some(payload) = payload else { return Vec::new() };
        match header.kind {
            EntryKind::Batch => {
                let Some(batch) = batch_header(payload) else { return Vec::new() };
                let (partition, base_offset) = (header.partition, header.base_offset);
                let marker = marker(payload);
                let aborted = self.transactions.record(partition, base_offset, &batch, marker);
                aborted.map(|range| (partition, range)).into_iter().collect()
            }
            EntryKind::Barrier => {
                let Some(Barrier { incarnation, .. }) = Barrier::decode(payload) else {
                    return Vec::new();
                };
                self.pass(incarnation, log_end)
            }
            EntryKind::Fact | EntryKind::Slice | EntryKind::Close => Vec::new(),
        }
    }

    /// As [`Earlier::apply`], from an index file.
    fn replay(
        &mut self,
        event: &Event,
        log_end: impl Fn(PartitionId) -> Offset,
    ) -> Vec<(PartitionId, AbortedRange)> {
        let (partition, producer_id, offset, outcome) = match event {
            Event::Begin { partition, producer_id, offset } => {
                (*partition, *producer_id, *offset, None)
            }
            Event::End { partition, producer_id, offset, outcome } => {
                (*partition, *producer_id, *offset, Some(*outcome))
            }
            Event::Barrier { incarnation, ends } => {
                return self.pass(*incarnation, |partition| {
                    let within = ends.iter().find(|(known, _)| *known == partition);
                    within.map_or(Offset(0), |(_, end)| *end).max(log_end(partition))
                });
            }
        };
        let batch = transactional(producer_id, offset);
        let aborted = self.transactions.record(partition, offset, &batch, outcome);
        aborted.map(|range| (partition, range)).into_iter().collect()
    }

    fn pass(
        &mut self,
        incarnation: u64,
        log_end: impl Fn(PartitionId) -> Offset,
    ) -> Vec<(PartitionId, AbortedRange)> {
        let known = *self.incarnation.get_or_insert(incarnation);
        self.incarnation = Some(known.max(incarnation));
        if incarnation <= known {
            return Vec::new();
        }
        self.transactions.give_up(log_end)
    }
}

/// The one step from a stored entry to the state; gives the transactions that it aborted. Without its payload a
/// batch still takes its offsets.
pub(in crate::journal) fn apply(
    state: &mut State,
    header: &EntryHeader,
    payload: Option<&[u8]>,
    open_ms: u64,
) -> Vec<(PartitionId, AbortedRange)> {
    match (header.kind, payload) {
        (EntryKind::Batch, payload) => {
            let batch = payload.and_then(batch_header).unwrap_or_else(|| anonymous(header));
            let change = Change::Batch {
                partition: header.partition,
                base_offset: header.base_offset,
                leader_epoch: batch.leader_epoch,
                header: &batch,
                marker: payload.and_then(marker),
            };
            state.apply(change, open_ms)
        }
        (EntryKind::Fact, Some(payload)) => {
            let fact = FactRef::decode(payload).filter(|fact| {
                !(planted!(OldFactWins) && state.fact(fact.space, fact.key).is_some())
            });
            fact.map_or_else(Vec::new, |FactRef { space, key, value }| {
                state.apply(Change::Fact { space, key, value }, open_ms)
            })
        }
        (EntryKind::Barrier, Some(payload)) => {
            Barrier::decode(payload).map_or_else(Vec::new, |barrier| {
                let Barrier { incarnation, leader_epoch } = barrier;
                state.apply(Change::Barrier { incarnation, leader_epoch }, open_ms)
            })
        }
        (EntryKind::Fact | EntryKind::Barrier, None) | (EntryKind::Slice | EntryKind::Close, _) => {
            Vec::new()
        }
    }
}

/// The end of a transaction that a stored batch marks, if it does.
pub(in crate::journal) fn marker(payload: &[u8]) -> Option<TransactionOutcome> {
    TransactionMarker::read(payload).ok().flatten().map(|marker| marker.outcome)
}

/// Stands for a transaction's batch of which an index file tells.
fn transactional(producer_id: i64, base_offset: Offset) -> BatchHeader {
    BatchHeader {
        base_offset: base_offset.0,
        leader_epoch: 0,
        attributes: TRANSACTIONAL_BIT,
        last_offset_delta: 0,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id,
        producer_epoch: 0,
        base_sequence: -1,
        record_count: 0,
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

/// What became of the snapshot that a segment begins with.
#[derive(Debug)]
pub(in crate::journal) enum FoundSnapshot {
    /// All of it is there.
    Whole(Box<State>),
    /// The segment ends before its last slice.
    Unfinished,
    /// A slice is not what was written.
    Damaged {
        /// Where the slice is.
        position: Position,
        /// Its header and payload.
        length: u64,
    },
}

impl FoundSnapshot {
    /// The state, if all of it is there.
    pub(in crate::journal) fn whole(self) -> Option<State> {
        match self {
            Self::Whole(state) => Some(*state),
            Self::Unfinished | Self::Damaged { .. } => None,
        }
    }
}

/// The snapshot that a segment begins with.
pub(in crate::journal) fn snapshot(
    segment: &Segment,
    seed: Seed,
    end: End,
    coverage: &Coverage,
) -> io::Result<FoundSnapshot> {
    let from = coverage.end().unwrap_or(segment.header.frames());
    let mut scanner = Scanner::resume(segment, seed, end, from)?;
    let mut reader = SnapshotReader::default();
    for place in coverage.chunks.iter().flat_map(|(_, content)| &content.slices) {
        let Some(payload) = scanner.slice(place) else {
            let (position, length) = (place.position, u64::from(place.length));
            return Ok(FoundSnapshot::Damaged { position, length });
        };
        if let Some(state) = reader.slice(place.index, place.total, payload) {
            return Ok(FoundSnapshot::Whole(Box::new(state)));
        }
    }
    loop {
        let entries = match scanner.step() {
            Step::Frame(frame) => frame.entries,
            Step::Damage(damage) => damage.survivors,
            Step::End(_) => return Ok(FoundSnapshot::Unfinished),
        };
        for entry in entries.iter().filter(|entry| entry.header.kind == EntryKind::Slice) {
            if !entry.intact {
                let (position, length) = (entry.position, entry.header.size() as u64);
                return Ok(FoundSnapshot::Damaged { position, length });
            }
            let (index, total) = (entry.header.partition.0, entry.header.count);
            if let Some(state) = reader.slice(index, total, scanner.payload(entry)) {
                return Ok(FoundSnapshot::Whole(Box::new(state)));
            }
        }
    }
}
