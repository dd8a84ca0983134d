//! Limits of the state: checked before an append gets its offsets, refused by name.

use super::{State, producer::WINDOW_BATCHES, snapshot, transaction};
use crate::journal::{Append, Fact, StateFull};

/// How large the state may grow. All of it is rewritten at the start of each segment and held in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateLimits {
    /// `state.max_bytes`: facts, partitions, producers and open transactions as a snapshot stores them.
    pub max_bytes: usize,
    /// Idempotent producers remembered per partition.
    pub producers_per_partition: usize,
    /// Idempotent producers remembered in all partitions.
    pub producers: usize,
}

impl StateLimits {
    /// `state.max_bytes` unless set: a quarter of a segment, at most this.
    pub const MAX_BYTES: usize = 4 * 1024 * 1024;
    /// Producers per partition: a client draws a new id at every start and each is kept a day.
    pub const PRODUCERS_PER_PARTITION: usize = 4096;
    /// Producers in all partitions: half of the largest state.
    pub const PRODUCERS: usize = 16 * 1024;
}

impl State {
    /// Bytes that a snapshot of this state takes at most.
    #[must_use]
    pub fn bytes(&self) -> usize {
        snapshot::GLOBALS_BYTES
            + self.fact_bytes
            + self.partitions.len() * snapshot::PARTITION_BYTES
            + self.producers.len() * snapshot::producer_bytes(WINDOW_BATCHES)
            + self.transactions.len() * snapshot::TRANSACTION_BYTES
    }

    /// Whether the state would stay within its limits with this append applied.
    pub fn room_for(&self, append: &Append, limits: &StateLimits) -> Result<(), StateFull> {
        let mut bytes = self.bytes();
        let mut producers = 0;
        for entry in &append.batches {
            if !self.partitions.contains_key(&entry.partition) {
                bytes += snapshot::PARTITION_BYTES;
            }
            let header = entry.batch.header();
            if header.has_producer()
                && !self.producers.contains(entry.partition, header.producer_id)
            {
                producers += 1;
                bytes += snapshot::producer_bytes(WINDOW_BATCHES);
                self.room_for_producer(entry.partition.0, producers, limits)?;
            }
            // Their number needs no limit of its own: each has a producer.
            if transaction::begins(&header)
                && self.open_transaction(entry.partition, header.producer_id).is_none()
            {
                bytes += snapshot::TRANSACTION_BYTES;
            }
        }
        for fact in &append.facts {
            fact.check()?;
            if let Some((partition, _)) = fact.as_log_start() {
                // Moves a number that is there already.
                let known = self.partitions.contains_key(&partition);
                bytes += if known { 0 } else { snapshot::PARTITION_BYTES };
                continue;
            }
            let Some(value) = &fact.value else { continue };
            let new = snapshot::fact_bytes(fact.key.len(), value.len());
            let old = self
                .fact(fact.space, &fact.key)
                .map_or(0, |old| snapshot::fact_bytes(fact.key.len(), old.len()));
            bytes = (bytes + new).saturating_sub(old);
        }
        // An append that only removes is always let in: it is the way out.
        if bytes > limits.max_bytes && bytes > self.bytes() {
            return Err(StateFull::Bytes { bytes, limit: limits.max_bytes });
        }
        Ok(())
    }

    fn room_for_producer(
        &self,
        partition: u32,
        added: usize,
        limits: &StateLimits,
    ) -> Result<(), StateFull> {
        let in_partition = self.producers.len_in(super::PartitionId(partition));
        if in_partition + 1 > limits.producers_per_partition {
            let limit = limits.producers_per_partition;
            return Err(StateFull::ProducersPerPartition { partition, limit });
        }
        if self.producers.len() + added > limits.producers {
            return Err(StateFull::Producers { limit: limits.producers });
        }
        Ok(())
    }
}

impl Fact {
    /// Whether key and value are within their limits.
    pub fn check(&self) -> Result<(), StateFull> {
        let value = self.value.as_ref().map_or(0, bytes::Bytes::len);
        for (bytes, limit) in
            [(self.key.len(), Self::MAX_KEY_BYTES), (value, Self::MAX_VALUE_BYTES)]
        {
            if bytes > limit {
                return Err(StateFull::Fact { space: self.space, bytes, limit });
            }
        }
        Ok(())
    }
}
