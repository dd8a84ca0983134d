//! What readers see: durable ends, where batches are, and open segments. Nothing undurable is ever in here.
//!
//! Of the segment in use every batch is indexed here; of the ones before only which offsets they hold.

mod aborted;
mod holding;
mod replacing;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

pub(super) use replacing::{Cleanable, Replacement};

use super::{
    AbortedRange, Held, Holding, Offset, PartitionId, Position, ReadError, State,
    aborted::{Aborted, Spilled},
    age::{Aged, Ages},
    append::Replaced,
    cold::{ColdSegment, ColdSet},
    index::{Location, PartitionIndex, Placed, Run, Summary},
    inspect::Accepted,
    recovery::End,
    segment::Segment,
};

/// The readable log.
#[derive(Debug, Default)]
pub(super) struct Log {
    partitions: HashMap<PartitionId, PartitionLog>,
    segments: BTreeMap<Position, Readable>,
    /// What stands in the place of segments that were cleaned.
    cold: ColdSet,
    /// The newest segments whose snapshot is complete, oldest first: replay may begin there.
    snapshots: Vec<Position>,
    /// `first` of the segment in use, and how far it is durable.
    active: Option<Position>,
    durable: Position,
    ages: Ages,
    /// How many aborted ranges may stay in memory; None: the usual number.
    most_aborted: Option<usize>,
}

#[derive(Debug, Default)]
struct PartitionLog {
    log_start: Offset,
    durable_end: Offset,
    /// Where the first open transaction begins, if one is open.
    first_open: Option<Offset>,
    /// Aborted ranges in memory, and what is known of the others, in the order of the runs.
    aborted: Aborted,
    spilled: Vec<Spilled>,
    /// How often some of either, or what they concern, may have gone.
    forgotten: u64,
    /// Offsets that were accepted as lost, in order.
    given_up: Vec<(Offset, Offset)>,
    /// Cold segments, then segments that were left, by offset.
    runs: Vec<Run>,
    /// Bytes of batches in those of them whose index somebody looked at.
    bytes: BTreeMap<Position, u64>,
    /// How old offsets are that lie in cold segments.
    aged: Vec<Aged>,
    active: PartitionIndex,
}

/// A segment, and where the log in it ends.
#[derive(Clone, Debug)]
pub(super) struct Readable {
    pub(super) segment: Arc<Segment>,
    pub(super) end: End,
}

impl Readable {
    /// Where the log goes on behind it.
    pub(super) fn left(&self) -> Position {
        match self.end {
            End::Known(end) => end,
            End::Open => self.segment.header.end(),
        }
    }
}

/// What a pass meets.
#[derive(Debug)]
pub(super) struct Met {
    pub(super) readable: Readable,
    /// Of a cold segment: where the pass goes on behind it.
    pub(super) then: Option<Position>,
}

impl Met {
    fn cold(cold: &ColdSegment) -> Self {
        Self { readable: cold.readable.clone(), then: Some(cold.place.to) }
    }
}

/// An entry to read, with its file.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) segment: Arc<Segment>,
    pub(super) location: Location,
}

/// Where to look for batches.
#[derive(Debug)]
pub(super) enum Step {
    /// In a segment that was left, whose index has to be looked up.
    Left(Run, Readable),
    /// In the segment in use; nothing comes behind these.
    Active(Vec<Source>),
}

impl Log {
    /// Adds a segment that is not in use, with the offsets in it. How many partitions have offsets in it
    /// that earlier segments hold too: the first ones count.
    pub(super) fn add_left(&mut self, readable: Readable, summary: &Summary) -> u64 {
        let mut doubled = 0;
        for (partition, mut run) in summary.runs() {
            let log = self.partitions.entry(partition).or_default();
            let end = log.indexed_end();
            doubled += u64::from(run.first < end);
            run.first = run.first.max(end);
            if run.first < run.end {
                log.durable_end = log.durable_end.max(run.end);
                log.runs.push(run);
            }
        }
        self.segments.insert(readable.segment.header.first, readable);
        self.spill_aborted();
        doubled
    }

    /// Begins a segment; gives the one in use so far with its index.
    pub(super) fn begin_segment(
        &mut self,
        segment: Arc<Segment>,
    ) -> Option<(Position, Vec<(PartitionId, PartitionIndex)>)> {
        let header = segment.header;
        let left = self.active.replace(header.first);
        self.segments.insert(header.first, Readable { segment, end: End::Open });
        let left = left?;
        if let Some(readable) = self.segments.get_mut(&left) {
            readable.end = End::Known(header.previous_end);
        }
        let mut indexes = Vec::new();
        for (&partition, log) in &mut self.partitions {
            let index = std::mem::take(&mut log.active);
            if let Some((first, end, max_timestamp)) = index.span() {
                log.runs.push(Run { segment: left, first, end, max_timestamp });
                log.bytes.insert(left, index.bytes());
                indexes.push((partition, index));
            }
        }
        self.spill_aborted();
        Some((left, indexes))
    }

    /// Notes that the log ends at a position at a time of open journal.
    pub(super) fn note_age(&mut self, position: Position, open_ms: u64) {
        self.ages.note(position, open_ms);
    }

    pub(super) fn ages(&self) -> &Ages {
        &self.ages
    }

    /// Notes how far the segment in use is durable.
    pub(super) fn set_durable(&mut self, durable: Position) {
        self.durable = durable;
    }

    /// How far the log is durable.
    pub(super) fn durable(&self) -> Position {
        self.durable
    }

    /// Indexes a durable batch of the segment in use; false if its offsets are already taken.
    pub(super) fn insert(&mut self, partition: PartitionId, placed: &Placed) -> bool {
        let log = self.partitions.entry(partition).or_default();
        let behind = log.runs.last().is_none_or(|run| placed.location.base_offset >= run.end);
        let added = behind && log.active.insert(placed);
        if added {
            log.durable_end = log.durable_end.max(placed.end);
        }
        added
    }

    /// Takes over ends that the state knows better: log starts, and ends whose batches are damaged.
    pub(super) fn adopt(&mut self, state: &State) {
        for (id, partition) in state.partitions() {
            let log = self.partitions.entry(id).or_default();
            log.log_start = log.log_start.max(partition.log_start);
            log.durable_end = log.durable_end.max(partition.log_end);
            log.first_open = state.first_open(id);
        }
        for lost in Accepted::of(state).offsets() {
            if state.knows(lost.partition) {
                let log = self.partitions.entry(lost.partition).or_default();
                log.given_up.push((lost.from, lost.to));
            }
        }
    }

    /// The first offset from here on that is not accepted as lost.
    pub(super) fn past_given_up(&self, partition: PartitionId, from: Offset) -> Offset {
        let given_up = self.partitions.get(&partition).map(|log| log.given_up.as_slice());
        // In order, so that one pass follows ranges that touch.
        given_up.unwrap_or_default().iter().fold(from, |from, (first, end)| {
            if (*first..*end).contains(&from) { *end } else { from }
        })
    }

    /// Notes which of a partition's transactions are open, of those that are durable.
    pub(super) fn set_first_open(&mut self, partition: PartitionId, first: Option<Offset>) {
        self.partitions.entry(partition).or_default().first_open = first;
    }

    /// Moves a log start, never back.
    pub(super) fn move_log_start(&mut self, partition: PartitionId, start: Offset) {
        let log = self.partitions.entry(partition).or_default();
        log.log_start = log.log_start.max(start);
        log.durable_end = log.durable_end.max(start);
        log.aborted.forget_before(log.log_start);
        log.forgotten += 1;
        let gone = log.aged.partition_point(|aged| aged.end <= start);
        log.aged.drain(..gone);
    }

    pub(super) fn log_start(&self, partition: PartitionId) -> Offset {
        self.partitions.get(&partition).map_or(Offset(0), |log| log.log_start)
    }

    pub(super) fn durable_end(&self, partition: PartitionId) -> Offset {
        self.partitions.get(&partition).map_or(Offset(0), |log| log.durable_end)
    }

    /// One past the last offset that some segment holds.
    pub(super) fn indexed_end(&self, partition: PartitionId) -> Offset {
        self.partitions.get(&partition).map_or(Offset(0), PartitionLog::indexed_end)
    }

    /// One past the last durable offset below which no transaction is open.
    pub(super) fn stable_end(&self, partition: PartitionId) -> Offset {
        self.partitions.get(&partition).map_or(Offset(0), |log| {
            log.first_open
                .map_or(log.durable_end, |first| first.max(log.log_start).min(log.durable_end))
        })
    }

    /// Notes where a partition ends, as a snapshot has it.
    pub(super) fn ends_at(&mut self, partition: PartitionId, end: Offset) {
        let log = self.partitions.entry(partition).or_default();
        log.durable_end = log.durable_end.max(end);
    }

    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Where the oldest segment begins.
    pub(super) fn oldest(&self) -> Option<Position> {
        self.segments.first_key_value().map(|(&first, _)| first)
    }

    /// Whether batches from here on are to be read: not at the end, and not outside the log.
    pub(super) fn check(&self, partition: PartitionId, from: Offset) -> Result<bool, ReadError> {
        let (start, end) = (self.log_start(partition), self.durable_end(partition));
        if from < start || from > end {
            return Err(ReadError::OutOfRange { offset: from, start, end });
        }
        Ok(from < end)
    }

    /// Where the batches from an offset on are; in the segment in use up to `max_bytes` of them, but
    /// at least one.
    pub(super) fn step(&self, partition: PartitionId, from: Offset, max_bytes: usize) -> Step {
        let Some(log) = self.partitions.get(&partition) else {
            return Step::Active(Vec::new());
        };
        let next = log.runs.partition_point(|run| run.end <= from);
        if let Some(left) = log.runs.get(next).and_then(|run| self.left(run)) {
            return left;
        }
        let mut sources = Vec::new();
        let mut bytes = 0;
        for location in log.active.starting_at(from) {
            bytes += location.length as usize;
            if !sources.is_empty() && bytes > max_bytes {
                break;
            }
            sources.extend(self.source(location));
        }
        Step::Active(sources)
    }

    /// Where the first batch from an offset on with a timestamp this late may be.
    pub(super) fn step_at_time(
        &self,
        partition: PartitionId,
        from: Offset,
        timestamp_ms: i64,
    ) -> Step {
        let Some(log) = self.partitions.get(&partition) else {
            return Step::Active(Vec::new());
        };
        let mut runs = log.runs.iter().filter(|run| run.end > from);
        if let Some(left) =
            runs.find(|run| run.max_timestamp >= timestamp_ms).and_then(|run| self.left(run))
        {
            return left;
        }
        let candidates = log.active.at_time(from, timestamp_ms);
        Step::Active(candidates.filter_map(|location| self.source(location)).collect())
    }

    /// The segment that holds durable entries at a position, or else the next one that does. What was cleaned is met in
    /// its cold segment, from the beginning on.
    pub(super) fn at_or_after(&self, mut position: Position) -> Option<Met> {
        if position.is_cold() {
            let first = Position::of_cold(position.cold_sequence());
            match self.cold.by_first(first) {
                Some(cold) => return Some(Met::cold(cold)),
                None => position = self.cold.place_of(position),
            }
        }
        if let Some(cold) = self.cold.at_or_after(position) {
            return Some(Met::cold(cold));
        }
        let readable = self.hot_at_or_after(position)?;
        Some(Met { readable, then: None })
    }

    fn hot_at_or_after(&self, position: Position) -> Option<Readable> {
        let first = self.segments.range(..=position).next_back().map(|(&first, _)| first);
        let segments = self.segments.range(first.unwrap_or(position)..);
        let readable = segments.map(|(_, readable)| self.bounded(readable));
        readable.into_iter().find(|readable| match readable.end {
            End::Known(end) => position < end && readable.segment.header.frames() < end,
            End::Open => position < readable.segment.header.end(),
        })
    }

    /// The first segment at or behind a position that was left.
    pub(super) fn left_at_or_after(&self, position: Position) -> Option<Readable> {
        let mut behind = self.segments.range(position..);
        let (_, readable) = behind.find(|(first, _)| Some(**first) != self.active)?;
        Some(readable.clone())
    }

    /// A segment up to where it is durable.
    fn bounded(&self, readable: &Readable) -> Readable {
        let mut readable = readable.clone();
        if self.active == Some(readable.segment.header.first) {
            readable.end = End::Known(self.durable);
        }
        readable
    }

    fn left(&self, run: &Run) -> Option<Step> {
        Some(Step::Left(*run, self.readable(run.segment)?.clone()))
    }

    /// The segment or cold segment that begins at a position, if it is part of the log.
    pub(super) fn readable(&self, first: Position) -> Option<&Readable> {
        if first.is_cold() { self.cold.readable(first) } else { self.segments.get(&first) }
    }

    fn source(&self, location: Location) -> Option<Source> {
        let (_, readable) = self.segments.range(..=location.position).next_back()?;
        Some(Source { segment: Arc::clone(&readable.segment), location })
    }
}

impl PartitionLog {
    /// The oldest segment that was left and holds anything above the log start.
    fn oldest_live(&self) -> Option<Position> {
        let live = self.live_runs().find(|run| !run.segment.is_cold());
        live.map(|run| run.segment)
    }

    /// Segments that were left, or were copied, and hold anything above the log start.
    fn live_runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.end > self.log_start)
    }

    fn indexed_end(&self) -> Offset {
        let left = self.runs.last().map_or(Offset(0), |run| run.end);
        left.max(self.active.end())
    }
}

/// Complete snapshots that must stay: should one turn out to be damaged, replay begins at the other.
const KEPT_SNAPSHOTS: usize = 2;

/// What leaves the log.
impl Log {
    /// The snapshot that a segment begins with is complete and durable.
    pub(super) fn snapshot_complete(&mut self, first: Position) {
        debug_assert!(self.snapshots.last().is_none_or(|last| *last < first));
        if self.snapshots.len() == KEPT_SNAPSHOTS {
            self.snapshots.remove(0);
        }
        self.snapshots.push(first);
    }

    /// Where the log could begin instead: at the first segment that holds anything live, or that the state needs.
    /// None if that is the oldest one.
    pub(super) fn retirable(&self) -> Option<Position> {
        let state = *self.snapshots.first().filter(|_| self.snapshots.len() == KEPT_SNAPSHOTS)?;
        let live = self.partitions.values().filter_map(PartitionLog::oldest_live).min();
        let needed = live.map_or(state, |live| live.min(state));
        let (&start, _) = self.segments.range(..=needed).next_back()?;
        let (&oldest, _) = self.segments.first_key_value()?;
        (start > oldest).then_some(start)
    }

    /// Takes out all segments before a position: new readers no longer find them.
    pub(super) fn retire_below(&mut self, start: Position) -> Vec<Arc<Segment>> {
        let kept = self.segments.split_off(&start);
        let retired = std::mem::replace(&mut self.segments, kept);
        self.ages.forget_before(start);
        for partition in self.partitions.values_mut() {
            // Cold ones have the largest addresses.
            partition.runs.retain(|run| run.segment >= start);
            partition.bytes = partition.bytes.split_off(&start);
            partition.spilled.retain(|spilled| spilled.segment >= start);
        }
        retired.into_values().map(|readable| readable.segment).collect()
    }

    /// Forgets a deleted partition.
    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.partitions.remove(&partition);
    }

    /// Forgets partitions that are not in the state: deleted ones, whose batches may still lie in segments.
    pub(super) fn forget_unknown(&mut self, state: &State) {
        self.partitions.retain(|&id, _| state.knows(id));
    }
}
