//! The journal: one append-only sequence of segments that all partitions and all facts share.
//!
//! # What holds
//! - Acknowledged is durable: a [`Ticket`] resolves, an offset can be read and a waiter is woken only after the
//!   fdatasync of the frame that holds it returned.
//! - One frame is in flight; a valid frame proves all before it. No write touches a block that was made durable.
//! - An [`Append`] lands as a whole or not at all.
//! - An append is refused only at [`Journal::admit`], against space that files already have. After that the only
//!   failure is poison: the first error on the file in use ends acknowledgements for good, reads go on.
//! - Nothing is deleted or renumbered because of damage; damaged ranges answer reads with an error.
//!
//! # Bytes and recovery
//! FORMAT.md beside this file is normative: `format/` encodes it,
//! `recovery/` follows its decision table.
//!
//! # Rooms
//! `state/` is what entries add up to; `index/` where batches are; `disk.rs` the only code that touches files;
//! `writer.rs` the one thread that writes; `preparer.rs` the one that preallocates; `retire.rs` the one through
//! which segments leave the log; `indexer.rs` the one that writes index files, which nothing depends on;
//! `read_pool.rs` those that read; `scrub.rs` the one that looks for rot; `cold/` the one that cleans. `age.rs` and
//! `keep.rs` tell what is how old and how large; `inspect/` is a journal from outside.
//!
//! # Reading
//! By offset and time: `lookup.rs` (which entries) and `reader.rs` (their bytes), from `tail.rs` while they are
//! fresh. Many partitions in one pass: `scan.rs`.
//! The journal knows no topic, no group, no protocol.

#[macro_use]
mod planted;

mod aborted;
mod address;
mod admission;
mod age;
mod append;
mod clock;
mod cold;
mod damage;
mod disk;
mod error;
mod format;
mod frame;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod handle;
mod index;
mod indexer;
pub mod inspect;
mod keep;
mod log;
mod lookup;
mod options;
mod preparer;
mod queue;
mod read_pool;
mod reader;
mod reads;
mod recovery;
mod retire;
mod scan;
mod scrub;
mod segment;
mod shared;
#[cfg(any(test, feature = "sim-disk"))]
pub mod sim;
mod state;
mod stats;
mod status;
mod sweep;
mod tail;
#[cfg(test)]
mod tests;
mod ticket;
mod waiters;
mod writer;

pub use address::{Offset, PartitionId, Position};
pub use admission::Permit;
pub use append::{Append, BatchEntry, Fact, Space};
pub use clock::{Clock, ClockQuality, Moment, SystemClock};
pub use cold::{Cleaned, Retain};
pub use disk::{Disk, DiskFile, LockError, Medium, ReadOnlyDisk, RealDisk};
pub use error::{AdmitError, CleanError, OpenError, Poisoned, ReadError, StateFull};
pub use format::{FORMAT_VERSION, JournalId};
pub use handle::{Journal, PartitionEnds, open};
pub use keep::{COPIED_PER_FREED_BYTE, Held, Holding};
pub use options::JournalOptions;
pub(crate) use options::{SCRUB_BYTES_PER_S, SCRUB_INTERVAL};
pub use reads::Want;
pub use scan::{Scan, Scanned};
pub use state::{
    AbortedRange, Change, KnownProducer, PartitionState, ProducerCheck, State, StateLimits,
};
pub use status::{DamagedRange, JournalStatus, RecoveryReport, ScrubStatus};
pub use ticket::Ticket;
