//! Records of a batch, decoded one by one.

use bytes::{Buf, Bytes};

use super::{BatchError, BatchHeader, varint};

/// Smallest record: length, attributes, two deltas, two lengths and a header count of a byte each.
pub(super) const MIN_RECORD_BYTES: usize = 7;
/// Smallest record header: a key length and a value length of a byte each.
const MIN_HEADER_BYTES: usize = 2;

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

/// Decodes the records of one batch in order; the first error ends it.
#[derive(Debug)]
pub struct Records {
    block: Bytes,
    base_offset: i64,
    base_timestamp: i64,
    /// All records' timestamp, where a broker set it on append.
    append_timestamp: Option<i64>,
    count: i32,
    next: i32,
    /// Whether no record was taken out.
    dense: bool,
    /// The largest offset delta there may be, and the one before.
    last_delta: i32,
    previous_delta: i32,
}

impl Records {
    pub(super) fn new(header: &BatchHeader, block: Bytes) -> Self {
        Self {
            block,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_timestamp: header.is_log_append_time().then_some(header.max_timestamp),
            count: header.record_count,
            next: 0,
            dense: header.is_dense(),
            last_delta: header.last_offset_delta,
            previous_delta: -1,
        }
    }

    /// The next record with its bytes, length included.
    pub(super) fn next_encoded(&mut self) -> Option<Result<(Record, Bytes), BatchError>> {
        let mut before = self.block.clone();
        let record = self.next()?;
        before.truncate(before.len() - self.block.len());
        Some(record.map(|record| (record, before)))
    }

    fn decode(&mut self, index: i32) -> Result<Record, &'static str> {
        let length = varint::take_i32(&mut self.block).ok_or("length is cut off")?;
        let length = usize::try_from(length).map_err(|_| "length is negative")?;
        if length > self.block.remaining() {
            return Err("length is past the end of the batch");
        }
        let mut body = self.block.split_to(length);
        if !body.has_remaining() {
            return Err("body is empty");
        }
        // Record attributes: no bit has a meaning yet.
        body.advance(1);
        let timestamp_delta = varint::take_i64(&mut body).ok_or("timestamp delta is cut off")?;
        let offset_delta = varint::take_i32(&mut body).ok_or("offset delta is cut off")?;
        if self.dense && offset_delta != index {
            return Err("offset delta is not its index");
        }
        if offset_delta <= self.previous_delta || offset_delta > self.last_delta {
            return Err("offset delta is out of order");
        }
        self.previous_delta = offset_delta;
        let key = take_nullable(&mut body).ok_or("key is cut off")?;
        let value = take_nullable(&mut body).ok_or("value is cut off")?;
        let headers = take_headers(&mut body)?;
        if body.has_remaining() {
            return Err("bytes follow its headers");
        }
        Ok(Record {
            offset: self
                .base_offset
                .checked_add(i64::from(offset_delta))
                .ok_or("offset overflows")?,
            // Wrapping, as the writer's subtraction: exact for any two 64-bit times.
            timestamp: self
                .append_timestamp
                .unwrap_or_else(|| self.base_timestamp.wrapping_add(timestamp_delta)),
            key,
            value,
            headers,
        })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.count {
            return None;
        }
        let index = self.next;
        self.next += 1;
        let mut result = self.decode(index);
        if self.next == self.count && result.is_ok() && self.block.has_remaining() {
            result = Err("bytes follow the last record");
        }
        if result.is_err() {
            self.next = self.count;
        }
        Some(result.map_err(|what| BatchError::Record { index, what }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The header's count is a peer's claim; the bytes bound what can come of it.
        let claimed = usize::try_from(self.count - self.next).unwrap_or(0);
        let most = claimed.min(self.block.remaining() / MIN_RECORD_BYTES + 1);
        (0, Some(most))
    }
}

/// A length and that many bytes; -1 is null. `None` if cut off.
fn take_nullable(input: &mut Bytes) -> Option<Option<Bytes>> {
    match varint::take_i32(input)? {
        -1 => Some(None),
        length => {
            let length = usize::try_from(length).ok().filter(|it| *it <= input.remaining())?;
            Some(Some(input.split_to(length)))
        }
    }
}

fn take_headers(body: &mut Bytes) -> Result<Vec<(Bytes, Option<Bytes>)>, &'static str> {
    let count = varint::take_i32(body)
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| *count <= body.remaining() / MIN_HEADER_BYTES)
        .ok_or("header count is more than its bytes hold")?;
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let key = take_nullable(body).flatten().ok_or("header key is cut off or null")?;
        let value = take_nullable(body).ok_or("header value is cut off")?;
        headers.push((key, value));
    }
    Ok(headers)
}
