//! BOOT: the first item of every boot.

use super::{Malformed, SchemaHash};
use crate::wire::{Reader, Writer};

/// Why the device started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Not known.
    Unknown,
    /// Power came.
    Power,
    /// The reset line or a requested reset.
    Reset,
    /// The watchdog.
    Watchdog,
    /// A panic or a processor fault.
    Panic,
    /// Supply voltage too low.
    BrownOut,
    /// A cause of a newer version.
    Other(u8),
}

/// The body of BOOT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Why the device started.
    pub cause: Cause,
    /// Ticks per second, not 0.
    pub tick_hz: u32,
    /// Hash of the channel descriptors under which the BLOCKs of this boot are written.
    pub schema: SchemaHash,
    /// The last wall time that an earlier boot knew, Unix ms.
    pub last_wall_ms: Option<u64>,
}

impl Boot {
    /// Longest body, bytes.
    pub const LEN_MAX: usize = 1 + 5 + 8 + 10;

    /// Takes a body apart.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        Self::read(Reader::new(body)).ok_or(Malformed)
    }

    fn read(mut body: Reader<'_>) -> Option<Self> {
        let boot = Self {
            cause: Cause::from_code(body.u8()),
            tick_hz: body.varint_u32(),
            schema: SchemaHash(body.u64_le()),
            last_wall_ms: Some(body.varint()).filter(|ms| *ms > 0),
        };
        body.require(boot.tick_hz > 0);
        body.end(boot)
    }

    /// Writes the body; `None` when `out` is too short, [`Self::LEN_MAX`] suffices.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut out = Writer::new(out);
        out.u8(self.cause.code());
        out.varint(u64::from(self.tick_hz));
        out.u64_le(self.schema.0);
        out.varint(self.last_wall_ms.unwrap_or(0));
        out.finish()
    }
}

impl Cause {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Power => 1,
            Self::Reset => 2,
            Self::Watchdog => 3,
            Self::Panic => 4,
            Self::BrownOut => 5,
            Self::Other(code) => code,
        }
    }

    /// Reverses [`Self::code`].
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Unknown,
            1 => Self::Power,
            2 => Self::Reset,
            3 => Self::Watchdog,
            4 => Self::Panic,
            5 => Self::BrownOut,
            other => Self::Other(other),
        }
    }
}
