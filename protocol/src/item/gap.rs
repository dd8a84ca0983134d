//! GAP: readings that the device dropped, so that no loss is silent.

use super::Malformed;
use crate::wire::{Reader, Writer};

/// Why readings were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The queue was full; the oldest that the host could not know were dropped.
    OverflowOldest,
    /// The queue was full; the newest were dropped.
    OverflowNewest,
    /// The queue was nearly full; readings were thinned out at intake.
    Thinned,
    /// Non-volatile memory gave them back damaged.
    Storage,
    /// A reason of a newer version.
    Other(u8),
}

/// The body of GAP: readings `first_seq .. first_seq + count` of its boot are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First reading dropped.
    pub first_seq: u64,
    /// Number of readings, not 0; the last one's number fits 64 bits.
    pub count: u64,
    /// Why.
    pub reason: GapReason,
}

impl Gap {
    /// Longest body, bytes.
    pub const LEN_MAX: usize = 10 + 10 + 1;

    /// Takes a body apart.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        Self::read(Reader::new(body)).ok_or(Malformed)
    }

    fn read(mut body: Reader<'_>) -> Option<Self> {
        let (first_seq, count) = (body.varint(), body.varint());
        let last = count.checked_sub(1).and_then(|more| first_seq.checked_add(more));
        body.require(last.is_some());
        let reason = GapReason::from_code(body.u8());
        body.end(Self { first_seq, count, reason })
    }

    /// Writes the body; `None` when `out` is too short, [`Self::LEN_MAX`] suffices.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut out = Writer::new(out);
        out.varint(self.first_seq);
        out.varint(self.count);
        out.u8(self.reason.code());
        out.finish()
    }
}

impl GapReason {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::OverflowOldest => 1,
            Self::OverflowNewest => 2,
            Self::Thinned => 3,
            Self::Storage => 4,
            Self::Other(code) => code,
        }
    }

    /// Reverses [`Self::code`].
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::OverflowOldest,
            2 => Self::OverflowNewest,
            3 => Self::Thinned,
            4 => Self::Storage,
            other => Self::Other(other),
        }
    }
}
