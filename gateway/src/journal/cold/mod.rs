//! Cold segments: what is still live of old segments, sorted by partition, so that these can leave the log.
//!
//! - `plan.rs` decides what to clean, and whether it is worth it; `survivors.rs` what of a partition stays;
//!   `compaction.rs` which records a later one replaces. None of them does I/O.
//! - `cleaner.rs` is the thread, `pass.rs` what it does once: it reads, writes a file and switches. `writer.rs` and
//!   `file.rs` are that file.
//! - `set.rs` is what readers see.
//!
//! Copies are data only: no state is ever derived from them. Until the fact of a cold segment is durable its file
//! means nothing, and what it was copied from stays.

mod cleaner;
mod compaction;
mod file;
mod pass;
mod plan;
mod retain;
mod set;
mod survivors;
mod writer;

pub(super) use cleaner::{Cleaner, clean};
#[cfg(test)]
pub(super) use cleaner::{clean_oldest, merge_cold};
pub(super) use file::{ColdError, ColdSegment, aborted, index};
pub use retain::Retain;
pub(super) use set::ColdSet;

/// What a pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleaned {
    /// Segments that left the log, cold ones included.
    pub segments: u64,
    /// Bytes of batches that were copied.
    pub live_bytes: u64,
}
