//! Who serves the clients: Headwater, or a real Apache Kafka with which the same test has to pass too.
//!
//! `cargo xtask test --against kafka` sets the variable that decides it. A test that uses this fixture describes Kafka,
//! so it may know of either server only its address.

use std::{net::SocketAddr, path::Path};

use crate::{central::CentralKafka, gateway::Gateway};

/// Set to `kafka`, it puts a real Apache Kafka where Headwater would be.
const AGAINST: &str = "HEADWATER_AGAINST";

/// One node that keeps its address over kills.
#[derive(Debug)]
pub enum Cluster {
    /// The product.
    Headwater(Gateway),
    /// What it is held against.
    Kafka(CentralKafka),
}

impl Cluster {
    /// Starts it below `folder`.
    ///
    /// # Panics
    /// If it does not start, or somebody else is asked for.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        match std::env::var(AGAINST).as_deref() {
            Err(_) | Ok("headwater") => Self::Headwater(Gateway::start(folder, "")),
            Ok("kafka") => Self::Kafka(CentralKafka::start(folder)),
            Ok(other) => panic!("{AGAINST}={other}: headwater or kafka"),
        }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Headwater(gateway) => gateway.kafka,
            Self::Kafka(kafka) => kafka.address,
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        match self {
            Self::Headwater(gateway) => gateway.kill(),
            Self::Kafka(kafka) => kafka.kill(),
        }
    }

    /// Starts it again after [`Cluster::kill`] and waits until it serves.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn restart(&mut self) {
        match self {
            Self::Headwater(gateway) => gateway.restart(),
            Self::Kafka(kafka) => kafka.restart(),
        }
    }
}
