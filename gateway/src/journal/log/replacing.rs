//! Copies take the place of what they were copied from.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{
    AbortedRange, Aged, ColdSegment, KEPT_SNAPSHOTS, Log, Offset, PartitionId, PartitionLog,
    Position, Readable, Replaced, Run, Segment, Summary,
};

/// What takes the place of what was cleaned.
#[derive(Debug)]
pub(in crate::journal) struct Replacement {
    /// None: nothing that is live was left.
    pub(in crate::journal) cold: Option<(ColdSegment, Summary)>,
    /// Cold segments that it was copied from.
    pub(in crate::journal) sources: Vec<Position>,
    /// Where the log of hot segments begins now, if it was copied from such.
    pub(in crate::journal) start: Option<Position>,
    /// Aborted ranges that went with their data and their marker.
    pub(in crate::journal) gone: Vec<(PartitionId, AbortedRange)>,
}

/// A segment that may be cleaned.
#[derive(Clone, Debug)]
pub(in crate::journal) struct Cleanable {
    pub(in crate::journal) readable: Readable,
    /// What it stands for: of a segment up to the next one.
    pub(in crate::journal) place: Replaced,
    /// Of a cold segment.
    pub(in crate::journal) settled_ms: Option<u64>,
}

impl Cleanable {
    pub(in crate::journal) fn first(&self) -> Position {
        self.readable.segment.header.first
    }
}

/// What the cleaner does.
impl Log {
    /// Adds a cold segment that was there when the journal was opened. How many partitions have offsets in it that
    /// others hold, too: those count.
    pub(in crate::journal) fn add_cold(
        &mut self,
        cold: ColdSegment,
        summary: &Summary,
        knows: impl Fn(PartitionId) -> bool,
    ) -> u64 {
        let mut doubled = 0;
        for (partition, mut run) in summary.runs().filter(|(partition, _)| knows(*partition)) {
            let log = self.partitions.entry(partition).or_default();
            let at = log.runs.partition_point(|other| other.first < run.first);
            let before = log.runs.get(..at).and_then(<[_]>::last).map_or(run.first, |run| run.end);
            let after = log.runs.get(at).map_or(run.end, |run| run.first);
            doubled += u64::from(before > run.first || after < run.end);
            run.first = run.first.max(before);
            run.end = run.end.min(after);
            if run.first < run.end {
                log.runs.insert(at, run);
            }
        }
        self.note_aged(summary);
        for &(partition, range) in summary.aborted.iter().filter(|(id, _)| knows(*id)) {
            let log = self.partitions.entry(partition).or_default();
            log.insert_aborted(range);
        }
        self.cold.add(cold);
        self.spill_aborted();
        doubled
    }

    /// Notes that a cold segment is lost.
    pub(in crate::journal) fn lose_cold(&mut self, place: Replaced) {
        self.cold.add_lost(place);
    }

    /// The oldest segments, as far as nothing needs them but who reads them.
    pub(in crate::journal) fn cleanable(&self) -> Vec<Cleanable> {
        let Some(&state) = self.snapshots.first() else { return Vec::new() };
        if self.snapshots.len() < KEPT_SNAPSHOTS {
            return Vec::new();
        }
        let firsts = self.segments.keys().copied();
        let next = firsts.skip(1).chain(self.active);
        let older = self.segments.values().zip(next).take_while(|(_, next)| *next <= state);
        older
            .map(|(readable, next)| Cleanable {
                readable: readable.clone(),
                place: Replaced { from: readable.segment.header.first, to: next },
                settled_ms: None,
            })
            .collect()
    }

    /// The cold segments, in order.
    pub(in crate::journal) fn cold(&self) -> impl Iterator<Item = Cleanable> {
        self.cold.iter().map(|cold| Cleanable {
            readable: cold.readable.clone(),
            place: cold.place,
            settled_ms: Some(cold.settled_ms),
        })
    }

    pub(in crate::journal) fn cold_segments(&self) -> usize {
        self.cold.len()
    }

    /// Whether something of these positions is lost that was in a cold segment.
    pub(in crate::journal) fn is_cold_lost_within(&self, place: Replaced) -> bool {
        self.cold.is_lost_within(place)
    }

    /// Which live offsets each partition has in some segments, in order.
    pub(in crate::journal) fn live_runs(
        &self,
        segments: &[Position],
    ) -> BTreeMap<PartitionId, Vec<Run>> {
        let mut found = BTreeMap::new();
        for (&partition, log) in &self.partitions {
            let runs = log.live_runs().filter(|run| segments.contains(&run.segment));
            let runs: Vec<_> = runs.copied().collect();
            if !runs.is_empty() {
                found.insert(partition, runs);
            }
        }
        found
    }

    /// The oldest offset that some segment which was left holds and that is live.
    pub(in crate::journal) fn first_live(&self, partition: PartitionId) -> Option<Offset> {
        self.partitions.get(&partition)?.live_runs().next().map(|run| run.first)
    }

    /// Cold segments in which nothing is live.
    pub(in crate::journal) fn dead_cold(&self) -> Vec<Position> {
        let live = self.partitions.values().flat_map(PartitionLog::live_runs);
        let live: HashSet<_> = live.map(|run| run.segment).collect();
        self.cold.iter().map(ColdSegment::first).filter(|first| !live.contains(first)).collect()
    }

    /// Whether all of them are still what readers see, the hot ones up to a position.
    pub(in crate::journal) fn can_replace(
        &self,
        sources: &[Position],
        start: Option<Position>,
    ) -> bool {
        let oldest = self.oldest();
        sources.iter().all(|&first| self.cold.by_first(first).is_some())
            && start.is_none_or(|start| oldest.is_some_and(|oldest| oldest < start))
    }

    /// Lets readers find what was copied where they found what it was copied from; gives what nobody finds any more.
    pub(in crate::journal) fn replace(&mut self, with: &Replacement) -> Vec<Arc<Segment>> {
        let mut left = with.start.map_or_else(Vec::new, |start| self.retire_below(start));
        left.extend(with.sources.iter().filter_map(|&first| self.cold.remove(first)));
        for log in self.partitions.values_mut() {
            log.forgotten += 1;
            log.runs.retain(|run| !with.sources.contains(&run.segment));
            log.spilled.retain(|spilled| !with.sources.contains(&spilled.segment));
        }
        if let Some((cold, summary)) = &with.cold {
            for (partition, run) in summary.runs() {
                // It may have been deleted in the meantime.
                let Some(log) = self.partitions.get_mut(&partition) else { continue };
                let at = log.runs.partition_point(|other| other.first < run.first);
                log.runs.insert(at, run);
            }
            self.note_aged(summary);
            self.cold.add(cold.clone());
        }
        self.replace_aborted(with);
        left
    }

    /// What a copy of some runs has to tell of their age.
    pub(in crate::journal) fn aged(
        &self,
        partition: PartitionId,
        runs: &[Run],
        now_ms: u64,
    ) -> Vec<Aged> {
        let Some(log) = self.partitions.get(&partition) else { return Vec::new() };
        let (cold, hot): (Vec<&Run>, Vec<&Run>) =
            runs.iter().partition(|run| run.segment.is_cold());
        let copied =
            |aged: &&Aged| cold.iter().any(|run| run.first < aged.end && aged.end <= run.end);
        let mut aged: Vec<_> = log.aged.iter().filter(copied).copied().collect();
        for run in hot {
            let readable = self.segments.get(&run.segment);
            let left = readable.map_or(Position(u64::MAX), Readable::left);
            let open_ms = self.ages.by(left).unwrap_or(now_ms);
            aged.push(Aged { end: run.end, open_ms });
        }
        aged.sort_by_key(|aged| aged.end);
        Aged::thin(&mut aged);
        aged
    }

    /// Takes over what a copy tells of age.
    fn note_aged(&mut self, summary: &Summary) {
        for (partition, run) in summary.runs() {
            let Some(log) = self.partitions.get_mut(&partition) else { continue };
            log.aged.retain(|aged| aged.end <= run.first || run.end < aged.end);
            let told = summary.aged.iter().filter(|(id, _)| *id == partition);
            let log_start = log.log_start;
            log.aged.extend(told.map(|(_, aged)| *aged).filter(|aged| aged.end > log_start));
            log.aged.sort_by_key(|aged| aged.end);
        }
    }
}
