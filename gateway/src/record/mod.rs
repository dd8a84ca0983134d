//! RecordBatch v2 (Kafka's message format, magic 2): our own reader and writer.
//!
//! A [`Batch`] is validated bytes: header, length, CRC-32C and counts were checked, records were not decoded.
//! Knows nothing of topics, offsets' meaning, files or sockets.

use bytes::Bytes;

/// One validated RecordBatch v2, bytes verbatim.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Bytes,
}

/// The fixed 61-byte header of a batch, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// First offset; meaningless in a producer's request.
    pub base_offset: i64,
    /// Partition leader epoch.
    pub leader_epoch: i32,
    /// Attribute bits: compression, timestamp type, transactional, control.
    pub attributes: i16,
    /// Offset of the last record relative to the base.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, Unix ms.
    pub base_timestamp: i64,
    /// Largest timestamp, Unix ms.
    pub max_timestamp: i64,
    /// Producer id or -1.
    pub producer_id: i64,
    /// Producer epoch or -1.
    pub producer_epoch: i16,
    /// First sequence number or -1.
    pub base_sequence: i32,
    /// Number of records.
    pub record_count: i32,
}

/// One decoded record, borrowed from its decompressed batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Absolute offset.
    pub offset: i64,
    /// Unix ms.
    pub timestamp: i64,
    /// Key, if any.
    pub key: Option<Bytes>,
    /// Value, if any.
    pub value: Option<Bytes>,
    /// Headers in order; duplicate keys are legal.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Why bytes are not a batch, or a batch not readable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Placeholder until the reader exists.
    #[error("batch is shorter than its header")]
    Short,
}

impl Batch {
    /// Parses exactly one batch: magic 2, length = all of `bytes`, CRC-32C, count = last_offset_delta + 1.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        todo!("record owner: {}", bytes.len())
    }

    /// The parsed header.
    #[must_use]
    pub fn header(&self) -> BatchHeader {
        todo!()
    }

    /// The whole batch, header included.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Decodes the records, decompressing at most `max_bytes`.
    pub fn records(&self, max_bytes: usize) -> Result<Vec<Record>, BatchError> {
        todo!("record owner: {max_bytes}")
    }
}

/// Builds one batch from records (no producer id; `with_producer` may add one).
#[derive(Debug, Default)]
pub struct BatchBuilder {}

impl BatchBuilder {
    /// Appends a record; offsets count from 0.
    pub fn push(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], &[u8])],
    ) {
        todo!("record owner: {timestamp_ms} {key:?} {value:?} {headers:?}")
    }

    /// Number of records so far.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Encodes and validates; `None` when empty.
    #[must_use]
    pub fn finish(self) -> Option<Batch> {
        todo!()
    }
}
