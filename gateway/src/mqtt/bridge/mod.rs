//! Pulls from an existing MQTT broker with manual acknowledgements, in order, after durability.
//!
//! One persistent session per bridge, subscribed at QoS 1 (a publisher's QoS 2 arrives as QoS 1, its
//! QoS 0 as QoS 0). Every message becomes one record; the broker gets its PUBACK when that record is
//! durable, so what it has not seen acknowledged it sends again: at least once, nothing lost while the
//! broker keeps the session (Mosquitto: `max_queued_messages 0`).
//!
//! When storage is full, messages are held and retried and nothing is acknowledged; keep-alive goes on.
//! Once the limits of [`intake`] are reached the socket is no longer read, and the broker keeps the rest.
//! A message over `max.message.bytes` can never be stored: a record without value takes its place in topic
//! `mqtt-rejected` (key = MQTT topic name; headers `reason`, `source`, `bytes`, `crc32c`), and once that
//! one is durable the message is acknowledged, since it would come again for ever.

mod intake;
mod records;
mod session;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Shutdown, broker::Broker, config::BridgeConfig};

/// One bridge.
#[derive(Debug)]
pub struct Bridge {
    config: BridgeConfig,
    broker: Arc<Broker>,
    board: Board,
}

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
    /// Of the received ones, repetitions after a reconnect that made no second record.
    pub repeated: u64,
    /// Messages that could not be stored, each with its record in `mqtt-rejected`.
    pub rejected: u64,
    /// Whether messages wait because storage takes nothing now.
    pub blocked: bool,
    /// The last error, if the session is down, a filter was refused or storage takes nothing.
    pub last_error: Option<String>,
}

impl Bridge {
    /// Prepares a bridge; it connects once it runs.
    #[must_use]
    pub fn new(config: BridgeConfig, broker: Arc<Broker>) -> Self {
        let board = Board::default();
        board.update(|status| status.broker.clone_from(&config.broker));
        Self { config, broker, board }
    }

    /// A handle that answers for the page.
    #[must_use]
    pub fn watch(&self) -> BridgeWatch {
        BridgeWatch { board: self.board.clone() }
    }

    /// Runs until shutdown; reconnects with back-off.
    pub async fn run(self, shutdown: Shutdown) {
        match session::options(&self.config) {
            Ok(options) => {
                session::Session::new(self.config, self.broker, self.board)
                    .run(options, &shutdown)
                    .await;
            }
            Err(error) => {
                tracing::error!(broker = %self.config.broker, %error, "mqtt bridge cannot start");
                self.board.update(|status| status.last_error = Some(error.to_string()));
                shutdown.requested().await;
            }
        }
    }
}

/// Reads the state of a bridge.
#[derive(Clone, Debug)]
pub struct BridgeWatch {
    board: Board,
}

impl BridgeWatch {
    /// This moment.
    #[must_use]
    pub fn status(&self) -> BridgeStatus {
        self.board.lock().clone()
    }
}

/// The status that the session writes and the page reads.
#[derive(Clone, Debug, Default)]
struct Board(Arc<Mutex<BridgeStatus>>);

impl Board {
    fn update(&self, change: impl FnOnce(&mut BridgeStatus)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, BridgeStatus> {
        // Counters alone: a panic elsewhere leaves nothing half done here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Splits `host:port`; the port defaults to MQTT's.
fn address(broker: &str) -> io::Result<(String, u16)> {
    let invalid = |why: &str| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("mqtt broker {broker:?}: {why}"))
    };
    let broker_address = broker.strip_prefix("mqtt://").unwrap_or(broker);
    let bracket = broker_address.rfind(']').unwrap_or(0);
    let (host, port) = match broker_address.get(bracket..).and_then(|rest| rest.rfind(':')) {
        Some(colon) => broker_address.split_at(bracket + colon),
        None => (broker_address, ":1883"),
    };
    if host.is_empty() {
        return Err(invalid("the host is missing"));
    }
    let port =
        port.trim_start_matches(':').parse().map_err(|_| invalid("the port is no number"))?;
    Ok((host.to_owned(), port))
}
