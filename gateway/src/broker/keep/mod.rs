//! What a topic keeps: retention by time and size, and what goes when the storage is full.
//!
//! `limits.rs` decides what retention takes, `room.rs` what makes room in full storage, `gap.rs` is the form of the records
//! that say what is missing, `newest.rs` refuses new records for good where a topic wants that. The keeper carries out:
//! all of it is facts that move log starts, so that whole segments die; see `journal/retire.rs`.
//!
//! # Other than Kafka
//! - `retention.ms` counts from the append, not from the record's timestamp, and only time during which the gateway was
//!   running: no clock that steps, and no device with a wrong one, makes anything go early.
//! - Batches go one by one and not by segments of their topic. `retention.bytes` keeps at least so many bytes.
//! - Nothing goes past the first open transaction of a partition, nor past what an uplink has still to forward
//!   (`headwater.unreplicated.policy`).

mod gap;
mod keeper;
mod limits;
mod newest;
mod room;

pub use gap::{Gap, GapReason};
pub use keeper::{Keeper, KeepingStatus};
pub(super) use keeper::{Keeping, now_ms};
pub(super) use newest::{Newest, Step};
