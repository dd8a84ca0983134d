//! What is known of the producers of a partition, for those who look after them.

use super::Broker;
use crate::{
    journal::{Offset, PartitionId},
    record::{BatchHeader, HEADER_BYTES},
};

/// A producer that wrote to a partition within a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Sequence of its last record, or -1.
    pub last_sequence: i32,
    /// Largest timestamp of its last batch, Unix ms, or -1 if that is not known.
    pub last_timestamp_ms: i64,
    /// Where its open transaction begins.
    pub open_since: Option<Offset>,
}

/// Batches that are read for their timestamps in one answer; the other producers have none.
const MOST_READS: usize = 256;

impl Broker {
    /// The producers of a partition, by id.
    pub async fn active_producers(&self, partition: PartitionId) -> Vec<ActiveProducer> {
        let known: Vec<_> = {
            let admission = self.admission();
            let state = &admission.state;
            let of = state.producers_of(partition);
            of.map(|it| (it, state.open_transaction(partition, it.producer_id))).collect()
        };
        let read = self.off_worker(move |journal| {
            let timestamp = |offset: Offset| {
                let batch = journal.read(partition, offset, 1).ok()?.into_iter().next()?;
                let header = batch.first_chunk::<HEADER_BYTES>().map(BatchHeader::read)?;
                (header.base_offset == offset.0).then_some(header.max_timestamp)
            };
            let active = known.into_iter().enumerate().map(|(number, (it, open_since))| {
                let last = it.last_batch.filter(|_| number < MOST_READS);
                ActiveProducer {
                    producer_id: it.producer_id,
                    producer_epoch: it.epoch,
                    last_sequence: it.last_sequence.unwrap_or(-1),
                    last_timestamp_ms: last.and_then(timestamp).unwrap_or(-1),
                    open_since,
                }
            });
            Ok(active.collect())
        });
        read.await.unwrap_or_default()
    }
}
