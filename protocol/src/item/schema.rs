//! SCHEMA: one channel per item, and the hash over all of them.

use super::{CHANNELS_MAX, Malformed};
use crate::{
    varint::{unzigzag, zigzag},
    wire::{Reader, Writer},
};

/// Identity of a set of channel descriptors: FNV-1a, 64 bits, over their encodings in order (see
/// [`SchemaHash::of`]).
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
    /// The hash of a schema: over {count u8}, then per channel its encoding as in the SCHEMA body.
    /// Both ends compute it.
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
    pub const LEN_MAX: usize = (1 + NAME_MAX) + (1 + UNIT_MAX) + 5 + 1 + 1 + 5;

    fn write(&self, out: &mut Writer<'_>) {
        out.short_bytes(self.name.as_bytes());
        out.short_bytes(self.unit.as_bytes());
        out.varint(u64::from(zigzag(self.mantissa)));
        out.u8(self.exponent as u8);
        out.u8(self.width_bits);
        out.varint(u64::from(self.period_us));
    }
}

impl<'a> Channel<'a> {
    fn read(body: &mut Reader<'a>) -> Option<Self> {
        let channel = Self {
            name: core::str::from_utf8(body.short_bytes()).ok()?,
            unit: core::str::from_utf8(body.short_bytes()).ok()?,
            mantissa: unzigzag(body.varint_u32()),
            exponent: body.u8() as i8,
            width_bits: body.u8(),
            period_us: body.varint_u32(),
        };
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let sound = matches!(channel.name.len(), 1..=NAME_MAX)
            && channel.name.bytes().all(letter)
            && channel.unit.len() <= UNIT_MAX
            && !channel.unit.chars().any(char::is_control)
            && channel.mantissa != 0
            && channel.exponent.unsigned_abs() <= EXPONENT_MAX
            && matches!(channel.width_bits, 1..=32);
        sound.then_some(channel)
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
        Self::read(Reader::new(body)).ok_or(Malformed)
    }

    fn read(mut body: Reader<'a>) -> Option<Self> {
        let schema = Self {
            hash: SchemaHash(body.u64_le()),
            index: body.u8(),
            count: body.u8(),
            channel: Channel::read(&mut body)?,
        };
        body.require(usize::from(schema.count) <= CHANNELS_MAX && schema.index < schema.count);
        body.end(schema)
    }

    /// Writes the body; `None` when `out` is too short, [`Self::LEN_MAX`] suffices for a legal
    /// channel.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut out = Writer::new(out);
        out.u64_le(self.hash.0);
        out.u8(self.index);
        out.u8(self.count);
        self.channel.write(&mut out);
        out.finish()
    }
}

/// Longest channel name, bytes: it becomes a key of every JSON record.
const NAME_MAX: usize = 32;
/// Longest unit, bytes.
const UNIT_MAX: usize = 16;
/// The SI prefixes end at quetta and quecto.
const EXPONENT_MAX: u8 = 30;
