//! From stored batches to the records that are sent. Pure: bytes in, records out; called on a blocking thread.

use bytes::Bytes;

use crate::{
    journal::Offset,
    record::{Batch, Record},
};

/// What one stored batch may grow to when it is decompressed. A batch within `max.message.bytes` that is not an attack stays
/// far below; one above stops its partition with an error instead of taking the gateway's memory.
const MAX_DECOMPRESSED_BYTES: usize = 32 * 1024 * 1024;

/// What a record costs in a batch beside key, value and headers; for filling transactions, not exact.
const RECORD_OVERHEAD_BYTES: usize = 16;

/// Attribute bits of a batch.
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

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

/// Decodes what `slice` wants of `batches`.
pub(super) fn decode(batches: Vec<Bytes>, slice: Slice) -> Decoded {
    let mut decoded = Decoded::default();
    for bytes in batches {
        let batch = match Batch::parse(bytes) {
            Ok(batch) => batch,
            Err(error) => {
                decoded.blocked = Some(format!("a stored batch is damaged: {error}"));
                return decoded;
            }
        };
        if !decoded.take(&batch, slice) {
            return decoded;
        }
    }
    decoded
}

impl Decoded {
    /// Takes what is wanted of one batch; false when nothing more is.
    fn take(&mut self, batch: &Batch, slice: Slice) -> bool {
        let header = batch.header();
        let end = Offset(header.base_offset + i64::from(header.last_offset_delta) + 1);
        if header.base_offset >= slice.until.0 {
            return false;
        }
        if header.attributes & CONTROL != 0 {
            self.next = Some(end);
            return true;
        }
        if header.attributes & TRANSACTIONAL != 0 {
            // Whether it was aborted is not known here; sending it could show what nobody committed.
            self.blocked = Some(format!(
                "offset {} belongs to a local transaction, which the uplink does not forward",
                header.base_offset
            ));
            return false;
        }
        let records = match batch.records(MAX_DECOMPRESSED_BYTES) {
            Ok(records) => records,
            Err(error) => {
                self.blocked = Some(format!(
                    "the batch at offset {} does not decode: {error}",
                    header.base_offset
                ));
                return false;
            }
        };
        for record in records {
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

/// CRC-32C over everything that the record says. Two logs that agree on a record's offset and digest are taken for the
/// same log up to there.
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
