//! The Kafka protocol server.

use std::{io, net::SocketAddr, sync::Arc};

use crate::{Shutdown, broker::Broker, config::KafkaConfig};

/// A bound listener.
#[derive(Debug)]
pub struct Server {}

impl Server {
    /// Binds the listener; connections are accepted once it runs.
    pub async fn bind(config: &KafkaConfig, broker: Arc<Broker>) -> io::Result<Self> {
        todo!("kafka owner: {config:?} {broker:?}")
    }

    /// The bound address (with the port that the system chose, if it was asked to).
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        todo!("kafka owner")
    }

    /// Serves until shutdown, then answers what is in flight and returns.
    pub async fn run(self, shutdown: Shutdown) {
        todo!("kafka owner: {shutdown:?}")
    }
}
