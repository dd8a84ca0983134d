//! What things are addressed by: partitions, offsets, journal positions.

/// Identity of a partition in the journal; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u32);

/// Kafka offset within a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

/// Byte address in the journal; never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// The address so many bytes further on.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }

    /// Whether it lies in a cold segment: those have addresses of their own.
    pub(super) const fn is_cold(self) -> bool {
        self.0 >= COLD_BIT
    }

    /// Address of a cold segment's header.
    pub(super) const fn of_cold(sequence: u64) -> Self {
        Self(COLD_BIT | (sequence << COLD_PLACE_BITS))
    }

    /// Sequence of the cold segment that it lies in.
    pub(super) const fn cold_sequence(self) -> u64 {
        (self.0 & !COLD_BIT) >> COLD_PLACE_BITS
    }
}

const COLD_BIT: u64 = 1 << 63;
/// A cold segment is shorter than 1 TiB.
const COLD_PLACE_BITS: u32 = 40;
/// The largest sequence that has an address.
pub(super) const MAX_COLD_SEQUENCE: u64 = (1 << (63 - COLD_PLACE_BITS)) - 1;
