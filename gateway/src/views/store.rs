//! Views in sled: a tree per partition, which holds the keys and how far it got.

use std::{
    fs, io,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use bytes::Bytes;

use super::last_value::Changes;
use crate::journal::{Offset, PartitionId};

/// Of all views together.
const CACHE_BYTES: u64 = 4 << 20;
/// Key of how far the tree got; keys of records begin with another byte.
const APPLIED: &[u8] = &[0];
const RECORD: u8 = 1;

/// The open database.
#[derive(Debug)]
pub(super) struct Store {
    db: sled::Db,
}

/// The files of the views fail. They may be deleted while the gateway is stopped.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the views in {folder}: {reason}; the folder may be deleted while the gateway is stopped")]
pub struct StoreError {
    folder: String,
    reason: String,
}

/// Which log a tree is of, and how far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    /// The topic's id: one that was deleted and made again is another.
    pub(super) topic: [u8; 16],
    /// Bumped when offsets may have been used again.
    pub(super) incarnation: u64,
    /// The first offset that is not in the view.
    pub(super) next: i64,
}

impl StoreError {
    /// sled stopped in the middle.
    pub(super) fn panicked(error: &dyn std::fmt::Display) -> Self {
        Self { folder: super::FOLDER.into(), reason: error.to_string() }
    }
}

impl Store {
    /// What does not open is deleted: all of it can be had again.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let failed = |error: &dyn std::fmt::Display| StoreError {
            folder: folder.display().to_string(),
            reason: error.to_string(),
        };
        // Damaged files make sled panic, too.
        let db = match catch_unwind(AssertUnwindSafe(|| open(folder))) {
            Ok(Ok(db)) => db,
            outcome => {
                let reason = outcome.map_or_else(|_| "it panicked".into(), |it| format!("{it:?}"));
                tracing::warn!(folder = %folder.display(), reason, "views begin anew");
                match fs::remove_dir_all(folder) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(failed(&error));
                    }
                    _ => {}
                }
                open(folder).map_err(|error| failed(&error))?
            }
        };
        Ok(Self { db })
    }

    /// How far the view of a partition got; none where there is none.
    pub(super) fn applied(&self, partition: PartitionId) -> Result<Option<Applied>, StoreError> {
        let value = self.tree(partition)?.get(APPLIED).map_err(failed)?;
        Ok(value.and_then(|value| Applied::decode(&value)))
    }

    /// Throws the view of a partition away. First of all how far it got: without that the rest means nothing.
    pub(super) fn clear(&self, partition: PartitionId) -> Result<(), StoreError> {
        let tree = self.tree(partition)?;
        tree.remove(APPLIED).map_err(failed)?;
        tree.flush().map_err(failed)?;
        tree.clear().map_err(failed)
    }

    /// Keys and place change together.
    pub(super) fn apply(
        &self,
        partition: PartitionId,
        changes: &Changes,
        applied: &Applied,
    ) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, offset) in &changes.keys {
            match offset {
                Some(offset) => batch.insert(record_key(key), &offset.to_be_bytes()),
                None => batch.remove(record_key(key)),
            }
        }
        batch.insert(APPLIED, applied.encode());
        self.tree(partition)?.apply_batch(batch).map_err(failed)
    }

    /// Where the last record of a key should be.
    pub(super) fn offset_of(
        &self,
        partition: PartitionId,
        key: &[u8],
    ) -> Result<Option<Offset>, StoreError> {
        let value = self.tree(partition)?.get(record_key(key)).map_err(failed)?;
        let offset = value.and_then(|value| Some(i64::from_be_bytes(value[..].try_into().ok()?)));
        Ok(offset.map(Offset))
    }

    /// Keys that begin with a prefix, behind another key, in order, and where their last records should be.
    pub(super) fn keys(
        &self,
        partition: PartitionId,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> Result<impl Iterator<Item = Result<(Bytes, Offset), StoreError>> + use<>, StoreError> {
        let prefix = record_key(prefix);
        let from = match after.map(record_key) {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix.clone()),
        };
        let entries = self.tree(partition)?.range((from, Bound::Unbounded));
        let within = entries.take_while(move |entry| {
            entry.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix))
        });
        let placed = within.filter_map(|entry| match entry {
            Ok((key, value)) => {
                let key = key.strip_prefix(&[RECORD])?;
                let offset = i64::from_be_bytes(value[..].try_into().ok()?);
                Some(Ok((Bytes::copy_from_slice(key), Offset(offset))))
            }
            Err(error) => Some(Err(failed(error))),
        });
        Ok(placed)
    }

    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map(drop).map_err(failed)
    }

    fn tree(&self, partition: PartitionId) -> Result<sled::Tree, StoreError> {
        self.db.open_tree(format!("last-value/{}", partition.0)).map_err(failed)
    }
}

fn open(folder: &Path) -> sled::Result<sled::Db> {
    sled::Config::new()
        .path(folder)
        .cache_capacity(CACHE_BYTES)
        .mode(sled::Mode::LowSpace)
        .flush_every_ms(None)
        .open()
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: sled::Error) -> StoreError {
    StoreError { folder: super::FOLDER.into(), reason: error.to_string() }
}

fn record_key(key: &[u8]) -> Vec<u8> {
    let mut out = vec![RECORD];
    out.extend_from_slice(key);
    out
}

impl Applied {
    /// Whether a view that got this far may be gone on with.
    pub(super) fn goes_on(&self, log: &Self, start: Offset, end: Offset) -> bool {
        self.topic == log.topic
            && self.incarnation == log.incarnation
            && (start.0..=end.0).contains(&self.next)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = self.topic.to_vec();
        out.extend_from_slice(&self.incarnation.to_be_bytes());
        out.extend_from_slice(&self.next.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (topic, rest) = bytes.split_first_chunk()?;
        let (incarnation, rest) = rest.split_first_chunk()?;
        Some(Self {
            topic: *topic,
            incarnation: u64::from_be_bytes(*incarnation),
            next: i64::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_that_is_not_certainly_of_this_log_is_not_gone_on_with() {
        let log = Applied { topic: [1; 16], incarnation: 4, next: 0 };
        let at = |next| Applied { next, ..log };
        // What the view says; the log goes from 10 to 20.
        let cases = [
            (at(10), true),
            (at(20), true),
            // Records were deleted that it may still name; or it knows more than there is.
            (at(9), false),
            (at(21), false),
            (Applied { incarnation: 3, ..at(15) }, false),
            (Applied { incarnation: 5, ..at(15) }, false),
            (Applied { topic: [2; 16], ..at(15) }, false),
        ];
        for (applied, expect) in cases {
            assert_eq!(applied.goes_on(&log, Offset(10), Offset(20)), expect, "{applied:?}");
            assert_eq!(Applied::decode(&applied.encode()), Some(applied));
        }
        assert_eq!(Applied::decode(&[0; 31]), None);
        assert_eq!(Applied::decode(&[0; 33]), None);
    }

    #[test]
    fn what_does_not_open_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let views = folder.path().join("views");
        let applied = Applied { topic: [1; 16], incarnation: 1, next: 7 };
        let partition = PartitionId(3);
        let mut changes = Changes::default();
        changes.keys.insert("a".into(), Some(6));
        let store = Store::open(&views).unwrap();
        store.apply(partition, &changes, &applied).unwrap();
        assert_eq!(store.applied(partition).unwrap(), Some(applied));
        assert_eq!(store.offset_of(partition, b"a").unwrap(), Some(Offset(6)));
        assert_eq!(store.offset_of(PartitionId(4), b"a").unwrap(), None);
        store.flush().unwrap();
        store.clear(partition).unwrap();
        assert_eq!(store.applied(partition).unwrap(), None);
        assert_eq!(store.offset_of(partition, b"a").unwrap(), None);
        drop(store);
        fs::remove_dir_all(&views).unwrap();
        fs::write(&views, "no folder").unwrap();
        assert!(Store::open(&views).is_err(), "a file in its place is not ours to delete");
        fs::remove_file(&views).unwrap();
        fs::create_dir(&views).unwrap();
        fs::write(views.join("conf"), "nonsense").unwrap();
        let store = Store::open(&views).unwrap();
        assert_eq!(store.applied(partition).unwrap(), None);
    }
}
