//! Why bytes are not a batch, or a batch not readable.

use super::Compression;

/// Why bytes are not a batch, or a batch not readable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Fewer bytes than the fixed header.
    #[error("{0} bytes are shorter than a batch header")]
    Short(usize),
    /// A message format before Kafka 0.11, or none at all.
    #[error("message format (magic) {0} is not 2")]
    Magic(u8),
    /// The length field promises more bytes than there are, or fewer than a header.
    #[error("the batch declares {declared} bytes, {available} are there")]
    Length {
        /// Declared, all of the batch.
        declared: i64,
        /// There are.
        available: usize,
    },
    /// More bytes after the batch: another batch, or rubbish.
    #[error("{0} bytes follow the batch where exactly one batch is allowed")]
    Trailing(usize),
    /// CRC-32C of attributes to end differs.
    #[error("batch CRC is {computed:08x}, its header says {stored:08x}")]
    Crc {
        /// In the header.
        stored: u32,
        /// Over the bytes.
        computed: u32,
    },
    /// Compression bits that no codec has.
    #[error("compression type {0} is not known")]
    Compression(u8),
    /// The count is not last offset delta + 1, not positive, or more than the bytes can hold.
    #[error("{count} records with last offset delta {last_offset_delta} cannot be")]
    Count {
        /// Record count.
        count: i32,
        /// Last offset delta.
        last_offset_delta: i32,
    },
    /// A producer id without epoch or sequence.
    #[error("producer {producer_id} has epoch {epoch} and sequence {sequence}")]
    Producer {
        /// Producer id.
        producer_id: i64,
        /// Producer epoch.
        epoch: i16,
        /// First sequence.
        sequence: i32,
    },
    /// A base offset that is negative or so large that the last offset overflows.
    #[error("base offset {0} is not possible")]
    Offset(i64),
    /// The compressed block is damaged.
    #[error("{codec} block is damaged: {reason}")]
    Decompress {
        /// Codec.
        codec: Compression,
        /// What the codec says.
        reason: String,
    },
    /// Decompressing would pass the bound.
    #[error("records take more than the {limit} bytes allowed when decompressed")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
    /// A control batch that is none.
    #[error("control batch {0}")]
    Control(&'static str),
    /// A record is malformed.
    #[error("record {index}: {what}")]
    Record {
        /// Index in the batch.
        index: i32,
        /// What is wrong.
        what: &'static str,
    },
}
