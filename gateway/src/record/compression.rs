//! The codecs of a batch's records; every output is bounded by its caller.

use std::{fmt, io::Read, io::Write};

use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::BatchError;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy in the framing of the Java library snappy-java ("xerial"); read also unframed.
    Snappy,
    /// One LZ4 frame of independent blocks.
    Lz4,
    /// RFC 8878.
    Zstd,
}

/// Start of xerial's framing: magic, then version and lowest compatible version, both 1.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
/// Block size of snappy-java's streams.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// Snappy's densest element is a copy of 64 bytes in 3.
const SNAPPY_MAX_RATIO: usize = 22;
/// zstd's own default: beyond it ratios grow little and time much.
const ZSTD_LEVEL: i32 = 3;
/// First guess of the decompressed size where a zstd frame does not say it.
const ZSTD_GUESS_BYTES: usize = 16 * 1024;

impl Compression {
    /// From the low three attribute bits.
    pub(super) fn from_bits(bits: u8) -> Result<Self, BatchError> {
        match bits {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            other => Err(BatchError::Compression(other)),
        }
    }

    /// The low three attribute bits.
    pub(super) fn bits(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Decompresses a block to at most `limit` bytes; an uncompressed one is given back as it is.
    pub(super) fn decompress(self, block: Bytes, limit: usize) -> Result<Bytes, BatchError> {
        let decompressed = match self {
            Self::None => return Ok(block),
            Self::Gzip => self.read(flate2::read::MultiGzDecoder::new(block.as_ref()), limit),
            Self::Snappy => self.snappy(&block, limit),
            // The first frame alone, as Java's writer makes it: what follows is not looked at.
            Self::Lz4 => self.read(FrameDecoder::new(block.as_ref()), limit),
            Self::Zstd => self.zstd(&block, limit),
        };
        decompressed.map(Bytes::from)
    }

    /// Compresses a block.
    pub(super) fn compress(self, block: Vec<u8>) -> Vec<u8> {
        match self {
            Self::None => block,
            Self::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder
                    .write_all(&block)
                    .and_then(|()| encoder.finish())
                    .expect("writing to memory does not fail")
            }
            Self::Snappy => xerial(&block),
            Self::Lz4 => {
                // Java's reader knows neither linked blocks nor frames that state their size.
                let info = FrameInfo::new()
                    .block_mode(BlockMode::Independent)
                    .block_size(BlockSize::Max64KB);
                let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(&block).expect("writing to memory does not fail");
                encoder.finish().expect("writing to memory does not fail")
            }
            Self::Zstd => zstd::bulk::compress(&block, ZSTD_LEVEL)
                .expect("zstd compresses any block that fits in memory"),
        }
    }

    fn read(self, decoder: impl Read, limit: usize) -> Result<Vec<u8>, BatchError> {
        let mut out = Vec::new();
        // One byte past the limit tells a full block from one that is cut.
        decoder
            .take(limit as u64 + 1)
            .read_to_end(&mut out)
            .map_err(|error| self.damaged(error))?;
        if out.len() > limit { Err(BatchError::TooLarge { limit }) } else { Ok(out) }
    }

    fn snappy(self, block: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
        let mut out = Vec::new();
        let Some(mut rest) =
            block.get(XERIAL_HEADER_BYTES..).filter(|_| block.starts_with(&XERIAL_MAGIC))
        else {
            self.snappy_block(block, &mut out, limit)?;
            return Ok(out);
        };
        while !rest.is_empty() {
            let (length, after) = rest
                .split_first_chunk::<4>()
                .ok_or_else(|| self.damaged("chunk length is cut off"))?;
            let length = u32::from_be_bytes(*length) as usize;
            let (chunk, after) =
                after.split_at_checked(length).ok_or_else(|| self.damaged("chunk is cut off"))?;
            self.snappy_block(chunk, &mut out, limit)?;
            rest = after;
        }
        Ok(out)
    }

    /// Appends one raw snappy block.
    fn snappy_block(self, block: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), BatchError> {
        let length = snap::raw::decompress_len(block).map_err(|error| self.damaged(error))?;
        // The length is a claim of the peer: it must be one that the bytes could make true.
        if length > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
            return Err(self.damaged("declared length is past what its bytes can hold"));
        }
        let start = out.len();
        let end = start
            .checked_add(length)
            .filter(|end| *end <= limit)
            .ok_or(BatchError::TooLarge { limit })?;
        out.resize(end, 0);
        let written = snap::raw::Decoder::new()
            .decompress(block, &mut out[start..])
            .map_err(|error| self.damaged(error))?;
        out.truncate(start + written);
        Ok(())
    }

    /// Straight into one buffer: a streaming reader would reserve whatever window the frame
    /// declares, up to 128 MiB.
    fn zstd(self, block: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
        let known = zstd::bulk::Decompressor::upper_bound(block);
        if known.is_some_and(|size| size > limit) {
            return Err(BatchError::TooLarge { limit });
        }
        let guess = block.len().saturating_mul(4).max(ZSTD_GUESS_BYTES);
        let mut capacity = known.unwrap_or(guess).min(limit);
        let mut decompressor =
            zstd::bulk::Decompressor::new().map_err(|error| self.damaged(error))?;
        loop {
            let mut out = Vec::with_capacity(capacity);
            match decompressor.decompress_to_buffer(block, &mut out) {
                Ok(_) => return Ok(out),
                // The error does not tell a small buffer from damage by kind: damage is found
                // again at each size, and the sum of all tries is twice the last.
                Err(_) if known.is_none() && capacity < limit => {
                    capacity = capacity.saturating_mul(2).min(limit);
                }
                Err(error) if error.to_string().contains("too small") => {
                    return Err(BatchError::TooLarge { limit });
                }
                Err(error) => return Err(self.damaged(error)),
            }
        }
    }

    fn damaged(self, reason: impl fmt::Display) -> BatchError {
        BatchError::Decompress { codec: self, reason: reason.to_string() }
    }
}

impl fmt::Display for Compression {
    /// Kafka's names, as in `compression.type`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

fn xerial(block: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(XERIAL_HEADER_BYTES + block.len() / 2);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&1u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for chunk in block.chunks(XERIAL_BLOCK_BYTES) {
        let compressed =
            encoder.compress_vec(chunk).expect("a block of 32 KiB is below snappy's limit");
        let length = u32::try_from(compressed.len()).expect("about as long as its block");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    out
}
