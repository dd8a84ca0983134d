//! Counters of the writer, and how long the recent syncs took.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Syncs that the percentiles are over: enough for a 99th, few enough to follow the disk.
const WINDOW: usize = 256;

/// Counters since start.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) frames: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    /// Reads that were answered with an error because of damage.
    pub(super) damaged_reads: AtomicU64,
    /// Offsets that readers were taken past because of damage.
    pub(super) skipped_offsets: AtomicU64,
    syncs: Mutex<Syncs>,
}

#[derive(Debug, Default)]
struct Syncs {
    micros: Vec<u32>,
    next: usize,
}

impl Stats {
    /// Notes a frame that became durable.
    pub(super) fn committed(&self, bytes: usize, sync: Duration) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let micros = u32::try_from(sync.as_micros()).unwrap_or(u32::MAX);
        let mut syncs = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        let next = syncs.next;
        match syncs.micros.get_mut(next) {
            Some(slot) => *slot = micros,
            None => syncs.micros.push(micros),
        }
        syncs.next = (next + 1) % WINDOW;
    }

    /// Median and 99th percentile of the recent syncs, microseconds.
    pub(super) fn sync_percentiles(&self) -> (u64, u64) {
        let mut micros = self.syncs.lock().unwrap_or_else(PoisonError::into_inner).micros.clone();
        micros.sort_unstable();
        let at = |percent: usize| {
            let rank = (micros.len() * percent).div_ceil(100).saturating_sub(1);
            micros.get(rank).copied().map_or(0, u64::from)
        };
        (at(50), at(99))
    }
}
