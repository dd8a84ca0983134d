//! Consumer groups: who reads which partition (the classic group protocol of Kafka), and how far.
//!
//! [`Coordinator`] is the protocol without I/O: time and requests in, answers and the next deadline out.
//! Membership lives in memory: after a restart members rejoin. Offsets are facts and outlive everything.
//! [`Groups`] is the front that awaits answers, drives the timers and stores offsets through the broker.

mod classic;
mod coordinator;
mod error;
mod expiry;
mod front;
mod member;
mod offset;
mod request;
#[cfg(test)]
mod scenarios;
mod subscription;

pub use coordinator::{Answer, Ask, Coordinator, GroupOptions};
pub use error::{CommitError, GroupError};
pub use front::Groups;
pub(super) use offset::is_of_topic;
pub use offset::{CommittedOffset, MAX_OFFSET_METADATA_BYTES};
pub use request::{
    Commit as OffsetCommit, GroupDescription, GroupPhase, GroupSummary, JoinRequest, Joined,
    JoinedMember, Leaving, MemberDescription, MemberRef, SyncRequest, Synced,
};
