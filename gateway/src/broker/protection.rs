//! What may not go: records that an uplink has still to forward, and what the cleaner is told of topics because of it.

use std::{
    collections::HashMap,
    fmt,
    sync::{OnceLock, PoisonError, RwLock},
};

use super::{Broker, Topic, UnreplicatedPolicy, broker::Core};
use crate::journal::{Offset, PartitionId, Retain};

/// What the uplink tells.
#[derive(Debug, Default)]
pub(super) struct Protection {
    forwarded: OnceLock<Forwarded>,
    replicated: RwLock<HashMap<PartitionId, Offset>>,
}

/// Tells of a topic's name whether an uplink forwards it.
struct Forwarded(Box<dyn Fn(&str) -> bool + Send + Sync>);

impl fmt::Debug for Forwarded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Forwarded").finish_non_exhaustive()
    }
}

impl Broker {
    /// Tells which topics an uplink forwards: what the centre does not hold of them stays. Only the first call counts.
    pub fn protect_forwarded(&self, is_forwarded: impl Fn(&str) -> bool + Send + Sync + 'static) {
        // There is one uplink, and it is set up before anything is deleted.
        let _ = self.core.protection.forwarded.set(Forwarded(Box::new(is_forwarded)));
        self.topics().iter().for_each(|topic| self.core.tell_cleaner(topic));
    }

    /// From where on neither retention nor full storage nor compaction may take a partition's records: the centre does
    /// not hold them. None where no uplink forwards the topic, or its settings say that nobody has to be asked.
    #[must_use]
    pub fn protected_from(&self, topic: &Topic, partition: PartitionId) -> Option<Offset> {
        self.core.protected_from(topic, partition)
    }

    /// Notes how far the centre holds a partition: for the page, and for what may go.
    pub fn set_replicated(&self, partition: PartitionId, next: Offset) {
        let replicated = &self.core.protection.replicated;
        replicated.write().unwrap_or_else(PoisonError::into_inner).insert(partition, next);
        if let Some(topic) = self.topic_of(partition) {
            self.core.tell_cleaner_of(&topic, partition);
        }
    }

    /// How far the centre holds a partition, if it is replicated.
    #[must_use]
    pub fn replicated(&self, partition: PartitionId) -> Option<Offset> {
        self.core.protection.replicated(partition)
    }
}

impl Protection {
    fn replicated(&self, partition: PartitionId) -> Option<Offset> {
        let replicated = self.replicated.read().unwrap_or_else(PoisonError::into_inner);
        replicated.get(&partition).copied()
    }
}

impl Core {
    fn protected_from(&self, topic: &Topic, partition: PartitionId) -> Option<Offset> {
        let protection = &self.protection;
        let is_forwarded = protection.forwarded.get().is_some_and(|it| (it.0)(&topic.name));
        let settings = topic.settings(&self.options().topic_defaults);
        let is_kept = settings.unreplicated == UnreplicatedPolicy::Keep;
        // Not heard of yet: none of it is there.
        (is_forwarded && is_kept).then(|| protection.replicated(partition).unwrap_or_default())
    }

    /// Tells the journal how to clean the partitions of a topic.
    pub(super) fn tell_cleaner(&self, topic: &Topic) {
        topic.partitions.iter().for_each(|&partition| self.tell_cleaner_of(topic, partition));
    }

    fn tell_cleaner_of(&self, topic: &Topic, partition: PartitionId) {
        let settings = topic.settings(&self.options().topic_defaults);
        let retain = Retain {
            compact: settings.cleanup.compact,
            deletions_ms: settings.delete_retention_ms,
            least_age_ms: settings.min_compaction_lag_ms,
            below: self.protected_from(topic, partition),
        };
        self.journal.retain(partition, retain);
    }
}
