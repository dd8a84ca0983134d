//! What the handles, the writer and the preparer share.

use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic::AtomicU64};

use super::{
    AdmitError, Permit, Poisoned, RecoveryReport,
    admission::{Ledger, Purpose},
    cold::Cleaner,
    damage::DamageMap,
    format::Seed,
    index::IndexCache,
    indexer::Indexer,
    log::Log,
    options::Settings,
    preparer::Preparer,
    queue::Queue,
    read_pool::ReadPool,
    retire::Retirer,
    scrub::Scrubber,
    stats::Stats,
    tail::Tail,
    waiters::Waiters,
};
use crate::held::Held;

/// One open journal.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) seed: Seed,
    pub(super) settings: Settings,
    pub(super) recovery: RecoveryReport,
    pub(super) ledger: Arc<Ledger>,
    pub(super) queue: Queue,
    pub(super) preparer: Preparer,
    pub(super) retirer: Retirer,
    pub(super) scrubber: Scrubber,
    /// Damage that is known.
    pub(super) damage: DamageMap,
    pub(super) cleaner: Cleaner,
    pub(super) indexer: Indexer,
    /// Of the segments that were left.
    pub(super) indexes: IndexCache,
    /// The last frames, in memory.
    pub(super) tail: Arc<Tail>,
    pub(super) readers: Arc<ReadPool>,
    pub(super) waiters: Waiters,
    /// Of those who wait for stable data.
    pub(super) stable_waiters: Waiters,
    pub(super) stats: Stats,
    pub(super) used_bytes: Arc<AtomicU64>,
    /// The error that stopped the journal.
    pub(super) poison: OnceLock<Poisoned>,
    /// Why nothing is accepted any more: that error, or an orderly end.
    pub(super) ended: OnceLock<Poisoned>,
    pub(super) age: Age,
    log: RwLock<Log>,
}

/// How long the journal has been open in all its life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Age {
    /// At the last frame of the openings before.
    pub(super) before_ms: u64,
    /// The monotonic clock at this opening.
    pub(super) opened_ms: u64,
}

impl Age {
    pub(super) fn at(&self, monotonic_ms: u64) -> u64 {
        self.before_ms + monotonic_ms.saturating_sub(self.opened_ms)
    }
}

/// What a [`Shared`] is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) seed: Seed,
    pub(super) settings: Settings,
    pub(super) recovery: RecoveryReport,
    pub(super) ledger: Arc<Ledger>,
    pub(super) preparer: Preparer,
    pub(super) tail: Arc<Tail>,
    pub(super) indexer: Indexer,
    pub(super) indexes: IndexCache,
    pub(super) used_bytes: Arc<AtomicU64>,
    pub(super) age: Age,
    pub(super) log: Log,
    pub(super) retirer: Retirer,
    pub(super) scrubber: Scrubber,
    pub(super) damage: DamageMap,
    pub(super) cleaner: Cleaner,
}

impl Shared {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            seed: parts.seed,
            tail: parts.tail,
            readers: ReadPool::new(parts.settings.read_threads, parts.settings.read_queue),
            settings: parts.settings,
            recovery: parts.recovery,
            ledger: parts.ledger,
            queue: Queue::default(),
            preparer: parts.preparer,
            retirer: parts.retirer,
            scrubber: parts.scrubber,
            damage: parts.damage,
            cleaner: parts.cleaner,
            indexer: parts.indexer,
            indexes: parts.indexes,
            waiters: Waiters::default(),
            stable_waiters: Waiters::default(),
            stats: Stats::default(),
            used_bytes: parts.used_bytes,
            poison: OnceLock::new(),
            ended: OnceLock::new(),
            age: parts.age,
            log: RwLock::new(parts.log),
        }
    }

    pub(super) fn log(&self) -> Held<RwLockReadGuard<'_, Log>> {
        Held::read(&self.log)
    }

    pub(super) fn log_mut(&self) -> Held<RwLockWriteGuard<'_, Log>> {
        Held::write(&self.log)
    }

    /// Sets space aside, unless nothing is accepted any more.
    pub(super) fn admit(&self, bytes: usize, purpose: Purpose) -> Result<Permit, AdmitError> {
        match self.ended.get() {
            Some(ended) => Err(ended.clone().into()),
            None => self.ledger.admit(bytes, purpose),
        }
    }

    /// Stops acknowledgements for good; only the first reason counts.
    pub(super) fn poison(&self, reason: String) -> Poisoned {
        let poisoned = self.poison.get_or_init(|| {
            tracing::error!(reason, "the journal stops accepting: nothing more is acknowledged");
            Poisoned { reason: reason.into() }
        });
        self.ended.get_or_init(|| poisoned.clone());
        self.indexer.abandon();
        poisoned.clone()
    }

    /// How long the journal has been open in all its life.
    pub(super) fn open_ms(&self) -> u64 {
        self.age.at(self.settings.clock.now().monotonic_ms)
    }
}
