//! Cursors: how far the centre holds each partition, as records of the compacted cursor topic.
//!
//! A cursor travels in the same transaction as the data that it covers, so the two can never
//! disagree. Keys and values are text, readable with any Kafka client:
//!
//! ```text
//! key    headwater/1/<gateway uuid>/<topic>/<partition>
//! value  {"next":1042,"epoch":0,"topic_id":"<32 hex>","tail":"<8 hex>","crc":"<8 hex>"}
//! ```
//!
//! `next` is the local offset to send next; `epoch` and `topic_id` name the log that it counts in;
//! `tail` is the CRC-32C of the last record sent, which proves at the next start that the local log
//! still holds it; `crc` covers the key and all of the value. A tombstone forgets the cursor: the
//! partition is then sent anew from its start.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{broker::Uuid, journal::Offset};

/// First part of every key; the number is the version of the format.
const KEY_PREFIX: &str = "headwater/1/";

/// Where one partition stands at the centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Local offset of the next record to send.
    pub(super) next: Offset,
    /// Leader epoch of the local log when this was written.
    pub(super) leader_epoch: i32,
    /// Id of the local topic.
    pub(super) topic_id: [u8; 16],
    /// Digest of the last record sent; none while nothing was.
    pub(super) tail: Option<u32>,
}

/// The value on the wire.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CursorValue {
    next: i64,
    epoch: i32,
    topic_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tail: Option<String>,
    crc: String,
}

/// Why a record of the cursor topic is not a cursor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its cursor in the central cursor topic is unreadable ({0})")]
pub(super) struct BadCursor(String);

/// The key of one partition's cursor.
pub(super) fn key(gateway: [u8; 16], topic: &str, partition: u32) -> Bytes {
    Bytes::from(format!("{KEY_PREFIX}{}/{topic}/{partition}", Uuid(gateway)))
}

/// The partition of the cursor topic that a gateway writes to. Gateways are spread, so that one
/// with an open transaction holds up few others; each reads its own partition first.
pub(super) fn home_partition(gateway: [u8; 16], partitions: i32) -> i32 {
    let count = u32::try_from(partitions).unwrap_or(1).max(1);
    i32::try_from(crc32c::crc32c(&gateway) % count).unwrap_or(0)
}

impl Cursor {
    /// The record's value for `key`.
    pub(super) fn encode(&self, key: &[u8]) -> Bytes {
        let value = CursorValue {
            next: self.next.0,
            epoch: self.leader_epoch,
            topic_id: hex(&self.topic_id),
            tail: self.tail.map(|tail| format!("{tail:08x}")),
            crc: format!("{:08x}", self.checksum(key)),
        };
        Bytes::from(serde_json::to_vec(&value).expect("strings and integers always encode"))
    }

    /// Reads the value of the record with `key`.
    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, BadCursor> {
        let value: CursorValue =
            serde_json::from_slice(value).map_err(|error| BadCursor(error.to_string()))?;
        let cursor = Self {
            next: Offset(value.next),
            leader_epoch: value.epoch,
            topic_id: unhex(&value.topic_id).ok_or_else(|| BadCursor("topic_id".into()))?,
            tail: value.tail.as_deref().map(parse_crc).transpose()?,
        };
        if cursor.next.0 < 0 {
            return Err(BadCursor(format!("next is {}", cursor.next.0)));
        }
        if parse_crc(&value.crc)? != cursor.checksum(key) {
            return Err(BadCursor("checksum does not match".into()));
        }
        Ok(cursor)
    }

    fn checksum(&self, key: &[u8]) -> u32 {
        let mut crc = crc32c::crc32c(key);
        crc = crc32c::crc32c_append(crc, &self.next.0.to_be_bytes());
        crc = crc32c::crc32c_append(crc, &self.leader_epoch.to_be_bytes());
        crc = crc32c::crc32c_append(crc, &self.topic_id);
        match self.tail {
            Some(tail) => crc32c::crc32c_append(crc, &tail.to_be_bytes()),
            None => crc,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    if text.len() != 32 {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn parse_crc(text: &str) -> Result<u32, BadCursor> {
    u32::from_str_radix(text, 16).map_err(|_| BadCursor(format!("{text:?} is not a checksum")))
}

/// What was read back from the cursor topic: the latest cursor of every partition of this gateway.
#[derive(Debug, Default)]
pub(super) struct CursorTable {
    entries: BTreeMap<Bytes, Result<Cursor, BadCursor>>,
}

impl CursorTable {
    /// Takes in one record, in the order of the log. Other gateways' records are passed over.
    pub(super) fn apply(&mut self, gateway: [u8; 16], key: Option<&Bytes>, value: Option<&Bytes>) {
        let Some(key) = key else { return };
        if !key.starts_with(format!("{KEY_PREFIX}{}/", Uuid(gateway)).as_bytes()) {
            return;
        }
        match value {
            Some(value) => {
                self.entries.insert(key.clone(), Cursor::decode(key, value));
            }
            None => {
                self.entries.remove(key);
            }
        }
    }

    /// Joins what another partition of the cursor topic holds. It only does after that topic was
    /// given more partitions, which moves a gateway's home; the cursor that is further along is
    /// then the later one.
    pub(super) fn merge(&mut self, other: Self) {
        for (key, theirs) in other.entries {
            let ours = self.entries.get(&key);
            let further = match (ours, &theirs) {
                (Some(Ok(ours)), Ok(theirs)) => theirs.next > ours.next,
                (Some(Ok(_)), Err(_)) => false,
                (Some(Err(_)) | None, _) => true,
            };
            if further {
                self.entries.insert(key, theirs);
            }
        }
    }

    /// Notes a cursor that was just committed.
    pub(super) fn set(&mut self, key: Bytes, cursor: Cursor) {
        self.entries.insert(key, Ok(cursor));
    }

    /// The cursor under `key`, if there is one.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Result<Cursor, BadCursor>> {
        self.entries.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: [u8; 16] = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";

    fn cursor(next: i64) -> Cursor {
        Cursor { next: Offset(next), leader_epoch: 3, topic_id: [0xab; 16], tail: Some(0xdead) }
    }

    #[test]
    fn keys_and_values_are_readable_text() {
        let key = key(GATEWAY, "readings", 2);
        assert_eq!(&key[..], b"headwater/1/00112233-4455-6677-8899-aabbccddeeff/readings/2");
        let value = cursor(1042).encode(&key);
        let text = std::str::from_utf8(&value).unwrap();
        assert!(
            text.starts_with(&format!(
                r#"{{"next":1042,"epoch":3,"topic_id":"{}","tail":"0000dead","crc":""#,
                "ab".repeat(16)
            )),
            "{text}"
        );
    }

    #[test]
    fn a_cursor_reads_back_as_written() {
        let key = key(GATEWAY, "t", 0);
        for tail in [None, Some(0), Some(u32::MAX)] {
            for next in [0, 1, i64::MAX] {
                let cursor = Cursor { tail, ..cursor(next) };
                assert_eq!(Cursor::decode(&key, &cursor.encode(&key)), Ok(cursor));
            }
        }
    }

    #[test]
    fn every_altered_byte_is_noticed() {
        let key = key(GATEWAY, "t", 0);
        let value = cursor(1042).encode(&key);
        for index in 0..value.len() {
            for flip in [1, 0x20, 0x80] {
                let mut damaged = value.to_vec();
                damaged[index] ^= flip;
                // Hex digits may change case without changing the number.
                if let Ok(read) = Cursor::decode(&key, &damaged) {
                    assert_eq!(read, cursor(1042), "byte {index} ^ {flip:#x}");
                }
            }
        }
        let other = super::key(GATEWAY, "t", 1);
        assert!(Cursor::decode(&other, &value).is_err(), "the value belongs to its key");
        for hostile in [&b""[..], b"null", b"[]", b"{}", br#"{"next":-1}"#, &[0xff; 64]] {
            assert!(Cursor::decode(&key, hostile).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn the_table_keeps_the_latest_and_only_ours() {
        let (mine, other) = (key(GATEWAY, "t", 0), key([9; 16], "t", 0));
        let mut table = CursorTable::default();
        table.apply(GATEWAY, Some(&mine), Some(&cursor(1).encode(&mine)));
        table.apply(GATEWAY, Some(&other), Some(&cursor(7).encode(&other)));
        table.apply(GATEWAY, None, Some(&Bytes::from_static(b"x")));
        table.apply(GATEWAY, Some(&mine), Some(&cursor(2).encode(&mine)));
        assert_eq!(table.get(&mine), Some(&Ok(cursor(2))));
        assert_eq!(table.get(&other), None);
        table.apply(GATEWAY, Some(&mine), Some(&Bytes::from_static(b"junk")));
        assert!(matches!(table.get(&mine), Some(Err(_))), "junk is not silently an absent cursor");
        table.apply(GATEWAY, Some(&mine), None);
        assert_eq!(table.get(&mine), None);
    }

    #[test]
    fn merging_takes_the_cursor_that_is_further_along() {
        let key = key(GATEWAY, "t", 0);
        let table = |next: Option<i64>| {
            let mut table = CursorTable::default();
            if let Some(next) = next {
                table.apply(GATEWAY, Some(&key), Some(&cursor(next).encode(&key)));
            }
            table
        };
        for (ours, theirs, expect) in
            [(Some(5), Some(9), 9), (Some(9), Some(5), 9), (None, Some(4), 4), (Some(4), None, 4)]
        {
            let mut merged = table(ours);
            merged.merge(table(theirs));
            assert_eq!(merged.get(&key), Some(&Ok(cursor(expect))), "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn homes_are_spread_and_in_range() {
        let id =
            |seed: u128| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834).to_be_bytes();
        let homes: std::collections::BTreeSet<_> =
            (0..64).map(|seed| home_partition(id(seed), 8)).collect();
        assert!(homes.len() > 4 && homes.iter().all(|home| (0..8).contains(home)), "{homes:?}");
        for odd in [0, -1, 1] {
            assert_eq!(home_partition(GATEWAY, odd), 0);
        }
    }
}
