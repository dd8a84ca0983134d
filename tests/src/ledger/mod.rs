//! The ledger: a process of its own that produces, notes what was acknowledged, and judges the log by its notes.
//!
//! [`producer`] and [`reader`] write [`book`]s while the gateway lives and dies; [`judge`] compares them with what a
//! consumer finds in the end. Nothing here knows the gateway but by Kafka's protocol.

pub mod book;
pub mod judge;
pub mod process;
pub mod producer;
pub mod reader;
pub mod record;
