//! A group's offset as a fact: key (group, topic, partition), value (offset, epoch, time, note).

use bytes::{BufMut, Bytes};

use super::OffsetCommit;
use crate::broker::{
    FactError,
    fact::{FactReader, put_string},
};

/// Longest note that a consumer may store with an offset (`offset.metadata.max.bytes`).
pub const MAX_OFFSET_METADATA_BYTES: usize = 4096;

/// How far a group has read a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// When it was committed, Unix ms.
    pub committed_ms: i64,
    /// How long the journal had been open then, ms; not known of facts that an earlier version wrote.
    pub committed_open_ms: Option<u64>,
    /// The consumer's own note.
    pub metadata: String,
}

const FACT: &str = "group offset";
/// Without the time of open journal.
const FACT_VERSION_1: u8 = 1;
const FACT_VERSION: u8 = 2;

impl CommittedOffset {
    pub(super) fn new(commit: OffsetCommit, committed_ms: i64, committed_open_ms: u64) -> Self {
        Self {
            offset: commit.offset,
            leader_epoch: commit.leader_epoch,
            committed_ms,
            committed_open_ms: Some(committed_open_ms),
            metadata: commit.metadata,
        }
    }

    pub(super) fn to_fact(&self) -> Bytes {
        let mut out = Vec::with_capacity(32 + self.metadata.len());
        out.put_u8(if self.committed_open_ms.is_some() { FACT_VERSION } else { FACT_VERSION_1 });
        out.put_i64(self.offset);
        out.put_i32(self.leader_epoch);
        out.put_i64(self.committed_ms);
        if let Some(open_ms) = self.committed_open_ms {
            out.put_u64(open_ms);
        }
        put_string(&mut out, &self.metadata);
        out.into()
    }

    pub(super) fn from_fact(value: Bytes) -> Result<Self, FactError> {
        let mut reader = FactReader::new(FACT, value);
        let version = reader.u8()?;
        if !(FACT_VERSION_1..=FACT_VERSION).contains(&version) {
            return Err(reader.error("version is not known"));
        }
        let offset = reader.i64()?;
        let leader_epoch = reader.i32()?;
        let committed_ms = reader.i64()?;
        let committed_open_ms = match version {
            FACT_VERSION_1 => None,
            _ => Some(u64::from_be_bytes(reader.array()?)),
        };
        let metadata = reader.string()?;
        reader.end()?;
        Ok(Self { offset, leader_epoch, committed_ms, committed_open_ms, metadata })
    }
}

/// What every key of a group begins with.
pub(super) fn group_prefix(group: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + group.len());
    put_string(&mut out, group);
    out
}

pub(super) fn key(group: &str, topic: &str, partition: u32) -> Bytes {
    let mut out = group_prefix(group);
    put_string(&mut out, topic);
    out.put_u32(partition);
    out.into()
}

/// Group, topic and partition of a key.
pub(super) fn read_key(key: Bytes) -> Result<(String, String, u32), FactError> {
    let mut reader = FactReader::new(FACT, key);
    let fields = (reader.string()?, reader.string()?, reader.u32()?);
    reader.end()?;
    Ok(fields)
}

/// Whether a key is of this topic.
pub(in crate::broker) fn is_of_topic(key: &Bytes, topic: &str) -> bool {
    read_key(key.clone()).is_ok_and(|(_, of, _)| of == topic)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_fact() {
        let committed = CommittedOffset {
            offset: 258,
            leader_epoch: -1,
            committed_ms: 1,
            committed_open_ms: None,
            metadata: "né".to_owned(),
        };
        let value: &[u8] = &[
            1, 0, 0, 0, 0, 0, 0, 1, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 3, b'n',
            0xc3, 0xa9,
        ];
        assert_eq!(committed.to_fact(), value);
        assert_eq!(CommittedOffset::from_fact(Bytes::from_static(value)), Ok(committed.clone()));
        let timed = CommittedOffset { committed_open_ms: Some(0x0302), ..committed };
        let value = [&[2], &value[1..21], &[0, 0, 0, 0, 0, 0, 3, 2], &value[21..]].concat();
        assert_eq!(timed.to_fact(), value);
        assert_eq!(CommittedOffset::from_fact(value.into()), Ok(timed));
        assert_eq!(&key("g", "top", 5)[..], b"\0\x01g\0\x03top\0\0\0\x05");
        let fields = ("g".to_owned(), "top".to_owned(), 5);
        assert_eq!(read_key(key("g", "top", 5)), Ok(fields));
        assert!(key("g", "top", 5).starts_with(&group_prefix("g")));
        assert!(!key("ga", "top", 5).starts_with(&group_prefix("g")));
    }

    #[test]
    fn damaged_facts_are_refused() {
        let committed = CommittedOffset {
            offset: 1,
            leader_epoch: 2,
            committed_ms: 3,
            committed_open_ms: Some(4),
            metadata: "x".into(),
        };
        let (key, value) = (key("group", "topic", 7), committed.to_fact());
        for end in 0..key.len() {
            assert!(read_key(key.slice(..end)).is_err(), "{end}");
        }
        for end in 0..value.len() {
            assert!(CommittedOffset::from_fact(value.slice(..end)).is_err(), "{end}");
        }
        assert!(CommittedOffset::from_fact([&value[..], &[0]].concat().into()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_error_or_fields(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = read_key(bytes.clone().into());
            let _ = CommittedOffset::from_fact(bytes.into());
        }
    }
}
