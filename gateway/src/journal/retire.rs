//! How segments leave the log: the oldest ones, once nothing in them is live (FORMAT.md, Retiring).
//!
//! One fact moves the hot start past them. When it is durable they are taken out of what readers see, and when the last
//! reader let go their files become spares. Nothing here is in the writer's way: the fact is an append like others.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    AdmitError, Append, Fact, Permit, Poisoned, Ticket,
    admission::Purpose,
    log::Replacement,
    queue::Queued,
    segment::{Segment, Spare, cold_name, segment_name},
    shared::Shared,
};

/// The thread that retires, and the segments that it could not free yet.
#[derive(Debug)]
pub(super) struct Retirer {
    /// Names of files that are not what their sequence says.
    odd_names: BTreeMap<u64, String>,
    /// Out of the log, but perhaps still being read. Held while one is freed: nobody else does it.
    leaving: Mutex<Vec<Arc<Segment>>>,
    /// Held by who changes which segments are part of the log.
    moving: Mutex<()>,
    retired: AtomicU64,
    pinned: AtomicU64,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    wanted: bool,
    stopping: bool,
}

/// How often to look whether readers let go: a read takes milliseconds, and nobody tells when it ends.
const PINNED_RETRY: Duration = Duration::from_millis(20);
/// After a refusal for want of space, or an error of the folder.
const RETRY: Duration = Duration::from_secs(1);
/// A wait without end would do as well; the timeout is only there to have one kind of wait.
const FOREVER: Duration = Duration::from_secs(3600);

impl Retirer {
    pub(super) fn new(odd_names: BTreeMap<u64, String>) -> Self {
        // What the last run left behind is looked at first.
        let inner = Inner { wanted: true, stopping: false };
        Self {
            odd_names,
            leaving: Mutex::default(),
            moving: Mutex::default(),
            retired: AtomicU64::new(0),
            pinned: AtomicU64::new(0),
            inner: Mutex::new(inner),
            changed: Condvar::new(),
        }
    }

    /// A log start moved, or a snapshot became complete: perhaps something can go.
    pub(super) fn wake(&self) {
        self.lock().wanted = true;
        self.changed.notify_all();
    }

    /// Ends [`Retirer::run`].
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Segments that left the log since start.
    pub(super) fn retired(&self) -> u64 {
        self.retired.load(Ordering::Relaxed)
    }

    /// Segments that left the log and are still being read.
    pub(super) fn pinned(&self) -> u64 {
        self.pinned.load(Ordering::Relaxed)
    }

    /// Nobody else changes which segments are part of the log as long as this is held.
    pub(super) fn moving(&self) -> MutexGuard<'_, ()> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what readers no longer find.
    pub(super) fn leave(&self, shared: &Shared, left: Vec<Arc<Segment>>) {
        self.retired.fetch_add(left.len() as u64, Ordering::Relaxed);
        self.leaving().extend(left);
        self.free(shared);
        self.wake();
    }

    /// Retires until stopped.
    pub(super) fn run(&self, shared: &Shared) {
        let mut timeout = Duration::ZERO;
        while self.wait(timeout) {
            timeout = match retire(shared) {
                Ok(_) if self.pinned() > 0 => PINNED_RETRY,
                Ok(_) => FOREVER,
                Err(AdmitError::Poisoned(_)) => return,
                Err(error) => {
                    tracing::warn!(%error, "segments that nothing needs cannot be let go yet");
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

    /// Makes spares of the files that nobody reads any more.
    fn free(&self, shared: &Shared) {
        let mut leaving = self.leaving();
        for segment in std::mem::take(&mut *leaving) {
            // Out of the log nobody can take hold of it any more: the last one to let go is us.
            match Arc::try_unwrap(segment) {
                Ok(segment) => self.recycle(shared, segment),
                Err(pinned) if planted!(ReusePinned) => {
                    let Segment { file, header } = &*pinned;
                    self.recycle(shared, Segment { file: Arc::clone(file), header: *header });
                }
                Err(pinned) => leaving.push(pinned),
            }
        }
        self.pinned.store(leaving.len() as u64, Ordering::Relaxed);
    }

    fn recycle(&self, shared: &Shared, segment: Segment) {
        let sequence = segment.header.sequence;
        if segment.header.first.is_cold() {
            let name = cold_name(sequence);
            shared.damage.forget_cold(sequence);
            let removed = segment.file.len().and_then(|length| {
                shared.preparer.give_back(Spare { file: segment.file, name, length })
            });
            if let Err(error) = removed {
                tracing::warn!(%error, cold = sequence, "it stays until the next start");
            }
            return;
        }
        let name = self.odd_names.get(&sequence).cloned().unwrap_or_else(|| segment_name(sequence));
        shared.indexer.retire(sequence);
        let recycled = segment.file.len().and_then(|length| {
            let left = Spare { file: segment.file, name, length };
            shared.preparer.recycle(left, sequence)
        });
        if let Err(error) = recycled {
            tracing::warn!(%error, segment = sequence, "its space cannot be used again before a restart");
        }
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<Arc<Segment>>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pass: moves the hot start as far as it can go, lets go of cold segments that nothing is live in, and frees what
/// readers let go of. How many segments left the log.
pub(super) fn retire(shared: &Shared) -> Result<u64, AdmitError> {
    let moving = shared.retirer.moving();
    let (start, cold) = {
        let log = shared.log();
        (log.retirable(), log.dead_cold())
    };
    let mut retired = Vec::new();
    if start.is_some() || !cold.is_empty() {
        let mut facts: Vec<_> = start.map(Fact::hot_start).into_iter().collect();
        facts.extend(cold.iter().map(|first| Fact::cold(first.cold_sequence(), None)));
        let append = Append { batches: Vec::new(), facts };
        let permit = shared.admit(append.encoded_len(), Purpose::Cleaning)?;
        settle(shared, permit, append)?;
        // Only now: should the fact be lost, all of them are part of the log.
        let without = Replacement { cold: None, sources: cold, start, gone: Vec::new() };
        retired = shared.log_mut().replace(&without);
        if let Some(start) = start {
            shared.damage.forget_below(start);
        }
        let start = start.unwrap_or_default().0;
        tracing::info!(segments = retired.len(), start, "left the log: nothing in them is live");
    }
    drop(moving);
    let count = retired.len() as u64;
    shared.retirer.retired.fetch_add(count, Ordering::Relaxed);
    shared.retirer.leaving().extend(retired);
    shared.retirer.free(shared);
    Ok(count)
}

/// Appends and waits until it is durable.
pub(super) fn settle(shared: &Shared, permit: Permit, append: Append) -> Result<(), Poisoned> {
    let bytes = append.encoded_len();
    let reserved = permit.redeem(bytes);
    let (ticket, completion) = Ticket::new();
    shared.queue.push(Queued { append, bytes, reserved, completion });
    if planted!(RetireEarly) {
        return Ok(());
    }
    ticket.wait()
}
