//! A journal as an operator sees it, whether or not it can be opened: verify, dump, repair.
//!
//! Looking changes nothing and needs no lock. Only `repair` changes files, and it removes none.

mod accepted;
mod cold;
mod dump;
mod finding;
mod identity;
mod overlay;
mod repair;
#[cfg(test)]
mod tests;
mod verify;

pub(in crate::journal) use accepted::Accepted;
pub use dump::{
    ChunkItem, ColdItem, Content, EntryItem, FrameItem, Item, Place, SegmentItem, Selection, dump,
};
pub use finding::{Finding, FindingKind, Lost};
pub use repair::{Action, Plan, RepairError, carry_out, plan};
pub use verify::{MAX_FINDINGS, Progress, Verdict, verify};
