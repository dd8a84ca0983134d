//! MQTT: for now the bridge that pulls from an existing broker.

pub mod bridge;
