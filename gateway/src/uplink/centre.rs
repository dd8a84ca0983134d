//! The seam to the central cluster: what the uplink asks of a Kafka client, and what it does with
//! the answers.
//!
//! `client.rs` implements it for real; tests put a scripted centre behind it.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use bytes::Bytes;

use super::cursor::{Cursor, CursorTable};
use crate::{journal::PartitionId, record::Record};

/// A central cluster that can be reached or not.
pub(super) trait Centre: Send + Sync + 'static {
    /// An initialised connection.
    type Session: Session;

    /// Connects, takes over the gateway's transactional id (which fences an earlier session and
    /// resolves the transaction that it left behind, also in `written`, the partitions that it may
    /// have written to) and makes sure of the cursor topic.
    fn open(
        &self,
        written: &[CentralPartition],
    ) -> impl Future<Output = Result<Self::Session, CentreError>> + Send;
}

/// One producer's life: it ends with its first error, and the next one is opened anew.
pub(super) trait Session: Send + 'static {
    /// Looks the topics up, creates the missing ones, and answers for each in the order of
    /// `wanted`.
    fn ensure_topics(
        &mut self,
        wanted: &[WantedTopic],
    ) -> impl Future<Output = Result<Vec<Result<CentralTopic, String>>, CentreError>> + Send;

    /// Reads this gateway's cursors back, all that were committed before this session was opened.
    fn cursors(
        &mut self,
        scope: CursorScope,
    ) -> impl Future<Output = Result<CursorTable, CentreError>> + Send;

    /// Sends all records, then all cursors, in one transaction. Only `Ok` means committed, and that
    /// it is to be seen there; after an
    /// error the outcome is unknown unless it is [`CommitError::Poison`], and the session must be
    /// dropped either way.
    fn commit(
        &mut self,
        transaction: &mut Transaction,
    ) -> impl Future<Output = Result<(), CommitError>> + Send;

    /// Lets go of the connection without waiting for the centre. Whether a transaction that is
    /// still open was committed must not matter to anybody any more.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// A partition at the centre.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CentralPartition {
    /// Its topic there.
    pub(super) topic: Arc<str>,
    /// Its index, the same on both sides.
    pub(super) index: u32,
}

/// A topic that should be at the centre.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedTopic {
    /// Its name there.
    pub(super) name: Arc<str>,
    /// Partitions to create it with.
    pub(super) partitions: u32,
}

/// A topic as it is at the centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CentralTopic {
    /// Partitions that it has.
    pub(super) partitions: u32,
    /// Its `retention.ms`, if it deletes by age and the centre tells.
    pub(super) retention_ms: Option<i64>,
}

/// Which part of the cursor topic is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CursorScope {
    /// The partition that this gateway writes to.
    Home,
    /// All of it.
    Everything,
}

/// What goes to the centre together or not at all.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// One leg per local partition that moves.
    pub(super) legs: BTreeMap<PartitionId, Leg>,
    /// Estimated size.
    pub(super) bytes: usize,
}

/// One partition's part of a transaction.
#[derive(Debug)]
pub(super) struct Leg {
    /// Name of the topic at the centre.
    pub(super) topic: Arc<str>,
    /// Partition index, the same on both sides.
    pub(super) index: u32,
    /// Records in order. Sending takes them out, so that they are not held twice.
    pub(super) records: Vec<Record>,
    /// How many there are.
    pub(super) count: usize,
    /// Key of the cursor record.
    pub(super) cursor_key: Bytes,
    /// Where the partition stands once this is committed.
    pub(super) cursor: Cursor,
}

/// How much an error says about the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// The line or the cluster: try again soon.
    Transient,
    /// Another process uses this gateway's transactional id; trying again at once would only throw
    /// it out in turn.
    Fenced,
    /// The centre refuses this gateway until somebody changes something.
    Refused,
}

/// The session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct CentreError {
    /// What it means for the next attempt.
    pub(super) severity: Severity,
    /// For the operator.
    pub(super) message: String,
}

/// Why a transaction was not committed, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CommitError {
    /// The centre will never take a record of these partitions as it is. Nothing was committed.
    Poison(Vec<(PartitionId, String)>),
    /// Anything else: whether it was committed shows when the cursors are read back.
    Lost(CentreError),
}

impl CentreError {
    /// An error of the line or the cluster.
    pub(super) fn transient(message: impl Into<String>) -> Self {
        Self { severity: Severity::Transient, message: message.into() }
    }

    /// A refusal that lasts until somebody changes something.
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self { severity: Severity::Refused, message: message.into() }
    }
}
