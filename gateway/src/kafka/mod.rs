//! The Kafka protocol server: any Kafka client, unmodified.
//!
//! - `server` accepts connections, `connection` runs one, `frames` reads its requests under bounds,
//!   `output` writes.
//! - `dispatch` holds the table of APIs; `api/` has one handler file for each of them.
//! - `codec` is the only place that turns bytes into messages and back; nothing outside this room
//!   sees wire types.
//!
//! This room keeps no durable state and decides nothing about records: offsets, producers and
//! groups are `broker`'s. Every length and count that a client sends is bounded before memory is
//! reserved for it.

mod api;
mod budget;
mod codec;
mod config_resource;
mod connection;
mod context;
mod dispatch;
mod effective;
mod error_code;
mod fetch_sessions;
mod frames;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod output;
mod refusal;
mod server;
#[cfg(test)]
mod tests;
mod timer;
mod topic_rules;

pub use server::Server;
