//! The black-box tests, one binary: real processes, real clients.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod allocator;
mod blows;
mod board;
mod board_link;
mod card;
mod central_kafka;
mod clients;
mod demo;
mod devices;
mod differential;
mod fleet;
mod goodput;
mod hostile_bytes;
mod journal_tools;
mod kafka_hostile;
mod kafka_server;
mod kills;
mod link_client;
mod microbit;
mod mosquitto_bridge;
mod simulated;
