//! What the cleaner keeps of a partition beyond what is below its log start; told by whoever knows topics.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use super::super::{Offset, PartitionId};

/// How a partition is cleaned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retain {
    /// Whether of each key only the latest record is kept.
    pub compact: bool,
    /// Ms of open journal for which a deletion, the latest record of its key if it has no value, is kept after it
    /// was compacted for the first time (Kafka's `delete.retention.ms`): who reads from the start meets it until then.
    pub deletions_ms: u64,
    /// Ms of open journal that a record has been there before it is compacted (Kafka's `min.compaction.lag.ms`).
    pub least_age_ms: u64,
    /// Records from here on are not compacted; none: all may be.
    pub below: Option<Offset>,
}

/// Per partition; those that are not in it are not compacted.
#[derive(Debug, Default)]
pub(in crate::journal) struct RetainTable {
    partitions: RwLock<HashMap<PartitionId, Retain>>,
}

impl RetainTable {
    pub(in crate::journal) fn set(&self, partition: PartitionId, retain: Retain) {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        if retain.compact {
            partitions.insert(partition, retain);
        } else {
            partitions.remove(&partition);
        }
    }

    pub(super) fn of(&self, partition: PartitionId) -> Retain {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.get(&partition).copied().unwrap_or_default()
    }
}
