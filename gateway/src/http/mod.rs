//! Health, metrics, the page and the JSON API behind it.
//!
//! Everything is read at request time from the other rooms' status snapshots (`snapshot.rs`), so
//! none of them knows of this one. GET, and PUT for what people say of devices (`devices.rs`); no request body is ever
//! read. What comes from outside
//! (names, error texts) leaves as JSON, escaped labels or plain text, and the page shows it as text
//! only.

mod devices;
mod guard;
mod lookup;
mod metrics;
mod page;
mod routes;
mod server;
mod snapshot;
mod status;

use std::{io, net::SocketAddr, sync::Arc, time::Instant};

pub(crate) use lookup::percent_encoded;
use tokio::net::TcpListener;

use crate::{
    Shutdown, broker::Broker, config::HttpConfig, device::DevicesWatch, mqtt::bridge::BridgeWatch,
    uplink::UplinkWatch, views::Views,
};

/// What is shown.
#[derive(Clone, Debug)]
pub struct HttpState {
    /// Topics, partitions and the journal.
    pub broker: Arc<Broker>,
    /// Devices, if the link runs.
    pub devices: Option<DevicesWatch>,
    /// Every MQTT bridge.
    pub bridges: Vec<BridgeWatch>,
    /// The uplink, if one is configured.
    pub uplink: Option<UplinkWatch>,
    /// Lookups by key, if any are configured.
    pub views: Option<Arc<Views>>,
}

/// A bound listener.
#[derive(Debug)]
pub struct Http {
    listener: TcpListener,
    local_addr: SocketAddr,
    state: HttpState,
    started: Instant,
}

impl Http {
    /// Binds the listener; connections are accepted once it runs.
    pub async fn bind(config: &HttpConfig, state: HttpState) -> io::Result<Self> {
        if !config.listen.ip().is_loopback() && !config.allow_plaintext {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "http.listen = {} is reachable from other machines without encryption: set \
                     http.allow_plaintext = true if that is meant",
                    config.listen
                ),
            ));
        }
        let listener = TcpListener::bind(config.listen).await?;
        let local_addr = listener.local_addr()?;
        Ok(Self { listener, local_addr, state, started: Instant::now() })
    }

    /// The bound address (with the port that the system chose, if it was asked to).
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until shutdown, then answers what is in flight and returns.
    pub async fn run(self, shutdown: Shutdown) {
        let router = routes::router(self.state, self.started);
        server::serve(self.listener, router, server::Limits::default(), shutdown).await;
    }
}
