//! The device link's gateway side: TCP listener, serial ports, streams, dedupe, readings to records.

use std::{io, net::SocketAddr, sync::Arc};

use crate::{Shutdown, broker::Broker, config::DeviceConfig};

/// Listener and serial ports.
#[derive(Debug)]
pub struct Devices {}

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
        todo!("device owner: {config:?} {broker:?}")
    }

    /// The bound TCP address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        todo!("device owner")
    }

    /// A handle that outlives `run` and answers for the page.
    #[must_use]
    pub fn watch(&self) -> DevicesWatch {
        todo!("device owner")
    }

    /// Serves until shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        todo!("device owner: {shutdown:?}")
    }
}

/// Reads the state of all devices.
#[derive(Clone, Debug)]
pub struct DevicesWatch {}

impl DevicesWatch {
    /// All devices seen, by id.
    #[must_use]
    pub fn status(&self) -> Vec<DeviceStatus> {
        todo!("device owner")
    }
}
