//! Headwater: Apache Kafka's model at the edge.
//!
//! The library is the whole gateway; `main.rs` only picks the real disk. Dependencies point one way:
//! `kafka`, `device`, `mqtt`, `uplink`, `http` -> `views` -> `broker` -> `journal` -> `record`.

pub mod allocator;
pub mod broker;
pub mod cli;
pub mod config;
pub mod device;
mod held;
pub mod http;
pub mod journal;
pub mod kafka;
pub mod mqtt;
pub mod record;
mod run;
mod shutdown;
pub mod uplink;
pub mod views;

pub use config::Config;
pub use run::{Addresses, RunError, run};
pub use shutdown::Shutdown;
