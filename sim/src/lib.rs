//! Fleets of simulated devices that run the real firmware library, and the comparison of their
//! ledgers with the log.
//!
//! [`fleet`] runs them, [`ledger`] and [`compare`] decide whether a log agrees with what devices
//! say of themselves.

pub mod compare;
pub mod device;
pub mod faults;
pub mod fleet;
pub mod ledger;
pub mod line;
pub mod memory;
pub mod random;
pub mod signal;
pub mod verify;
