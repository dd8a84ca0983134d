//! What a reader may see: everything durable, or only what is committed.

use bytes::Bytes;

use super::Broker;
use crate::{
    journal::{AbortedRange, Offset, PartitionId, ReadError},
    record::{BatchHeader, HEADER_BYTES},
};

/// What of a partition a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Everything durable.
    Uncommitted,
    /// What lies before the first open transaction, without aborted ones.
    Committed,
}

/// Batches of a partition, with what a reader of committed data passes over.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// Whole batches in order, control batches and aborted ones among them.
    pub batches: Vec<Bytes>,
    /// Aborted transactions with an offset among those of the batches, by their last offsets. None
    /// for a reader who sees everything.
    pub aborted: Vec<AbortedRange>,
}

impl Fetched {
    /// Whether a batch holds records for a reader of committed data.
    #[must_use]
    pub fn is_visible(&self, header: &BatchHeader) -> bool {
        if header.is_control() {
            return false;
        }
        let is_aborted = |range: &AbortedRange| {
            range.producer_id == header.producer_id
                && (range.first.0..=range.last.0).contains(&header.base_offset)
        };
        !(header.is_transactional() && self.aborted.iter().any(is_aborted))
    }
}

impl Broker {
    /// Durable whole batches from `from` on, as [`Broker::read`], up to where the reader may see;
    /// none from there on.
    pub async fn read_isolated(
        &self,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
        isolation: Isolation,
    ) -> Result<Fetched, ReadError> {
        self.off_worker(move |journal| {
            // Before reading: what is stable stays so, and all its aborted ranges are known by
            // then.
            let end = match isolation {
                Isolation::Uncommitted => Offset(i64::MAX),
                Isolation::Committed => journal.stable_end(partition),
            };
            let mut batches = journal.read(partition, from, max_bytes)?;
            batches.retain(|batch| header(batch).is_some_and(|it| it.base_offset < end.0));
            let last = batches.last().and_then(header);
            let aborted = match last.filter(|_| isolation == Isolation::Committed) {
                Some(last) => {
                    let to = Offset(last.last_offset().saturating_add(1));
                    journal.aborted(partition, from, to)?
                }
                None => Vec::new(),
            };
            Ok(Fetched { batches, aborted })
        })
        .await
    }

    /// Resolves when any of the partitions has stable data past its offset; see
    /// [`Broker::wait_durable`].
    pub async fn wait_stable(&self, wants: &[(PartitionId, Offset)]) {
        self.journal().wait_stable(wants).await;
    }
}

/// The header of a stored batch.
fn header(batch: &Bytes) -> Option<BatchHeader> {
    batch.first_chunk::<HEADER_BYTES>().map(BatchHeader::read)
}
