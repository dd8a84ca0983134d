//! The journal's random identity, which seeds every CRC in it.

use std::fmt;

use super::super::Position;

/// 128 random bits drawn when a journal is created.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JournalId(pub [u8; 16]);

/// Initial value of every CRC-32C of one journal: the CRC-32C of its id.
///
/// Bytes of another journal, or a journal that someone stored as a payload, never pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl JournalId {
    pub(crate) fn seed(self) -> Seed {
        Seed(crc32c::crc32c(&self.0))
    }
}

impl fmt::Debug for JournalId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Seed {
    /// CRC-32C of the bytes, seeded.
    pub(crate) fn crc(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }

    /// CRC-32C of a journal position and the bytes that live there: the same bytes at another
    /// place fail, so a misdirected or swapped block is never taken for the right one.
    pub(crate) fn crc_at(self, position: Position, bytes: &[u8]) -> u32 {
        let position = if planted!(IgnorePosition) { Position(0) } else { position };
        let placed = crc32c::crc32c_append(self.0, &position.0.to_le_bytes());
        crc32c::crc32c_append(placed, bytes)
    }
}
