//! The device link's gateway side: TCP listener, serial ports, streams, dedupe, readings to records.
//!
//! A connection ([`connection`]) feeds bytes to the protocol's `HostLink` and its items to an
//! [`intake`], which appends their records together with the stream's new position: an item is durable
//! with its records or not at all, so that a device which sends it again after any failure adds nothing.
//! The link acknowledges what is durable and nothing else. [`hub`] holds what connections share.
//!
//! Not here: frames, retransmission and sessions (`headwater-protocol`), offsets and durability (`broker`).

mod clock;
mod connection;
mod decimal;
mod facts;
mod hub;
mod intake;
mod listener;
mod records;
mod schema;
mod serial;
mod stream;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    Shutdown,
    broker::Broker,
    config::{DeviceConfig, SerialConfig},
};
use hub::Hub;

/// Listener and serial ports.
#[derive(Debug)]
pub struct Devices {
    listener: TcpListener,
    local_addr: SocketAddr,
    max_connections: usize,
    serial: Vec<SerialConfig>,
    hub: Hub,
}

/// What the page and the metrics show of one device.
#[derive(Clone, Debug, Default)]
pub struct DeviceStatus {
    /// Device id.
    pub device: String,
    /// Stream, 16 hex digits.
    pub stream: String,
    /// Boot counter last seen.
    pub boot: u64,
    /// `tcp 127.0.0.1:5000` or `serial /dev/...`.
    pub transport: String,
    /// Whether a link is up.
    pub connected: bool,
    /// Unix ms of the last valid frame.
    pub last_seen_ms: i64,
    /// Readings made durable since the gateway's start.
    pub readings: u64,
    /// Readings that the device reported as lost, since the gateway's start.
    pub gap_readings: u64,
    /// Frames with a bad CRC, length or COBS code.
    pub frame_errors: u64,
    /// Items that came more than once.
    pub retransmits: u64,
}

impl Devices {
    /// Binds the TCP listener.
    pub async fn bind(config: &DeviceConfig, broker: Arc<Broker>) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let local_addr = listener.local_addr()?;
        let hub = Hub::open(broker, config.topic.clone(), hub::MAX_DEVICES).await?;
        Ok(Self {
            listener,
            local_addr,
            max_connections: config.max_connections,
            serial: config.serial.clone(),
            hub,
        })
    }

    /// The bound TCP address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A handle that outlives `run` and answers for the page.
    #[must_use]
    pub fn watch(&self) -> DevicesWatch {
        DevicesWatch { hub: self.hub.clone() }
    }

    /// Serves until shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let Self { listener, max_connections, serial, hub, .. } = self;
        let mut tasks = JoinSet::new();
        for port in serial {
            tasks.spawn(serial::supervise(port, hub.clone(), shutdown.clone()));
        }
        tasks.spawn(listener::serve(listener, max_connections, hub, shutdown));
        while tasks.join_next().await.is_some() {}
    }
}

/// Reads the state of all devices.
#[derive(Clone, Debug)]
pub struct DevicesWatch {
    hub: Hub,
}

impl DevicesWatch {
    /// All devices seen, by id.
    #[must_use]
    pub fn status(&self) -> Vec<DeviceStatus> {
        self.hub.status()
    }
}
