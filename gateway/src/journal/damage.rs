//! Damage of the log that is known: what the opening found, and the scrub since. For health and metrics; reads find out
//! for themselves.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::{Position, RecoveryReport, inspect::Accepted};

/// Ranges that nobody has accepted.
#[derive(Debug)]
pub(super) struct DamageMap {
    accepted: Accepted,
    /// Lengths by first position.
    open: Mutex<BTreeMap<Position, u64>>,
}

impl DamageMap {
    pub(super) fn new(accepted: Accepted, report: &RecoveryReport) -> Self {
        let map = Self { accepted, open: Mutex::default() };
        for range in &report.damage {
            map.note(range.position, range.length);
        }
        map
    }

    /// Adds a range; false if it was known, or is accepted.
    pub(super) fn note(&self, position: Position, length: u64) -> bool {
        if self.accepted.covers(position, length) {
            return false;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= RecoveryReport::MAX_PLACES {
            return false;
        }
        open.insert(position, length).is_none()
    }

    /// What left the log is nobody's damage any more.
    pub(super) fn forget_below(&self, start: Position) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open = open.split_off(&start);
    }

    /// Nor is what a cold segment took along.
    pub(super) fn forget_cold(&self, sequence: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|position, _| !position.is_cold() || position.cold_sequence() != sequence);
    }

    /// Ranges, and their bytes.
    pub(super) fn open(&self) -> (u64, u64) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        (open.len() as u64, open.values().sum())
    }
}
