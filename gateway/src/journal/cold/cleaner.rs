//! The thread that cleans: looks what there is, lets `plan.rs` decide, and carries it out, never faster than its budget.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::super::{
    AdmitError, CleanError, Disk, DiskFile, JournalId, Offset, Position,
    address::MAX_COLD_SEQUENCE,
    append::Replaced,
    format::{ALIGN, COLD_HEADER_BYTES, align_up},
    index::Size,
    log::Cleanable,
    options::Settings,
    preparer::take_budget,
    segment::cold_name,
    shared::Shared,
};
use super::{
    Cleaned,
    pass::{self, Pass},
    plan::{Candidate, IDLE_COST, MAX_COST, Plan, Shape, Sources},
    retain::RetainTable,
    writer::{ColdSpace, ColdWriter},
};

/// The thread, and what it knows of segments.
#[derive(Debug)]
pub(in crate::journal) struct Cleaner {
    disk: Arc<dyn Disk>,
    journal: JournalId,
    bytes_per_second: Option<u64>,
    retain: RetainTable,
    /// One pass at a time.
    passes: Mutex<Known>,
    next_sequence: AtomicU64,
    copied_bytes: AtomicU64,
    cleaned: AtomicU64,
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// What would cost reads to find out again.
#[derive(Debug, Default)]
struct Known {
    /// Bytes of each partition in a segment.
    sizes: HashMap<Position, Vec<Size>>,
    /// Segments in which something that is live is damaged.
    barred: HashSet<Position>,
}

#[derive(Debug, Default)]
struct Inner {
    wanted: bool,
    stopping: bool,
    /// When what was read and written so far is within the budget.
    due: Option<Instant>,
}

/// A cold segment is at most this much of a segment, for its index; header and one block for each chunk taken off.
const CAPACITY_PARTS: (u64, u64) = (15, 16);
/// Segments that are looked at for a way that pays: each costs the reading of its index, once.
const LOOKAHEAD: usize = 32;
/// With less than this share of the budget left, cleaning may cost more.
const SHORT_SHARE: u64 = 8;
/// Below this a wait is not worth its while.
const LEAST_WAIT: Duration = Duration::from_millis(5);
/// After a failure.
const RETRY: Duration = Duration::from_secs(10);
const FOREVER: Duration = Duration::from_secs(3600);

impl Cleaner {
    pub(in crate::journal) fn new(
        disk: Arc<dyn Disk>,
        journal: JournalId,
        settings: &Settings,
        next_sequence: u64,
    ) -> Self {
        Self {
            disk,
            journal,
            bytes_per_second: settings.clean_bytes_per_second,
            retain: RetainTable::default(),
            passes: Mutex::default(),
            next_sequence: AtomicU64::new(next_sequence),
            copied_bytes: AtomicU64::new(0),
            cleaned: AtomicU64::new(0),
            inner: Mutex::new(Inner { wanted: true, ..Inner::default() }),
            changed: Condvar::new(),
        }
    }

    pub(in crate::journal) fn retain(&self) -> &RetainTable {
        &self.retain
    }

    /// Perhaps there is something to clean now.
    pub(in crate::journal) fn wake(&self) {
        self.lock().wanted = true;
        self.changed.notify_all();
    }

    /// Ends [`Cleaner::run`], and what it is at.
    pub(in crate::journal) fn stop(&self) {
        self.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Bytes copied since start.
    pub(in crate::journal) fn copied_bytes(&self) -> u64 {
        self.copied_bytes.load(Ordering::Relaxed)
    }

    /// Segments cleaned since start.
    pub(in crate::journal) fn cleaned(&self) -> u64 {
        self.cleaned.load(Ordering::Relaxed)
    }

    /// Cleans until stopped.
    pub(in crate::journal) fn run(&self, shared: &Shared) {
        let mut timeout = Duration::ZERO;
        while self.wait(timeout) {
            timeout = match clean(shared, worth(shared)) {
                Ok(Some(_)) => Duration::ZERO,
                Ok(None) => FOREVER,
                Err(CleanError::Stopped | CleanError::Admit(AdmitError::Poisoned(_))) => return,
                Err(CleanError::NoSpace) => shared.settings.space_retry,
                Err(error) => {
                    tracing::warn!(%error, "cannot clean");
                    RETRY
                }
            };
        }
    }

    /// False when told to stop.
    fn wait(&self, timeout: Duration) -> bool {
        let idle = |inner: &mut Inner| !inner.wanted && !inner.stopping;
        let (mut inner, _) = self
            .changed
            .wait_timeout_while(self.lock(), timeout, idle)
            .unwrap_or_else(PoisonError::into_inner);
        inner.wanted = false;
        !inner.stopping
    }

    /// Accounts for bytes read or written, and waits until they are within the budget.
    pub(super) fn pace(&self, bytes: u64) -> Result<(), CleanError> {
        let mut inner = self.lock();
        if let Some(rate) = self.bytes_per_second {
            let now = Instant::now();
            let took = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
            let due = inner.due.map_or(now, |due| due.max(now)) + took;
            inner.due = Some(due);
            let wait = due.saturating_duration_since(now);
            if wait > LEAST_WAIT {
                let stopping = |inner: &mut Inner| !inner.stopping;
                let waited = self.changed.wait_timeout_while(inner, wait, stopping);
                inner = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        if inner.stopping { Err(CleanError::Stopped) } else { Ok(()) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What cleaning may cost at the moment.
fn worth(shared: &Shared) -> f64 {
    let max_bytes = shared.settings.max_bytes;
    let used = shared.used_bytes.load(Ordering::Relaxed);
    let room = (max_bytes + shared.preparer.idle_bytes()).saturating_sub(used);
    let short = max_bytes / SHORT_SHARE + shared.preparer.wanted_bytes();
    if room <= short { MAX_COST } else { IDLE_COST }
}

/// One pass over what is cheapest, if that costs at most so much per freed byte. None: nothing is worth it.
pub(in crate::journal) fn clean(
    shared: &Shared,
    max_cost: f64,
) -> Result<Option<Cleaned>, CleanError> {
    let mut known = shared.cleaner.known();
    let oldest = oldest(shared, &known);
    let cold = neighbours(shared, &known);
    known.keep(oldest.iter().chain(cold.iter().flatten()));
    let shape = shape(shared);
    let hot = known.candidates(shared, &oldest)?;
    let mut best = Plan::cheapest(&hot, &[], shape, max_cost).map(|plan| (plan, &oldest));
    for group in &cold {
        let candidates = known.candidates(shared, group)?;
        let plan = Plan::cheapest(&[], &candidates, shape, max_cost);
        let cheaper = |plan: &Plan| best.as_ref().is_none_or(|(best, _)| plan.cost() < best.cost());
        if let Some(plan) = plan.filter(cheaper) {
            best = Some((plan, group));
        }
        let fewer = || Plan::fewer(&candidates, shape).map(|plan| (plan, group));
        best = best.or_else(fewer);
    }
    let Some((plan, from)) = best else { return Ok(None) };
    let chosen = match plan.sources {
        Sources::Oldest(count) => from.get(..count),
        Sources::Cold(range) => from.get(range),
    };
    pass(shared, &mut known, chosen.unwrap_or_default())
}

/// One pass over the oldest segments, as many as there may be in one.
#[cfg(test)]
pub(in crate::journal) fn clean_oldest(shared: &Shared) -> Result<Option<Cleaned>, CleanError> {
    let mut known = shared.cleaner.known();
    let oldest = oldest(shared, &known);
    let candidates = known.candidates(shared, &oldest)?;
    let mut most = 0;
    let within = candidates.iter().take_while(|candidate| {
        most += candidate.most_bytes;
        most <= shape(shared).capacity
    });
    let count = within.count().max(1);
    pass(shared, &mut known, oldest.get(..count).unwrap_or_default())
}

/// One pass over all cold segments.
#[cfg(test)]
pub(in crate::journal) fn merge_cold(shared: &Shared) -> Result<Option<Cleaned>, CleanError> {
    let mut known = shared.cleaner.known();
    let group = neighbours(shared, &known).into_iter().next();
    pass(shared, &mut known, &group.unwrap_or_default())
}

fn shape(shared: &Shared) -> Shape {
    let entries = shared.settings.segment_bytes / CAPACITY_PARTS.1 * CAPACITY_PARTS.0;
    let overhead = COLD_HEADER_BYTES + 2 * ALIGN;
    Shape { capacity: entries.saturating_sub(overhead), overhead }
}

/// The oldest segments, up to one that cannot be read.
fn oldest(shared: &Shared, known: &Known) -> Vec<Cleanable> {
    let oldest = shared.log().cleanable().into_iter();
    oldest.take_while(|segment| !known.barred.contains(&segment.first())).take(LOOKAHEAD).collect()
}

/// Cold segments between which nothing is lost.
fn neighbours(shared: &Shared, known: &Known) -> Vec<Vec<Cleanable>> {
    let log = shared.log();
    let mut groups: Vec<Vec<Cleanable>> = vec![Vec::new()];
    for cold in log.cold() {
        let last = groups.last().and_then(|group| group.last());
        let between = last.map(|last| Replaced { from: last.place.to, to: cold.place.from });
        let is_barred = known.barred.contains(&cold.first());
        if is_barred || between.is_some_and(|between| log.is_cold_lost_within(between)) {
            groups.push(Vec::new());
        }
        if !is_barred && let Some(group) = groups.last_mut() {
            group.push(cold);
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

fn pass(
    shared: &Shared,
    known: &mut Known,
    segments: &[Cleanable],
) -> Result<Option<Cleaned>, CleanError> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(None) };
    let cleaner = &shared.cleaner;
    let place = Replaced { from: first.place.from, to: last.place.to };
    let candidates = known.candidates(shared, segments)?;
    let most_bytes: u64 = candidates.iter().map(|candidate| candidate.most_bytes).sum();
    let permit = pass::admit(shared, segments, place)?;
    let sequence = cleaner.next_sequence.fetch_add(1, Ordering::Relaxed);
    if sequence > MAX_COLD_SEQUENCE {
        return Err(CleanError::NoSpace);
    }
    let space = space(shared, sequence, align_up(COLD_HEADER_BYTES + most_bytes))?;
    let writer = ColdWriter::new(space, cleaner.journal, sequence);
    let done = Pass::new(shared, segments, place, (sequence, writer), permit).run();
    match &done {
        Ok(Some(cleaned)) => {
            cleaner.copied_bytes.fetch_add(cleaned.live_bytes, Ordering::Relaxed);
            cleaner.cleaned.fetch_add(cleaned.segments, Ordering::Relaxed);
            let (segments, bytes) = (cleaned.segments, cleaned.live_bytes);
            tracing::info!(segments, bytes, cold = sequence, "cleaned");
        }
        Err(CleanError::Damaged { partition, offset }) => {
            let runs = shared.log().live_runs(&firsts(segments)).remove(partition);
            let runs = runs.unwrap_or_default();
            // Where an offset is missing between two segments, it is the later one that cannot go.
            let at = runs.iter().find(|run| run.end > *offset).map(|run| run.segment);
            known.barred.extend(at);
        }
        _ => {}
    }
    done
}

fn firsts(segments: &[Cleanable]) -> Vec<Position> {
    segments.iter().map(Cleanable::first).collect()
}

/// A file for about so many bytes: within the budget, or one that is set aside for this.
fn space(shared: &Shared, sequence: u64, bytes: u64) -> Result<ColdSpace, CleanError> {
    let disk = Arc::clone(&shared.cleaner.disk);
    let name = cold_name(sequence);
    let (used_bytes, max_bytes) = (Arc::clone(&shared.used_bytes), shared.settings.max_bytes);
    if take_budget(&used_bytes, bytes, max_bytes) {
        match create(&*disk, &name, bytes) {
            Ok(file) => {
                let was_spare = false;
                return Ok(ColdSpace { disk, file, name, bytes, was_spare, used_bytes, max_bytes });
            }
            Err(error) => {
                used_bytes.fetch_sub(bytes, Ordering::Relaxed);
                if error.kind() != io::ErrorKind::StorageFull {
                    return Err(error.into());
                }
            }
        }
    }
    let spare = shared.preparer.lend().ok_or(CleanError::NoSpace)?;
    disk.rename(&spare.name, &name)?;
    let (file, bytes) = (spare.file, spare.length);
    Ok(ColdSpace { disk, file, name, bytes, was_spare: true, used_bytes, max_bytes })
}

fn create(disk: &dyn Disk, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(name)?;
    if let Err(error) = file.allocate(bytes) {
        drop(file);
        disk.remove(name)?;
        return Err(error);
    }
    Ok(file)
}

impl Known {
    /// Forgets what is not among these.
    fn keep<'a>(&mut self, segments: impl Iterator<Item = &'a Cleanable>) {
        let there: HashSet<_> = segments.map(Cleanable::first).collect();
        self.sizes.retain(|first, _| there.contains(first));
    }

    /// What each segment would cost.
    fn candidates(
        &mut self,
        shared: &Shared,
        segments: &[Cleanable],
    ) -> io::Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        for segment in segments {
            let sizes = match self.sizes.entry(segment.first()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(missing) => {
                    let readable = &segment.readable;
                    let sizes = shared.indexes.sizes(&readable.segment, readable.end)?;
                    let mut log = shared.log_mut();
                    for size in &sizes {
                        log.note_bytes(size.partition, segment.first(), size.batch_bytes);
                    }
                    missing.insert(sizes)
                }
            };
            let log = shared.log();
            let runs = log.live_runs(&[segment.first()]);
            let (mut live_bytes, mut most_bytes) = (0, 0);
            for Size { partition, entry_bytes, .. } in sizes.iter() {
                let Some(run) = runs.get(partition).and_then(|runs| runs.first()) else { continue };
                let bytes = share(*entry_bytes, run.first, run.end, log.log_start(*partition));
                most_bytes += bytes;
                let is_dirty = segment.settled_ms.is_none();
                let compact = is_dirty && shared.cleaner.retain.of(*partition).compact;
                // What compaction finds is not known before: half, as Kafka waits for.
                live_bytes += if compact { bytes / 2 } else { bytes };
            }
            drop(log);
            let file_bytes = segment.readable.segment.file.len()?;
            candidates.push(Candidate { file_bytes, live_bytes, most_bytes });
        }
        Ok(candidates)
    }
}

/// About how many of a run's bytes lie above the log's start.
fn share(bytes: u64, first: Offset, end: Offset, log_start: Offset) -> u64 {
    let offsets = (end.0 - first.0).max(1) as f64;
    let live = (end.0 - log_start.max(first).0).max(0) as f64;
    (bytes as f64 * live / offsets).ceil() as u64
}
