//! Builds one batch from records.

use super::{
    Batch, Compression, HEADER_BYTES, Record,
    batch::seal,
    header::{ATTRIBUTES_AT, CRC_AT, LENGTH_OVERHEAD, MAGIC},
    varint,
};

/// Builds one batch from records (no producer id; [`Batch::with_producer`] adds one).
///
/// Records count offsets from 0; the first one's timestamp is the base. Callers close a batch by
/// [`BatchBuilder::len_bytes`]; pushing past 1 GiB panics.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    compression: Compression,
    records: Vec<u8>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// A builder that compresses its records.
    #[must_use]
    pub fn compressed(compression: Compression) -> Self {
        Self { compression, ..Self::default() }
    }

    /// Appends a record; offsets count from 0.
    pub fn push(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], &[u8])],
    ) {
        let headers = headers.iter().map(|(key, value)| (*key, Some(*value)));
        self.encode(timestamp_ms, key, value, headers);
    }

    /// Appends a decoded record of another batch: everything but its offset is kept, headers without a value too.
    pub fn push_record(&mut self, record: &Record) {
        let headers = record.headers.iter().map(|(key, value)| (&key[..], value.as_deref()));
        self.encode(record.timestamp, record.key.as_deref(), record.value.as_deref(), headers);
    }

    /// Number of records so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Length of the batch if it was finished now, before compression.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// Encodes and validates; `None` when empty.
    #[must_use]
    pub fn finish(self) -> Option<Batch> {
        if self.is_empty() {
            return None;
        }
        let attributes = self.compression.bits();
        let block = self.compression.compress(self.records);
        let total = HEADER_BYTES + block.len();
        let length = i32::try_from(total - LENGTH_OVERHEAD).expect("push keeps it below 2 GiB");

        let mut bytes = Vec::with_capacity(total);
        bytes.extend_from_slice(&0i64.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&(-1i32).to_be_bytes());
        bytes.push(MAGIC);
        debug_assert_eq!(bytes.len(), CRC_AT);
        bytes.extend_from_slice(&[0; ATTRIBUTES_AT - CRC_AT]);
        bytes.extend_from_slice(&attributes.to_be_bytes());
        bytes.extend_from_slice(&(self.count - 1).to_be_bytes());
        bytes.extend_from_slice(&self.base_timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.max_timestamp.to_be_bytes());
        bytes.extend_from_slice(&(-1i64).to_be_bytes());
        bytes.extend_from_slice(&(-1i16).to_be_bytes());
        bytes.extend_from_slice(&(-1i32).to_be_bytes());
        bytes.extend_from_slice(&self.count.to_be_bytes());
        debug_assert_eq!(bytes.len(), HEADER_BYTES);
        bytes.extend_from_slice(&block);
        seal(&mut bytes);
        Some(Batch::parse(bytes.into()).expect("what the writer writes the reader accepts"))
    }

    fn encode<'a>(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp_ms;
            self.max_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        // Wrapping, as the reader's addition: exact for any two 64-bit times.
        let timestamp_delta = timestamp_ms.wrapping_sub(self.base_timestamp);
        let offset_delta = i64::from(self.count);

        let length = 1
            + varint::size(timestamp_delta)
            + varint::size(offset_delta)
            + nullable_size(key)
            + nullable_size(value)
            + varint::size(headers.len() as i64)
            + headers
                .clone()
                .map(|(key, value)| nullable_size(Some(key)) + nullable_size(value))
                .sum::<usize>();
        // Compression may lengthen what does not compress by a fraction of a percent.
        assert!(
            self.records.len().saturating_add(length) <= MAX_RECORDS_BYTES,
            "a batch ends below 1 GiB: its writer closes it by len_bytes"
        );
        varint::put(&mut self.records, length as i64);
        // Record attributes: no bit has a meaning yet.
        self.records.push(0);
        varint::put(&mut self.records, timestamp_delta);
        varint::put(&mut self.records, offset_delta);
        put_nullable(&mut self.records, key);
        put_nullable(&mut self.records, value);
        varint::put(&mut self.records, headers.len() as i64);
        for (key, value) in headers {
            put_nullable(&mut self.records, Some(key));
            put_nullable(&mut self.records, value);
        }
        self.count += 1;
    }
}

fn nullable_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(varint::size(-1), |bytes| varint::size(bytes.len() as i64) + bytes.len())
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => varint::put(out, -1),
    }
}

/// Half of what the format's 32-bit lengths can say.
const MAX_RECORDS_BYTES: usize = 1 << 30;
