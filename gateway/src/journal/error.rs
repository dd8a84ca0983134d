//! Errors of the journal, one type per thing that a caller does with it.

use std::{io, sync::Arc};

use super::{Offset, PartitionId, Position, Space};

/// The journal stopped accepting for good, after an I/O error or because it was closed; reads go on.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the journal accepts nothing any more: {reason}")]
pub struct Poisoned {
    /// What failed, and what to do.
    pub reason: Arc<str>,
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
    /// The state would pass one of its limits: retry later, or remove something.
    #[error(transparent)]
    State(#[from] StateFull),
    /// The journal stopped.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

/// Which limit of the state an append would pass; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateFull {
    /// All facts, partitions and producers together.
    #[error("state.max_bytes = {limit} would be passed: {bytes} bytes are needed")]
    Bytes {
        /// State with the append applied.
        bytes: usize,
        /// `state.max_bytes`.
        limit: usize,
    },
    /// Idempotent producers that wrote to one partition within the last day.
    #[error("state.producers_per_partition = {limit} would be passed in partition {partition}")]
    ProducersPerPartition {
        /// Partition id.
        partition: u32,
        /// The limit.
        limit: usize,
    },
    /// Idempotent producers in all partitions.
    #[error("state.producers = {limit} would be passed")]
    Producers {
        /// The limit.
        limit: usize,
    },
    /// A fact's key or value is longer than a fact may be.
    #[error("fact in space {} has {bytes} bytes where {limit} are allowed", .space.0)]
    Fact {
        /// Space of the fact.
        space: Space,
        /// Length of its key or value.
        bytes: usize,
        /// Longest allowed.
        limit: usize,
    },
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
    Io(#[from] io::Error),
}

/// Why nothing was cleaned; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CleanError {
    /// No space for the copy, within the budget or on the disk: retry later.
    #[error("no space for a cold segment")]
    NoSpace,
    /// The journal is being closed.
    #[error("the journal is being closed")]
    Stopped,
    /// Something that is live is damaged: what it is in stays as it is.
    #[error("{offset:?} of {partition:?} cannot be read: its segment is not cleaned")]
    Damaged {
        /// Partition.
        partition: PartitionId,
        /// First offset that cannot be read.
        offset: Offset,
    },
    /// The fact that switches to the copy was refused.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// The disk refused; the journal itself goes on.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a journal could not be opened. Nothing was deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting that cannot work.
    #[error("{name} = {value}: {reason}")]
    Option {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: u64,
        /// What it must be.
        reason: &'static str,
    },
    /// A file of a later format.
    #[error("{file} has journal format {found}, this program reads up to {known}: use a newer one")]
    Version {
        /// File.
        file: String,
        /// Version in its header.
        found: u16,
        /// Newest version that is read.
        known: u16,
    },
    /// Two journals in one folder.
    #[error("{file} belongs to another journal than {other}: move one of them away")]
    Foreign {
        /// File.
        file: String,
        /// A file of the other journal.
        other: String,
    },
    /// Segment files are there, but no header tells which journal they are of.
    #[error(
        "no segment in the folder has a readable header (first file: {file}): nothing was changed"
    )]
    NoIdentity {
        /// One of the files.
        file: String,
    },
    /// The disk refused.
    #[error("{action}: {error}")]
    Io {
        /// What was being done, with the file's name.
        action: String,
        /// The error.
        error: io::Error,
    },
}

impl OpenError {
    /// For `map_err`: says what was being done.
    pub(super) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |error| Self::Io { action, error }
    }
}
