//! The topic settings that exist: Kafka's names, their defaults and the values they take.

use std::collections::BTreeMap;

use crate::record::Compression;

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
    /// Any of these, separated by commas; none of them, too.
    SomeOf(&'static [&'static str]),
}

/// `max.message.bytes`, enforced at every append.
pub const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
/// `cleanup.policy`.
pub const CLEANUP_POLICY: &str = "cleanup.policy";
/// What happens to an append for which the storage has no room.
pub const FULL_POLICY: &str = "headwater.full.policy";
/// What a reader gets of offsets that damage took.
pub const DAMAGE_POLICY: &str = "headwater.damage.policy";
/// Whether records that the centre does not hold yet may be deleted or dropped, where an uplink forwards the topic.
pub const UNREPLICATED_POLICY: &str = "headwater.unreplicated.policy";
/// `retention.ms`.
pub const RETENTION_MS: &str = "retention.ms";
/// `retention.bytes`.
pub const RETENTION_BYTES: &str = "retention.bytes";
const COMPRESSION_TYPE: &str = "compression.type";
const TIMESTAMP_TYPE: &str = "message.timestamp.type";
const TIMESTAMP_BEFORE: &str = "message.timestamp.before.max.ms";
const TIMESTAMP_AFTER: &str = "message.timestamp.after.max.ms";
const LOG_APPEND_TIME: &str = "LogAppendTime";
const DELETE_RETENTION_MS: &str = "delete.retention.ms";
const MIN_COMPACTION_LAG_MS: &str = "min.compaction.lag.ms";
const MAX_COMPACTION_LAG_MS: &str = "max.compaction.lag.ms";
const DELETE: &str = "delete";
const COMPACT: &str = "compact";
const BLOCK: &str = "block";
const DROP_OLDEST: &str = "drop-oldest";
const DROP_NEWEST: &str = "drop-newest";
const ERROR: &str = "error";
const SKIP: &str = "skip";
const KEEP: &str = "keep";
const DROP: &str = "drop";

/// Longest value: all settings of a topic share one fact with its partitions, and a number may have
/// any count of leading zeros.
const MAX_VALUE_BYTES: usize = 64;

const NUMBER: SettingKind = SettingKind::Integer { min: 0, max: i64::MAX };
/// -1 means without end.
const LIMIT: SettingKind = SettingKind::Integer { min: -1, max: i64::MAX };
const POSITIVE: SettingKind = SettingKind::Integer { min: 1, max: i64::MAX };
const SIZE: SettingKind = SettingKind::Integer { min: 0, max: i32::MAX as i64 };
/// Kafka takes no smaller ones.
const SEGMENT_SIZE: SettingKind = SettingKind::Integer { min: 1 << 20, max: i32::MAX as i64 };

/// Every topic setting, by name. Defaults are Kafka's where nothing else is said.
pub const TOPIC_SETTINGS: &[TopicSetting] = &[
    setting(CLEANUP_POLICY, DELETE, SettingKind::SomeOf(&[DELETE, COMPACT])),
    setting(
        COMPRESSION_TYPE,
        "producer",
        SettingKind::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
    ),
    setting(DELETE_RETENTION_MS, "86400000", NUMBER),
    setting("file.delete.delay.ms", "60000", NUMBER),
    setting("flush.messages", "1", POSITIVE),
    setting("flush.ms", "0", NUMBER),
    setting(DAMAGE_POLICY, ERROR, SettingKind::OneOf(&[ERROR, SKIP])),
    setting(FULL_POLICY, BLOCK, SettingKind::OneOf(&[BLOCK, DROP_OLDEST, DROP_NEWEST])),
    setting(UNREPLICATED_POLICY, KEEP, SettingKind::OneOf(&[KEEP, DROP])),
    setting("index.interval.bytes", "4096", SIZE),
    setting(MAX_COMPACTION_LAG_MS, "9223372036854775807", POSITIVE),
    setting(MAX_MESSAGE_BYTES, "1048588", SIZE),
    // Not Kafka's hour: a gateway whose own clock is not set yet would refuse every record.
    setting(TIMESTAMP_AFTER, "9223372036854775807", NUMBER),
    setting(TIMESTAMP_BEFORE, "9223372036854775807", NUMBER),
    setting(TIMESTAMP_TYPE, "CreateTime", SettingKind::OneOf(&["CreateTime", LOG_APPEND_TIME])),
    setting("min.cleanable.dirty.ratio", "0.5", SettingKind::Ratio),
    setting(MIN_COMPACTION_LAG_MS, "0", NUMBER),
    // There is one replica, and a topic that wanted two would never take a record.
    setting("min.insync.replicas", "1", SettingKind::Integer { min: 1, max: 1 }),
    setting("preallocate", "true", SettingKind::Boolean),
    setting(RETENTION_BYTES, "-1", LIMIT),
    setting(RETENTION_MS, "604800000", LIMIT),
    setting("segment.bytes", "1073741824", SEGMENT_SIZE),
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
            SettingKind::SomeOf(_) if value.is_empty() => Ok(()),
            SettingKind::SomeOf(values) => {
                value.split(',').try_for_each(|part| one_of(part.trim(), values))
            }
        }
    }
}

/// What the gateway acts on of a topic's settings, with the defaults filled in. The other known settings are
/// stored and shown to whoever asks, and change nothing: `segment.bytes` and `segment.ms` for one, since all
/// partitions share the journal's segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// What the cleaner does with old records.
    pub cleanup: CleanupPolicy,
    /// What happens to an append for which the storage has no room.
    pub full: FullPolicy,
    /// What a reader gets of offsets that damage took.
    pub damage: DamagePolicy,
    /// Whether records that the centre does not hold yet may go.
    pub unreplicated: UnreplicatedPolicy,
    /// Records older than this may be deleted, ms; none: whatever their age.
    pub retention_ms: Option<u64>,
    /// What a partition may hold before its oldest records may be deleted, bytes; none: whatever there is room for.
    pub retention_bytes: Option<u64>,
    /// How long a compacted partition keeps the mark that a key was deleted, ms.
    pub delete_retention_ms: u64,
    /// Records younger than this are not compacted, ms.
    pub min_compaction_lag_ms: u64,
    /// Records older than this are to be compacted, ms.
    pub max_compaction_lag_ms: u64,
    /// Largest batch, bytes; none: what the gateway allows.
    pub max_message_bytes: Option<usize>,
    /// What Kafka's clients are held to.
    pub batches: BatchRules,
}

/// What a topic asks of the batches that Kafka's clients send, and makes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRules {
    /// Every record needs a key, since the topic is compacted.
    pub needs_keys: bool,
    /// Records have the time of their append, not the producer's.
    pub log_append_time: bool,
    /// How far before now a producer's time may lie, ms.
    pub before_max_ms: u64,
    /// How far after now it may lie, ms.
    pub after_max_ms: u64,
    /// How batches are stored; none: as they come.
    pub compression: Option<Compression>,
    /// Largest batch, bytes; none: what the gateway allows.
    pub max_message_bytes: Option<usize>,
}

impl BatchRules {
    /// Whether settings say anything of the kind: where they do not, batches are stored as they come.
    #[must_use]
    pub fn are_set_by(settings: &BTreeMap<String, String>) -> bool {
        [CLEANUP_POLICY, COMPRESSION_TYPE, TIMESTAMP_TYPE, TIMESTAMP_BEFORE, TIMESTAMP_AFTER]
            .iter()
            .any(|name| settings.contains_key(*name))
    }
}

/// `cleanup.policy`; with neither everything is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old records are deleted by the retention settings.
    pub delete: bool,
    /// Of each key the latest record is kept.
    pub compact: bool,
}

/// `headwater.full.policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FullPolicy {
    /// Back-pressure: a retriable error, nothing is lost.
    #[default]
    Block,
    /// The topic's oldest records make room, and a gap record says so.
    DropOldest,
    /// The new records are refused for good, and gap records say where and how many.
    DropNewest,
}

/// `headwater.damage.policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DamagePolicy {
    /// An error (Kafka: `CORRUPT_MESSAGE`), each time, until a person decides.
    #[default]
    Error,
    /// What follows; the offsets passed over are counted and logged.
    Skip,
}

/// `headwater.unreplicated.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreplicatedPolicy {
    /// Neither retention nor full storage take what the centre does not hold.
    Keep,
    /// They ask nobody.
    Drop,
}

/// What holds for topics that do not say otherwise; the other settings have the defaults of [`TOPIC_SETTINGS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicDefaults {
    /// `log.retention.ms`; none: without end.
    pub retention_ms: Option<u64>,
    /// `log.retention.bytes`; none: whatever there is room for.
    pub retention_bytes: Option<u64>,
    /// `storage.full_policy`.
    pub full: FullPolicy,
}

impl Default for TopicDefaults {
    fn default() -> Self {
        Self { retention_ms: Some(604_800_000), retention_bytes: None, full: FullPolicy::default() }
    }
}

impl TopicDefaults {
    /// The default of a setting, as it is written.
    #[must_use]
    pub fn value_of(&self, setting: &TopicSetting) -> String {
        let limit = |limit: Option<u64>| limit.map_or_else(|| "-1".into(), |it| it.to_string());
        match setting.name {
            RETENTION_MS => limit(self.retention_ms),
            RETENTION_BYTES => limit(self.retention_bytes),
            FULL_POLICY => self.full.name().into(),
            _ => setting.default.into(),
        }
    }
}

impl FullPolicy {
    /// As the setting is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => BLOCK,
            Self::DropOldest => DROP_OLDEST,
            Self::DropNewest => DROP_NEWEST,
        }
    }
}

impl TopicSettings {
    /// Reads settings that were checked; what is not set, or not legal in spite of that, takes its default.
    #[must_use]
    pub fn of(settings: &BTreeMap<String, String>, defaults: &TopicDefaults) -> Self {
        let value = |name: &str| {
            let known = TopicSetting::by_name(name);
            let own = settings.get(name).cloned();
            let legal = own.filter(|own| known.is_some_and(|known| known.check(own).is_ok()));
            legal.or(known.map(|known| defaults.value_of(known))).unwrap_or_default()
        };
        // -1, without end, is no u64.
        let limit = |name| value(name).parse::<u64>().ok();
        let span = |name| limit(name).unwrap_or(u64::MAX);
        let policies = value(CLEANUP_POLICY);
        let has = |policy| policies.split(',').any(|part| part.trim() == policy);
        let max_message_bytes = settings.get(MAX_MESSAGE_BYTES).and_then(|it| it.parse().ok());
        Self {
            cleanup: CleanupPolicy { delete: has(DELETE), compact: has(COMPACT) },
            batches: BatchRules {
                needs_keys: has(COMPACT),
                log_append_time: value(TIMESTAMP_TYPE) == LOG_APPEND_TIME,
                before_max_ms: span(TIMESTAMP_BEFORE),
                after_max_ms: span(TIMESTAMP_AFTER),
                compression: compression(&value(COMPRESSION_TYPE)),
                max_message_bytes,
            },
            unreplicated: match value(UNREPLICATED_POLICY).as_str() {
                DROP => UnreplicatedPolicy::Drop,
                _ => UnreplicatedPolicy::Keep,
            },
            full: match value(FULL_POLICY).as_str() {
                DROP_OLDEST => FullPolicy::DropOldest,
                DROP_NEWEST => FullPolicy::DropNewest,
                _ => FullPolicy::Block,
            },
            damage: match value(DAMAGE_POLICY).as_str() {
                SKIP => DamagePolicy::Skip,
                _ => DamagePolicy::Error,
            },
            retention_ms: limit(RETENTION_MS),
            retention_bytes: limit(RETENTION_BYTES),
            delete_retention_ms: span(DELETE_RETENTION_MS),
            min_compaction_lag_ms: span(MIN_COMPACTION_LAG_MS),
            max_compaction_lag_ms: span(MAX_COMPACTION_LAG_MS),
            max_message_bytes,
        }
    }
}

/// What `compression.type` makes of batches; none of it where it leaves that to producers.
fn compression(value: &str) -> Option<Compression> {
    match value {
        "uncompressed" => Some(Compression::None),
        "gzip" => Some(Compression::Gzip),
        "snappy" => Some(Compression::Snappy),
        "lz4" => Some(Compression::Lz4),
        "zstd" => Some(Compression::Zstd),
        _ => None,
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
    fn what_is_acted_on_is_typed() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let settings = pairs.collect();
            check_all(&settings).expect("legal");
            TopicSettings::of(&settings, &TopicDefaults::default())
        };
        const DAY_MS: u64 = 86_400_000;
        let defaults = TopicSettings {
            cleanup: CleanupPolicy { delete: true, compact: false },
            full: FullPolicy::Block,
            damage: DamagePolicy::Error,
            unreplicated: UnreplicatedPolicy::Keep,
            retention_ms: Some(7 * DAY_MS),
            retention_bytes: None,
            delete_retention_ms: DAY_MS,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX.unsigned_abs(),
            max_message_bytes: None,
            batches: BatchRules {
                needs_keys: false,
                log_append_time: false,
                before_max_ms: i64::MAX.unsigned_abs(),
                after_max_ms: i64::MAX.unsigned_abs(),
                compression: None,
                max_message_bytes: None,
            },
        };
        assert_eq!(of(&[("segment.ms", "1"), ("segment.bytes", "1048576")]), defaults, "accepted");
        let changed = of(&[
            ("cleanup.policy", "compact"),
            ("headwater.damage.policy", "skip"),
            ("headwater.full.policy", "drop-oldest"),
            ("headwater.unreplicated.policy", "drop"),
            ("retention.ms", "-1"),
            ("retention.bytes", "1000"),
            ("delete.retention.ms", "2"),
            ("min.compaction.lag.ms", "3"),
            ("max.compaction.lag.ms", "4"),
            ("max.message.bytes", "005"),
            ("message.timestamp.type", "LogAppendTime"),
            ("message.timestamp.before.max.ms", "6"),
            ("message.timestamp.after.max.ms", "7"),
            ("compression.type", "zstd"),
        ]);
        assert_eq!(
            changed,
            TopicSettings {
                cleanup: CleanupPolicy { delete: false, compact: true },
                full: FullPolicy::DropOldest,
                damage: DamagePolicy::Skip,
                unreplicated: UnreplicatedPolicy::Drop,
                retention_ms: None,
                retention_bytes: Some(1000),
                delete_retention_ms: 2,
                min_compaction_lag_ms: 3,
                max_compaction_lag_ms: 4,
                max_message_bytes: Some(5),
                batches: BatchRules {
                    needs_keys: true,
                    log_append_time: true,
                    before_max_ms: 6,
                    after_max_ms: 7,
                    compression: Some(Compression::Zstd),
                    max_message_bytes: Some(5),
                },
            }
        );
        let both = of(&[("cleanup.policy", "compact, delete")]).cleanup;
        assert_eq!(both, CleanupPolicy { delete: true, compact: true });
        assert_eq!(of(&[("headwater.full.policy", "drop-newest")]).full, FullPolicy::DropNewest);
        // Of a fact that no check has seen, nothing but the default can be made.
        let strange = BTreeMap::from([("cleanup.policy".to_owned(), "burn".to_owned())]);
        assert_eq!(TopicSettings::of(&strange, &TopicDefaults::default()), defaults);
    }

    #[test]
    fn what_a_topic_does_not_say_the_gateway_says() {
        let defaults = TopicDefaults {
            retention_ms: None,
            retention_bytes: Some(5),
            full: FullPolicy::DropNewest,
        };
        let nothing = TopicSettings::of(&BTreeMap::new(), &defaults);
        let found = (nothing.retention_ms, nothing.retention_bytes, nothing.full);
        assert_eq!(found, (None, Some(5), FullPolicy::DropNewest));
        let own = [(RETENTION_MS, "7"), (RETENTION_BYTES, "-1"), (FULL_POLICY, "block")];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let own = TopicSettings::of(&BTreeMap::from(own), &defaults);
        let found = (own.retention_ms, own.retention_bytes, own.full);
        assert_eq!(found, (Some(7), None, FullPolicy::Block));
        for setting in TOPIC_SETTINGS {
            assert_eq!(setting.check(&defaults.value_of(setting)), Ok(()), "{}", setting.name);
            assert_eq!(TopicDefaults::default().value_of(setting), setting.default);
        }
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
            ("cleanup.policy", "", true),
            ("cleanup.policy", "delete,delete", true),
            ("cleanup.policy", "compact,", false),
            ("max.message.bytes", "2147483647", true),
            ("max.message.bytes", "2147483648", false),
            ("min.insync.replicas", "0", false),
            ("min.insync.replicas", "2", false),
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
