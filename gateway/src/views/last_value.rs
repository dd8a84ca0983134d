//! The fold of the view: of each key, where its last record is. No I/O.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::MAX_BATCH_BYTES;
use crate::{
    broker::Fetched,
    record::{Batch, BatchHeader, HEADER_BYTES},
};

/// A longer key is in no view: it would fill the cache alone. Bytes.
pub const MAX_KEY_BYTES: usize = 4096;

/// What records did to keys: their last offset, or none where the last one was a tombstone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) keys: BTreeMap<Bytes, Option<i64>>,
    /// One past the last offset seen.
    pub(super) next: Option<i64>,
}

impl Changes {
    /// Adds batches in order. What cannot be decoded has no keys.
    pub(super) fn fold(&mut self, fetched: &Fetched) {
        for bytes in &fetched.batches {
            let Some(header) = bytes.first_chunk::<HEADER_BYTES>().map(BatchHeader::read) else {
                continue;
            };
            self.next = Some(header.last_offset() + 1);
            if !fetched.is_visible(&header) {
                continue;
            }
            let batch = Batch::parse_stored(bytes.clone());
            let records = batch.and_then(|batch| batch.records(MAX_BATCH_BYTES));
            for record in records.unwrap_or_default() {
                if let Some(key) = record.key.filter(|key| key.len() <= MAX_KEY_BYTES) {
                    // Copied: a slice would keep the whole batch in memory.
                    let key = Bytes::copy_from_slice(&key);
                    self.keys.insert(key, record.value.map(|_| record.offset));
                }
            }
        }
    }
}
