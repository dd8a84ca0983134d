//! Fixtures of the black-box tests: real processes, each with a folder and ports of its own.
//!
//! A fixture ends what it started when it is dropped, by process id, and prints the end of its log if the test failed.

pub mod batch;
pub mod central;
pub mod checks;
pub mod churn;
pub mod clients;
pub mod cluster;
pub mod effort;
pub mod emulator;
pub mod environment;
pub mod gateway;
pub mod kcat;
pub mod ledger;
pub mod line;
pub mod microbit;
pub mod noise;
pub mod permit;
pub mod ports;
pub mod process;
mod pty;
mod qemu;
pub mod random;
pub mod recording;
pub mod schema;
pub mod uart;
pub mod unfinished;
pub mod wait;
pub mod wire;
pub mod workbench;
