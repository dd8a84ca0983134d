//! Open transactions: where each producer's began in each partition, until a marker ends it.
//!
//! Bounded by the producers: an open transaction keeps its producer's window, and windows are
//! limited.

use std::collections::{BTreeMap, BTreeSet};

use super::{Offset, PartitionId, State};
use crate::record::{BatchHeader, TransactionOutcome};

/// A transaction that was aborted, in one partition: the producer's transactional batches between
/// both ends are not for readers of committed data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedRange {
    /// Producer id.
    pub producer_id: i64,
    /// First offset of the transaction.
    pub first: Offset,
    /// Offset of the abort marker; without one the last offset when the transaction was given up.
    pub last: Offset,
    /// Whether a marker stands at `last`. Without it the range ended because recovery gave the
    /// transaction up: a Kafka consumer, which waits for the marker, must not be served past `last`
    /// at once.
    pub has_marker: bool,
}

/// All open transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::journal) struct Transactions {
    first_offsets: BTreeMap<(PartitionId, i64), Offset>,
    /// The same by offset: the first of a partition is asked for at every commit.
    by_offset: BTreeSet<(PartitionId, Offset, i64)>,
}

impl Transactions {
    /// Takes note of a batch that is in the log; the transaction that it aborted, if it is such a
    /// marker.
    pub(in crate::journal) fn record(
        &mut self,
        partition: PartitionId,
        base_offset: Offset,
        header: &BatchHeader,
        marker: Option<TransactionOutcome>,
    ) -> Option<AbortedRange> {
        let key = (partition, header.producer_id);
        match marker {
            Some(outcome) => {
                let first = self.first_offsets.remove(&key)?;
                self.by_offset.remove(&(partition, first, header.producer_id));
                let aborted = outcome == TransactionOutcome::Abort;
                aborted.then_some(AbortedRange {
                    producer_id: header.producer_id,
                    first,
                    last: base_offset,
                    has_marker: true,
                })
            }
            None => {
                if begins(header) && !self.first_offsets.contains_key(&key) {
                    self.begin(partition, header.producer_id, base_offset);
                }
                None
            }
        }
    }

    /// Gives all of them up; each reaches to the last offset of its partition.
    pub(in crate::journal) fn give_up(
        &mut self,
        log_end: impl Fn(PartitionId) -> Offset,
    ) -> Vec<(PartitionId, AbortedRange)> {
        self.by_offset.clear();
        std::mem::take(&mut self.first_offsets)
            .into_iter()
            .map(|((partition, producer_id), first)| {
                let last = first.max(Offset(log_end(partition).0 - 1));
                (partition, AbortedRange { producer_id, first, last, has_marker: false })
            })
            .collect()
    }

    /// Notes where a producer's transaction began.
    pub(super) fn begin(&mut self, partition: PartitionId, producer_id: i64, first: Offset) {
        if let Some(old) = self.first_offsets.insert((partition, producer_id), first) {
            self.by_offset.remove(&(partition, old, producer_id));
        }
        self.by_offset.insert((partition, first, producer_id));
    }

    /// Drops those of a partition that is no more.
    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.first_offsets.retain(|&(id, _), _| id != partition);
        self.by_offset.retain(|&(id, _, _)| id != partition);
    }

    /// Keeps those that another set does not have.
    pub(in crate::journal) fn without(&self, others: &State) -> Self {
        let mut rest = Self::default();
        for (partition, producer_id, first) in self.iter() {
            if others.open_transaction(partition, producer_id).is_none() {
                rest.begin(partition, producer_id, first);
            }
        }
        rest
    }

    pub(super) fn first_offset(&self, partition: PartitionId, producer_id: i64) -> Option<Offset> {
        self.first_offsets.get(&(partition, producer_id)).copied()
    }

    /// Where the first open one of a partition begins.
    pub(super) fn first_in(&self, partition: PartitionId) -> Option<Offset> {
        let from = (partition, Offset(i64::MIN), i64::MIN);
        let (found, first, _) = self.by_offset.range(from..).next()?;
        (*found == partition).then_some(*first)
    }

    pub(super) fn len(&self) -> usize {
        self.first_offsets.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PartitionId, i64, Offset)> {
        self.first_offsets.iter().map(|(&(partition, id), &first)| (partition, id, first))
    }
}

/// Whether a batch is data of a transaction: the first such batch begins it.
pub(super) fn begins(header: &BatchHeader) -> bool {
    header.is_transactional() && !header.is_control() && header.has_producer()
}
