//! Frame header: one group commit.

use super::{
    super::{ClockQuality, Position},
    ALIGN, FORMAT_VERSION, Seed, align_up,
    field::field,
};

/// Length of a frame's header.
pub(crate) const FRAME_HEADER_BYTES: usize = 64;

const MAGIC: [u8; 4] = *b"HWfr";
const CRC_AT: usize = 60;

/// Why a frame was written. Numbers are on disk and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    /// A group commit.
    Commit = 0,
    /// First frame of an opening: a barrier, and the entries of the frame that nothing proved durable.
    Opening = 1,
}

/// Header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    /// Bytes of the entries after the header, without the padding to whole blocks.
    pub(crate) entries_bytes: u32,
    /// Where the frame lives.
    pub(crate) position: Position,
    /// Header CRC of the frame before, 0 for the first of a journal: the chain.
    pub(crate) previous_crc: u32,
    /// Number of entries.
    pub(crate) entry_count: u32,
    /// CRC over the CRC fields of the entries: the header pins all that follows it.
    pub(crate) entries_crc: u32,
    /// Unix time of the commit, ms.
    pub(crate) append_time_ms: i64,
    /// How far that time can be trusted.
    pub(crate) clock_quality: ClockQuality,
    /// Milliseconds that the journal has been open since it was created, by the monotonic clock.
    pub(crate) open_ms: u64,
}

impl FrameHeader {
    /// Bytes of the whole frame on disk.
    pub(crate) fn length(&self) -> u64 {
        Self::length_for(self.entries_bytes as usize)
    }

    /// Bytes of a frame with so many bytes of entries.
    pub(crate) const fn length_for(entries_bytes: usize) -> u64 {
        align_up((FRAME_HEADER_BYTES + entries_bytes) as u64)
    }

    /// Encodes the header; the CRC at its end is the next frame's `previous_crc`.
    pub(crate) fn encode(&self, seed: Seed) -> [u8; FRAME_HEADER_BYTES] {
        let length = u32::try_from(self.length()).expect("a frame is smaller than a segment");
        let mut out = [0; FRAME_HEADER_BYTES];
        out[0..4].copy_from_slice(&MAGIC);
        out[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[6] = self.kind as u8;
        out[7] = self.clock_quality as u8;
        out[8..12].copy_from_slice(&length.to_le_bytes());
        out[12..16].copy_from_slice(&self.entries_bytes.to_le_bytes());
        out[16..24].copy_from_slice(&self.position.0.to_le_bytes());
        out[24..28].copy_from_slice(&self.previous_crc.to_le_bytes());
        out[28..32].copy_from_slice(&self.entry_count.to_le_bytes());
        out[32..40].copy_from_slice(&self.append_time_ms.to_le_bytes());
        out[40..48].copy_from_slice(&self.open_ms.to_le_bytes());
        out[48..52].copy_from_slice(&self.entries_crc.to_le_bytes());
        let crc = seed.crc(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header that claims to live at `position`; with its CRC. None: these bytes are no
    /// frame of this journal at this place.
    pub(crate) fn decode(
        header: &[u8; FRAME_HEADER_BYTES],
        seed: Seed,
        position: Position,
    ) -> Option<(Self, u32)> {
        if header[0..4] != MAGIC {
            return None;
        }
        let crc = u32::from_le_bytes(field(header, CRC_AT));
        if crc != seed.crc(&header[..CRC_AT]) {
            return None;
        }
        let kind = match header[6] {
            0 => FrameKind::Commit,
            1 => FrameKind::Opening,
            _ => return None,
        };
        let decoded = Self {
            kind,
            clock_quality: ClockQuality::from_number(header[7]),
            entries_bytes: u32::from_le_bytes(field(header, 12)),
            position: Position(u64::from_le_bytes(field(header, 16))),
            previous_crc: u32::from_le_bytes(field(header, 24)),
            entry_count: u32::from_le_bytes(field(header, 28)),
            append_time_ms: i64::from_le_bytes(field(header, 32)),
            open_ms: u64::from_le_bytes(field(header, 40)),
            entries_crc: u32::from_le_bytes(field(header, 48)),
        };
        let length = u32::from_le_bytes(field(header, 8));
        let holds = u16::from_le_bytes(field(header, 4)) == FORMAT_VERSION
            && (decoded.position == position || planted!(IgnorePosition))
            && u64::from(length) == decoded.length()
            && position.0.is_multiple_of(ALIGN);
        holds.then_some((decoded, crc))
    }

    /// Whether the bytes begin as a frame of any journal.
    pub(crate) fn has_magic(header: &[u8; FRAME_HEADER_BYTES]) -> bool {
        header[0..4] == MAGIC
    }

    /// The position that a header claims, unverified.
    pub(crate) fn position_of(header: &[u8; FRAME_HEADER_BYTES]) -> Option<Position> {
        Self::has_magic(header).then(|| Position(u64::from_le_bytes(field(header, 16))))
    }

    /// The CRC of an encoded header.
    pub(crate) fn crc_of(header: &[u8; FRAME_HEADER_BYTES]) -> u32 {
        u32::from_le_bytes(field(header, CRC_AT))
    }
}
