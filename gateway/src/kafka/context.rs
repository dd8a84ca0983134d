//! What every handler needs: the broker, what this node says of itself, and the limits of the
//! server.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use crate::{
    Shutdown,
    broker::{
        Broker, Topic,
        group::{GroupOptions, Groups},
    },
    config::KafkaConfig,
    journal::PartitionId,
};

use super::{
    budget::Budget,
    codec::StrBytes,
    fetch_sessions::FetchSessions,
    frames::{FrameLimits, RequestMemory},
    refusal::RefusalLog,
    timer::Patience,
};

/// The only node of the cluster that a gateway is.
pub(crate) const NODE_ID: i32 = 1;

/// What everybody may do to the cluster, as bits by Kafka's operation codes: create, alter,
/// describe, cluster action, describe and alter configs, idempotent write.
pub(crate) const CLUSTER_OPERATIONS: i32 =
    1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

/// What everybody may do to a topic: read, write, create, delete, alter, describe, describe and alter
/// configs.
pub(crate) const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;

/// Memory of all requests that are being received or answered: 16 MiB, a quarter of it for small
/// ones alone.
const SMALL_REQUEST_MEMORY_BYTES: usize = 4 * 1024 * 1024;
const LARGE_REQUEST_MEMORY_BYTES: usize = 12 * 1024 * 1024;

/// Large control requests that are decoded at once: decoding may take many times their size.
const LARGE_DECODES: usize = 1;

/// Memory of all Fetch responses that are being collected or sent.
const RESPONSE_MEMORY_BYTES: usize = 8 * 1024 * 1024;

/// Frames of connections that have not shown to speak Kafka.
const UNPROVEN_FRAME_BYTES: usize = 64 * 1024;

/// Frames of requests without records: metadata of some ten thousand partitions.
const CONTROL_FRAME_BYTES: usize = 512 * 1024;

/// Shared by all connections of a server.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) broker: Arc<Broker>,
    pub(crate) groups: Groups,
    pub(crate) fetch_sessions: FetchSessions,
    /// Kafka's cluster id: the gateway's id.
    pub(crate) cluster_id: StrBytes,
    /// Where the gateway keeps its data, as it is told to clients.
    pub(crate) data_folder: StrBytes,
    pub(crate) auto_create_topics: bool,
    pub(crate) offsets_retention: Duration,
    pub(crate) initial_rebalance_delay: Duration,
    pub(crate) frame_limits: FrameLimits,
    pub(crate) memory: RequestMemory,
    pub(crate) large_decodes: Semaphore,
    pub(crate) responses: Budget,
    pub(crate) refusals: RefusalLog,
    pub(crate) patience: Patience,
    pub(crate) shutdown: Shutdown,
}

/// Where a client reaches this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: StrBytes,
    pub(crate) port: i32,
}

impl Context {
    pub(crate) fn new(config: &KafkaConfig, broker: Arc<Broker>, shutdown: Shutdown) -> Self {
        let produce_bytes = usize::try_from(config.max_request_bytes.0).unwrap_or(usize::MAX);
        Self {
            cluster_id: broker.cluster_id().into(),
            groups: Groups::new(Arc::clone(&broker), group_options(config)),
            fetch_sessions: FetchSessions::default(),
            offsets_retention: config.offsets_retention.0,
            initial_rebalance_delay: config.group_initial_rebalance_delay.0,
            broker,
            data_folder: StrBytes::default(),
            auto_create_topics: config.auto_create_topics,
            frame_limits: FrameLimits {
                unproven_bytes: UNPROVEN_FRAME_BYTES,
                control_bytes: CONTROL_FRAME_BYTES,
                produce_bytes: produce_bytes.clamp(CONTROL_FRAME_BYTES, LARGE_REQUEST_MEMORY_BYTES),
            },
            memory: RequestMemory::new(SMALL_REQUEST_MEMORY_BYTES, LARGE_REQUEST_MEMORY_BYTES),
            large_decodes: Semaphore::new(LARGE_DECODES),
            responses: Budget::new(RESPONSE_MEMORY_BYTES),
            refusals: RefusalLog::default(),
            patience: Patience::default(),
            shutdown,
        }
    }
}

fn group_options(config: &KafkaConfig) -> GroupOptions {
    GroupOptions {
        initial_rebalance_delay: config.group_initial_rebalance_delay.0,
        offsets_retention: config.offsets_retention.0,
        ..GroupOptions::default()
    }
}

impl Context {
    /// A partition by its index in a topic.
    pub(crate) fn partition(topic: &Topic, index: i32) -> Option<PartitionId> {
        topic.partitions.get(usize::try_from(index).ok()?).copied()
    }
}

impl Endpoint {
    /// Parses the `advertised` setting; the port may be left out.
    pub(crate) fn parse(advertised: &str, default_port: u16) -> Option<Self> {
        let (host, port) = match advertised.rsplit_once(':') {
            // An IPv6 address without brackets and port.
            Some((host, _)) if host.contains(':') && !host.starts_with('[') => {
                (advertised, default_port)
            }
            Some((host, port)) if !advertised.ends_with(']') => (host, port.parse().ok()?),
            _ => (advertised, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let unspecified = matches!(host, "" | "0.0.0.0" | "::" | "*");
        (!unspecified && port != 0).then(|| Self { host: host.into(), port: port.into() })
    }

    /// The address under which a client did reach the gateway: right on every interface.
    pub(crate) fn of_socket(local: SocketAddr) -> Self {
        let host = local.ip().to_canonical().to_string();
        Self { host: host.into(), port: local.port().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertised_addresses() {
        let check = |text: &str, expect: Option<(&str, i32)>| {
            let expect = expect.map(|(host, port)| Endpoint { host: host.into(), port });
            assert_eq!(Endpoint::parse(text, 9092), expect, "{text:?}");
        };
        check("gateway.local:9192", Some(("gateway.local", 9192)));
        check("gateway.local", Some(("gateway.local", 9092)));
        check("10.0.0.1:1", Some(("10.0.0.1", 1)));
        check("[fe80::1]:9192", Some(("fe80::1", 9192)));
        check("[fe80::1]", Some(("fe80::1", 9092)));
        check("fe80::1", Some(("fe80::1", 9092)));
        check("0.0.0.0:9092", None);
        check("[::]:9092", None);
        check(":9092", None);
        check("host:0", None);
        check("host:port", None);
        check("", None);
    }

    #[test]
    fn a_mapped_address_is_advertised_as_ipv4() {
        let local = "[::ffff:192.168.1.5]:9092".parse().expect("an address");
        assert_eq!(Endpoint::of_socket(local).host.as_str(), "192.168.1.5");
    }
}
