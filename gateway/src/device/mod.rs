//! The device link's gateway side: TCP listener, serial ports, streams, dedupe, readings to records.
//!
//! A connection ([`connection`]) feeds bytes to the protocol's `HostLink` and its items to an
//! [`intake`], which appends their records together with the stream's new position: an item is durable
//! with its records or not at all, so that a device which sends it again after any failure adds nothing.
//! The link acknowledges what is durable and nothing else. [`hub`] holds what connections share.
//!
//! Not here: frames, retransmission and sessions (`headwater-protocol`), offsets and durability (`broker`).

mod clock;
mod clocks_topic;
mod command;
mod connection;
mod decimal;
mod facts;
mod hub;
mod intake;
mod lines;
mod listener;
mod ports;
mod records;
mod registry;
mod roster;
mod schema;
mod serial;
mod status;
mod stream;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

use crate::{
    Shutdown,
    broker::Broker,
    config::{DeviceConfig, SerialConfig},
};
use command::Topics;
use hub::{Hub, HubOptions};
use ports::{InUse, Roots};

pub use registry::{Admission, Profile, ProfileEdit, ProfileError};
pub use status::{Boots, DeviceLine, DeviceStatus};

/// Listener and serial ports.
#[derive(Debug)]
pub struct Devices {
    listener: TcpListener,
    local_addr: SocketAddr,
    max_connections: usize,
    serial: Vec<SerialConfig>,
    topics: Topics,
    reports: mpsc::Receiver<command::Report>,
    hub: Hub,
}

impl Devices {
    /// Binds the TCP listener.
    pub async fn bind(config: &DeviceConfig, broker: Arc<Broker>) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let local_addr = listener.local_addr()?;
        let (sender, reports) = mpsc::channel(command::MAX_REPORTS);
        let options = HubOptions {
            topic: config.topic.clone(),
            clocks_topic: config.clocks_topic.clone(),
            max_devices: hub::MAX_DEVICES,
            unknown: config.unknown,
            headers: config.headers.clone(),
        };
        let hub = Hub::open(broker, options, sender).await?;
        let topics = Topics {
            commands: config.commands_topic.clone(),
            results: config.results_topic.clone(),
        };
        Ok(Self {
            listener,
            local_addr,
            max_connections: config.max_connections,
            serial: config.serial.clone(),
            topics,
            reports,
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
        let Self { listener, max_connections, serial, topics, reports, hub, .. } = self;
        let mut tasks = JoinSet::new();
        tasks.spawn(command::run(topics, hub.clone(), reports, shutdown.clone()));
        let in_use = InUse::default();
        for ports in serial {
            let (in_use, hub, shutdown) = (in_use.clone(), hub.clone(), shutdown.clone());
            tasks.spawn(serial::supervise(ports, Roots::default(), in_use, hub, shutdown));
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

    /// Changes what is said of a device; durable when this returns.
    ///
    /// # Errors
    /// [`ProfileError`], and nothing is changed.
    pub async fn edit(&self, device: &str, edit: &ProfileEdit) -> Result<Profile, ProfileError> {
        self.hub.edit(device, edit).await
    }
}
