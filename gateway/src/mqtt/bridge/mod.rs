//! Pulls from an existing MQTT broker with manual acknowledgements, in order, after durability.

use std::sync::Arc;

use crate::{Shutdown, broker::Broker, config::BridgeConfig};

/// One bridge.
#[derive(Debug)]
pub struct Bridge {}

/// What the page and the metrics show of a bridge.
#[derive(Clone, Debug, Default)]
pub struct BridgeStatus {
    /// `host:port` of the broker.
    pub broker: String,
    /// Whether the session is up.
    pub connected: bool,
    /// Messages received since start.
    pub received: u64,
    /// Messages durable and acknowledged since start.
    pub acknowledged: u64,
    /// The last error, if the session is down.
    pub last_error: Option<String>,
}

impl Bridge {
    /// Prepares a bridge; it connects once it runs.
    #[must_use]
    pub fn new(config: BridgeConfig, broker: Arc<Broker>) -> Self {
        todo!("mqtt owner: {config:?} {broker:?}")
    }

    /// A handle that answers for the page.
    #[must_use]
    pub fn watch(&self) -> BridgeWatch {
        todo!("mqtt owner")
    }

    /// Runs until shutdown; reconnects with back-off.
    pub async fn run(self, shutdown: Shutdown) {
        todo!("mqtt owner: {shutdown:?}")
    }
}

/// Reads the state of a bridge.
#[derive(Clone, Debug)]
pub struct BridgeWatch {}

impl BridgeWatch {
    /// This moment.
    #[must_use]
    pub fn status(&self) -> BridgeStatus {
        todo!("mqtt owner")
    }
}
