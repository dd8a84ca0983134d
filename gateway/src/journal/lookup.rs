//! From an offset or a time to the entries that hold it, over all segments.
//!
//! The log is locked only between segments: an index that is not in memory is loaded without the lock.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Offset, PartitionId, Position, ReadError,
    index::{Location, PartitionIndex, Run},
    log::{Readable, Source, Step},
    reader,
    shared::Shared,
};

/// Where an index may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// From memory only.
    Memory,
    /// From files, too: blocks.
    Files,
}

/// Entries to read.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) sources: Vec<Source>,
    /// Offsets that cold segments stand for, one past the last: those that no entry holds are gone on purpose.
    pub(super) cleaned: Vec<(Offset, Offset)>,
}

/// Which entries hold the batches from `from` on, up to `max_bytes` of them but at least one.
/// The first one may end before `from`: then what follows it is lost, unless it was cleaned. None: that is out of reach.
pub(super) fn plan(
    shared: &Shared,
    partition: PartitionId,
    from: Offset,
    max_bytes: usize,
    reach: Reach,
) -> Result<Option<Plan>, ReadError> {
    if !shared.log().check(partition, from)? {
        return Ok(Some(Plan::default()));
    }
    let mut plan = Plan::default();
    let mut bytes = 0;
    let mut next = from;
    loop {
        let step = shared.log().step(partition, next, max_bytes.saturating_sub(bytes));
        let is_last = matches!(step, Step::Active(_));
        let (found, end) = match step {
            Step::Active(found) => (found, next),
            Step::Left(run, readable) => {
                let Some(index) = index(shared, partition, &readable, reach)? else {
                    return Ok(None);
                };
                if run.segment.is_cold() {
                    plan.cleaned.push((run.first, run.end));
                }
                // As many as can be of use: the first one, and `max_bytes`.
                let mut length = 0;
                let wanted = index.starting_at(next).filter(|at| at.base_offset >= run.first);
                let wanted = wanted.take_while(|location| {
                    let goes_on = length <= max_bytes;
                    if counts(location, next) {
                        length += location.length as usize;
                    }
                    goes_on
                });
                let source = |location| Source { segment: Arc::clone(&readable.segment), location };
                (wanted.map(source).collect(), run.end)
            }
        };
        for source in found {
            let length = source.location.length as usize;
            let counted = !source.segment.header.first.is_cold() || counts(&source.location, next);
            if bytes > 0 && bytes + length > max_bytes {
                return plan.checked(from);
            }
            bytes += if counted { length } else { 0 };
            plan.sources.push(source);
        }
        if is_last || bytes >= max_bytes {
            return plan.checked(from);
        }
        next = end;
    }
}

/// Whether a batch that an index finds for an offset holds it for certain: of a cold segment's index, the first
/// one may well end before.
fn counts(location: &Location, next: Offset) -> bool {
    location.base_offset >= next
}

impl Plan {
    fn checked(self, from: Offset) -> Result<Option<Self>, ReadError> {
        let is_cleaned = self.cleaned.iter().any(|&(first, end)| first <= from && from < end);
        match self.sources.first() {
            _ if is_cleaned => Ok(Some(self)),
            // Offsets are due here, but no entry holds them any more.
            None => Err(ReadError::Damaged { position: Position(0) }),
            Some(first) if first.location.base_offset > from => {
                Err(ReadError::Damaged { position: first.location.position })
            }
            Some(_) => Ok(Some(self)),
        }
    }
}

/// The first offset from `from` on that an intact batch holds; none up to the durable end. Reads what it passes.
pub(super) fn next_readable(
    shared: &Shared,
    partition: PartitionId,
    from: Offset,
) -> Result<Option<Offset>, ReadError> {
    let mut next = from;
    loop {
        let step = shared.log().step(partition, next, usize::MAX);
        let (sources, end) = match step {
            Step::Active(found) => (found, None),
            Step::Left(run, readable) => {
                let Some(index) = index(shared, partition, &readable, Reach::Files)? else {
                    return Ok(None);
                };
                let within = index.starting_at(next).filter(|at| at.base_offset >= run.first);
                let source = |location| Source { segment: Arc::clone(&readable.segment), location };
                (within.map(source).collect(), Some(run.end))
            }
        };
        for source in &sources {
            let read = reader::read_batches(shared, std::slice::from_ref(source));
            let batch = read.ok().and_then(|batches| batches.into_iter().next());
            if let Some(batch) = batch.filter(|batch| batch.header.end_offset() > from) {
                return Ok(Some(from.max(batch.header.base_offset)));
            }
        }
        match end {
            Some(end) => next = end,
            None => return Ok(None),
        }
    }
}

/// The first batch whose largest timestamp is at least this. A damaged one is passed over.
pub(super) fn at_time(
    shared: &Shared,
    partition: PartitionId,
    timestamp_ms: i64,
) -> Result<Option<Bytes>, ReadError> {
    let log_start = shared.log().log_start(partition);
    let mut next = log_start;
    loop {
        let step = shared.log().step_at_time(partition, next, timestamp_ms);
        let (candidates, end): (Vec<_>, _) = match step {
            Step::Active(found) => (found, None),
            Step::Left(Run { first, end, .. }, readable) => {
                let Some(index) = index(shared, partition, &readable, Reach::Files)? else {
                    return Ok(None);
                };
                let found = index.at_time(next, timestamp_ms).filter(|at| at.base_offset >= first);
                let source = |location| Source { segment: Arc::clone(&readable.segment), location };
                (found.map(source).collect(), Some(end))
            }
        };
        let found = reader::first_at_time(shared, &candidates, timestamp_ms, log_start)?;
        match (found, end) {
            (None, Some(end)) => next = end,
            (found, _) => return Ok(found),
        }
    }
}

fn index(
    shared: &Shared,
    partition: PartitionId,
    readable: &Readable,
    reach: Reach,
) -> Result<Option<Arc<PartitionIndex>>, ReadError> {
    let segment = &readable.segment;
    Ok(match reach {
        Reach::Memory => shared.indexes.held(segment, partition),
        Reach::Files => Some(shared.indexes.partition(segment, readable.end, partition)?),
    })
}
