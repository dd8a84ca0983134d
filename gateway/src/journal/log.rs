//! What readers see: durable ends, indexes and open segments. Nothing undurable is ever in here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    Offset, PartitionId, Position, ReadError, State,
    index::{Location, PartitionIndex, Placed},
    segment::Segment,
};

/// The readable log.
#[derive(Debug, Default)]
pub(super) struct Log {
    partitions: HashMap<PartitionId, PartitionLog>,
    segments: BTreeMap<Position, Arc<Segment>>,
    /// The newest segments whose snapshot is complete, oldest first: replay may begin there.
    snapshots: Vec<Position>,
}

#[derive(Debug, Default)]
struct PartitionLog {
    log_start: Offset,
    durable_end: Offset,
    index: PartitionIndex,
}

/// An entry to read, with its file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) segment: Arc<Segment>,
    pub(super) location: Location,
}

impl Log {
    pub(super) fn add_segment(&mut self, segment: Arc<Segment>) {
        self.segments.insert(segment.header.first, segment);
    }

    /// Indexes a durable batch; false if its offsets are already taken.
    pub(super) fn insert(&mut self, partition: PartitionId, placed: &Placed) -> bool {
        let log = self.partitions.entry(partition).or_default();
        let added = log.index.insert(placed);
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
        }
    }

    /// Moves a log start, never back.
    pub(super) fn move_log_start(&mut self, partition: PartitionId, start: Offset) {
        let log = self.partitions.entry(partition).or_default();
        log.log_start = log.log_start.max(start);
        log.durable_end = log.durable_end.max(start);
    }

    pub(super) fn log_start(&self, partition: PartitionId) -> Offset {
        self.partitions.get(&partition).map_or(Offset(0), |log| log.log_start)
    }

    pub(super) fn durable_end(&self, partition: PartitionId) -> Offset {
        self.partitions.get(&partition).map_or(Offset(0), |log| log.durable_end)
    }

    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Which entries hold the batches from `from` on, up to `max_bytes` of them but at least one.
    /// The first one may end before `from`: then what follows it is lost.
    pub(super) fn plan(
        &self,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Source>, ReadError> {
        let (start, end) = (self.log_start(partition), self.durable_end(partition));
        if from < start || from > end {
            return Err(ReadError::OutOfRange { offset: from, start, end });
        }
        let Some(log) = self.partitions.get(&partition).filter(|_| from < end) else {
            return Ok(Vec::new());
        };
        let mut sources = Vec::new();
        let mut bytes = 0;
        for location in log.index.starting_at(from) {
            bytes += location.length as usize;
            if !sources.is_empty() && bytes > max_bytes {
                break;
            }
            sources.extend(self.source(location));
        }
        match sources.first() {
            // Offsets are due here, but no entry holds them any more.
            None => Err(ReadError::Damaged { position: Position(0) }),
            Some(first) if first.location.base_offset > from => {
                Err(ReadError::Damaged { position: first.location.position })
            }
            Some(_) => Ok(sources),
        }
    }

    /// Candidates for the first batch whose largest timestamp is at least this.
    pub(super) fn plan_at_time(&self, partition: PartitionId, timestamp_ms: i64) -> Vec<Source> {
        let Some(log) = self.partitions.get(&partition) else {
            return Vec::new();
        };
        log.index
            .at_time(log.log_start, timestamp_ms)
            .filter_map(|location| self.source(location))
            .collect()
    }

    fn source(&self, location: Location) -> Option<Source> {
        let (_, segment) = self.segments.range(..=location.position).next_back()?;
        Some(Source { segment: Arc::clone(segment), location })
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
        let live = self.partitions.values().filter_map(PartitionLog::first_live).min();
        let needed = live.map_or(state, |live| live.min(state));
        let (&start, _) = self.segments.range(..=needed).next_back()?;
        let (&oldest, _) = self.segments.first_key_value()?;
        (start > oldest).then_some(start)
    }

    /// Takes out all segments before a position: new readers no longer find them.
    pub(super) fn retire_below(&mut self, start: Position) -> Vec<Arc<Segment>> {
        let kept = self.segments.split_off(&start);
        let retired = std::mem::replace(&mut self.segments, kept);
        for partition in self.partitions.values_mut() {
            partition.index.forget_below(start);
        }
        retired.into_values().collect()
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

impl PartitionLog {
    /// Position of the first batch that is not all below the log start.
    fn first_live(&self) -> Option<Position> {
        if self.log_start >= self.durable_end {
            return None;
        }
        self.index.starting_at(self.log_start).next().map(|location| location.position)
    }
}
