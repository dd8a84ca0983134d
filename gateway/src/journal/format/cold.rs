//! Header of a cold segment: the first block of its file.

use super::{super::Position, ALIGN, FORMAT_VERSION, JournalId, field::field};

/// The block that the header takes, before the first entry.
pub(crate) const COLD_HEADER_BYTES: u64 = ALIGN;

const MAGIC: [u8; 8] = *b"HWcold\r\n";
/// Bytes of one copy.
const COPY_BYTES: usize = 80;
/// Two copies, as in a segment's header.
const COPIES_AT: [usize; 2] = [0, 2048];
const CRC_AT: usize = COPY_BYTES - 4;

/// Identity of a cold segment, and what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColdHeader {
    pub(crate) journal: JournalId,
    /// Counts cold segments.
    pub(crate) sequence: u64,
    /// First of the positions of the log that it replaced.
    pub(crate) from: Position,
    /// One past the last of them.
    pub(crate) to: Position,
    /// Place in the file behind the last entry.
    pub(crate) end: u64,
    /// Ms of open journal when the youngest of its data left its segment.
    pub(crate) settled_ms: u64,
}

impl ColdHeader {
    /// The whole first block.
    pub(crate) fn encode(&self) -> [u8; COLD_HEADER_BYTES as usize] {
        let mut copy = [0; COPY_BYTES];
        copy[0..8].copy_from_slice(&MAGIC);
        copy[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        copy[16..32].copy_from_slice(&self.journal.0);
        let numbers = [self.sequence, self.from.0, self.to.0, self.end, self.settled_ms];
        for (number, place) in numbers.into_iter().zip(copy[32..72].chunks_exact_mut(8)) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let crc = self.journal.seed().crc(&copy[..CRC_AT]);
        copy[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        let mut block = [0; COLD_HEADER_BYTES as usize];
        for at in COPIES_AT {
            block[at..at + COPY_BYTES].copy_from_slice(&copy);
        }
        block
    }

    /// Reads the first intact copy of a first block.
    pub(crate) fn decode(block: &[u8]) -> Option<Self> {
        let copies = COPIES_AT.into_iter().filter_map(|at| block.get(at..)?.first_chunk());
        copies.into_iter().find_map(Self::decode_copy)
    }

    fn decode_copy(copy: &[u8; COPY_BYTES]) -> Option<Self> {
        let journal = JournalId(field(copy, 16));
        let crc = u32::from_le_bytes(field(copy, CRC_AT));
        let version = u16::from_le_bytes(field(copy, 8));
        let known = copy[0..8] == MAGIC && crc == journal.seed().crc(&copy[..CRC_AT]);
        if !known || version != FORMAT_VERSION {
            return None;
        }
        let number = |at| u64::from_le_bytes(field(copy, at));
        Some(Self {
            journal,
            sequence: number(32),
            from: Position(number(40)),
            to: Position(number(48)),
            end: number(56),
            settled_ms: number(64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_the_format_says() {
        let header = ColdHeader {
            journal: JournalId(*b"0123456789abcdef"),
            sequence: 7,
            from: Position(0x1000),
            to: Position(0x3000),
            end: 0x1234,
            settled_ms: 99,
        };
        let block = header.encode();
        assert_eq!(&block[..10], b"HWcold\r\n\x01\x00");
        assert_eq!(&block[16..32], b"0123456789abcdef");
        assert_eq!(block[32..40], 7u64.to_le_bytes());
        assert_eq!(block[40..48], 0x1000u64.to_le_bytes());
        assert_eq!(block[48..56], 0x3000u64.to_le_bytes());
        assert_eq!(block[56..64], 0x1234u64.to_le_bytes());
        assert_eq!(block[64..72], 99u64.to_le_bytes());
        assert_eq!(block[..80], block[2048..2128]);
        assert_eq!(ColdHeader::decode(&block), Some(header));
        // Either copy will do, and no bit of both may be wrong.
        for bit in 0..80 * 8 {
            let mut one = block;
            one[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ColdHeader::decode(&one), Some(header));
            one[2048 + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ColdHeader::decode(&one), None, "{bit}");
        }
    }
}
