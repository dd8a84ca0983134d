//! What the journal's entries add up to. One reducer, used by the writer (snapshots), by recovery and by the broker.
//!
//! [`State::apply`] is the only way in: the same entries in the same order give the same state,
//! whether they come from an append, a frame or a snapshot. No I/O, no clock of its own.

mod limits;
mod producer;
mod snapshot;
#[cfg(test)]
mod tests;
mod transaction;
#[cfg(test)]
mod transaction_tests;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Append, Offset, PartitionId, Position, Space,
    append::{HOT_START_KEY, decode_hot_start, decode_log_start, decode_partition},
};
use crate::record::{BatchHeader, TransactionOutcome};

pub use limits::StateLimits;
use producer::Producers;
pub use producer::{KnownProducer, ProducerCheck};
pub(super) use snapshot::SnapshotReader;
pub use transaction::AbortedRange;
pub(super) use transaction::Transactions;

/// Replayed state. Equality compares everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    facts: BTreeMap<(Space, Bytes), Bytes>,
    partitions: BTreeMap<PartitionId, PartitionState>,
    producers: Producers,
    transactions: Transactions,
    incarnation: u64,
    leader_epoch: i32,
    fact_bytes: usize,
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionState {
    /// First offset that is still there.
    pub log_start: Offset,
    /// One past the last offset.
    pub log_end: Offset,
    /// Leader epoch of the last batch.
    pub leader_epoch: i32,
}

/// One step of the reducer.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A batch at its offset.
    Batch {
        /// Partition.
        partition: PartitionId,
        /// Offset of its first record.
        base_offset: Offset,
        /// Leader epoch that it is stored under.
        leader_epoch: i32,
        /// Its header; base offset and leader epoch in it are not looked at.
        header: &'a BatchHeader,
        /// The end of a transaction, if the batch marks one.
        marker: Option<TransactionOutcome>,
    },
    /// A fact.
    Fact {
        /// Key space.
        space: Space,
        /// Key.
        key: &'a [u8],
        /// New value, or none to delete.
        value: Option<&'a [u8]>,
    },
    /// Identity of the log from here on.
    Barrier {
        /// Bumped when offsets may have been used again.
        incarnation: u64,
        /// Bumped at every start that was not clean.
        leader_epoch: i32,
    },
}

impl State {
    /// Applies one change; gives the transactions that it aborted. `open_ms` is the journal's own age
    /// ([`super::Journal::open_ms`]): producers expire by it, so that no step of the wall clock
    /// forgets one.
    pub fn apply(&mut self, change: Change<'_>, open_ms: u64) -> Vec<(PartitionId, AbortedRange)> {
        match change {
            Change::Batch { partition, base_offset, leader_epoch, header, marker } => {
                let entry = self.partitions.entry(partition).or_default();
                let span = i64::from(header.last_offset_delta).saturating_add(1);
                let end = Offset(base_offset.0.saturating_add(span));
                entry.log_end = entry.log_end.max(end);
                entry.leader_epoch = entry.leader_epoch.max(leader_epoch);
                self.producers.record(partition, base_offset, header, open_ms);
                let aborted = self.transactions.record(partition, base_offset, header, marker);
                return aborted.map(|range| (partition, range)).into_iter().collect();
            }
            Change::Fact { space: Space::LOG_START, key, value } => {
                self.move_log_start(key, value);
            }
            Change::Fact { space: Space::JOURNAL, key, value }
                if decode_hot_start(key, value).is_some_and(|start| start < self.hot_start()) => {}
            Change::Fact { space, key, value } => self.set_fact(space, key, value),
            Change::Barrier { incarnation, leader_epoch } => {
                self.leader_epoch = self.leader_epoch.max(leader_epoch);
                if incarnation > self.incarnation {
                    self.incarnation = incarnation;
                    return self.give_up_transactions();
                }
            }
        }
        Vec::new()
    }

    /// Applies everything in an append, batches first, as the journal stores it; gives the
    /// transactions that it aborted.
    pub fn apply_append(
        &mut self,
        append: &Append,
        open_ms: u64,
    ) -> Vec<(PartitionId, AbortedRange)> {
        let mut aborted = Vec::new();
        for entry in &append.batches {
            let change = Change::Batch {
                partition: entry.partition,
                base_offset: entry.base_offset,
                leader_epoch: entry.leader_epoch,
                header: &entry.batch.header(),
                // What is no readable marker ends nothing.
                marker: entry.batch.marker().ok().flatten().map(|marker| marker.outcome),
            };
            aborted.append(&mut self.apply(change, open_ms));
        }
        for fact in &append.facts {
            let change =
                Change::Fact { space: fact.space, key: &fact.key, value: fact.value.as_deref() };
            self.apply(change, open_ms);
        }
        aborted
    }

    /// Forgets producers that were silent for a day of open journal; an active one, or one whose
    /// transaction is open, is never forgotten.
    pub fn expire_producers(&mut self, open_ms: u64) {
        let Self { producers, transactions, .. } = self;
        producers.expire(open_ms, |partition, producer_id| {
            transactions.first_offset(partition, producer_id).is_some()
        });
    }

    /// A fact's value.
    #[must_use]
    pub fn fact(&self, space: Space, key: &[u8]) -> Option<&Bytes> {
        self.facts.get(&(space, Bytes::copy_from_slice(key)))
    }

    /// All facts of a space, by key.
    pub fn facts(&self, space: Space) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.facts
            .range((space, Bytes::new())..)
            .take_while(move |((found, _), _)| *found == space)
            .map(|((_, key), value)| (key, value))
    }

    /// Where a partition stands; one that never had a batch starts and ends at 0.
    #[must_use]
    pub fn partition(&self, partition: PartitionId) -> PartitionState {
        self.partitions.get(&partition).copied().unwrap_or_default()
    }

    /// Whether a partition ever had a batch or a log start and was not deleted since.
    pub(super) fn knows(&self, partition: PartitionId) -> bool {
        self.partitions.contains_key(&partition)
    }

    /// All partitions that ever had a batch or a log start.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, PartitionState)> {
        self.partitions.iter().map(|(&id, &state)| (id, state))
    }

    /// Kafka's check of an idempotent producer's batch, before it gets an offset.
    #[must_use]
    pub fn check(&self, partition: PartitionId, header: &BatchHeader) -> ProducerCheck {
        let check = self.producers.check(partition, header);
        let stands_outside = !header.is_transactional() && header.has_producer();
        match self.transactions.first_offset(partition, header.producer_id) {
            Some(first) if stands_outside && check == ProducerCheck::New => {
                ProducerCheck::InTransaction { first }
            }
            _ => check,
        }
    }

    /// The idempotent producers that are remembered in a partition, by id.
    pub fn producers_of(&self, partition: PartitionId) -> impl Iterator<Item = KnownProducer> {
        self.producers.of(partition)
    }

    /// One past the last offset below which no transaction is open.
    #[must_use]
    pub fn stable_end(&self, partition: PartitionId) -> Offset {
        let PartitionState { log_start, log_end, .. } = self.partition(partition);
        self.first_open(partition).map_or(log_end, |first| first.max(log_start))
    }

    /// Where the first open transaction of a partition begins; perhaps before the log's start.
    #[must_use]
    pub fn first_open(&self, partition: PartitionId) -> Option<Offset> {
        self.transactions.first_in(partition)
    }

    /// Where a producer's open transaction begins in a partition, if it has one there.
    #[must_use]
    pub fn open_transaction(&self, partition: PartitionId, producer_id: i64) -> Option<Offset> {
        self.transactions.first_offset(partition, producer_id)
    }

    /// The open transactions, to go on with elsewhere.
    pub(super) fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// All open transactions: partition, producer id, first offset.
    pub fn open_transactions(&self) -> impl Iterator<Item = (PartitionId, i64, Offset)> {
        self.transactions.iter()
    }

    /// Identity of the log: bumped when recovery cut something off, so that offsets may be used again.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Leader epoch to stamp into new batches, of every partition.
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Where the oldest segment of the log begins: everything before it was retired.
    pub(super) fn hot_start(&self) -> Position {
        let value = self.fact(Space::JOURNAL, HOT_START_KEY);
        let start = value.and_then(|value| decode_hot_start(HOT_START_KEY, Some(value)));
        start.unwrap_or_default()
    }

    /// Everything but the identity of the log, which every opening may bump, and what the journal
    /// notes about itself.
    #[cfg(test)]
    pub(in crate::journal) fn content(&self) -> Self {
        let mut content = Self { incarnation: 0, leader_epoch: 0, ..self.clone() };
        let own: Vec<_> = self.facts(Space::JOURNAL).map(|(key, _)| key.clone()).collect();
        for key in own {
            content.set_fact(Space::JOURNAL, &key, None);
        }
        content
    }

    /// What was open when offsets may have been used again cannot be completed: part of it may be lost.
    /// Each such producer is fenced where it wrote, so that it cannot go on as if nothing had been.
    fn give_up_transactions(&mut self) -> Vec<(PartitionId, AbortedRange)> {
        let partitions = &self.partitions;
        let log_end = |id| partitions.get(&id).map_or(Offset(0), |it: &PartitionState| it.log_end);
        let given_up = self.transactions.give_up(log_end);
        for (partition, range) in &given_up {
            self.producers.fence(*partition, range.producer_id);
        }
        given_up
    }

    fn set_fact(&mut self, space: Space, key: &[u8], value: Option<&[u8]>) {
        // Copied, because a slice would keep a whole request or frame in memory.
        let slot = (space, Bytes::copy_from_slice(key));
        let old = match value {
            Some(value) => {
                self.fact_bytes += snapshot::fact_bytes(key.len(), value.len());
                self.facts.insert(slot, Bytes::copy_from_slice(value))
            }
            None => self.facts.remove(&slot),
        };
        if let Some(old) = old {
            self.fact_bytes -= snapshot::fact_bytes(key.len(), old.len());
        }
    }

    fn move_log_start(&mut self, key: &[u8], value: Option<&[u8]>) {
        if value.is_none()
            && let Some(id) = decode_partition(key)
        {
            self.partitions.remove(&id);
            self.producers.forget(id);
            self.transactions.forget(id);
        }
        let Some((id, start)) = decode_log_start(key, value) else {
            return;
        };
        let entry = self.partitions.entry(id).or_default();
        entry.log_start = entry.log_start.max(start);
        entry.log_end = entry.log_end.max(start);
    }
}
