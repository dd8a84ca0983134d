//! What users read: durable batches by offset or by time.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{
    Journal, Offset, PartitionId, ReadError,
    log::Source,
    lookup::{self, Plan, Reach},
    reader::{self, StoredBatch},
    sweep::sweep,
};

/// A read of one partition among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The partition.
    pub partition: PartitionId,
    /// The first offset that is wanted.
    pub from: Offset,
    /// Most bytes of batches, but at least one batch.
    pub max_bytes: usize,
}

/// Where what is wanted lies; holds the segments that it is in.
struct Planned {
    partition: PartitionId,
    from: Offset,
    max_bytes: usize,
    plan: Result<Plan, ReadError>,
}

impl Journal {
    /// Whole durable batches from the one that contains `from`, at most `max_bytes`, but always at least one if
    /// there is one. Offsets that were accepted as lost are passed over. Blocks on file I/O: call it off the async workers.
    pub fn read(
        &self,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ReadError> {
        let mut answers = self.read_many(&[Want { partition, from, max_bytes }], max_bytes);
        answers.pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// The answers that [`Journal::read`] has for each of these, in one pass through the journal: partitions lie mixed in
    /// it, and reads of one after the other would pass through the same regions again and again.
    ///
    /// Of the first ones only, as many as have at most `max_bytes` together, but at least one.
    pub fn read_many(
        &self,
        wants: &[Want],
        max_bytes: usize,
    ) -> Vec<Result<Vec<Bytes>, ReadError>> {
        let mut planned: Vec<Planned> = Vec::new();
        let mut bytes = 0;
        for want in wants {
            let next = Planned::of(self, want);
            bytes += next.bytes();
            if bytes > max_bytes && !planned.is_empty() {
                break;
            }
            planned.push(next);
        }
        let sources: Vec<_> = planned.iter().map(Planned::sources).collect();
        let read = sweep(self.shared(), &sources);
        let answers = planned.iter_mut().zip(read);
        answers.map(|(planned, batches)| planned.answer(self, batches)).collect()
    }

    /// As [`Journal::read`], but where that fails because of damage, from the next offset on that is intact; the
    /// offsets passed over are counted and logged. Empty if nothing intact follows.
    pub fn read_past_damage(
        &self,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ReadError> {
        let position = match self.read(partition, from, max_bytes) {
            Err(ReadError::Damaged { position }) => position,
            read => return read,
        };
        let next = self.next_readable(partition, from)?;
        let to = next.unwrap_or_else(|| self.durable_end(partition));
        let offsets = to.0.saturating_sub(from.0);
        self.shared().stats.skipped_offsets.fetch_add(offsets.unsigned_abs(), Ordering::Relaxed);
        tracing::warn!(
            partition = partition.0,
            from = from.0,
            to = to.0,
            position = position.0,
            "damaged offsets passed over, as the topic's settings say"
        );
        next.map_or(Ok(Vec::new()), |next| self.read(partition, next, max_bytes))
    }

    /// The first offset from `from` on that an intact batch holds; none up to the durable end. Blocks: it reads what
    /// it passes.
    pub fn next_readable(
        &self,
        partition: PartitionId,
        from: Offset,
    ) -> Result<Option<Offset>, ReadError> {
        lookup::next_readable(self.shared(), partition, from)
    }

    /// As [`Journal::read`], if no file has to be read for it; never blocks.
    pub fn read_memory(
        &self,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Option<Result<Vec<Bytes>, ReadError>> {
        let from = self.shared().log().past_given_up(partition, from);
        let planned = lookup::plan(self.shared(), partition, from, max_bytes, Reach::Memory);
        let plan = match planned {
            Ok(plan) => plan?,
            Err(error) => return Some(Err(error)),
        };
        let batches = reader::batches_in_memory(self.shared(), &plan.sources)?;
        Some(reader::without_holes(batches, &plan.cleaned, from, max_bytes))
    }

    /// As [`Journal::read`], without holding up an async worker: fresh data is in memory, other data is
    /// read on the journal's own threads. Cancel-safe.
    pub async fn read_async(
        &self,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ReadError> {
        match self.read_memory(partition, from, max_bytes) {
            Some(answer) => answer,
            None => self.off_worker(move |journal| journal.read(partition, from, max_bytes)).await,
        }
    }

    /// Runs something that reads on one of the journal's own threads, when its turn comes. Cancel-safe.
    pub async fn off_worker<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<R, ReadError> + Send + 'static,
    ) -> Result<R, ReadError> {
        let journal = self.clone();
        self.shared().readers.run(move || work(&journal)).await?
    }

    /// The first durable batch whose largest timestamp is at least `timestamp_ms`. Blocks as
    /// [`Journal::read`] does.
    pub fn batch_at_time(
        &self,
        partition: PartitionId,
        timestamp_ms: i64,
    ) -> Result<Option<Bytes>, ReadError> {
        lookup::at_time(self.shared(), partition, timestamp_ms)
    }

    /// Holds on to what a read from an offset would read, as a slow reader does.
    #[cfg(test)]
    pub(super) fn pin(&self, partition: PartitionId, from: Offset) -> Vec<Source> {
        let planned = lookup::plan(self.shared(), partition, from, 1, Reach::Files);
        planned.expect("it is there").unwrap_or_default().sources
    }
}

impl Planned {
    fn of(journal: &Journal, want: &Want) -> Self {
        let Want { partition, from, max_bytes } = *want;
        let from = journal.shared().log().past_given_up(partition, from);
        let plan = lookup::plan(journal.shared(), partition, from, max_bytes, Reach::Files);
        Self { partition, from, max_bytes, plan: plan.map(Option::unwrap_or_default) }
    }

    fn sources(&self) -> &[Source] {
        self.plan.as_ref().map(|plan| plan.sources.as_slice()).unwrap_or_default()
    }

    fn bytes(&self) -> usize {
        self.sources().iter().map(|source| source.location.length as usize).sum()
    }

    /// What a reader gets of the batches that were found there.
    fn answer(
        &mut self,
        journal: &Journal,
        batches: Result<Vec<StoredBatch>, ReadError>,
    ) -> Result<Vec<Bytes>, ReadError> {
        let plan = std::mem::replace(&mut self.plan, Ok(Plan::default()));
        let served = plan.and_then(|plan| {
            reader::without_holes(batches?, &plan.cleaned, self.from, self.max_bytes)
        });
        let shared = journal.shared();
        match served {
            // Not damage if it left the log in the meantime.
            Err(ReadError::Damaged { .. }) if !shared.log().check(self.partition, self.from)? => {
                Ok(Vec::new())
            }
            Err(error @ ReadError::Damaged { .. }) => {
                shared.stats.damaged_reads.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
            served => served,
        }
    }
}
