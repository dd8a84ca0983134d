//! A validated batch.

use bytes::{Bytes, BytesMut};

use super::{
    BatchError, BatchHeader, Compression, HEADER_BYTES, Record, Records,
    header::{
        ATTRIBUTES_AT, COMPRESSION_BITS, CONTROL_BIT, COUNT_AT, CRC_AT, LENGTH_AT, LENGTH_OVERHEAD,
        LOG_APPEND_TIME_BIT, MAGIC, MAGIC_AT, MAX_TIMESTAMP_AT, NO_SEQUENCE, PRODUCER_AT,
        TRANSACTIONAL_BIT,
    },
};

/// One validated RecordBatch v2, bytes verbatim.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Bytes,
    header: BatchHeader,
}

impl Batch {
    /// Parses exactly one batch: magic 2, length = all of `bytes`, CRC-32C, count = last_offset_delta + 1.
    ///
    /// The base offset is not judged: it means nothing before the batch is appended.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let batch = Self::parse_whole(bytes)?;
        batch.header.validate(batch.len() - HEADER_BYTES)?;
        Ok(batch)
    }

    fn parse_whole(bytes: Bytes) -> Result<Self, BatchError> {
        let (batch, rest) = Self::parse_first(bytes)?;
        if rest.is_empty() { Ok(batch) } else { Err(BatchError::Trailing(rest.len())) }
    }

    /// Parses one batch as a log serves it: like [`Batch::parse`], but compaction may have taken records out; and its
    /// offsets must be possible.
    pub fn parse_stored(bytes: Bytes) -> Result<Self, BatchError> {
        let batch = Self::parse_whole(bytes)?;
        let base = batch.header.base_offset;
        let span = i64::from(batch.header.last_offset_delta) + 1;
        if base < 0 || base.checked_add(span).is_none() {
            return Err(BatchError::Offset(base));
        }
        Ok(batch)
    }

    /// Parses the batch at the front of `bytes` and gives back what follows it, as a response to
    /// a fetch holds several; compaction may have taken records out of it.
    pub fn parse_first(mut bytes: Bytes) -> Result<(Self, Bytes), BatchError> {
        let header_bytes =
            bytes.first_chunk::<HEADER_BYTES>().ok_or(BatchError::Short(bytes.len()))?;
        // Before the length: formats 0 and 1 have other fields, but their magic is at this place.
        let magic = header_bytes[MAGIC_AT];
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let total = total_length(header_bytes);
        let length = usize::try_from(total)
            .ok()
            .filter(|length| (HEADER_BYTES..=bytes.len()).contains(length))
            .ok_or(BatchError::Length { declared: total, available: bytes.len() })?;
        let header = BatchHeader::read(header_bytes);
        let stored = stored_crc(header_bytes);
        let rest = bytes.split_off(length);
        let computed = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        if stored != computed {
            return Err(BatchError::Crc { stored, computed });
        }
        header.validate_stored(length - HEADER_BYTES)?;
        Ok((Self { bytes, header }, rest))
    }

    /// The parsed header.
    #[must_use]
    pub fn header(&self) -> BatchHeader {
        self.header
    }

    /// The whole batch, header included.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Length of the whole batch.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Decodes the records, decompressing at most `max_bytes`.
    ///
    /// A decoded record takes up to about 20 times the memory of the smallest record's bytes:
    /// where that matters, use [`Batch::iter`].
    pub fn records(&self, max_bytes: usize) -> Result<Vec<Record>, BatchError> {
        self.iter(max_bytes)?.collect()
    }

    /// Decompresses at most `max_bytes` and decodes record by record. Ends after the first error.
    pub fn iter(&self, max_bytes: usize) -> Result<Records, BatchError> {
        let block = self.bytes.slice(HEADER_BYTES..);
        let block = self.header.compression()?.decompress(block, max_bytes)?;
        Ok(Records::new(&self.header, block))
    }

    /// A copy with another base offset and leader epoch.
    #[must_use]
    pub fn stamped(&self, base_offset: i64, leader_epoch: i32) -> Self {
        let mut bytes = BytesMut::from(self.bytes.as_ref());
        BatchHeader::stamp(&mut bytes, base_offset, leader_epoch);
        Self {
            bytes: bytes.freeze(),
            header: BatchHeader { base_offset, leader_epoch, ..self.header },
        }
    }

    /// A copy in the name of a producer, with a new CRC.
    pub fn with_producer(
        &self,
        producer_id: i64,
        producer_epoch: i16,
        base_sequence: i32,
    ) -> Result<Self, BatchError> {
        self.rewritten(BatchHeader { producer_id, producer_epoch, base_sequence, ..self.header })
    }

    /// A copy that belongs to its producer's transaction, with a new CRC; fails without a producer.
    pub fn in_transaction(&self) -> Result<Self, BatchError> {
        let header = self.header;
        if !header.has_producer() {
            return Err(header.producer_error());
        }
        self.rewritten(BatchHeader { attributes: header.attributes | TRANSACTIONAL_BIT, ..header })
    }

    /// A copy as a broker's control batch: these have a producer, but no sequence.
    pub(super) fn into_control(
        self,
        producer_id: i64,
        producer_epoch: i16,
    ) -> Result<Self, BatchError> {
        let attributes = self.header.attributes | TRANSACTIONAL_BIT | CONTROL_BIT;
        let header = BatchHeader {
            attributes,
            producer_id,
            producer_epoch,
            base_sequence: NO_SEQUENCE,
            ..self.header
        };
        if !header.has_producer() {
            return Err(header.producer_error());
        }
        self.rewritten(header)
    }

    /// A copy with other attributes or another producer.
    /// Without the records that a function does not keep: offsets, times and producer stay as they are. None if it
    /// keeps no record, the batch itself if it keeps all. Decompresses up to `max_bytes`.
    pub fn retain(
        &self,
        max_bytes: usize,
        mut keep: impl FnMut(&Record) -> bool,
    ) -> Result<Option<Self>, BatchError> {
        let mut records = self.iter(max_bytes)?;
        let (mut block, mut count, mut max_timestamp) = (Vec::new(), 0, i64::MIN);
        while let Some(next) = records.next_encoded() {
            let (record, encoded) = next?;
            if keep(&record) {
                block.extend_from_slice(&encoded);
                count += 1;
                max_timestamp = max_timestamp.max(record.timestamp);
            }
        }
        if count == self.header.record_count {
            return Ok(Some(self.clone()));
        }
        if count == 0 {
            return Ok(None);
        }
        let block = self.header.compression()?.compress(block);
        let header = BatchHeader { record_count: count, max_timestamp, ..self.header };
        self.rebuilt(header, &block).map(Some).ok_or(BatchError::TooLarge { limit: max_bytes })
    }

    /// A copy whose records all have this time, a broker's, whatever their producer said.
    #[must_use]
    pub fn appended_at(&self, timestamp_ms: i64) -> Self {
        let attributes = self.header.attributes | LOG_APPEND_TIME_BIT;
        self.timed(BatchHeader { attributes, max_timestamp: timestamp_ms, ..self.header })
    }

    /// A copy whose records have the times that their producer gave them.
    #[must_use]
    pub fn with_create_time(&self) -> Self {
        let attributes = self.header.attributes & !LOG_APPEND_TIME_BIT;
        self.timed(BatchHeader { attributes, ..self.header })
    }

    fn timed(&self, header: BatchHeader) -> Self {
        let block = self.bytes.get(HEADER_BYTES..).unwrap_or_default();
        self.rebuilt(header, block).expect("it is as long as before")
    }

    /// A copy that is compressed in another way. Decompresses up to `max_bytes`.
    pub fn recompressed(
        &self,
        compression: Compression,
        max_bytes: usize,
    ) -> Result<Self, BatchError> {
        let block = self.bytes.slice(HEADER_BYTES..);
        let block = self.header.compression()?.decompress(block, max_bytes)?;
        let attributes = (self.header.attributes & !COMPRESSION_BITS) | compression.bits();
        let header = BatchHeader { attributes, ..self.header };
        // An uncompressed batch says how many records it can hold at most.
        header.validate(block.len())?;
        let block = compression.compress(block.into());
        self.rebuilt(header, &block).ok_or(BatchError::TooLarge { limit: max_bytes })
    }

    /// A copy with other records, and what of the header depends on them; none if it would be too long for a length.
    fn rebuilt(&self, header: BatchHeader, block: &[u8]) -> Option<Self> {
        let length = i32::try_from(HEADER_BYTES + block.len() - LENGTH_OVERHEAD).ok()?;
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + block.len());
        bytes.extend_from_slice(self.bytes.get(..HEADER_BYTES).unwrap_or_default());
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(LENGTH_AT, &length.to_be_bytes());
        put(ATTRIBUTES_AT, &header.attributes.to_be_bytes());
        put(MAX_TIMESTAMP_AT, &header.max_timestamp.to_be_bytes());
        put(COUNT_AT, &header.record_count.to_be_bytes());
        bytes.extend_from_slice(block);
        seal(&mut bytes);
        Some(Self { bytes: bytes.freeze(), header })
    }

    fn rewritten(&self, header: BatchHeader) -> Result<Self, BatchError> {
        header.validate(self.bytes.len() - HEADER_BYTES)?;
        let mut bytes = BytesMut::from(self.bytes.as_ref());
        let attributes = header.attributes.to_be_bytes();
        bytes[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes);
        bytes[PRODUCER_AT..PRODUCER_AT + 8].copy_from_slice(&header.producer_id.to_be_bytes());
        let epoch = header.producer_epoch.to_be_bytes();
        bytes[PRODUCER_AT + 8..PRODUCER_AT + 10].copy_from_slice(&epoch);
        let sequence = header.base_sequence.to_be_bytes();
        bytes[PRODUCER_AT + 10..PRODUCER_AT + 14].copy_from_slice(&sequence);
        seal(&mut bytes);
        Ok(Self { bytes: bytes.freeze(), header })
    }
}

/// Writes the CRC over everything that it covers.
pub(super) fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

/// Length of the whole batch as its header declares it.
fn total_length(header: &[u8; HEADER_BYTES]) -> i64 {
    let mut length = [0; 4];
    length.copy_from_slice(&header[LENGTH_AT..LENGTH_AT + 4]);
    i64::from(i32::from_be_bytes(length)) + LENGTH_OVERHEAD as i64
}

fn stored_crc(header: &[u8; HEADER_BYTES]) -> u32 {
    let mut crc = [0; 4];
    crc.copy_from_slice(&header[CRC_AT..ATTRIBUTES_AT]);
    u32::from_be_bytes(crc)
}
