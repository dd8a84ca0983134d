//! One pass: copies what is live of some segments into a cold one, and switches to it.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use super::super::{
    AbortedRange, AdmitError, Append, CleanError, Fact, Offset, PartitionId, Permit, Position,
    ReadError, aborted,
    admission::Purpose,
    append::Replaced,
    index::{Run, Summary},
    log::{Cleanable, Readable, Replacement, Source},
    lookup::Reach,
    reader::{self, StoredBatch, batch_header},
    recovery::marker,
    retire,
    shared::Shared,
};
use super::{
    Cleaned, ColdSegment,
    compaction::{Compaction, MAX_KEYS},
    retain::Retain,
    survivors::{Bounds, Survivors},
    writer::ColdWriter,
};
use crate::record::{Batch, BatchHeader};

/// Read at once.
const READ_BYTES: usize = 256 * 1024;
/// A batch that is larger decompressed is not compacted.
const MAX_BATCH_BYTES: usize = 32 * 1024 * 1024;

/// What is copied, and where to.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    shared: &'a Shared,
    segments: BTreeMap<Position, Cleanable>,
    place: Replaced,
    is_hot: bool,
    writer: ColdWriter,
    permit: Option<Permit>,
    summary: Summary,
    first: Position,
    gone: Vec<(PartitionId, AbortedRange)>,
    copied_bytes: u64,
}

/// A partition in the pass.
#[derive(Clone, Copy, Debug)]
struct Part<'a> {
    partition: PartitionId,
    runs: &'a [Run],
    bounds: Bounds,
}

impl<'a> Pass<'a> {
    /// Of segments next to each other, at least one.
    pub(super) fn new(
        shared: &'a Shared,
        segments: &[Cleanable],
        place: Replaced,
        (sequence, writer): (u64, ColdWriter),
        permit: Permit,
    ) -> Self {
        let is_hot = segments.iter().any(|segment| segment.settled_ms.is_none());
        let by_first = |segment: &Cleanable| (segment.first(), segment.clone());
        Self {
            shared,
            segments: segments.iter().map(by_first).collect(),
            place,
            is_hot,
            writer,
            permit: Some(permit),
            summary: Summary::default(),
            first: Position::of_cold(sequence),
            gone: Vec::new(),
            copied_bytes: 0,
        }
    }

    /// Copies and switches. Without a switch nothing is changed, and no file is left.
    pub(super) fn run(mut self) -> Result<Option<Cleaned>, CleanError> {
        let done = self.copy().and_then(|()| self.switch());
        match done {
            Ok(Some(cleaned)) => {
                if self.summary.runs().next().is_none() {
                    self.writer.give_up();
                }
                Ok(Some(cleaned))
            }
            // The next start tells whether the fact is there.
            Err(CleanError::Admit(error)) => Err(error.into()),
            other => {
                self.writer.give_up();
                other
            }
        }
    }

    fn copy(&mut self) -> Result<(), CleanError> {
        let firsts: Vec<_> = self.segments.keys().copied().collect();
        let partitions = self.shared.log().live_runs(&firsts);
        for (partition, runs) in partitions {
            let (Some(first), Some(last)) = (runs.first(), runs.last()) else { continue };
            let bounds = {
                let log = self.shared.log();
                Bounds {
                    first: first.first,
                    end: last.end,
                    log_start: log.log_start(partition),
                    log_end: log.indexed_end(partition),
                }
            };
            self.copy_partition(Part { partition, runs: &runs, bounds })?;
        }
        Ok(())
    }

    fn copy_partition(&mut self, part: Part<'_>) -> Result<(), CleanError> {
        let Part { partition, bounds, .. } = part;
        let aborted = self.aborted(partition, bounds)?;
        let mut survivors = Survivors::new(bounds, aborted);
        let retain = self.shared.cleaner.retain().of(partition);
        let limit = self.compaction_limit(partition, retain)?;
        let compaction =
            if retain.compact { Some(self.compaction(part, &survivors, limit)?) } else { None };
        let is_oldest = self.shared.log().first_live(partition) == Some(bounds.first);
        let mut max_timestamp = i64::MIN;
        let mut number = 0;
        let source = Batches { shared: self.shared, segments: self.segments.clone() };
        source.each(part, |run, stored| {
            let Some(header) = batch_header(&stored.bytes) else {
                return Err(damaged(partition, stored.header.base_offset));
            };
            if !survivors.keeps(&header, marker(&stored.bytes)) {
                return Ok(ControlFlow::Continue(()));
            }
            let mut bytes = stored.bytes;
            if let Some(compaction) = &compaction
                && is_eligible(&header, &survivors, limit)
            {
                let deletes = is_oldest && self.deletions_end(run, retain);
                let is_last = stored.header.end_offset() >= bounds.log_end;
                match compacted(&bytes, compaction, &mut number, deletes) {
                    Some(Some(batch)) if !is_last => bytes = batch.bytes().clone(),
                    Some(None) if !is_last => return Ok(ControlFlow::Continue(())),
                    _ => {}
                }
            }
            survivors.copied(&header);
            max_timestamp = max_timestamp
                .max(batch_header(&bytes).map_or(i64::MIN, |header| header.max_timestamp));
            self.copied_bytes += bytes.len() as u64;
            let written = self.writer.add(stored.header, &bytes)?;
            // As much was read.
            self.shared.cleaner.pace(2 * written)?;
            Ok(ControlFlow::Continue(()))
        })?;
        let Bounds { first, end, .. } = bounds;
        self.summary.cover(partition, Run { segment: self.first, first, end, max_timestamp });
        let aged = self.shared.log().aged(partition, part.runs, self.shared.open_ms());
        self.summary.aged.extend(aged.into_iter().map(|aged| (partition, aged)));
        let outcome = survivors.finish();
        if !planted!(AbortedLost) {
            let kept = outcome.kept.into_iter().map(|range| (partition, range));
            self.summary.aborted.extend(kept);
        }
        self.gone.extend(outcome.gone.into_iter().map(|range| (partition, range)));
        Ok(())
    }

    fn aborted(
        &self,
        partition: PartitionId,
        bounds: Bounds,
    ) -> Result<Vec<AbortedRange>, CleanError> {
        match aborted::find(self.shared, partition, (bounds.first, bounds.end), Reach::Files) {
            Ok(Some(ranges)) => Ok(ranges),
            Err(ReadError::Io(error)) => Err(error.into()),
            Ok(None) | Err(_) => Err(damaged(partition, bounds.first)),
        }
    }

    /// Up to where records may be replaced by later ones.
    fn compaction_limit(
        &self,
        partition: PartitionId,
        retain: Retain,
    ) -> Result<Offset, CleanError> {
        let stable = self.shared.log().stable_end(partition);
        let limit = stable.min(retain.below.unwrap_or(stable));
        if !retain.compact || retain.least_age_ms == 0 {
            return Ok(limit);
        }
        let Some(by) = self.shared.open_ms().checked_sub(retain.least_age_ms) else {
            return Ok(Offset(0));
        };
        let old = self.shared.appended_by(partition, by).map_err(|error| match error {
            ReadError::Io(error) => CleanError::from(error),
            _ => damaged(partition, limit),
        })?;
        Ok(limit.min(old))
    }

    /// Goes through the partition as often as it takes to know which records are replaced.
    fn compaction(
        &self,
        part: Part<'_>,
        survivors: &Survivors,
        limit: Offset,
    ) -> Result<Compaction, CleanError> {
        let source = Batches { shared: self.shared, segments: self.segments.clone() };
        let mut compaction = Compaction::new(MAX_KEYS);
        loop {
            source.each_key(part, survivors, limit, |number, key| compaction.learn(number, key))?;
            source.each_key(part, survivors, limit, |number, key| compaction.mark(number, key))?;
            if !compaction.again() {
                return Ok(compaction);
            }
        }
    }

    /// Whether deletions in a run have been there for long enough.
    fn deletions_end(&self, run: &Run, retain: Retain) -> bool {
        let settled = self.segments.get(&run.segment).and_then(|segment| segment.settled_ms);
        let now = self.shared.open_ms();
        settled.is_some_and(|settled| settled.saturating_add(retain.deletions_ms) <= now)
            || planted!(TombstoneEarly)
    }

    /// Makes the copy durable and the log switch to it. None: in the meantime nothing of it was live any more.
    fn switch(&mut self) -> Result<Option<Cleaned>, CleanError> {
        let shared = self.shared;
        let settled = self.segments.values().filter_map(|segment| segment.settled_ms).max();
        let settled_ms = settled.filter(|_| !self.is_hot).unwrap_or_else(|| shared.open_ms());
        let live = self.summary.runs().next().is_some();
        let cold = match live {
            true => Some(self.writer.finish(self.place, settled_ms, &self.summary)?),
            false => None,
        };
        let (sources, start) = replaced(self.segments.values(), self.place);
        let facts = facts(cold.as_ref().map(ColdSegment::sequence), &sources, start, self.place);
        let append = Append { batches: Vec::new(), facts };
        let Some(permit) = self.permit.take() else { return Ok(None) };
        let moving = shared.retirer.moving();
        if !shared.log().can_replace(&sources, start) {
            return Ok(None);
        }
        retire::settle(shared, permit, append).map_err(AdmitError::from)?;
        let summary = std::mem::take(&mut self.summary);
        let live_bytes = self.copied_bytes;
        let replacement = Replacement {
            cold: cold.map(|cold| (cold, summary.clone())),
            sources,
            start,
            gone: std::mem::take(&mut self.gone),
        };
        let left = shared.log_mut().replace(&replacement);
        self.summary = summary;
        drop(moving);
        let cleaned = Cleaned { segments: left.len() as u64, live_bytes };
        shared.retirer.leave(shared, left);
        Ok(Some(cleaned))
    }
}

/// Cold segments that are replaced, and where the hot ones begin afterwards.
fn replaced<'a>(
    segments: impl Iterator<Item = &'a Cleanable>,
    place: Replaced,
) -> (Vec<Position>, Option<Position>) {
    let (cold, hot): (Vec<_>, Vec<_>) =
        segments.map(Cleanable::first).partition(|first| first.is_cold());
    (cold, (!hot.is_empty()).then_some(place.to))
}

/// What switches.
fn facts(
    cold: Option<u64>,
    sources: &[Position],
    start: Option<Position>,
    place: Replaced,
) -> Vec<Fact> {
    let mut facts = Vec::new();
    if let Some(sequence) = cold {
        facts.push(Fact::cold(sequence, Some(place)));
        facts.push(Fact::last_cold(sequence));
    }
    facts.extend(sources.iter().map(|first| Fact::cold(first.cold_sequence(), None)));
    facts.extend(start.map(Fact::hot_start));
    facts
}

/// Space for the switch, set aside before anything is copied.
pub(super) fn admit(
    shared: &Shared,
    segments: &[Cleanable],
    place: Replaced,
) -> Result<Permit, CleanError> {
    let (sources, start) = replaced(segments.iter(), place);
    let facts = facts(Some(0), &sources, start, place);
    let append = Append { batches: Vec::new(), facts };
    // A merge gives back bytes, but perhaps no file: it leaves space for those who do.
    let purpose = if start.is_some() { Purpose::Switching } else { Purpose::Freeing };
    match shared.admit(append.encoded_len(), purpose) {
        Err(AdmitError::Full) => Err(CleanError::NoSpace),
        admitted => Ok(admitted?),
    }
}

/// The batches of the segments of a pass.
struct Batches<'a> {
    shared: &'a Shared,
    segments: BTreeMap<Position, Cleanable>,
}

impl Batches<'_> {
    /// All live batches of a partition, in order. An error if one is missing or damaged.
    fn each(
        &self,
        part: Part<'_>,
        mut each: impl FnMut(&Run, StoredBatch) -> Result<ControlFlow<()>, CleanError>,
    ) -> Result<(), CleanError> {
        let Part { partition, runs, bounds } = part;
        let mut next = bounds.first.max(bounds.log_start);
        for run in runs {
            if run.first > next {
                return Err(damaged(partition, next));
            }
            let Some(segment) = self.segments.get(&run.segment) else {
                return Err(damaged(partition, run.first));
            };
            if self.each_of_run(partition, run, &segment.readable, next, &mut each)?.is_break() {
                return Ok(());
            }
            next = next.max(run.end);
        }
        Ok(())
    }

    fn each_of_run(
        &self,
        partition: PartitionId,
        run: &Run,
        readable: &Readable,
        mut next: Offset,
        each: &mut impl FnMut(&Run, StoredBatch) -> Result<ControlFlow<()>, CleanError>,
    ) -> Result<ControlFlow<()>, CleanError> {
        let Readable { segment, end } = readable;
        let index = self.shared.indexes.partition(segment, *end, partition)?;
        let is_cold = run.segment.is_cold();
        let mut locations =
            index.starting_at(next).filter(|location| location.base_offset >= run.first).peekable();
        while locations.peek().is_some() {
            let (mut sources, mut bytes) = (Vec::new(), 0);
            while let Some(location) = locations.next_if(|_| bytes < READ_BYTES) {
                bytes += location.length as usize;
                sources.push(Source { segment: Arc::clone(segment), location });
            }
            let batches = match reader::read_batches(self.shared, &sources) {
                Ok(batches) => batches,
                Err(ReadError::Io(error)) => return Err(error.into()),
                Err(_) => return Err(damaged(partition, next)),
            };
            let missing = sources.get(batches.len());
            for stored in batches {
                let (base_offset, end_offset) =
                    (stored.header.base_offset, stored.header.end_offset());
                if base_offset > next && !is_cold {
                    return Err(damaged(partition, next));
                }
                if end_offset <= next {
                    continue;
                }
                next = end_offset;
                if each(run, stored)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if let Some(missing) = missing {
                return Err(damaged(partition, missing.location.base_offset));
            }
        }
        if next < run.end && !is_cold {
            return Err(damaged(partition, next));
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The keys of all records that compaction is about, numbered, until the function has enough.
    fn each_key(
        &self,
        part: Part<'_>,
        survivors: &Survivors,
        limit: Offset,
        mut each: impl FnMut(u64, &[u8]) -> bool,
    ) -> Result<(), CleanError> {
        let mut number = 0;
        self.each(part, |_, stored| {
            let header = batch_header(&stored.bytes);
            if !header.is_some_and(|header| is_eligible(&header, survivors, limit)) {
                return Ok(ControlFlow::Continue(()));
            }
            self.shared.cleaner.pace(stored.bytes.len() as u64)?;
            let batch = Batch::parse_stored(stored.bytes);
            let Ok(records) = batch.and_then(|batch| batch.records(MAX_BATCH_BYTES)) else {
                return Ok(ControlFlow::Continue(()));
            };
            for record in records {
                if record.key.is_some_and(|key| !each(number, &key)) {
                    return Ok(ControlFlow::Break(()));
                }
                number += 1;
            }
            Ok(ControlFlow::Continue(()))
        })
    }
}

/// Whether compaction may take records out of a batch: data that is committed.
fn is_eligible(batch: &BatchHeader, survivors: &Survivors, limit: Offset) -> bool {
    !batch.is_control() && batch.last_offset() < limit.0 && !survivors.is_aborted(batch)
}

/// A batch without what is replaced; None if it cannot be decoded: then it stays as it is.
fn compacted(
    bytes: &bytes::Bytes,
    compaction: &Compaction,
    number: &mut u64,
    deletes: bool,
) -> Option<Option<Batch>> {
    let before = *number;
    let kept = Batch::parse_stored(bytes.clone()).and_then(|batch| {
        batch.retain(MAX_BATCH_BYTES, |record| {
            let this = *number;
            *number += 1;
            let is_deletion = record.key.is_some() && record.value.is_none();
            !(compaction.is_replaced(this) || deletes && is_deletion)
        })
    });
    match kept {
        Ok(kept) => Some(kept),
        Err(_) => {
            *number = before;
            None
        }
    }
}

fn damaged(partition: PartitionId, offset: Offset) -> CleanError {
    CleanError::Damaged { partition, offset }
}
