//! What a node did, one event at a time, for whoever keeps a ledger or blinks a light.

use core::fmt;

use headwater_protocol::{
    StreamId,
    item::{Cause, GapReason},
};

/// Something a ledger notes. `Display` gives the line of `tests/LEDGER.md`, without its line end.
///
/// Drain events after every call of the node and *before* handing transmitted bytes to the line:
/// then the ledger knows of an item before anybody else can. A ledger on a serial line begins every
/// start with [`TORN_LINE_END`], since the line before may have been cut by the loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The device started; its boot counter is settled.
    Started {
        /// Boot counter.
        boot: u32,
        /// Why it started.
        cause: Cause,
    },
    /// The device runs under this stream from here on.
    Stream {
        /// Boot counter.
        boot: u32,
        /// The stream.
        stream: StreamId,
    },
    /// Readings became a BLOCK item.
    Sealed {
        /// Boot counter.
        boot: u32,
        /// Item number.
        item: u64,
        /// First reading.
        first_seq: u64,
        /// Number of readings.
        count: u64,
    },
    /// Readings were dropped; a GAP item says so.
    Dropped {
        /// Boot counter.
        boot: u32,
        /// First reading.
        first_seq: u64,
        /// Number of readings.
        count: u64,
        /// Why.
        reason: GapReason,
    },
    /// Everything up to this item is durable at the gateway.
    Acknowledged {
        /// Boot counter.
        boot: u32,
        /// Item number.
        item: u64,
    },
}

/// Ends whatever line a loss of power cut: no whole line of the ledger has such a field.
pub const TORN_LINE_END: &str = " ?\n";

impl Event {
    /// Takes in `next` if both say together what one event can say.
    pub(crate) fn absorb(&mut self, next: &Self) -> bool {
        match (self, next) {
            (
                Self::Acknowledged { boot, item },
                Self::Acknowledged { boot: next_boot, item: next_item },
            ) if boot == next_boot => {
                *item = *next_item;
                true
            }
            (
                Self::Dropped { boot, first_seq, count, reason },
                Self::Dropped {
                    boot: next_boot,
                    first_seq: next_first,
                    count: next_count,
                    reason: next_reason,
                },
            ) if boot == next_boot
                && reason == next_reason
                && *first_seq + *count == *next_first =>
            {
                *count += next_count;
                true
            }
            _ => false,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { boot, cause } => write!(f, "X {boot} {}", cause_word(*cause)),
            Self::Stream { boot, stream } => write!(f, "S {boot} {stream}"),
            Self::Sealed { boot, item, first_seq, count } => {
                write!(f, "B {boot} {item} {first_seq} {count}")
            }
            Self::Dropped { boot, first_seq, count, reason } => {
                let reason = match reason {
                    GapReason::OverflowOldest => "overflow-oldest",
                    GapReason::OverflowNewest => "overflow-newest",
                    _ => "other",
                };
                write!(f, "G {boot} {first_seq} {count} {reason}")
            }
            Self::Acknowledged { boot, item } => write!(f, "A {boot} {item}"),
        }
    }
}

/// The ledger's word for a cause.
const fn cause_word(cause: Cause) -> &'static str {
    match cause {
        Cause::Power | Cause::BrownOut => "power",
        Cause::Reset => "reset",
        Cause::Watchdog => "watchdog",
        Cause::Panic => "panic",
        _ => "unknown",
    }
}
