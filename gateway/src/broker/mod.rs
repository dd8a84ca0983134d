//! The broker: topics, partitions, idempotent producers, consumer groups. No socket, no protocol bytes, no file.
//!
//! Contract skeleton; the owner of this room replaces the bodies and may add, not rename.

mod fact;
pub mod group;
mod identity;
mod partitioner;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use crate::{
    journal::{Fact, Journal, Offset, PartitionId, Poisoned, ReadError, Space, State},
    record::Batch,
};

pub use fact::FactError;
pub use group::Groups;
pub use identity::Uuid;
pub use partitioner::partition_for_key;

/// Key spaces of facts. Every owner of durable state has one; numbers are on disk and never reused.
pub mod space {
    use super::Space;

    /// Gateway identity and counters.
    pub const GATEWAY: Space = Space(1);
    /// Topics: name -> id, partitions, settings.
    pub const TOPIC: Space = Space(2);
    /// Group offsets: (group, topic, partition) -> offset, epoch, metadata, time.
    pub const GROUP_OFFSET: Space = Space(3);
    /// Device streams: stream -> next position and owner.
    pub const DEVICE_STREAM: Space = Space(4);
    /// Device schemas by hash.
    pub const SCHEMA: Space = Space(5);
    /// Devices: id -> what the registry knows.
    pub const DEVICE: Space = Space(6);
    /// Clock fits by (device, boot).
    pub const DEVICE_CLOCK: Space = Space(7);
    /// Uplink hints (the centre is the authority).
    pub const UPLINK: Space = Space(8);
}

/// A topic; immutable snapshot.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// Random id, as Kafka's topic ids.
    pub id: [u8; 16],
    /// Partitions by index.
    pub partitions: Vec<PartitionId>,
    /// Settings that differ from the defaults, Kafka's names.
    pub settings: BTreeMap<String, String>,
}

/// One atomic append: batches for partitions and the facts that belong to them.
#[derive(Clone, Debug, Default)]
pub struct AppendRequest {
    /// Batches in order.
    pub batches: Vec<(PartitionId, Batch)>,
    /// Facts that land with them.
    pub facts: Vec<Fact>,
}

/// An append that was given its offsets and waits for the disk.
#[derive(Debug)]
pub struct Commit {}

impl Commit {
    /// Base offset of each batch of the request, in order (for a duplicate: the original's).
    #[must_use]
    pub fn base_offsets(&self) -> &[Offset] {
        todo!("broker owner")
    }

    /// Resolves when everything in the request (or the originals of its duplicates) is durable.
    pub async fn durable(self) -> Result<(), Poisoned> {
        todo!("broker owner")
    }
}

/// Where a partition's log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnds {
    /// First offset still there.
    pub start: Offset,
    /// One past the last offset handed to the journal.
    pub written: Offset,
    /// One past the last durable offset: Kafka's high watermark.
    pub durable: Offset,
    /// One past the last offset that uplink and pipelines may read.
    pub stable: Offset,
    /// Leader epoch.
    pub leader_epoch: i32,
}

/// Settings of the broker.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Partitions of a topic that is created without a count.
    pub default_partitions: u32,
    /// Whether unknown topics are created on demand.
    pub auto_create_topics: bool,
    /// Default of `max.message.bytes`.
    pub max_message_bytes: usize,
}

/// The broker; share it by `Arc`.
#[derive(Debug)]
pub struct Broker {}

impl Broker {
    /// Takes over the journal and the state that its recovery replayed. Draws the gateway id on the first start (durable before this returns).
    pub async fn open(
        journal: Journal,
        state: State,
        options: BrokerOptions,
    ) -> Result<Arc<Self>, Poisoned> {
        todo!("broker owner: {journal:?} {state:?} {options:?}")
    }

    /// Random UUID of this gateway.
    #[must_use]
    pub fn gateway_id(&self) -> [u8; 16] {
        todo!("broker owner")
    }

    /// The journal below, for reading and status.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        todo!("broker owner")
    }

    /// A topic by name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        todo!("broker owner: {name}")
    }

    /// All topics by name.
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        todo!("broker owner")
    }

    /// Creates a topic, durable when this returns. `partitions: None` takes the default.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: Option<u32>,
        settings: BTreeMap<String, String>,
    ) -> Result<Arc<Topic>, TopicError> {
        todo!("broker owner: {name} {partitions:?} {settings:?}")
    }

    /// The topic, created with defaults if it is not there (whether or not auto-create is on: for the gateway's own inputs).
    pub async fn ensure_topic(&self, name: &str) -> Result<Arc<Topic>, TopicError> {
        todo!("broker owner: {name}")
    }

    /// Checks producers, assigns offsets and queues; everything refusable is refused here, before an offset exists.
    pub fn append(&self, request: AppendRequest) -> Result<Commit, AppendError> {
        todo!("broker owner: {request:?}")
    }

    /// Ends of a partition.
    #[must_use]
    pub fn ends(&self, partition: PartitionId) -> LogEnds {
        todo!("broker owner: {partition:?}")
    }

    /// Durable whole batches from `from` on; see [`Journal::read`]. Runs on a blocking thread.
    pub async fn read(
        &self,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ReadError> {
        todo!("broker owner: {partition:?} {from:?} {max_bytes}")
    }

    /// A producer id that was never given before, also across restarts.
    pub async fn allocate_producer_id(&self) -> Result<i64, AppendError> {
        todo!("broker owner")
    }

    /// A fact as of the last admitted append.
    #[must_use]
    pub fn fact(&self, space: Space, key: &[u8]) -> Option<Bytes> {
        todo!("broker owner: {space:?} {key:?}")
    }

    /// All facts of a space as of the last admitted append.
    #[must_use]
    pub fn facts(&self, space: Space) -> Vec<(Bytes, Bytes)> {
        todo!("broker owner: {space:?}")
    }

    /// The facts of a space whose keys begin with `prefix`, as of the last admitted append.
    #[must_use]
    pub fn facts_with_prefix(&self, space: Space, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        todo!("broker owner: {space:?} {prefix:?}")
    }

    /// Notes how far the centre holds a partition (for the page, and later for retention).
    pub fn set_replicated(&self, partition: PartitionId, next: Offset) {
        todo!("broker owner: {partition:?} {next:?}")
    }

    /// How far the centre holds a partition, if it is replicated.
    #[must_use]
    pub fn replicated(&self, partition: PartitionId) -> Option<Offset> {
        todo!("broker owner: {partition:?}")
    }
}

/// Why a topic could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// It is already there.
    #[error("topic {0:?} already exists")]
    Exists(String),
    /// Kafka's rules: 1-249 of `[a-zA-Z0-9._-]`, not `.` or `..`.
    #[error("topic name {0:?} is not legal: use 1 to 249 of a-z A-Z 0-9 . _ -")]
    IllegalName(String),
    /// Zero or more partitions than a topic may have.
    #[error("{0} partitions are not possible: use 1 to 1024")]
    IllegalPartitions(u32),
    /// A setting that nobody knows, or a value it cannot take.
    #[error("topic setting {0:?}: {1}")]
    IllegalSetting(String, String),
    /// Refused by the journal.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Why an append was refused; each maps to one Kafka error code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// No such partition.
    #[error("partition {0:?} does not exist")]
    UnknownPartition(PartitionId),
    /// Sequence is not the next one.
    #[error("producer {producer_id}: sequence {got} where {expected} was due")]
    OutOfOrderSequence {
        /// Producer id.
        producer_id: i64,
        /// Sequence received.
        got: i32,
        /// Sequence expected.
        expected: i32,
    },
    /// Epoch below the one seen.
    #[error("producer {producer_id} is fenced: epoch {got} after {current}")]
    ProducerFenced {
        /// Producer id.
        producer_id: i64,
        /// Epoch received.
        got: i16,
        /// Epoch known.
        current: i16,
    },
    /// Older than the five batches that are remembered.
    #[error(
        "producer {producer_id}: sequence {got} is a duplicate of a batch that is no longer remembered"
    )]
    DuplicateSequence {
        /// Producer id.
        producer_id: i64,
        /// Sequence received.
        got: i32,
    },
    /// Batch over `max.message.bytes`.
    #[error("batch of {bytes} bytes is over max.message.bytes = {limit}")]
    BatchTooLarge {
        /// Size.
        bytes: usize,
        /// Limit.
        limit: usize,
    },
    /// Full, too large or poisoned.
    #[error(transparent)]
    Journal(#[from] crate::journal::AdmitError),
    /// The journal stopped while this waited.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

/// Longest topic name, Kafka's.
pub const MAX_TOPIC_NAME_BYTES: usize = 249;
