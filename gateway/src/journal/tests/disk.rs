//! The simulated disk under the names that the tests of this room use.

pub(super) use super::super::sim::{Call, Cut, Event, Fault, Files, Random, SimDisk as MemoryDisk};
