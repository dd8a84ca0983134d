//! The journal: one append-only sequence of segments that all partitions and all facts share (FORMAT.md).
//!
//! Contract skeleton; the owner of this room replaces the bodies and may add, not rename.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use crate::record::Batch;

/// Identity of a partition in the journal; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u32);

/// Kafka offset within a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

/// Byte address in the journal; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Key space of a fact; the broker names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space(pub u8);

/// A key with its latest value; `None` deletes. Value at most 8 KiB.
#[derive(Clone, Debug)]
pub struct Fact {
    /// Key space.
    pub space: Space,
    /// Key within the space.
    pub key: Bytes,
    /// New value, or none to delete.
    pub value: Option<Bytes>,
}

/// A batch for one partition at the offset that the broker assigned.
#[derive(Clone, Debug)]
pub struct BatchEntry {
    /// Partition.
    pub partition: PartitionId,
    /// Offset of the first record; the journal stamps it into the stored header.
    pub base_offset: Offset,
    /// Leader epoch, stamped likewise.
    pub leader_epoch: i32,
    /// The batch as validated.
    pub batch: Batch,
}

/// What lands together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// Batches.
    pub batches: Vec<BatchEntry>,
    /// Facts.
    pub facts: Vec<Fact>,
}

/// Replayed state: what the journal's entries add up to. One reducer, used by the writer (snapshots), by recovery and by the broker.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Facts.
    pub facts: BTreeMap<(Space, Bytes), Bytes>,
    // partitions (log start, log end, leader epoch), producer windows (last 5 batches): journal owner.
}

/// Handle on the open journal; cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {}

/// Space that was set aside for one append.
#[derive(Debug)]
pub struct Permit {}

/// Resolves when the append is durable. Also a plain future.
#[derive(Debug)]
pub struct Ticket {}

/// The journal stopped accepting for good after an I/O error; reads go on.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the journal stopped after an I/O error: {reason}; fix the disk and restart")]
pub struct Poisoned {
    /// What failed.
    pub reason: Arc<str>,
}

impl Journal {
    /// Sets aside space for an append whose batches and facts take `bytes`; the only point where an append can be refused.
    pub fn admit(&self, bytes: usize) -> Result<Permit, AdmitError> {
        todo!("journal owner: {bytes}")
    }

    /// Queues an admitted append; never blocks. Appends become durable in the order of these calls.
    #[must_use]
    pub fn append(&self, permit: Permit, append: Append) -> Ticket {
        todo!("journal owner: {permit:?} {append:?}")
    }

    /// First offset that is still there.
    #[must_use]
    pub fn log_start(&self, partition: PartitionId) -> Offset {
        todo!("journal owner: {partition:?}")
    }

    /// One past the last durable offset.
    #[must_use]
    pub fn durable_end(&self, partition: PartitionId) -> Offset {
        todo!("journal owner: {partition:?}")
    }

    /// Whole durable batches from the one that contains `from`, at most `max_bytes`, but always at least one if there is one. Blocks on file I/O: call it off the async workers.
    pub fn read(
        &self,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ReadError> {
        todo!("journal owner: {partition:?} {from:?} {max_bytes}")
    }

    /// The first durable batch whose largest timestamp is at least `timestamp_ms`.
    pub fn batch_at_time(
        &self,
        partition: PartitionId,
        timestamp_ms: i64,
    ) -> Result<Option<Bytes>, ReadError> {
        todo!("journal owner: {partition:?} {timestamp_ms}")
    }

    /// Resolves when any of the partitions has durable data past its offset (at once if it already has); cancel-safe.
    pub async fn wait_durable(&self, wants: &[(PartitionId, Offset)]) {
        todo!("journal owner: {wants:?}")
    }

    /// Numbers for health, metrics and the page.
    #[must_use]
    pub fn status(&self) -> JournalStatus {
        todo!("journal owner")
    }
}

impl Ticket {
    /// Waits for durability.
    pub async fn durable(self) -> Result<(), Poisoned> {
        todo!("journal owner")
    }
}

/// A moment of the journal.
#[derive(Clone, Debug, Default)]
pub struct JournalStatus {
    /// Bytes of the data folder in use.
    pub used_bytes: u64,
    /// `storage.max_bytes`.
    pub max_bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Frames made durable since start.
    pub frames: u64,
    /// Bytes written since start, padding included.
    pub written_bytes: u64,
    /// Median of the recent fdatasync calls, microseconds.
    pub sync_p50_us: u64,
    /// 99th percentile of the recent fdatasync calls, microseconds.
    pub sync_p99_us: u64,
    /// Why nothing is accepted any more, if so.
    pub poisoned: Option<String>,
}

/// Why an append was refused before anything was assigned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// No preallocated space: retry later.
    #[error("storage is full")]
    Full,
    /// Larger than an append may be.
    #[error("append of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Asked for.
        bytes: usize,
        /// Largest allowed.
        limit: usize,
    },
    /// The journal stopped.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Offset below the log's start or past its end.
    #[error("offset {} is outside {}..={}", .offset.0, .start.0, .end.0)]
    OutOfRange {
        /// Asked for.
        offset: Offset,
        /// First offset there is.
        start: Offset,
        /// One past the last durable one.
        end: Offset,
    },
    /// The stored bytes fail their CRC.
    #[error("damaged entry at journal position {}", .position.0)]
    Damaged {
        /// Where.
        position: Position,
    },
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
