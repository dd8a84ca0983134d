//! Aborted transactions, for readers of committed data: which producer's offsets they pass over.
//!
//! - All of them follow from the log: a scan tells them, or the steps in index files; a cold segment lists its own.
//! - `resident.rs` holds those of one partition that are in memory. If all partitions together hold more than
//!   [`MOST_RESIDENT`], those of segments that were left go, and `spilled.rs` remembers what must be found again:
//!   a place, and a CRC over the ranges. What stays is what a segment by itself does not tell: ranges that began in an
//!   earlier segment or were given up without a marker, at most one for each open transaction at the start of a segment.
//! - `lookup.rs` finds them again through the bounded index cache.
//!
//! A range that is missing would show aborted records as committed: whatever is read again is compared with the CRC, and
//! an answer that may lack a range is an error.

mod lookup;
mod resident;
mod spilled;

pub(super) use lookup::find;
pub(super) use resident::Aborted;
pub(super) use spilled::Spilled;

use super::{AbortedRange, Offset, Position};

/// Ranges in memory unless set otherwise: 640 KiB.
pub(super) const MOST_RESIDENT: usize = 16 * 1024;
