//! Who and where: device ids, streams and positions in a device's log.

use core::{fmt, num::NonZeroU64};

/// Longest device id, bytes.
const ID_MAX: usize = 32;

/// The name of a device: 1 to 32 bytes of `[a-z0-9._-]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceId {
    len: u8,
    bytes: [u8; ID_MAX],
}

/// The identity of one continuous log: 64 bits drawn by the host, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(NonZeroU64);

/// The place of an item in its stream. Boots count from 1, items of a boot from 0; ordered by boot,
/// then item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The device's persisted boot counter.
    pub boot: u32,
    /// Number of the item within its boot.
    pub item: u64,
}

impl DeviceId {
    /// Checks length and alphabet.
    #[must_use]
    pub fn new(id: &str) -> Option<Self> {
        Self::from_bytes(id.as_bytes())
    }

    /// Checks length and alphabet.
    #[must_use]
    pub fn from_bytes(id: &[u8]) -> Option<Self> {
        let legal = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if id.is_empty() || id.len() > ID_MAX || !id.iter().all(legal) {
            return None;
        }
        let mut bytes = [0; ID_MAX];
        bytes.iter_mut().zip(id).for_each(|(slot, byte)| *slot = *byte);
        Some(Self { len: id.len() as u8, bytes })
    }

    /// The id's bytes, all ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl StreamId {
    /// `None` for 0, which means "no stream" on the wire.
    #[must_use]
    pub const fn new(bits: u64) -> Option<Self> {
        match NonZeroU64::new(bits) {
            Some(bits) => Some(Self(bits)),
            None => None,
        }
    }

    /// The 64 bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for StreamId {
    /// 16 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.bits())
    }
}

impl Position {
    /// Before every item of a stream.
    pub const START: Self = Self { boot: 0, item: 0 };

    /// Names an item.
    #[must_use]
    pub const fn new(boot: u32, item: u64) -> Self {
        Self { boot, item }
    }

    /// The item before this one within the same boot.
    #[must_use]
    pub const fn adjacent(self) -> Option<Self> {
        match self.item.checked_sub(1) {
            Some(item) => Some(Self { boot: self.boot, item }),
            None => None,
        }
    }
}

impl fmt::Display for Position {
    /// `boot/item`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.boot, self.item)
    }
}
