//! The end of a transaction: its markers and the facts that belong to them, in one append.
//!
//! A coordinator decides, this writes: all markers, the offsets that the transaction commits and
//! the coordinator's own note land together or not at all, so that no crash leaves a transaction
//! half ended.

use std::collections::BTreeSet;

use super::{AppendError, AppendRequest, Broker, Commit};
use crate::{
    journal::{Fact, PartitionId},
    record::{TransactionMarker, TransactionOutcome},
};

/// How a producer's transaction ends, and where.
#[derive(Clone, Debug)]
pub struct EndTransaction {
    /// Producer id.
    pub producer_id: i64,
    /// Epoch of the markers: the producer's, or a higher one, which fences it from then on.
    pub producer_epoch: i16,
    /// How it ends.
    pub outcome: TransactionOutcome,
    /// Epoch of the coordinator, for the markers.
    pub coordinator_epoch: i32,
    /// Partitions that take part; one without data of the transaction gets its marker too, which
    /// fences the producer there.
    pub partitions: BTreeSet<PartitionId>,
    /// Facts that land with the markers.
    pub facts: Vec<Fact>,
    /// Time of the markers, Unix ms.
    pub timestamp_ms: i64,
}

impl Broker {
    /// Ends a transaction everywhere at once. Refused as a whole, before anything is written, if
    /// the producer is fenced in one of the partitions.
    ///
    /// Whether the transaction is in a state to be ended so is the coordinator's to know: it keeps
    /// its own fact among [`EndTransaction::facts`], so a request that comes again finds it ended.
    pub fn end_transaction(&self, end: EndTransaction) -> Result<Commit, AppendError> {
        let EndTransaction { producer_id, producer_epoch, timestamp_ms, .. } = end;
        let marker =
            TransactionMarker { outcome: end.outcome, coordinator_epoch: end.coordinator_epoch };
        // All markers are the same but for their offsets; the bytes are shared.
        let batch = marker
            .batch(producer_id, producer_epoch, timestamp_ms)
            .map_err(|_| AppendError::NoProducer)?;
        let mut request = AppendRequest { batches: Vec::new(), facts: end.facts };
        for partition in end.partitions {
            self.max_message_bytes(partition)?;
            request.batches.push((partition, batch.clone()));
        }
        self.admission().append(self.journal(), request)
    }
}
