//! The uplink: replicates chosen topics into the central Kafka, data and cursor in one transaction.
//!
//! **The centre is the authority.** What it holds is read back from the cursors that travel with
//! the data (`cursor.rs`), at every start and after every error or unknown outcome; nothing local
//! is trusted for that. So a record is at the centre exactly once, in the order of its partition,
//! however often either side dies and however long the line is down.
//!
//! **Only stable records are sent**, so nothing is there that a power cut could take back here. If
//! the local log turns out to be older than what the centre holds, the partition halts with an
//! error: its next offsets already mean other records there.
//!
//! **One partition's trouble is its own.** A record that the centre refuses is searched for by
//! halving and parks its partition; the others go on.
//!
//! `core.rs` decides, without clock or socket; `shell.rs` carries out; `centre.rs` is the seam to
//! the client in `client.rs`.

mod ahead;
mod backoff;
mod centre;
mod client;
mod core;
mod cursor;
mod decode;
mod hanging;
mod hint;
mod lane;
mod selection;
mod shell;
mod status;
#[cfg(test)]
mod tests;
mod topics;
mod verdict;

use std::sync::Arc;

pub use status::{UplinkPartition, UplinkStatus, UplinkWatch};

use self::{
    client::{KrafkaCentre, Timeouts},
    selection::Selection,
    shell::Shell,
    status::Shared,
};
use crate::{Shutdown, broker::Broker, config::UplinkConfig};

/// The uplink of this gateway.
#[derive(Debug)]
pub struct Uplink {
    config: UplinkConfig,
    broker: Arc<Broker>,
    shared: Arc<Shared>,
    timeouts: Timeouts,
}

impl Uplink {
    /// Prepares the uplink; it connects once it runs.
    #[must_use]
    pub fn new(config: UplinkConfig, broker: Arc<Broker>) -> Self {
        let shared = Arc::new(Shared::new(broker.clone()));
        if !config.bootstrap.is_empty() {
            let selection = selection(&config);
            broker.protect_forwarded(move |topic| selection.takes(topic));
        }
        Self { config, broker, shared, timeouts: Timeouts::default() }
    }

    /// A handle that answers for the page.
    #[must_use]
    pub fn watch(&self) -> UplinkWatch {
        UplinkWatch::new(self.shared.clone())
    }

    /// Runs until shutdown; survives any absence of the centre. Without a configured centre there
    /// is nothing to do.
    pub async fn run(self, shutdown: Shutdown) {
        let Self { config, broker, shared, timeouts } = self;
        if config.bootstrap.is_empty() {
            shutdown.requested().await;
            return;
        }
        let centre = KrafkaCentre {
            bootstrap: config.bootstrap.join(","),
            gateway: broker.gateway_id(),
            cursor_topic: config.cursor_topic.as_str().into(),
            timeouts,
        };
        let selection = selection(&config);
        let max_bytes = usize::try_from(config.max_transaction_bytes.0).unwrap_or(usize::MAX);
        let interval = config.interval.0;
        Shell::new(centre, broker, shared, shutdown, selection, interval, max_bytes).run().await;
    }
}

fn selection(config: &UplinkConfig) -> Selection {
    let UplinkConfig { topics, prefix, cursor_topic, .. } = config.clone();
    Selection::new(topics, prefix, cursor_topic)
}
