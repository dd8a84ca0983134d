//! Starts every service of the gateway and stops them in order: inputs first, the journal last.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use crate::{
    Config, Shutdown,
    broker::{self, Broker, BrokerOptions, Keeper, TopicDefaults, TopicError},
    config::{ConfigError, TopicConfig},
    device::Devices,
    http::{Http, HttpState},
    journal::{self, Disk, Journal, JournalOptions, OpenError},
    kafka,
    mqtt::bridge::Bridge,
    uplink::Uplink,
    views::{StoreError, Views},
};

/// How long services may take to answer what is in flight; with the journal's own close this stays below the 2 s
/// that are promised for a stop.
const DRAIN: Duration = Duration::from_millis(1_200);

/// Default of Kafka's `max.message.bytes`, bytes.
const MAX_MESSAGE_BYTES: usize = 1_048_588;

/// Where the gateway listens, with the ports that the system chose where port 0 was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Kafka clients.
    pub kafka: SocketAddr,
    /// Devices over TCP.
    pub device: SocketAddr,
    /// Page, metrics and API.
    pub http: SocketAddr,
}

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Keys that do not fit.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder or the journal in it cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({table}.listen): is another gateway running?")]
    Bind {
        /// Configuration table.
        table: &'static str,
        /// Address asked for.
        address: SocketAddr,
        /// Reason.
        source: io::Error,
    },
    /// A configured topic cannot be created.
    #[error("[topics.{name:?}]")]
    Topic {
        /// Topic.
        name: String,
        /// Reason.
        source: TopicError,
    },
    /// The views cannot be opened, nor begun anew.
    #[error(transparent)]
    Views(#[from] StoreError),
    /// What the journal holds cannot be taken over.
    #[error(transparent)]
    Broker(#[from] broker::OpenError),
}

/// Runs the gateway on `disk` until shutdown. `on_ready` is called once every listener accepts.
pub async fn run(
    config: Config,
    disk: Arc<dyn Disk>,
    shutdown: Shutdown,
    on_ready: impl FnOnce(&Addresses),
) -> Result<(), RunError> {
    crate::config::check(&config)?;
    let options = JournalOptions::from_config(&config.storage, &config.journal)?;
    let opening = tokio::task::spawn_blocking(move || journal::open(disk, &options));
    let (journal, state) = opening.await.expect("opening does not panic")?;
    let broker = Broker::open(journal.clone(), state, broker_options(&config)).await?;
    create_topics(&broker, &config.topics).await?;

    let served = serve(&config, &broker, &shutdown, on_ready).await;
    close(journal).await;
    served
}

/// Starts the services and returns when all have stopped.
async fn serve(
    config: &Config,
    broker: &Arc<Broker>,
    shutdown: &Shutdown,
    on_ready: impl FnOnce(&Addresses),
) -> Result<(), RunError> {
    let kafka = kafka::Server::bind(&config.kafka, broker.clone())
        .await
        .map_err(bind_error("kafka", config.kafka.listen))?
        .with_data_folder(&config.storage.path);
    let devices = Devices::bind(&config.device, broker.clone())
        .await
        .map_err(bind_error("device", config.device.listen))?;
    let bridges: Vec<Bridge> = config
        .mqtt
        .bridge
        .iter()
        .map(|bridge| Bridge::new(bridge.clone(), broker.clone()))
        .collect();
    let uplink = (!config.uplink.bootstrap.is_empty())
        .then(|| Uplink::new(config.uplink.clone(), broker.clone()));
    let views = open_views(config, broker).await?;
    let state = HttpState {
        broker: broker.clone(),
        views: views.clone(),
        devices: Some(devices.watch()),
        bridges: bridges.iter().map(Bridge::watch).collect(),
        uplink: uplink.as_ref().map(Uplink::watch),
    };
    let http =
        Http::bind(&config.http, state).await.map_err(bind_error("http", config.http.listen))?;
    let addresses = Addresses {
        kafka: kafka.local_addr(),
        device: devices.local_addr(),
        http: http.local_addr(),
    };

    let mut services = JoinSet::new();
    let keeper = Keeper::new(broker.clone(), config.log.retention.check_interval.0);
    services.spawn(keeper.run(shutdown.clone()));
    services.spawn(kafka.run(shutdown.clone()));
    services.spawn(devices.run(shutdown.clone()));
    services.spawn(http.run(shutdown.clone()));
    for bridge in bridges {
        services.spawn(bridge.run(shutdown.clone()));
    }
    if let Some(views) = views {
        services.spawn(views.run(shutdown.clone()));
    }
    if let Some(uplink) = uplink {
        services.spawn(uplink.run(shutdown.clone()));
    }
    tracing::info!(kafka = %addresses.kafka, device = %addresses.device, http = %addresses.http, "serving");
    on_ready(&addresses);
    stop(services, shutdown).await;
    Ok(())
}

/// The views that are configured; without any, none of their files.
async fn open_views(config: &Config, broker: &Arc<Broker>) -> Result<Option<Arc<Views>>, RunError> {
    let topics = config.views.key_lookup.clone();
    if topics.is_empty() {
        return Ok(None);
    }
    let (data, broker) = (config.storage.path.clone(), Arc::clone(broker));
    let opening = tokio::task::spawn_blocking(move || Views::open(&data, broker, &topics));
    Ok(Some(opening.await.expect("a panic of sled is caught")?))
}

/// Waits for the signal, then for the services, but not for ever.
async fn stop(mut services: JoinSet<()>, shutdown: &Shutdown) {
    shutdown.requested().await;
    tracing::info!("stopping");
    let all_ended = async { while services.join_next().await.is_some() {} };
    if timeout(DRAIN, all_ended).await.is_err() {
        tracing::warn!(left = services.len(), "some services were still busy and are cut off");
    }
    services.shutdown().await;
}

/// What is queued becomes durable; nobody waits for its acknowledgement any more, so a failure loses no promise.
async fn close(journal: Journal) {
    let closing = tokio::task::spawn_blocking(move || journal.close());
    match closing.await {
        Ok(Ok(())) => tracing::info!("stopped"),
        Ok(Err(error)) => tracing::error!(%error, "the journal did not close cleanly"),
        Err(error) => tracing::error!(%error, "the journal did not close"),
    }
}

fn broker_options(config: &Config) -> BrokerOptions {
    BrokerOptions {
        default_partitions: config.kafka.default_partitions,
        auto_create_topics: config.kafka.auto_create_topics,
        max_message_bytes: MAX_MESSAGE_BYTES,
        topic_defaults: TopicDefaults {
            // Below 0 is without end.
            retention_ms: u64::try_from(config.log.retention.ms).ok(),
            retention_bytes: u64::try_from(config.log.retention.bytes).ok(),
            full: config.storage.full_policy,
        },
    }
}

async fn create_topics(
    broker: &Broker,
    topics: &BTreeMap<String, TopicConfig>,
) -> Result<(), RunError> {
    for (name, topic) in topics {
        if let Some(existing) = broker.topic(name) {
            let count = existing.partitions.len();
            if topic.partitions.is_some_and(|wanted| wanted as usize != count) {
                tracing::warn!(topic = %name, partitions = count, "exists with another partition count");
            }
            continue;
        }
        let mut settings = BTreeMap::new();
        topic.settings.iter().for_each(|(key, value)| flatten(key, value, &mut settings));
        broker
            .create_topic(name, topic.partitions, settings)
            .await
            .map_err(|source| RunError::Topic { name: name.clone(), source })?;
    }
    Ok(())
}

/// A TOML value as Kafka's settings are written: text without quotes, and names with dots whether or not they were in quotes.
fn flatten(name: &str, value: &toml::Value, out: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            table.iter().for_each(|(key, value)| flatten(&format!("{name}.{key}"), value, out));
        }
        toml::Value::String(text) => {
            out.insert(name.to_owned(), text.clone());
        }
        value => {
            out.insert(name.to_owned(), value.to_string());
        }
    }
}

fn bind_error(table: &'static str, address: SocketAddr) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::Bind { table, address, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_topic_are_read_with_and_without_quotes() {
        let text = "retention.ms = 5\n'retention.bytes' = '6'\nheadwater.full.policy = 'drop-oldest'\npreallocate = true";
        let table: toml::Table = text.parse().unwrap();
        let mut found = BTreeMap::new();
        table.iter().for_each(|(key, value)| flatten(key, value, &mut found));
        let expected = [
            ("headwater.full.policy", "drop-oldest"),
            ("preallocate", "true"),
            ("retention.bytes", "6"),
            ("retention.ms", "5"),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}
