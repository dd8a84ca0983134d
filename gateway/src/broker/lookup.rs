//! Offsets by time: which record is the first of an instant, which is the latest of all.

use super::Broker;
use crate::{
    journal::{Journal, Offset, PartitionId, ReadError},
    record::Batch,
};

/// Most that a batch may decompress to for a lookup; above it the answer is the batch's first record.
const MAX_DECOMPRESSED_BYTES: usize = 16 * 1024 * 1024;

/// A record that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp_ms: i64,
    /// The leader epoch that its batch was appended under.
    pub leader_epoch: i32,
}

impl Broker {
    /// The first durable record whose timestamp is at least `timestamp_ms`.
    ///
    /// Where a batch cannot be decoded, its first offset stands for its records: a consumer that
    /// starts there misses none.
    pub async fn offset_for_timestamp(
        &self,
        partition: PartitionId,
        timestamp_ms: i64,
    ) -> Result<Option<Located>, ReadError> {
        self.off_worker(move |journal| first_at(journal, partition, timestamp_ms)).await
    }

    /// The record with the largest timestamp of all; of equal ones the first.
    pub async fn offset_of_max_timestamp(
        &self,
        partition: PartitionId,
    ) -> Result<Option<Located>, ReadError> {
        self.off_worker(move |journal| {
            let Some(max) = max_timestamp(journal, partition)? else { return Ok(None) };
            first_at(journal, partition, max)
        })
        .await
    }
}

fn first_at(
    journal: &Journal,
    partition: PartitionId,
    timestamp_ms: i64,
) -> Result<Option<Located>, ReadError> {
    let Some(bytes) = journal.batch_at_time(partition, timestamp_ms)? else { return Ok(None) };
    let Ok(batch) = Batch::parse_stored(bytes) else { return Ok(None) };
    let header = batch.header();
    let start = journal.log_start(partition).0;
    let found = batch.iter(MAX_DECOMPRESSED_BYTES).ok().and_then(|records| {
        records
            .map_while(Result::ok)
            .find(|record| record.timestamp >= timestamp_ms && record.offset >= start)
    });
    let (offset, timestamp_ms) = match found {
        Some(record) => (record.offset, record.timestamp),
        None => (header.base_offset.max(start), header.max_timestamp),
    };
    Ok(Some(Located { offset: Offset(offset), timestamp_ms, leader_epoch: header.leader_epoch }))
}

/// The largest timestamp of a partition. The index answers "the first batch that reaches a time": the
/// last batch nearly always holds the largest, else the bounds close in, so a few probes do.
fn max_timestamp(journal: &Journal, partition: PartitionId) -> Result<Option<i64>, ReadError> {
    let end = journal.durable_end(partition);
    if end <= journal.log_start(partition) {
        return Ok(None);
    }
    let last = journal.read(partition, Offset(end.0 - 1), 1)?;
    let mut reached = max_of(last.into_iter().next()).unwrap_or(i64::MIN);
    // Nothing reaches past this.
    let mut beyond = i64::MAX;
    let mut step: i64 = 1;
    while reached < beyond {
        let probe = reached.saturating_add(step).min(beyond);
        match max_of(journal.batch_at_time(partition, probe)?) {
            Some(max) if max >= probe => {
                reached = max;
                step = step.saturating_mul(2);
            }
            _ => {
                beyond = probe - 1;
                step = 1.max(beyond.saturating_sub(reached) / 2);
            }
        }
    }
    Ok(Some(reached))
}

fn max_of(batch: Option<bytes::Bytes>) -> Option<i64> {
    batch.and_then(|bytes| Batch::parse_stored(bytes).ok()).map(|it| it.header().max_timestamp)
}
