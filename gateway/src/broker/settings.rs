//! The topic settings that exist: Kafka's names, their defaults and the values they take.

use std::collections::BTreeMap;

/// One known topic setting.
#[derive(Clone, Copy, Debug)]
pub struct TopicSetting {
    /// Kafka's name, or one under `headwater.`.
    pub name: &'static str,
    /// What holds where a topic does not set it.
    pub default: &'static str,
    /// The values it takes.
    pub kind: SettingKind,
}

/// What values a setting takes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum SettingKind {
    /// A whole number in a range, both ends included.
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A fraction from 0 to 1.
    Ratio,
    /// `true` or `false`.
    Boolean,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Any of these, separated by commas; at least one.
    SomeOf(&'static [&'static str]),
}

/// `max.message.bytes`, enforced at every append.
pub const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
/// `cleanup.policy`.
pub const CLEANUP_POLICY: &str = "cleanup.policy";
/// What happens to an append for which the storage has no room.
pub const FULL_POLICY: &str = "headwater.full.policy";

/// Longest value: all settings of a topic share one fact with its partitions, and a number may have
/// any count of leading zeros.
const MAX_VALUE_BYTES: usize = 64;

const NUMBER: SettingKind = SettingKind::Integer { min: 0, max: i64::MAX };
/// -1 means without end.
const LIMIT: SettingKind = SettingKind::Integer { min: -1, max: i64::MAX };
const POSITIVE: SettingKind = SettingKind::Integer { min: 1, max: i64::MAX };
const SIZE: SettingKind = SettingKind::Integer { min: 0, max: i32::MAX as i64 };

/// Every topic setting, by name. Defaults are Kafka's.
pub const TOPIC_SETTINGS: &[TopicSetting] = &[
    setting(CLEANUP_POLICY, "delete", SettingKind::SomeOf(&["delete", "compact"])),
    setting(
        "compression.type",
        "producer",
        SettingKind::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
    ),
    setting("delete.retention.ms", "86400000", NUMBER),
    setting("file.delete.delay.ms", "60000", NUMBER),
    setting("flush.messages", "1", POSITIVE),
    setting("flush.ms", "0", NUMBER),
    setting(FULL_POLICY, "block", SettingKind::OneOf(&["block", "drop-oldest", "drop-newest"])),
    setting("index.interval.bytes", "4096", SIZE),
    setting("max.compaction.lag.ms", "9223372036854775807", POSITIVE),
    setting(MAX_MESSAGE_BYTES, "1048588", SIZE),
    setting("message.timestamp.after.max.ms", "9223372036854775807", NUMBER),
    setting("message.timestamp.before.max.ms", "9223372036854775807", NUMBER),
    setting(
        "message.timestamp.type",
        "CreateTime",
        SettingKind::OneOf(&["CreateTime", "LogAppendTime"]),
    ),
    setting("min.cleanable.dirty.ratio", "0.5", SettingKind::Ratio),
    setting("min.compaction.lag.ms", "0", NUMBER),
    setting("min.insync.replicas", "1", SettingKind::Integer { min: 1, max: i32::MAX as i64 }),
    setting("preallocate", "true", SettingKind::Boolean),
    setting("retention.bytes", "-1", LIMIT),
    setting("retention.ms", "604800000", LIMIT),
    setting("segment.bytes", "1073741824", SIZE),
    setting("segment.index.bytes", "10485760", SIZE),
    setting("segment.jitter.ms", "0", NUMBER),
    setting("segment.ms", "604800000", POSITIVE),
    setting("unclean.leader.election.enable", "false", SettingKind::Boolean),
];

impl TopicSetting {
    /// The setting of a name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        TOPIC_SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// Says what is wrong with a value, if anything is.
    pub fn check(&self, value: &str) -> Result<(), String> {
        if value.len() > MAX_VALUE_BYTES {
            return Err(format!("value is longer than {MAX_VALUE_BYTES} bytes"));
        }
        match self.kind {
            SettingKind::Integer { min, max } => match value.parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                _ => Err(format!("{value:?} is not a whole number from {min} to {max}")),
            },
            SettingKind::Ratio => match value.parse::<f64>() {
                Ok(number) if (0.0..=1.0).contains(&number) => Ok(()),
                _ => Err(format!("{value:?} is not a number from 0 to 1")),
            },
            SettingKind::Boolean => one_of(value, &["true", "false"]),
            SettingKind::OneOf(values) => one_of(value, values),
            SettingKind::SomeOf(values) => {
                value.split(',').try_for_each(|part| one_of(part.trim(), values))
            }
        }
    }
}

/// Checks all settings of a topic; the first wrong one is named with what is wrong.
pub(super) fn check_all(settings: &BTreeMap<String, String>) -> Result<(), (String, String)> {
    for (name, value) in settings {
        TopicSetting::by_name(name)
            .ok_or_else(|| "is not known".to_owned())
            .and_then(|setting| setting.check(value))
            .map_err(|what| (name.clone(), what))?;
    }
    Ok(())
}

const fn setting(name: &'static str, default: &'static str, kind: SettingKind) -> TopicSetting {
    TopicSetting { name, default, kind }
}

fn one_of(value: &str, values: &[&str]) -> Result<(), String> {
    if values.contains(&value) {
        Ok(())
    } else {
        Err(format!("{value:?} is not one of {}", values.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_legal_and_names_unique_and_sorted() {
        for setting in TOPIC_SETTINGS {
            assert_eq!(setting.check(setting.default), Ok(()), "{}", setting.name);
        }
        assert!(TOPIC_SETTINGS.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn values_are_judged() {
        let (zeros, more_zeros) = ("0".repeat(64), "0".repeat(65));
        let cases = [
            ("retention.ms", zeros.as_str(), true),
            ("retention.ms", &more_zeros, false),
            ("retention.ms", "-1", true),
            ("retention.ms", "-2", false),
            ("retention.ms", "1 day", false),
            ("retention.ms", "", false),
            ("cleanup.policy", "compact,delete", true),
            ("cleanup.policy", "compact, delete", true),
            ("cleanup.policy", "", false),
            ("cleanup.policy", "compact,", false),
            ("max.message.bytes", "2147483647", true),
            ("max.message.bytes", "2147483648", false),
            ("min.insync.replicas", "0", false),
            ("min.cleanable.dirty.ratio", "1.5", false),
            ("min.cleanable.dirty.ratio", "NaN", false),
            ("preallocate", "yes", false),
            ("message.timestamp.type", "LogAppendTime", true),
            ("headwater.full.policy", "drop-oldest", true),
            ("headwater.full.policy", "drop", false),
            ("retention.hours", "1", false),
        ];
        for (name, value, legal) in cases {
            let settings = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            let result = check_all(&settings);
            assert_eq!(result.is_ok(), legal, "{name} = {value:?}: {result:?}");
            assert!(result.err().is_none_or(|(named, _)| named == name));
        }
    }
}
