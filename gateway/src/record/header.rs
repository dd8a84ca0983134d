//! The fixed header of a batch: parsing, and stamping the two fields outside the CRC.

use super::{BatchError, Compression};

/// Length of the fixed header.
pub const HEADER_BYTES: usize = 61;
/// Bytes before the length field counts: base offset and the length itself.
pub(super) const LENGTH_OVERHEAD: usize = 12;
pub(super) const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
/// The CRC covers everything from here on.
pub(super) const ATTRIBUTES_AT: usize = 21;
pub(super) const PRODUCER_AT: usize = 43;
/// Where the largest timestamp stands.
pub(super) const MAX_TIMESTAMP_AT: usize = 35;
/// Where the number of records stands.
pub(super) const COUNT_AT: usize = 57;
/// In control batches, and in batches without a producer.
pub(super) const NO_SEQUENCE: i32 = -1;
/// The only message format that this gateway speaks.
pub(super) const MAGIC: u8 = 2;

pub(super) const COMPRESSION_BITS: i16 = 0x07;
pub(super) const LOG_APPEND_TIME_BIT: i16 = 0x08;
pub(crate) const TRANSACTIONAL_BIT: i16 = 0x10;
pub(super) const CONTROL_BIT: i16 = 0x20;

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

impl BatchHeader {
    /// Reads the fields of a header; judges none of them. Only as good as its bytes: the CRC is
    /// not looked at.
    #[must_use]
    pub fn read(header: &[u8; HEADER_BYTES]) -> Self {
        Self {
            base_offset: i64::from_be_bytes(field(header, 0)),
            leader_epoch: i32::from_be_bytes(field(header, LEADER_EPOCH_AT)),
            attributes: i16::from_be_bytes(field(header, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: i64::from_be_bytes(field(header, 27)),
            max_timestamp: i64::from_be_bytes(field(header, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(field(header, PRODUCER_AT)),
            producer_epoch: i16::from_be_bytes(field(header, 51)),
            base_sequence: i32::from_be_bytes(field(header, 53)),
            record_count: i32::from_be_bytes(field(header, COUNT_AT)),
        }
    }

    /// Writes base offset and leader epoch into the bytes of a batch; the CRC covers neither.
    /// Does nothing to bytes that are too short for a header.
    pub fn stamp(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
        if let Some((header, _)) = batch.split_first_chunk_mut::<HEADER_BYTES>() {
            header[..LENGTH_AT].copy_from_slice(&base_offset.to_be_bytes());
            header[LEADER_EPOCH_AT..MAGIC_AT].copy_from_slice(&leader_epoch.to_be_bytes());
        }
    }

    /// How the records are compressed.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        Compression::from_bits((self.attributes & COMPRESSION_BITS) as u8)
    }

    /// Whether every record's timestamp is [`BatchHeader::max_timestamp`], set by a broker on append.
    #[must_use]
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch holds a broker's control records (transaction markers), not data.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Whether an idempotent producer wrote it.
    #[must_use]
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// Offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Sequence of the last record: sequences wrap from 2^31 - 1 to 0.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }

    /// The sequence that the producer's next batch begins with.
    #[must_use]
    pub fn next_sequence(&self) -> i32 {
        sequence_after(self.last_sequence(), 1)
    }

    /// Whether every offset of the batch has a record; compaction takes some out.
    pub(super) fn is_dense(&self) -> bool {
        self.last_offset_delta.checked_add(1) == Some(self.record_count)
    }

    /// Checks what does not need the records: compression bits, counts, producer fields.
    pub(super) fn validate(&self, records_bytes: usize) -> Result<(), BatchError> {
        self.validate_stored(records_bytes)?;
        if self.is_dense() { Ok(()) } else { Err(self.count_error()) }
    }

    /// As [`BatchHeader::validate`], for a batch that may have been compacted.
    pub(super) fn validate_stored(&self, records_bytes: usize) -> Result<(), BatchError> {
        let compression = self.compression()?;
        let count_holds = self.record_count >= 1
            && self.last_offset_delta.checked_add(1).is_some_and(|span| span >= self.record_count)
            && (compression != Compression::None
                || self.record_count as usize <= records_bytes / super::records::MIN_RECORD_BYTES);
        if !count_holds {
            return Err(self.count_error());
        }
        // Control batches carry their producer's id and epoch but no sequence.
        if self.has_producer()
            && (self.producer_epoch < 0 || (self.base_sequence < 0 && !self.is_control()))
        {
            return Err(self.producer_error());
        }
        Ok(())
    }

    fn count_error(&self) -> BatchError {
        BatchError::Count { count: self.record_count, last_offset_delta: self.last_offset_delta }
    }

    pub(super) fn producer_error(&self) -> BatchError {
        BatchError::Producer {
            producer_id: self.producer_id,
            epoch: self.producer_epoch,
            sequence: self.base_sequence,
        }
    }
}

/// The sequence `delta` records after `sequence`; 2^31 - 1 is followed by 0.
fn sequence_after(sequence: i32, delta: i32) -> i32 {
    ((i64::from(sequence) + i64::from(delta)) & i64::from(i32::MAX)) as i32
}

/// The fixed-size field at a constant place of the header.
fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}
