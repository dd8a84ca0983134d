//! RecordBatch v2 (Kafka's message format, magic 2): our own reader and writer.
//!
//! A [`Batch`] is validated bytes: header, length, CRC-32C and counts were checked, records were not decoded.
//! Knows nothing of topics, offsets' meaning, files or sockets.
//!
//! Every byte may come from a hostile peer: counts and lengths are checked against the bytes that are
//! there before memory is reserved, decompression has a bound that the caller sets, and any input gives
//! a [`BatchError`], never a panic.
//!
//! ```text
//!  0 base offset      i64  \ outside the CRC: whoever stores the batch stamps
//!  8 length           i32  | both offset and leader epoch without touching it
//! 12 leader epoch     i32  |
//! 16 magic            i8 2 |
//! 17 CRC-32C          u32  /
//! 21 attributes       i16    bits 0-2 compression, 3 log append time, 4 transactional, 5 control
//! 23 last offset delta i32
//! 27 base timestamp   i64
//! 35 max timestamp    i64
//! 43 producer id      i64
//! 51 producer epoch   i16
//! 53 base sequence    i32
//! 57 record count     i32
//! 61 records, compressed as one block
//! ```

mod batch;
mod builder;
mod compression;
mod control;
mod error;
mod header;
mod records;
#[cfg(test)]
mod tests;
mod varint;

pub use batch::Batch;
pub use builder::BatchBuilder;
pub use compression::Compression;
pub use control::{TransactionMarker, TransactionOutcome};
pub use error::BatchError;
pub(crate) use header::TRANSACTIONAL_BIT;
pub use header::{BatchHeader, HEADER_BYTES};
pub use records::{Record, Records};
