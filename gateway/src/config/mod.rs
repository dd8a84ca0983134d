//! The gateway's configuration: one TOML file, every key with a default, units inside the values.
//!
//! The types are the schema: a key is a field, its default is in the `Default` next to it, and
//! `deploy/headwater.toml` lists them all (a test compares the two).

mod load;
mod nearest;
#[cfg(test)]
mod sample;
mod serial;
pub mod units;

pub use load::{ConfigError, check, load};
pub use serial::{PortPattern, PortSource, SerialConfig, UsbId};

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::Deserialize;
use units::{ByteSize, Span};

use crate::{
    broker::FullPolicy,
    journal::{SCRUB_BYTES_PER_S, SCRUB_INTERVAL},
};

/// Everything `headwater serve` can be told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[storage]`
    pub storage: StorageConfig,
    /// `[journal]`
    pub journal: JournalConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[kafka]`
    pub kafka: KafkaConfig,
    /// `[mqtt]`
    pub mqtt: MqttConfig,
    /// `[device]`
    pub device: DeviceConfig,
    /// `[uplink]`
    pub uplink: UplinkConfig,
    /// `[http]`
    pub http: HttpConfig,
    /// `[views]`
    pub views: ViewsConfig,
    /// `[topics."name"]`: created at start with these settings (`partitions` and Kafka's topic settings).
    pub topics: BTreeMap<String, TopicConfig>,
}

/// `[storage]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// Data folder.
    pub path: PathBuf,
    /// Budget of everything below the folder; none: half of the free space at first start, at most 16 GiB.
    pub max_bytes: Option<ByteSize>,
    /// What happens to new records of a topic without a policy of its own when that is in use: `block`, `drop-oldest`
    /// or `drop-newest`.
    pub full_policy: FullPolicy,
}

/// `[log]`: what topics keep that do not say otherwise. Kafka's names, written with their dots.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `[log.retention]`
    pub retention: RetentionConfig,
}

/// `[log.retention]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// `log.retention.ms`: default of `retention.ms`, -1: without end.
    pub ms: i64,
    /// `log.retention.bytes`: default of `retention.bytes`, per partition, -1: whatever there is room for.
    pub bytes: i64,
    /// How often it is looked what may go.
    pub check_interval: Span,
}

/// `[journal]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournalConfig {
    /// `auto`, `ssd` or `card`.
    pub profile: JournalProfile,
    /// Size of a segment; none: max_bytes / 16 between 2 MiB and 64 MiB.
    pub segment_bytes: Option<ByteSize>,
    /// How long a commit waits for company; none: the profile's.
    pub linger: Option<Span>,
    /// Bytes a second that the background scrub reads; `0 B`: no scrub.
    pub scrub_rate: ByteSize,
    /// From the start of one pass of the scrub to the next.
    pub scrub_interval: Span,
    /// Memory for the newest frames, 0 B to 256 MiB.
    pub tail: ByteSize,
    /// Memory for the indexes of older segments, 64 KiB to 1 GiB.
    pub index_cache: ByteSize,
    /// Log between two chunks of an index file, 256 KiB to 4 MiB: twice this is what a start after a kill scans at most.
    pub index_interval: ByteSize,
    /// Threads that read files, 1 to 4.
    pub read_threads: usize,
    /// How often to look for space on a full disk, 10 ms to 1 min.
    pub space_retry: Span,
    /// Segments set aside for freeing space and for the next start, 1 to 16; at most a quarter of all.
    pub reserve_segments: u64,
}

/// What kind of medium the journal is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalProfile {
    /// `card` on mmcblk devices, else `ssd`.
    #[default]
    Auto,
    /// Frames of 1 MiB, no linger.
    Ssd,
    /// SD card or eMMC: frames of 256 KiB, a linger.
    Card,
}

/// `[kafka]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// Listen address.
    pub listen: SocketAddr,
    /// Host name and port told to clients; none: the listen address.
    pub advertised: Option<String>,
    /// Listen beyond loopback without TLS.
    pub allow_plaintext: bool,
    /// Create unknown topics on Metadata (Kafka's `auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// Partitions of topics that are created without a count (Kafka's `num.partitions`).
    pub default_partitions: u32,
    /// How long the first rebalance of an empty group waits for more members.
    pub group_initial_rebalance_delay: Span,
    /// How long the offsets of a group are kept after its last member left.
    pub offsets_retention: Span,
    /// Largest request frame.
    pub max_request_bytes: ByteSize,
    /// Connections at once.
    pub max_connections: usize,
}

/// `[views]`: lookups that are built from the log.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ViewsConfig {
    /// Topics whose last record of a key can be asked for.
    pub key_lookup: Vec<String>,
}

/// `[mqtt]`: bridges to existing brokers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConfig {
    /// `[[mqtt.bridge]]`
    pub bridge: Vec<BridgeConfig>,
}

/// `[[mqtt.bridge]]`: pulls from an existing MQTT broker.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeConfig {
    /// `host:port` of the broker.
    pub broker: String,
    /// MQTT client id; the session is persistent, so it must be stable.
    pub client_id: String,
    /// Topic filters to subscribe to.
    pub filters: Vec<String>,
    /// Kafka topic that takes the messages (key = MQTT topic name, value = payload).
    #[serde(default = "default_mqtt_topic")]
    pub topic: String,
    /// User name.
    #[serde(default)]
    pub username: Option<String>,
    /// Password.
    #[serde(default)]
    pub password: Option<String>,
}

fn default_mqtt_topic() -> String {
    "mqtt".into()
}

/// `[device]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceConfig {
    /// TCP listen address of the device link.
    pub listen: SocketAddr,
    /// Listen beyond loopback (the link has no encryption yet).
    pub allow_plaintext: bool,
    /// Topic of the readings.
    pub topic: String,
    /// Compacted topic of the devices' clocks.
    pub clocks_topic: String,
    /// What becomes of a device that nobody knows.
    pub unknown: UnknownDevices,
    /// What the gateway knows of a device and puts into the headers of its records.
    pub headers: Vec<DeviceHeader>,
    /// Topic whose records are commands: key = device id, value = what to do.
    pub commands_topic: String,
    /// Topic of what became of them.
    pub results_topic: String,
    /// Connections at once.
    pub max_connections: usize,
    /// `[[device.serial]]`
    pub serial: Vec<SerialConfig>,
}

/// `device.unknown`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownDevices {
    /// It comes in.
    #[default]
    Accept,
    /// It waits until somebody approves it.
    Hold,
    /// It stays outside.
    Refuse,
}

/// One of `device.headers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceHeader {
    /// `name`.
    Name,
    /// `label.<name>` for each.
    Labels,
}

/// `[uplink]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UplinkConfig {
    /// `host:port` list of the central Kafka; empty: no uplink.
    pub bootstrap: Vec<String>,
    /// Topics that are forwarded; `*` is all.
    pub topics: Vec<String>,
    /// Put before the central topic's name.
    pub prefix: String,
    /// Compacted central topic that holds the cursors.
    pub cursor_topic: String,
    /// Longest time that data waits for a transaction to fill.
    pub interval: Span,
    /// Largest transaction.
    pub max_transaction_bytes: ByteSize,
}

/// `[http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Listen address of page, metrics, health and API.
    pub listen: SocketAddr,
    /// Listen beyond loopback without TLS.
    pub allow_plaintext: bool,
}

/// `[topics."name"]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TopicConfig {
    /// Partitions; none: the default.
    pub partitions: Option<u32>,
    /// Kafka's topic settings by name.
    #[serde(flatten)]
    pub settings: BTreeMap<String, toml::Value>,
}

/// Least budget: below it segments would be too small to hold their own snapshots.
pub const MIN_STORAGE_BYTES: ByteSize = ByteSize::mib(16);

const LOOPBACK: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

impl Default for StorageConfig {
    fn default() -> Self {
        Self { path: "headwater-data".into(), max_bytes: None, full_policy: FullPolicy::default() }
    }
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { ms: 604_800_000, bytes: -1, check_interval: Span::millis(60_000) }
    }
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            profile: JournalProfile::default(),
            segment_bytes: None,
            linger: None,
            scrub_rate: ByteSize(SCRUB_BYTES_PER_S),
            scrub_interval: Span(SCRUB_INTERVAL),
            tail: ByteSize::mib(4),
            index_cache: ByteSize::mib(8),
            index_interval: ByteSize::mib(4),
            read_threads: 2,
            space_retry: Span::millis(1_000),
            reserve_segments: 2,
        }
    }
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(LOOPBACK, 9092),
            advertised: None,
            allow_plaintext: false,
            auto_create_topics: true,
            default_partitions: 1,
            group_initial_rebalance_delay: Span::millis(250),
            offsets_retention: Span::millis(604_800_000),
            max_request_bytes: ByteSize::mib(8),
            max_connections: 512,
        }
    }
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(LOOPBACK, 7411),
            allow_plaintext: false,
            topic: "readings".into(),
            clocks_topic: "device-clocks".into(),
            unknown: UnknownDevices::Accept,
            headers: Vec::new(),
            commands_topic: "device-commands".into(),
            results_topic: "device-results".into(),
            max_connections: 1024,
            serial: Vec::new(),
        }
    }
}

impl Default for UplinkConfig {
    fn default() -> Self {
        Self {
            bootstrap: Vec::new(),
            topics: vec!["*".into()],
            prefix: String::new(),
            cursor_topic: "headwater-cursors".into(),
            interval: Span::millis(200),
            max_transaction_bytes: ByteSize::mib(4),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::new(LOOPBACK, 8080), allow_plaintext: false }
    }
}
