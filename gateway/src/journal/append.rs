//! What is appended: batches and facts that land together or not at all.

use bytes::Bytes;

use super::{
    Offset, PartitionId, Position,
    format::{ENTRY_HEADER_BYTES, FACT_OVERHEAD_BYTES, entry_size},
};
use crate::record::Batch;

/// Key space of a fact; the broker names them. Space 0 is the journal's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space(pub u8);

impl Space {
    /// The journal's own facts: key = partition id (u32, big-endian), value = its log start (i64, big-endian).
    /// They move [`super::State::partition`]'s log start and do not appear among the other facts.
    pub const LOG_START: Self = Self(0);
    /// What the journal notes about itself; nobody else appends facts here.
    pub(super) const JOURNAL: Self = Self(255);
}

/// A key with its latest value; `None` deletes. Value at most 8 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Key space.
    pub space: Space,
    /// Key within the space, at most [`Fact::MAX_KEY_BYTES`].
    pub key: Bytes,
    /// New value, or none to delete.
    pub value: Option<Bytes>,
}

impl Fact {
    /// Longest key: a Kafka group id, topic name and partition fit.
    pub const MAX_KEY_BYTES: usize = 4 * 1024;
    /// Longest value: facts are state, all of it is rewritten in every segment.
    pub const MAX_VALUE_BYTES: usize = 8 * 1024;

    /// The fact that moves a partition's log start; it never moves back.
    #[must_use]
    pub fn log_start(partition: PartitionId, start: Offset) -> Self {
        Self {
            space: Space::LOG_START,
            key: Bytes::copy_from_slice(&partition.0.to_be_bytes()),
            value: Some(Bytes::copy_from_slice(&start.0.to_be_bytes())),
        }
    }

    /// The fact that forgets a deleted partition: its ends, its producers, and that its batches ever were. The
    /// id must never be used again.
    #[must_use]
    pub fn forget_partition(partition: PartitionId) -> Self {
        let key = Bytes::copy_from_slice(&partition.0.to_be_bytes());
        Self { space: Space::LOG_START, key, value: None }
    }

    /// The fact that takes all segments before this position out of the log.
    pub(super) fn hot_start(position: Position) -> Self {
        Self {
            space: Space::JOURNAL,
            key: Bytes::from_static(HOT_START_KEY),
            value: Some(Bytes::copy_from_slice(&position.0.to_be_bytes())),
        }
    }

    /// The fact that a cold segment is part of the log, in the place of these positions; none: no longer.
    pub(super) fn cold(sequence: u64, place: Option<Replaced>) -> Self {
        let value = place.map(|Replaced { from, to }| {
            Bytes::from([from.0.to_be_bytes(), to.0.to_be_bytes()].concat())
        });
        Self { space: Space::JOURNAL, key: cold_key(sequence), value }
    }

    /// The fact of the largest cold sequence so far.
    pub(super) fn last_cold(sequence: u64) -> Self {
        Self {
            space: Space::JOURNAL,
            key: Bytes::from_static(LAST_COLD_KEY),
            value: Some(Bytes::copy_from_slice(&sequence.to_be_bytes())),
        }
    }

    /// What [`Fact::forget_partition`] made, if it did.
    pub(super) fn as_forgotten(&self) -> Option<PartitionId> {
        let forgets = self.space == Space::LOG_START && self.value.is_none();
        forgets.then(|| decode_partition(&self.key)).flatten()
    }

    /// What [`Fact::log_start`] made, if it did.
    pub(super) fn as_log_start(&self) -> Option<(PartitionId, Offset)> {
        if self.space != Space::LOG_START {
            return None;
        }
        decode_log_start(&self.key, self.value.as_deref())
    }

    /// Bytes that the fact takes in a frame.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let value = self.value.as_ref().map_or(0, Bytes::len);
        entry_size(FACT_OVERHEAD_BYTES + self.key.len() + value)
    }
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

impl Append {
    /// Bytes that the entries take in a frame: what to ask [`super::Journal::admit`] for.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let batches: usize =
            self.batches.iter().map(|entry| Self::batch_len(entry.batch.len())).sum();
        let facts: usize = self.facts.iter().map(Fact::encoded_len).sum();
        batches + facts
    }

    /// Bytes that a batch of this length takes in a frame; for sizes before an `Append` exists.
    #[must_use]
    pub const fn batch_len(batch_bytes: usize) -> usize {
        entry_size(batch_bytes)
    }
}

/// Partition and offset of a log start's key and value.
pub(super) fn decode_log_start(key: &[u8], value: Option<&[u8]>) -> Option<(PartitionId, Offset)> {
    let start = i64::from_be_bytes(value?.try_into().ok()?);
    Some((decode_partition(key)?, Offset(start)))
}

/// Partition of a log start's key.
pub(super) fn decode_partition(key: &[u8]) -> Option<PartitionId> {
    Some(PartitionId(u32::from_be_bytes(key.try_into().ok()?)))
}

/// Position in the fact of the hot start.
pub(super) fn decode_hot_start(key: &[u8], value: Option<&[u8]>) -> Option<Position> {
    let value = value.filter(|_| key == HOT_START_KEY)?;
    Some(Position(u64::from_be_bytes(value.try_into().ok()?)))
}

/// Positions of the log that a cold segment stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replaced {
    pub(super) from: Position,
    /// One past the last.
    pub(super) to: Position,
}

impl Replaced {
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (from, to) = value.split_first_chunk::<8>()?;
        let number = |bytes: &[u8; 8]| Position(u64::from_be_bytes(*bytes));
        Some(Self { from: number(from), to: number(to.try_into().ok()?) })
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }
}

/// Key of a cold segment's fact.
fn cold_key(sequence: u64) -> Bytes {
    let mut key = COLD_PREFIX.to_vec();
    key.extend_from_slice(&sequence.to_be_bytes());
    key.into()
}

/// Cold sequence in the key of its fact.
pub(super) fn decode_cold_key(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(COLD_PREFIX)?.try_into().ok()?))
}

/// Begins the keys of cold segments in [`Space::JOURNAL`].
const COLD_PREFIX: &[u8] = &[2];
/// Key of the largest cold sequence in [`Space::JOURNAL`].
pub(super) const LAST_COLD_KEY: &[u8] = &[3];

/// Key of the hot start in [`Space::JOURNAL`].
pub(super) const HOT_START_KEY: &[u8] = &[1];

const _: () = assert!(entry_size(0) == ENTRY_HEADER_BYTES);
