//! Segment header: the first block of a segment file.

use super::{super::Position, ALIGN, FORMAT_VERSION, JournalId, field::field};

/// The block that a segment's header takes, before its first frame.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = ALIGN;

const MAGIC: [u8; 8] = *b"HWjrnl\r\n";
/// Bytes of one copy.
const COPY_BYTES: usize = 80;
/// Two copies in different 512 B sectors of the block: one bad sector does not take the header.
const COPIES_AT: [usize; 2] = [0, 2048];
const CRC_AT: usize = COPY_BYTES - 4;

/// Identity and place of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) journal: JournalId,
    /// Counts segments, never reused.
    pub(crate) sequence: u64,
    /// Address of the header's first byte; the first frame follows one block later.
    pub(crate) first: Position,
    /// Addresses that belong to the segment, header included.
    pub(crate) length: u64,
    /// Where the log before this segment ends: addresses from here up to `first` are void.
    pub(crate) previous_end: Position,
    /// Header CRC of the last frame before `previous_end`, 0 if there is none.
    pub(crate) previous_crc: u32,
    /// `storage.max_bytes` when the segment was begun.
    pub(crate) max_bytes: u64,
}

/// Why a block is not a segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Neither copy is intact.
    Unreadable,
    /// Intact, of a later format.
    Version(u16),
}

impl SegmentHeader {
    /// First address past the segment.
    pub(crate) fn end(&self) -> Position {
        self.first.plus(self.length)
    }

    /// Address of the first frame.
    pub(crate) fn frames(&self) -> Position {
        self.first.plus(SEGMENT_HEADER_BYTES)
    }

    /// The whole first block.
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES as usize] {
        let mut copy = [0; COPY_BYTES];
        copy[0..8].copy_from_slice(&MAGIC);
        copy[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        copy[12..16].copy_from_slice(&self.previous_crc.to_le_bytes());
        copy[16..32].copy_from_slice(&self.journal.0);
        copy[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        copy[40..48].copy_from_slice(&self.first.0.to_le_bytes());
        copy[48..56].copy_from_slice(&self.length.to_le_bytes());
        copy[56..64].copy_from_slice(&self.previous_end.0.to_le_bytes());
        copy[64..72].copy_from_slice(&self.max_bytes.to_le_bytes());
        let crc = self.journal.seed().crc(&copy[..CRC_AT]);
        copy[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        let mut block = [0; SEGMENT_HEADER_BYTES as usize];
        for at in COPIES_AT {
            block[at..at + COPY_BYTES].copy_from_slice(&copy);
        }
        block
    }

    /// Reads the first intact copy of a segment's first block.
    pub(crate) fn decode(block: &[u8]) -> Result<Self, HeaderError> {
        let mut error = HeaderError::Unreadable;
        for at in COPIES_AT {
            match block.get(at..).and_then(<[u8]>::first_chunk).map(Self::decode_copy) {
                Some(Ok(header)) => return Ok(header),
                Some(Err(HeaderError::Version(version))) => error = HeaderError::Version(version),
                Some(Err(HeaderError::Unreadable)) | None => {}
            }
        }
        Err(error)
    }

    fn decode_copy(copy: &[u8; COPY_BYTES]) -> Result<Self, HeaderError> {
        let journal = JournalId(field(copy, 16));
        let crc = u32::from_le_bytes(field(copy, CRC_AT));
        if copy[0..8] != MAGIC || crc != journal.seed().crc(&copy[..CRC_AT]) {
            return Err(HeaderError::Unreadable);
        }
        let version = u16::from_le_bytes(field(copy, 8));
        if version != FORMAT_VERSION {
            return Err(HeaderError::Version(version));
        }
        let header = Self {
            journal,
            sequence: u64::from_le_bytes(field(copy, 32)),
            first: Position(u64::from_le_bytes(field(copy, 40))),
            length: u64::from_le_bytes(field(copy, 48)),
            previous_end: Position(u64::from_le_bytes(field(copy, 56))),
            previous_crc: u32::from_le_bytes(field(copy, 12)),
            max_bytes: u64::from_le_bytes(field(copy, 64)),
        };
        let sane = header.first.0.checked_add(header.length).is_some()
            && header.length > SEGMENT_HEADER_BYTES
            && header.previous_end <= header.first;
        if sane { Ok(header) } else { Err(HeaderError::Unreadable) }
    }
}
