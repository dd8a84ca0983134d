//! The connection of a command to a gateway, and what to do when there is none.

use std::{future::Future, time::Duration};

use anyhow::{Context, Result, anyhow};
use krafka::{Kafka, error::KrafkaError};

/// Where a gateway listens by default.
const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:9092";

/// A person waits for this: not long for what is next door.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Which gateway a command talks to.
#[derive(Debug, clap::Args)]
pub(super) struct Gateway {
    /// Address of the gateway (or of any Kafka broker)
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_BOOTSTRAP, global = true)]
    pub(super) bootstrap: String,
}

/// Whether asking for a topic may create it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// If the gateway is configured to.
    MayBeCreated,
    /// Never: it is a typing error.
    IsAnError,
}

impl Gateway {
    /// Connects; the error says how to get a gateway.
    pub(super) async fn connect(&self, unknown_topics: Unknown) -> Result<Kafka> {
        Kafka::builder(&self.bootstrap)
            .client_id("headwater-cli")
            .connect_timeout(CONNECT_TIMEOUT)
            .request_timeout(REQUEST_TIMEOUT)
            .allow_auto_create_topics(unknown_topics == Unknown::MayBeCreated)
            .connect()
            .await
            .map_err(|error| self.explain(error))
    }

    /// An error of the client, with the next step where one is known.
    pub(super) fn explain(&self, error: KrafkaError) -> anyhow::Error {
        let address = &self.bootstrap;
        match error {
            KrafkaError::Network(_) | KrafkaError::Timeout { .. } => anyhow!(
                "no gateway at {address}: start one with `headwater serve`, or name another with --bootstrap ({error})"
            ),
            KrafkaError::Config { message } => {
                anyhow!("{address:?} is no address: use --bootstrap HOST:PORT ({message})")
            }
            KrafkaError::Protocol { message, .. } => anyhow!("not possible: {message}"),
            other => anyhow!(other).context(format!("the gateway at {address} refused")),
        }
    }

    /// What to say about a topic that is not there.
    pub(super) fn no_topic(&self, topic: &str) -> anyhow::Error {
        let address = &self.bootstrap;
        anyhow!(
            "there is no topic {topic:?} at {address}: `headwater topics` lists what is there, \
             `headwater topics create {topic}` makes it"
        )
    }
}

/// Runs one command on a runtime of its own.
pub(super) fn block_on(command: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(command)
}
