//! Where leader epochs end in a partition (KIP-101, KIP-320): how a consumer finds out that what it read is not in the log
//! any more.
//!
//! Every batch carries the epoch that it was appended under, and epochs never fall along a log: where one ends is a search
//! over the batches, and no history has to be kept.

use super::Broker;
use crate::{
    journal::{Journal, Offset, PartitionId, ReadError},
    record::{BatchHeader, HEADER_BYTES},
};

/// The last epoch of a log up to one that was asked for, and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch that is not above the one asked for.
    pub leader_epoch: i32,
    /// One past its last offset.
    pub end: Offset,
}

/// How a log relates to what was read of it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// It goes on from there.
    Holds,
    /// The log is another one from here on.
    Diverges(EpochEnd),
    /// It knows no such epoch.
    Unknown,
}

impl Broker {
    /// Whether a partition still holds what was read of it before an offset, the last of it under an epoch (KIP-595).
    pub async fn continuity(
        &self,
        partition: PartitionId,
        epoch: i32,
        offset: Offset,
    ) -> Result<Continuity, ReadError> {
        let ends = self.ends(partition);
        if epoch < ends.leader_epoch && offset > ends.start {
            // Nearly always so, and one read where the end of the epoch takes a search.
            let last = Offset(offset.0 - 1);
            let read = self.off_worker(move |journal| header_at(journal, partition, last)).await?;
            let holds =
                |header: BatchHeader| header.leader_epoch == epoch && header.base_offset <= last.0;
            if read.is_some_and(holds) {
                return Ok(Continuity::Holds);
            }
        }
        Ok(match self.epoch_end(partition, epoch).await? {
            None => Continuity::Unknown,
            Some(end) if end.leader_epoch < epoch || end.end < offset => Continuity::Diverges(end),
            Some(_) => Continuity::Holds,
        })
    }

    /// Where an epoch ends in a partition; none for epochs that are still to come.
    pub async fn epoch_end(
        &self,
        partition: PartitionId,
        epoch: i32,
    ) -> Result<Option<EpochEnd>, ReadError> {
        let ends = self.ends(partition);
        if epoch == ends.leader_epoch {
            return Ok(Some(EpochEnd { leader_epoch: epoch, end: ends.durable }));
        }
        if epoch > ends.leader_epoch || epoch < 0 {
            return Ok(None);
        }
        self.off_worker(move |journal| {
            search(journal, partition, epoch, ends.start, ends.durable).map(Some)
        })
        .await
    }

    /// The epoch of the first batch of a partition; of an empty one that of what comes next.
    pub async fn first_epoch(&self, partition: PartitionId) -> Result<i32, ReadError> {
        let ends = self.ends(partition);
        if ends.start >= ends.durable {
            return Ok(ends.leader_epoch);
        }
        let read =
            self.off_worker(move |journal| header_at(journal, partition, ends.start)).await?;
        Ok(read.map_or(ends.leader_epoch, |header| header.leader_epoch))
    }
}

/// Between `low`, below which every batch is of an epoch up to `epoch`, and `high`, from which on every batch is of a later
/// one.
fn search(
    journal: &Journal,
    partition: PartitionId,
    epoch: i32,
    start: Offset,
    end: Offset,
) -> Result<EpochEnd, ReadError> {
    let (mut low, mut high, mut known) = (start, end, None);
    while low < high {
        let middle = Offset(low.0 + (high.0 - low.0) / 2);
        match header_at(journal, partition, middle)? {
            // Compaction took what was here up to the end.
            None => high = middle,
            Some(header) if header.leader_epoch > epoch => {
                // The batch may begin after the offset, where compaction took some out before it.
                high = middle.min(Offset(header.base_offset));
            }
            Some(header) => {
                known = Some(header.leader_epoch);
                low = Offset(header.last_offset().saturating_add(1));
            }
        }
    }
    // What lies between was cleaned away: the later epoch begins with what is there of it.
    let first_later = header_at(journal, partition, low)?.map(|header| Offset(header.base_offset));
    let end = first_later.filter(|first| *first >= low).unwrap_or(low.max(high));
    Ok(EpochEnd { leader_epoch: known.unwrap_or(epoch), end })
}

/// The header of the batch that holds an offset, or of the next one.
fn header_at(
    journal: &Journal,
    partition: PartitionId,
    offset: Offset,
) -> Result<Option<BatchHeader>, ReadError> {
    let batches = journal.read(partition, offset, 1)?;
    let header = batches.first().and_then(|batch| batch.first_chunk::<HEADER_BYTES>());
    Ok(header.map(BatchHeader::read))
}
