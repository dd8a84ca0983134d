//! Who serves the clients: Headwater, or a real Apache Kafka with which the same test has to pass too.
//!
//! `cargo xtask test --against kafka` sets the variable that decides it. A test that uses this fixture describes Kafka,
//! so it may know of either server only its address.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
};

use crate::{central::CentralKafka, gateway::Gateway, recording::Recording};

/// Set to `kafka`, it puts a real Apache Kafka where Headwater would be.
const AGAINST: &str = "HEADWATER_AGAINST";
/// The folder for what clients say to a real Apache Kafka; tests/fixtures/kafka-requests/README.md tells what for.
const RECORD: &str = "HEADWATER_RECORD";

/// One node that keeps its address over kills.
#[derive(Debug)]
pub enum Cluster {
    /// The product.
    Headwater(Gateway),
    /// What it is held against.
    Kafka(CentralKafka),
    /// Likewise, with somebody who listens in.
    Recorded(CentralKafka, Recording),
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
            Ok("kafka") => match std::env::var_os(RECORD) {
                None => Self::Kafka(CentralKafka::start(folder)),
                Some(recordings) => Self::start_recorded(folder, &PathBuf::from(recordings)),
            },
            Ok(other) => panic!("{AGAINST}={other}: headwater or kafka"),
        }
    }

    /// The recording has the name of the test, which is that of its thread.
    fn start_recorded(folder: &Path, recordings: &Path) -> Self {
        let address = Recording::reserve();
        // The last of two lines counts.
        let advertised = format!("advertised.listeners=PLAINTEXT://{address}");
        let kafka = CentralKafka::start_with(folder, &advertised);
        let thread = thread::current();
        let test = thread.name().and_then(|name| name.rsplit("::").next()).unwrap_or("client");
        let file = recordings.join(format!("{test}.frames"));
        let recording = Recording::start(file, folder, address, kafka.address);
        Self::Recorded(kafka, recording)
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Headwater(gateway) => gateway.kafka,
            Self::Kafka(kafka) => kafka.address,
            Self::Recorded(_, recording) => recording.address,
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        match self {
            Self::Headwater(gateway) => gateway.kill(),
            Self::Kafka(kafka) | Self::Recorded(kafka, _) => kafka.kill(),
        }
    }

    /// Starts it again after [`Cluster::kill`] and waits until it serves.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn restart(&mut self) {
        match self {
            Self::Headwater(gateway) => gateway.restart(),
            Self::Kafka(kafka) | Self::Recorded(kafka, _) => kafka.restart(),
        }
    }
}
