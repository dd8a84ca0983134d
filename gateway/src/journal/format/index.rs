//! Header and frame of a chunk in a segment's index file.

use super::{super::Position, ALIGN, FORMAT_VERSION, Seed, align_up, field::field};

/// Length of a chunk's header.
pub(crate) const CHUNK_HEADER_BYTES: usize = 88;
/// Length of what the last block of a chunk ends with.
pub(crate) const CHUNK_TRAILER_BYTES: usize = 8;

const MAGIC: [u8; 8] = *b"HWindx\r\n";
const CRC_AT: usize = 84;
const SEALED: u16 = 1;
const DATA: u16 = 2;

/// Header of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkHeader {
    /// Whether the segment was left here, so that the chunk has a summary.
    pub(crate) sealed: bool,
    /// Whether the segment holds a batch or a fact before `to`.
    pub(crate) data: bool,
    pub(crate) payload_bytes: u32,
    /// Place in the file.
    pub(crate) at: u64,
    /// The segment's.
    pub(crate) sequence: u64,
    /// The segment's.
    pub(crate) first: Position,
    pub(crate) from: Position,
    pub(crate) to: Position,
    pub(crate) last_frame: Position,
    pub(crate) last_crc: u32,
    pub(crate) payload_crc: u32,
    pub(crate) open_ms: u64,
}

impl ChunkHeader {
    /// Bytes that the chunk takes in the file.
    pub(crate) fn length(&self) -> u64 {
        let content = CHUNK_HEADER_BYTES as u64 + u64::from(self.payload_bytes);
        align_up(content + CHUNK_TRAILER_BYTES as u64)
    }

    /// A whole chunk. Length and CRC of the payload in the header are filled in.
    pub(crate) fn encode(mut self, seed: Seed, payload: &[u8]) -> (Self, Vec<u8>) {
        self.payload_bytes = u32::try_from(payload.len()).expect("an index is below 4 GiB");
        self.payload_crc = seed.crc_at(Position(self.at), payload);
        let length = usize::try_from(self.length()).expect("fits in memory");
        let mut out = Vec::with_capacity(length);
        let flags = u16::from(self.sealed) * SEALED | u16::from(self.data) * DATA;
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.payload_bytes.to_le_bytes());
        for number in
            [self.at, self.sequence, self.first.0, self.from.0, self.to.0, self.last_frame.0]
        {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.last_crc.to_le_bytes());
        out.extend_from_slice(&self.payload_crc.to_le_bytes());
        out.extend_from_slice(&self.open_ms.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let crc = seed.crc(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        debug_assert_eq!(out.len(), CHUNK_HEADER_BYTES);
        out.extend_from_slice(payload);
        out.resize(length - CHUNK_TRAILER_BYTES, 0);
        let length = (length as u32).to_le_bytes();
        out.extend_from_slice(&length);
        out.extend_from_slice(&seed.crc_at(Position(self.at), &length).to_le_bytes());
        (self, out)
    }

    /// Reads a header that claims to live at a place of the file.
    pub(crate) fn decode(header: &[u8; CHUNK_HEADER_BYTES], seed: Seed, at: u64) -> Option<Self> {
        let crc = u32::from_le_bytes(field(header, CRC_AT));
        if header[..8] != MAGIC || crc != seed.crc(&header[..CRC_AT]) {
            return None;
        }
        let u64_at = |at| u64::from_le_bytes(field(header, at));
        let flags = u16::from_le_bytes(field(header, 10));
        let decoded = Self {
            sealed: flags & SEALED != 0,
            data: flags & DATA != 0,
            payload_bytes: u32::from_le_bytes(field(header, 12)),
            at: u64_at(16),
            sequence: u64_at(24),
            first: Position(u64_at(32)),
            from: Position(u64_at(40)),
            to: Position(u64_at(48)),
            last_frame: Position(u64_at(56)),
            last_crc: u32::from_le_bytes(field(header, 64)),
            payload_crc: u32::from_le_bytes(field(header, 68)),
            open_ms: u64_at(72),
        };
        let version = u16::from_le_bytes(field(header, 8));
        (version == FORMAT_VERSION && decoded.at == at).then_some(decoded)
    }

    /// Where the last chunk of a file begins, by the last bytes of the file.
    pub(crate) fn last_at(
        trailer: [u8; CHUNK_TRAILER_BYTES],
        seed: Seed,
        file_bytes: u64,
    ) -> Option<u64> {
        let length: [u8; 4] = field(&trailer, 0);
        let at = file_bytes.checked_sub(u64::from(u32::from_le_bytes(length)))?;
        let crc = u32::from_le_bytes(field(&trailer, 4));
        (at.is_multiple_of(ALIGN) && crc == seed.crc_at(Position(at), &length)).then_some(at)
    }
}
