//! From a TOML file to a checked [`Config`]: errors name the file, the line, and the nearest valid key.

use std::{
    fmt::Display,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::broker::{MAX_PARTITIONS_PER_TOPIC, Topic};

use super::{
    Config, DeviceConfig, JournalConfig, KafkaConfig, RetentionConfig,
    nearest::nearest,
    units::{ByteSize, Span},
};

/// Why a configuration cannot be used; the text says what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// Reason.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{}: {message}", path.display())]
    Parse {
        /// File.
        path: PathBuf,
        /// Where and what, with the nearest valid key if one is near.
        message: String,
    },
    /// Each value is legal, but they do not fit.
    #[error("{0}")]
    Check(String),
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.into(), source })?;
    let config =
        parse(&text).map_err(|message| ConfigError::Parse { path: path.into(), message })?;
    check(&config)?;
    Ok(config)
}

/// Parses without checking; the error is a text for people.
pub(super) fn parse(text: &str) -> Result<Config, String> {
    toml::from_str(text).map_err(|error| explain(&error))
}

/// Rules that span several keys.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    beyond_loopback("kafka", config.kafka.listen, config.kafka.allow_plaintext)?;
    beyond_loopback("device", config.device.listen, config.device.allow_plaintext)?;
    beyond_loopback("http", config.http.listen, config.http.allow_plaintext)?;
    let wildcard = config.kafka.listen.ip().is_unspecified();
    if wildcard && config.kafka.advertised.is_none() {
        return Err(ConfigError::Check(
            "kafka.listen is a wildcard address, which clients cannot connect back to: set \
             kafka.advertised = \"HOST:PORT\" to the name they reach this gateway by"
                .into(),
        ));
    }
    match config.storage.max_bytes {
        Some(size) if size < super::MIN_STORAGE_BYTES => {
            return Err(ConfigError::Check(format!(
                "storage.max_bytes = \"{size}\" is too small: use at least \"{}\"",
                super::MIN_STORAGE_BYTES
            )));
        }
        _ => {}
    }
    check_device(&config.device)?;
    check_kafka(&config.kafka)?;
    check_journal(&config.journal)?;
    check_retention(&config.log.retention)?;
    let mut clients: Vec<_> =
        config.mqtt.bridge.iter().map(|bridge| (&bridge.broker, &bridge.client_id)).collect();
    clients.sort_unstable();
    if let Some(pair) = clients.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(ConfigError::Check(format!(
            "two [[mqtt.bridge]] tables use client_id {:?} at {}: an MQTT broker lets only one of \
             them stay connected; give each its own",
            pair[0].1, pair[0].0
        )));
    }
    Ok(())
}

/// Numbers that would keep the journal from working, or from being bounded.
fn check_journal(journal: &JournalConfig) -> Result<(), ConfigError> {
    let kib = |count: u64| ByteSize(count * 1024);
    within("journal.tail", journal.tail, kib(0), ByteSize::mib(256))?;
    within("journal.index_cache", journal.index_cache, kib(64), ByteSize::mib(1024))?;
    within("journal.index_interval", journal.index_interval, kib(256), ByteSize::mib(4))?;
    within("journal.space_retry", journal.space_retry, Span::millis(10), Span::millis(60_000))?;
    between("journal.read_threads", journal.read_threads, 1, 4)?;
    between("journal.reserve_segments", journal.reserve_segments, 1, 16)
}

fn check_device(device: &DeviceConfig) -> Result<(), ConfigError> {
    let clocks = &device.clocks_topic;
    if !Topic::is_legal_name(clocks) {
        return Err(ConfigError::Check(format!(
            "device.clocks_topic = {clocks:?} is no name of a topic: use letters, digits, '.', '_' and '-'"
        )));
    }
    if *clocks == device.topic {
        return Err(ConfigError::Check(format!(
            "device.clocks_topic and device.topic are both {clocks:?}: the topic of clocks is compacted, which \
             would delete readings; give it a name of its own"
        )));
    }
    Ok(())
}

fn check_kafka(kafka: &KafkaConfig) -> Result<(), ConfigError> {
    between("kafka.default_partitions", kafka.default_partitions, 1, MAX_PARTITIONS_PER_TOPIC)?;
    let delay = kafka.group_initial_rebalance_delay;
    let (none, most) = (Span::millis(0), Span::millis(300_000));
    within("kafka.group_initial_rebalance_delay", delay, none, most)?;
    let (least, most) = (Span::millis(60_000), Span::millis(3_650 * 86_400_000));
    within("kafka.offsets_retention", kafka.offsets_retention, least, most)
}

fn check_retention(retention: &RetentionConfig) -> Result<(), ConfigError> {
    between("log.retention.ms", retention.ms, -1, i64::MAX)?;
    between("log.retention.bytes", retention.bytes, -1, i64::MAX)?;
    let (least, most) = (Span::millis(1_000), Span::millis(86_400_000));
    within("log.retention.check_interval", retention.check_interval, least, most)
}

fn within<T: Copy + Ord + Display>(
    key: &str,
    value: T,
    least: T,
    most: T,
) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Check(format!(
        "{key} = \"{value}\" is out of range: use \"{least}\" to \"{most}\""
    )))
}

fn between<T: Copy + Ord + Display>(
    key: &str,
    value: T,
    least: T,
    most: T,
) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Check(format!("{key} = {value} is out of range: use {least} to {most}")))
}

fn beyond_loopback(table: &str, listen: SocketAddr, allowed: bool) -> Result<(), ConfigError> {
    if listen.ip().is_loopback() || allowed {
        return Ok(());
    }
    Err(ConfigError::Check(format!(
        "{table}.listen = \"{listen}\" is reachable from other machines without encryption: set \
         {table}.allow_plaintext = true if the network is trusted"
    )))
}

/// serde's text with the nearest valid key in place of the whole list.
fn explain(error: &toml::de::Error) -> String {
    let message = error.message();
    let mut text = error.to_string();
    if let Some((unknown, expected)) = unknown_field(message) {
        let hint = match nearest(unknown, &expected) {
            Some(near) => format!("unknown key `{unknown}`: did you mean `{near}`?"),
            None => format!("unknown key `{unknown}`: valid here are {}", expected.join(", ")),
        };
        text = text.replace(message, &hint);
    }
    text.trim_end().to_owned()
}

/// Reads `` unknown field `a`, expected one of `b`, `c` `` as serde words it.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    let expected = rest.split('`').skip(1).step_by(2).collect();
    Some((unknown, expected))
}

/// The valid keys that an unknown-key error lists.
#[cfg(test)]
pub(super) fn unknown_field_of(error: &toml::de::Error) -> Option<Vec<String>> {
    let (_, expected) = unknown_field(error.message())?;
    Some(expected.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default_configuration() {
        let config = parse("").unwrap();
        assert_eq!(config.kafka.listen.to_string(), "127.0.0.1:9092");
        check(&config).unwrap();
    }

    #[test]
    fn an_unknown_key_names_the_nearest_valid_one() {
        for (text, hint) in [
            ("[kafka]\nlisen = 'x'", "unknown key `lisen`: did you mean `listen`?"),
            ("[storge]\n", "unknown key `storge`: did you mean `storage`?"),
            (
                "[[mqtt.bridge]]\nbroker='b:1'\nclient_id='c'\nfilter=['a']",
                "did you mean `filters`?",
            ),
            ("[http]\nzzzzzz = 1", "valid here are listen, allow_plaintext"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(hint), "{error}");
            assert!(error.contains("line "), "{error}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_kind_says_how_to_write_it() {
        let error = parse("[storage]\nmax_bytes = \"64\"").unwrap_err();
        assert!(error.contains("write it as \"64 MiB\""), "{error}");
    }

    #[test]
    fn listening_beyond_loopback_needs_consent() {
        for table in ["kafka", "device", "http"] {
            let text = format!("[{table}]\nlisten = \"192.0.2.1:1000\"");
            let error = check(&parse(&text).unwrap()).unwrap_err().to_string();
            assert!(error.contains("allow_plaintext"), "{error}");
            let text = format!("{text}\nallow_plaintext = true");
            check(&parse(&text).unwrap()).unwrap();
        }
    }

    #[test]
    fn a_wildcard_kafka_listener_needs_an_advertised_name() {
        let text = "[kafka]\nlisten = \"0.0.0.0:9092\"\nallow_plaintext = true";
        assert!(check(&parse(text).unwrap()).is_err());
        let text = format!("{text}\nadvertised = \"pi.local:9092\"");
        check(&parse(&text).unwrap()).unwrap();
    }

    #[test]
    fn numbers_out_of_range_say_what_is_in_it() {
        for (text, error) in [
            (
                "[journal]\ntail = '257 MiB'",
                "journal.tail = \"257 MiB\" is out of range: use \"0 B\" to \"256 MiB\"",
            ),
            ("device.clocks_topic = 'a b'", "device.clocks_topic = \"a b\" is no name"),
            ("device.clocks_topic = 'readings'", "give it a name of its own"),
            ("[journal]\nindex_cache = '63 KiB'", "journal.index_cache"),
            ("[journal]\nindex_interval = '5 MiB'", "journal.index_interval"),
            ("[journal]\nread_threads = 5", "journal.read_threads = 5 is out of range: use 1 to 4"),
            ("[journal]\nread_threads = 0", "journal.read_threads"),
            ("[journal]\nspace_retry = '9 ms'", "journal.space_retry"),
            ("[journal]\nreserve_segments = 0", "journal.reserve_segments"),
            ("log.retention.ms = -2", "log.retention.ms = -2"),
            ("log.retention.bytes = -2", "log.retention.bytes"),
            ("[log.retention]\ncheck_interval = '0 s'", "log.retention.check_interval"),
        ] {
            let found = check(&parse(text).unwrap()).unwrap_err().to_string();
            assert!(found.contains(error), "{found}");
        }
        let largest = "[journal]\ntail = '256 MiB'\nread_threads = 4\n[log.retention]\nms = -1";
        check(&parse(largest).unwrap()).unwrap();
        let policy = parse("[storage]\nfull_policy = 'drop'").unwrap_err();
        assert!(policy.contains("drop-oldest"), "{policy}");
    }

    #[test]
    fn two_bridges_may_not_share_a_client_id() {
        let bridge = "[[mqtt.bridge]]\nbroker = \"b:1883\"\nclient_id = \"c\"\nfilters = [\"#\"]\n";
        check(&parse(bridge).unwrap()).unwrap();
        assert!(check(&parse(&bridge.repeat(2)).unwrap()).is_err());
    }
}
