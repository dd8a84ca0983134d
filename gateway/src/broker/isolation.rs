//! What a reader may see: everything durable, or only what is committed.

use bytes::Bytes;

use super::Broker;
use crate::{
    journal::{AbortedRange, Journal, Offset, PartitionId, ReadError, Want},
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
        let wants = vec![Want { partition, from, max_bytes }];
        let mut answers = self.read_many_isolated(wants, max_bytes, isolation).await;
        answers.pop().unwrap_or_else(|| Ok(Fetched::default()))
    }

    /// As [`Broker::read_isolated`] for each of these, in one pass through the journal. Of the first
    /// ones only, as many as have at most `max_bytes` together, but at least one.
    pub async fn read_many_isolated(
        &self,
        wants: Vec<Want>,
        max_bytes: usize,
        isolation: Isolation,
    ) -> Vec<Result<Fetched, ReadError>> {
        let read = move |journal: &Journal| {
            let forgotten = |want: &Want| journal.forgotten(want.partition);
            loop {
                let before: Vec<_> = wants.iter().map(forgotten).collect();
                let answers = read_with_aborted(journal, &wants, max_bytes, isolation);
                if isolation == Isolation::Uncommitted || wants.iter().map(forgotten).eq(before) {
                    return Ok(answers);
                }
            }
        };
        self.off_worker(read).await.unwrap_or_else(|error| vec![Err(error)])
    }

    /// Resolves when any of the partitions has stable data past its offset; see
    /// [`Broker::wait_durable`].
    pub async fn wait_stable(&self, wants: &[(PartitionId, Offset)]) {
        self.journal().wait_stable(wants).await;
    }
}

/// Batches, then their aborted ranges: the two fit together unless something is forgotten in between.
fn read_with_aborted(
    journal: &Journal,
    wants: &[Want],
    max_bytes: usize,
    isolation: Isolation,
) -> Vec<Result<Fetched, ReadError>> {
    // Before reading: what is stable stays so, and all its aborted ranges are known by then.
    let end = |want: &Want| match isolation {
        Isolation::Uncommitted => Offset(i64::MAX),
        Isolation::Committed => journal.stable_end(want.partition),
    };
    let ends: Vec<_> = wants.iter().map(end).collect();
    let answers = journal.read_many(wants, max_bytes);
    let answers = answers.into_iter().zip(wants.iter().zip(ends));
    let isolated = answers.map(|(answer, (want, end))| {
        answer.and_then(|batches| isolate(journal, want, batches, end, isolation))
    });
    isolated.collect()
}

/// What a reader may see of batches that it asked for.
fn isolate(
    journal: &Journal,
    want: &Want,
    mut batches: Vec<Bytes>,
    end: Offset,
    isolation: Isolation,
) -> Result<Fetched, ReadError> {
    batches.retain(|batch| header(batch).is_some_and(|it| it.base_offset < end.0));
    let last = batches.last().and_then(header);
    let aborted = match last.filter(|_| isolation == Isolation::Committed) {
        Some(last) => {
            let to = Offset(last.last_offset().saturating_add(1));
            journal.aborted(want.partition, want.from, to)?
        }
        None => Vec::new(),
    };
    Ok(Fetched { batches, aborted })
}

/// The header of a stored batch.
fn header(batch: &Bytes) -> Option<BatchHeader> {
    batch.first_chunk::<HEADER_BYTES>().map(BatchHeader::read)
}
