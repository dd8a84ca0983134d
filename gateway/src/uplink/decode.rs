//! From stored batches to the records that are sent. Pure: bytes in, records out; called on a
//! blocking thread.

use bytes::Bytes;

use crate::{
    broker::Fetched,
    journal::Offset,
    record::{Batch, Record},
};

/// What one stored batch may grow to when it is decompressed. A batch within `max.message.bytes`
/// that is not an attack stays far below; one above stops its partition with an error instead of
/// taking the gateway's memory.
const MAX_DECOMPRESSED_BYTES: usize = 32 * 1024 * 1024;

/// What a record takes in memory beside key, value and headers, here and in the client's queue.
/// Counted, so that a transaction of small records stays within its bound.
const RECORD_OVERHEAD_BYTES: usize = 128;

/// Which records of the batches are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    /// First offset that is wanted; earlier ones in the same batch were sent before.
    pub(super) from: Offset,
    /// One past the last offset that may be sent: the end of the stable part.
    pub(super) until: Offset,
    /// Stop once the records take so much; at least one is taken.
    pub(super) max_bytes: usize,
    /// Stop after so many records.
    pub(super) max_records: usize,
}

/// Records in order, and how far they reach.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// The records.
    pub(super) records: Vec<Record>,
    /// Offset to go on from; past batches that hold nothing to send as well.
    pub(super) next: Option<Offset>,
    /// Estimated size of the records in a transaction.
    pub(super) bytes: usize,
    /// Why what comes at `next` cannot be sent; none if it was merely not wanted.
    pub(super) blocked: Option<String>,
}

/// Decodes what `slice` wants of what was committed.
pub(super) fn decode(fetched: &Fetched, slice: Slice) -> Decoded {
    let mut decoded = Decoded::default();
    for bytes in &fetched.batches {
        let batch = match Batch::parse_stored(bytes.clone()) {
            Ok(batch) => batch,
            Err(error) => {
                decoded.blocked = Some(format!("a stored batch is damaged: {error}"));
                return decoded;
            }
        };
        let is_visible = fetched.is_visible(&batch.header());
        if !decoded.take(&batch, is_visible, slice) {
            return decoded;
        }
    }
    decoded
}

impl Decoded {
    /// Takes what is wanted of one batch; false when nothing more is.
    fn take(&mut self, batch: &Batch, is_visible: bool, slice: Slice) -> bool {
        let header = batch.header();
        let end = Offset(header.base_offset + i64::from(header.last_offset_delta) + 1);
        if header.base_offset >= slice.until.0 {
            return false;
        }
        if !is_visible {
            self.next = Some(end);
            return true;
        }
        let mut undecodable = |error| {
            self.blocked = Some(format!(
                "the batch at offset {} does not decode: {error}",
                header.base_offset
            ));
        };
        let records = match batch.iter(MAX_DECOMPRESSED_BYTES) {
            Ok(records) => records,
            Err(error) => {
                undecodable(error);
                return false;
            }
        };
        for record in records {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    undecodable(error);
                    return false;
                }
            };
            if record.offset < slice.from.0 {
                continue;
            }
            let full = self.bytes >= slice.max_bytes && !self.records.is_empty();
            if full || self.records.len() >= slice.max_records || record.offset >= slice.until.0 {
                return false;
            }
            self.bytes += size(&record);
            self.next = Some(Offset(record.offset + 1));
            self.records.push(record);
        }
        self.next = Some(end);
        true
    }
}

fn size(record: &Record) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len) + 2)
        .sum();
    RECORD_OVERHEAD_BYTES
        + headers
        + record.key.as_ref().map_or(0, Bytes::len)
        + record.value.as_ref().map_or(0, Bytes::len)
}

/// CRC-32C over everything that the record says. Two logs that agree on a record's offset and
/// digest are taken for the same log up to there.
pub(super) fn digest(record: &Record) -> u32 {
    let mut crc = crc32c::crc32c(&record.timestamp.to_be_bytes());
    crc = append_field(crc, record.key.as_ref());
    crc = append_field(crc, record.value.as_ref());
    for (name, value) in &record.headers {
        crc = append_field(crc, Some(name));
        crc = append_field(crc, value.as_ref());
    }
    crc
}

/// The length goes first, so that no two different sequences of fields are the same bytes.
fn append_field(crc: u32, field: Option<&Bytes>) -> u32 {
    match field {
        Some(field) => {
            let crc = crc32c::crc32c_append(crc, &(field.len() as u64).to_be_bytes());
            crc32c::crc32c_append(crc, field)
        }
        None => crc32c::crc32c_append(crc, &u64::MAX.to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journal::AbortedRange,
        record::{BatchBuilder, Compression},
    };

    const ALL: Slice = Slice {
        from: Offset(0),
        until: Offset(1_000),
        max_bytes: usize::MAX,
        max_records: usize::MAX,
    };

    /// A batch of records with values of 100 bytes at consecutive offsets.
    fn batch(base: i64, count: i64, compression: Compression) -> Bytes {
        let mut builder = BatchBuilder::compressed(compression);
        for offset in base..base + count {
            let header: &[(&[u8], &[u8])] = &[(b"h", b"1")];
            builder.push(offset * 10, Some(b"key"), Some(&[b'v'; 100]), header);
        }
        builder.finish().unwrap().stamped(base, 0).bytes().clone()
    }

    fn decode(batches: Vec<Bytes>, slice: Slice) -> Decoded {
        super::decode(&Fetched { batches, aborted: Vec::new() }, slice)
    }

    fn with_attributes(batch: &Bytes, attributes: i16) -> Bytes {
        let mut bytes = batch.to_vec();
        bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes.into()
    }

    #[test]
    fn slices_take_what_they_say() {
        let size = RECORD_OVERHEAD_BYTES + 3 + 100 + 4;
        for (slice, offsets, next) in [
            (ALL, 10..20, 20),
            (Slice { from: Offset(13), ..ALL }, 13..20, 20),
            (Slice { until: Offset(17), ..ALL }, 10..17, 17),
            (Slice { until: Offset(15), ..ALL }, 10..15, 15),
            (Slice { max_records: 7, ..ALL }, 10..17, 17),
            (Slice { max_bytes: 1, ..ALL }, 10..11, 11),
            (Slice { max_bytes: 3 * size, ..ALL }, 10..13, 13),
            (Slice { from: Offset(14), max_records: 2, ..ALL }, 14..16, 16),
        ] {
            for codec in [Compression::None, Compression::Zstd, Compression::Lz4] {
                let decoded = decode(vec![batch(10, 5, codec), batch(15, 5, codec)], slice);
                let found: Vec<_> = decoded.records.iter().map(|record| record.offset).collect();
                assert_eq!(found, offsets.clone().collect::<Vec<_>>(), "{slice:?}");
                assert_eq!(
                    (decoded.next, decoded.blocked),
                    (Some(Offset(next)), None),
                    "{slice:?}"
                );
                assert_eq!(decoded.bytes, size * found.len());
            }
        }
    }

    #[test]
    fn nothing_new_moves_nothing() {
        let decoded =
            decode(vec![batch(0, 5, Compression::None)], Slice { until: Offset(0), ..ALL });
        assert_eq!((decoded.next, decoded.records.len()), (None, 0));
        assert_eq!(decode(Vec::new(), ALL).next, None);
    }

    #[test]
    fn control_batches_are_passed_over() {
        let control = with_attributes(&batch(5, 1, Compression::None), 0x30);
        let decoded = decode(vec![batch(0, 5, Compression::None), control], ALL);
        assert_eq!((decoded.records.len(), decoded.next), (5, Some(Offset(6))));
    }

    #[test]
    fn aborted_batches_are_passed_over_and_committed_ones_are_not() {
        let transactional = |base: i64, producer: i64| {
            let built = Batch::parse_stored(batch(base, 5, Compression::None)).unwrap();
            let batch = built.with_producer(producer, 0, 0).unwrap().in_transaction().unwrap();
            batch.stamped(base, 0).bytes().clone()
        };
        let batches = vec![transactional(0, 7), transactional(5, 8), transactional(10, 7)];
        let aborted = vec![AbortedRange {
            producer_id: 7,
            first: Offset(0),
            last: Offset(9),
            has_marker: true,
        }];
        let decoded = super::decode(&Fetched { batches, aborted }, ALL);
        let offsets: Vec<_> = decoded.records.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, (5..15).collect::<Vec<_>>());
        assert_eq!((decoded.next, decoded.blocked), (Some(Offset(15)), None));
    }

    #[test]
    fn what_cannot_be_sent_blocks_after_what_can() {
        let good = batch(0, 5, Compression::None);
        let mut torn = batch(5, 5, Compression::None).to_vec();
        *torn.last_mut().unwrap() ^= 1;
        let unknown_codec = with_attributes(&batch(5, 5, Compression::None), 0x01);
        for (bad, word) in [
            (Bytes::from(torn), "damaged"),
            (Bytes::from_static(b"short"), "damaged"),
            (unknown_codec, "does not decode"),
        ] {
            let decoded = decode(vec![good.clone(), bad], ALL);
            assert_eq!((decoded.records.len(), decoded.next), (5, Some(Offset(5))), "{word}");
            let why = decoded.blocked.unwrap();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn a_batch_that_would_take_all_memory_blocks() {
        let mut builder = BatchBuilder::compressed(Compression::Zstd);
        builder.push(0, None, Some(&vec![0; MAX_DECOMPRESSED_BYTES]), &[]);
        let decoded = decode(vec![builder.finish().unwrap().bytes().clone()], ALL);
        assert!(decoded.blocked.is_some());
    }

    #[test]
    fn digests_differ_by_every_field() {
        let record = Record {
            offset: 1,
            timestamp: 2,
            key: Some("k".into()),
            value: Some("v".into()),
            headers: vec![("h".into(), Some("x".into()))],
        };
        let headers = |headers: &[(&'static str, Option<&'static str>)]| {
            headers
                .iter()
                .map(|(name, value)| (Bytes::from(*name), value.map(Bytes::from)))
                .collect()
        };
        let variants = [
            Record { timestamp: 3, ..record.clone() },
            Record { key: None, ..record.clone() },
            Record { key: Some(Bytes::new()), ..record.clone() },
            Record { key: Some("kv".into()), value: Some(Bytes::new()), ..record.clone() },
            Record { value: None, ..record.clone() },
            Record { headers: headers(&[]), ..record.clone() },
            Record { headers: headers(&[("h", None)]), ..record.clone() },
            Record { headers: headers(&[("hx", Some(""))]), ..record.clone() },
            Record { headers: headers(&[("h", Some("x")), ("h", Some("x"))]), ..record.clone() },
        ];
        let mut digests: Vec<_> = variants.iter().chain([&record]).map(digest).collect();
        assert_eq!(
            digest(&Record { offset: 9, ..record }),
            digests[variants.len()],
            "not the offset"
        );
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), variants.len() + 1);
    }
}
