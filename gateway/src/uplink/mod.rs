//! The uplink: replicates chosen topics into the central Kafka, data and cursor in one transaction.

use std::sync::Arc;

use crate::{Shutdown, broker::Broker, config::UplinkConfig};

/// The uplink of this gateway.
#[derive(Debug)]
pub struct Uplink {}

/// What the page and the metrics show of the uplink.
#[derive(Clone, Debug, Default)]
pub struct UplinkStatus {
    /// Whether the last attempt reached the centre.
    pub connected: bool,
    /// Transactions committed since start.
    pub transactions: u64,
    /// Records replicated since start.
    pub records: u64,
    /// Records that are durable here and not yet there.
    pub lag_records: u64,
    /// The last error, until the next success.
    pub last_error: Option<String>,
}

impl Uplink {
    /// Prepares the uplink; it connects once it runs.
    #[must_use]
    pub fn new(config: UplinkConfig, broker: Arc<Broker>) -> Self {
        todo!("uplink owner: {config:?} {broker:?}")
    }

    /// A handle that answers for the page.
    #[must_use]
    pub fn watch(&self) -> UplinkWatch {
        todo!("uplink owner")
    }

    /// Runs until shutdown; survives any absence of the centre.
    pub async fn run(self, shutdown: Shutdown) {
        todo!("uplink owner: {shutdown:?}")
    }
}

/// Reads the state of the uplink.
#[derive(Clone, Debug)]
pub struct UplinkWatch {}

impl UplinkWatch {
    /// This moment.
    #[must_use]
    pub fn status(&self) -> UplinkStatus {
        todo!("uplink owner")
    }
}
