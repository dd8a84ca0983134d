//! Views: lookups over the log that may be thrown away at any time and are built again from it.
//!
//! A view is a fold over the records of a partition, kept in sled together with how far it got: both change in one
//! batch. It begins anew whenever what it holds is not certainly of this log: another incarnation, a place below the
//! log's start or past its end, a folder that was deleted or does not open. **No correctness decision reads a view**: a
//! lookup takes from it where a record should be, reads that place of the log, and answers only with what is there.
//!
//! Flushed at checkpoints only, with a small cache. The one view so far: the last record of each key (`last_value`).

mod follow;
mod last_value;
mod list;
mod store;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

use crate::{
    Shutdown,
    broker::{Broker, Topic, partition_for_key},
    journal::{Offset, PartitionId, ReadError},
    record::{Batch, Record},
};
use follow::Follower;
pub use last_value::MAX_KEY_BYTES;
pub use list::{Listing, Page};
use store::Store;
pub use store::StoreError;

/// The folder of all views in the data folder.
pub const FOLDER: &str = "views";

/// A record larger than this when decompressed with its batch is not looked up.
const MAX_BATCH_BYTES: usize = 16 << 20;

/// Lookups by key of the topics that have one; cheap to share.
#[derive(Debug)]
pub struct Views {
    broker: Arc<Broker>,
    store: Store,
    topics: Vec<String>,
}

/// The last record of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Index of its partition.
    pub partition: usize,
    /// The record, as the log has it.
    pub record: Record,
}

/// Why a lookup failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// No view of this topic.
    #[error("topic {0:?} has no key lookup: name it in views.key_lookup")]
    NotViewed(String),
    /// The view's files.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Views {
    /// Opens the views of these topics, or begins them anew. Blocks.
    pub fn open(
        data: &Path,
        broker: Arc<Broker>,
        topics: &[String],
    ) -> Result<Arc<Self>, StoreError> {
        let store = Store::open(&data.join(FOLDER))?;
        Ok(Arc::new(Self { broker, store, topics: topics.to_vec() }))
    }

    /// Follows the log until shutdown, then flushes.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        Follower::new(Arc::clone(&self)).run(shutdown).await;
        let views = Arc::clone(&self);
        let flushed = tokio::task::spawn_blocking(move || views.store.flush()).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::warn!("the views were not flushed; they are built again where that matters");
        }
    }

    /// The last record of a key, if it has one. In every partition if it is not in the one that Kafka's partitioner
    /// puts it in.
    pub async fn lookup(&self, topic: &str, key: &[u8]) -> Result<Option<Found>, LookupError> {
        let known = self.viewed(topic)?;
        let likely = partition_for_key(key, known.partitions.len());
        let others = (0..known.partitions.len()).filter(|index| *index != likely);
        for index in std::iter::once(likely).chain(others) {
            let Some(id) = known.partitions.get(index) else { continue };
            let Some(offset) = self.store.offset_of(*id, key)? else { continue };
            if let Some(record) = self.record(*id, offset, key).await? {
                return Ok(Some(Found { partition: index, record }));
            }
        }
        Ok(None)
    }

    fn viewed(&self, topic: &str) -> Result<Arc<Topic>, LookupError> {
        let known = self.broker.topic(topic).filter(|_| self.topics.iter().any(|it| it == topic));
        known.ok_or_else(|| LookupError::NotViewed(topic.to_owned()))
    }

    /// What the log has at the place that a view names; none if it is not this key's.
    async fn record(
        &self,
        partition: PartitionId,
        offset: Offset,
        key: &[u8],
    ) -> Result<Option<Record>, LookupError> {
        let batches = match self.broker.read(partition, offset, 1).await {
            Ok(batches) => batches,
            Err(ReadError::OutOfRange { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let records = batches.into_iter().next().map(Batch::parse_stored).and_then(Result::ok);
        let records = records.and_then(|batch| batch.records(MAX_BATCH_BYTES).ok());
        let is_it =
            |record: &Record| record.offset == offset.0 && record.key.as_deref() == Some(key);
        Ok(records.unwrap_or_default().into_iter().find(is_it))
    }
}
