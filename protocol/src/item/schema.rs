//! SCHEMA: one channel per item, and the hash over all of them.

use super::{CHANNELS_MAX, Malformed};
use crate::wire::{Reader, Writer};

/// Identity of a set of channel descriptors: FNV-1a, 64 bits, over their encodings in order (see [`SchemaHash::of`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SchemaHash(pub u64);

/// One measured quantity. A code `c` means `c * mantissa * 10^exponent` in `unit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel<'a> {
    /// 1 to 32 bytes of `[A-Za-z0-9._-]`.
    pub name: &'a str,
    /// 0 to 16 bytes of UTF-8 without control characters.
    pub unit: &'a str,
    /// Scale's mantissa, not 0.
    pub mantissa: i32,
    /// Scale's decimal exponent, -30 to 30.
    pub exponent: i8,
    /// Bits of the codes, sign included, 1 to 32.
    pub width_bits: u8,
    /// Nominal time between readings, microseconds; 0 = irregular.
    pub period_us: u32,
}

/// The body of SCHEMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schema<'a> {
    /// Hash over all channels of the schema.
    pub hash: SchemaHash,
    /// This channel's place, below `count`.
    pub index: u8,
    /// Number of channels, 1 to [`CHANNELS_MAX`].
    pub count: u8,
    /// The channel.
    pub channel: Channel<'a>,
}

impl SchemaHash {
    /// The hash of a schema: over {count u8}, then per channel its encoding as in the SCHEMA body. Both ends compute it.
    #[must_use]
    pub fn of(channels: &[Channel<'_>]) -> Self {
        let mut hash = Fnv::new();
        hash.update(&[channels.len() as u8]);
        for channel in channels {
            let mut buffer = [0; Channel::LEN_MAX];
            let mut out = Writer::new(&mut buffer);
            channel.write(&mut out);
            let len = out.finish().unwrap_or(0);
            hash.update(buffer.get(..len).unwrap_or_default());
        }
        Self(hash.0)
    }
}

struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

impl Channel<'_> {
    /// Longest encoding, bytes.
    pub const LEN_MAX: usize = (1 + 32) + (1 + 16) + 5 + 1 + 1 + 5;

    fn write(&self, out: &mut Writer<'_>) {
        let _ = out;
        todo!()
    }
}

impl<'a> Schema<'a> {
    /// Longest body, bytes.
    pub const LEN_MAX: usize = 8 + 1 + 1 + Channel::LEN_MAX;

    /// Takes a body apart.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let _ = (Reader::new(body), CHANNELS_MAX);
        todo!()
    }

    /// Writes the body; `None` when `out` is too short, [`Self::LEN_MAX`] suffices.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        todo!("{out:?}")
    }
}
