//! What readers see: durable ends, indexes and open segments. Nothing undurable is ever in here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    AbortedRange, Offset, PartitionId, Position, ReadError, State,
    aborted::Aborted,
    index::{Location, PartitionIndex, Placed},
    segment::Segment,
};

/// The readable log.
#[derive(Debug, Default)]
pub(super) struct Log {
    partitions: HashMap<PartitionId, PartitionLog>,
    segments: BTreeMap<Position, Arc<Segment>>,
}

#[derive(Debug, Default)]
struct PartitionLog {
    log_start: Offset,
    durable_end: Offset,
    /// Where the first open transaction begins, if one is open.
    first_open: Option<Offset>,
    aborted: Aborted,
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
            log.first_open = state.first_open(id);
        }
    }

    /// Notes which of a partition's transactions are open, of those that are durable.
    pub(super) fn set_first_open(&mut self, partition: PartitionId, first: Option<Offset>) {
        self.partitions.entry(partition).or_default().first_open = first;
    }

    /// Notes a transaction that was aborted durably.
    pub(super) fn add_aborted(&mut self, partition: PartitionId, range: AbortedRange) {
        self.partitions.entry(partition).or_default().aborted.insert(range);
    }

    /// Moves a log start, never back.
    pub(super) fn move_log_start(&mut self, partition: PartitionId, start: Offset) {
        let log = self.partitions.entry(partition).or_default();
        log.log_start = log.log_start.max(start);
        log.durable_end = log.durable_end.max(start);
        log.aborted.forget_before(log.log_start);
    }

    pub(super) fn log_start(&self, partition: PartitionId) -> Offset {
        self.partitions.get(&partition).map_or(Offset(0), |log| log.log_start)
    }

    pub(super) fn durable_end(&self, partition: PartitionId) -> Offset {
        self.partitions.get(&partition).map_or(Offset(0), |log| log.durable_end)
    }

    /// One past the last durable offset below which no transaction is open.
    pub(super) fn stable_end(&self, partition: PartitionId) -> Offset {
        self.partitions.get(&partition).map_or(Offset(0), |log| {
            log.first_open
                .map_or(log.durable_end, |first| first.max(log.log_start).min(log.durable_end))
        })
    }

    /// Aborted transactions with an offset in a range.
    pub(super) fn aborted(
        &self,
        partition: PartitionId,
        from: Offset,
        to: Offset,
    ) -> Vec<AbortedRange> {
        let log = self.partitions.get(&partition);
        log.map_or_else(Vec::new, |log| log.aborted.overlapping(from, to))
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
