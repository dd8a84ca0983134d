//! The black-box tests, one binary: real processes, real clients.

mod demo;
mod fleet;
mod hostile_bytes;
mod java_clients;
mod kcat_client;
mod mosquitto_bridge;
mod python_client;
