//! The Headwater device link: frames, items and the state machines of both ends, without I/O,
//! clock, allocation or std.
//!
//! A device's queue is a log of immutable *items* ([`item`]): BOOT, SCHEMA, BLOCK (readings), GAP.
//! Each has a [`Position`] (boot, item) and names its predecessor; the host takes only the next one
//! and acknowledges what it has made durable. `SPEC.md` beside this crate is normative; what
//! follows is how the two ends are driven.
//!
//! # The device end
//!
//! The owner (firmware) keeps the items in something that implements [`ItemQueue`] and drives one
//! [`DeviceLink`]. Time is the device's own tick counter, of `tick_hz` ticks per second, never
//! wrapping (u64).
//!
//! ```text
//! let mut link: DeviceLink = DeviceLink::new(DeviceConfig::new(id, tick_hz), stream_from_memory);
//! loop {
//!     let mut bytes = what the UART received;
//!     while let Some(event) = link.receive(now, &mut bytes, &mut queue) {
//!         match event {
//!             DeviceEvent::StreamAssigned(stream) => { persist it; link.set_stream(now, stream) }
//!             DeviceEvent::Acknowledged(position) => {}   // the queue has released it already
//!             DeviceEvent::Command { id } => {            // do what link.command() says
//!                 link.finish_command(id, CommandStatus::Done, b"")
//!             }
//!             _ => {}                                     // for a display or a clock
//!         }
//!     }
//!     while the UART has room for a frame {
//!         match link.transmit(now, &queue, &mut out) { 0 => break, len => send out[..len] }
//!     }
//!     sleep until link.next_wake(now, &queue), or a byte arrives, or an item is queued
//! }
//! ```
//!
//! - `transmit` writes whole encoded frames, one per call; `out` of [`frame::ENCODED_MAX`] bytes
//!   always suffices, [`frame::encoded_max`] gives less for smaller items.
//! - An item at or below [`DeviceLink::in_flight`] may be known to the host: it must be neither
//!   dropped nor changed. A full queue drops BLOCKs beyond it, and replaces what it drops by a GAP
//!   that takes the position of the last dropped item and the predecessor of the first.
//! - Bytes lost by the UART (overrun, framing error): [`DeviceLink::line_error`]. A connection made
//!   anew: [`DeviceLink::restart`].
//! - [`item::BlockBuilder`] packs readings into the body of a BLOCK.
//!
//! # The host end
//!
//! One [`HostLink`] per opened port or connection. Time is microseconds of one monotonic clock
//! (u64).
//!
//! ```text
//! let mut link = HostLink::new(HostConfig::default(), session /* random, not 0 */, now);
//! loop {
//!     while { let len = link.transmit(now, wall_ms, &mut out); len > 0 } { write out[..len] }
//!     wait until link.next_wake(), or bytes arrive, or an append became durable
//!     while let Some(event) = link.receive(now, &mut bytes) {
//!         match event {
//!             HostEvent::Hello(hello) =>
//!                 link.accept(durable, Accept { .. }), link.assign(stream) or link.refuse(reason)
//!             HostEvent::Item(arrival) =>
//!                 append arrival.item, in one append with "stream -> position";
//!                 arrival.loss says what gap record goes before it
//!             HostEvent::Description(d) => learn BOOT or SCHEMA (only after accept with describe)
//!             HostEvent::Time(sample) => clock.update(sample)
//!             HostEvent::Log(line) => show it
//!             HostEvent::Result(outcome) => what became of link.command(..)
//!         }
//!     }
//!     link.durable(now, stream, position) when an append was made durable
//!     link.set_window(now, bytes) under back-pressure
//! }
//! ```
//!
//! - An event borrows the link; copy what outlives it, then call the link's methods.
//! - `accept` must be given the durable position *after every append for that stream has settled*,
//!   also those that came by an earlier connection; within one link it waits for its own while the
//!   stream stays (see [`HostLink::accept`]).
//! - [`HostLink::receive`] never yields an item twice and never out of order within one link.
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

#[cfg(test)]
extern crate std;

pub mod cobs;
pub mod crc;
pub mod frame;
pub mod item;
pub mod message;
pub mod varint;

mod bits;
mod clock;
mod device;
mod host;
mod identity;
mod wire;

pub use clock::ClockSample;
pub use device::{DeviceConfig, DeviceCounters, DeviceEvent, DeviceLink, ItemQueue};
pub use host::{
    Accept, Arrival, Description, HostConfig, HostCounters, HostEvent, HostLink, Loss, NotAccepted,
    NotSent,
};
pub use identity::{DeviceId, Position, StreamId};
pub use item::{Item, ItemKind};
pub use message::{CommandStatus, Hello, Refusal};

/// The version of the link that this crate speaks.
pub const VERSION: u8 = 1;

/// Largest frame a host accepts, bytes of type, length, body and CRC, before COBS.
pub const HOST_RECEIVE_MAX: usize = 640;

/// Smallest receive maximum that a device may announce, counted likewise: every host frame of this
/// version fits.
pub const DEVICE_RECEIVE_MIN: usize = 64;
