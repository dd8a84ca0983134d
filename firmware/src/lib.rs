//! Headwater for microcontrollers: number readings where they are sampled, keep them until the
//! gateway has made them durable, and say so when some had to go.
//!
//! [`Node`] is the device without I/O. A board owns clock, UART, bus and memory, and either drives
//! the node by [`shell::Port`] in a loop or by its own interrupts and tasks:
//!
//! ```text
//! let (mut port, identity) = Port::open(uart, eeprom);
//! let mut node = Node::<1, 64, 2048, 32, 8>::new(config, identity);
//! // Settles the boot counter before the first reading.
//! port.turn(&mut node, now(), |event| write_ledger(event))?;
//! let mut schedule = Schedule::every(config.period.into(), now());
//! loop {
//!     if let Some(due) = schedule.due(now()) {
//!         node.record(due.tick, &[sensor.read()]);
//!     }
//!     let wake = port.turn(&mut node, now(), |event| write_ledger(event))?;
//!     sleep until schedule.next() or wake, or until the UART has bytes
//! }
//! ```
#![no_std]
#![warn(clippy::indexing_slicing)]

#[cfg(test)]
extern crate std;

pub mod eeprom;
pub mod nvm;
pub mod shell;

mod event;
mod identity;
mod node;
mod queue;
mod schedule;
#[cfg(test)]
mod testing;

pub use event::{Event, TORN_LINE_END};
pub use headwater_protocol as protocol;
pub use identity::{Identity, IdentityStore, SaveError};
pub use node::{COMMAND_BYTES, Command, Config, Node, Overflow, Queued, StorageOp, StorageOutcome};
pub use nvm::Nvm;
pub use schedule::{Due, Schedule};
