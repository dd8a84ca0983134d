//! The settings of a topic as they are in effect: each value, and where it is from.

use std::collections::BTreeMap;

use crate::broker::{SettingKind, TOPIC_SETTINGS, TopicDefaults, TopicSetting};

/// Where a value comes from, on the wire.
pub(crate) const SOURCE_TOPIC: i8 = 1;
pub(crate) const SOURCE_STATIC_BROKER: i8 = 4;
pub(crate) const SOURCE_DEFAULT: i8 = 5;

/// Types of values, on the wire.
pub(crate) const BOOLEAN: i8 = 1;
pub(crate) const STRING: i8 = 2;
pub(crate) const INTEGER: i8 = 3;
pub(crate) const LONG: i8 = 5;
pub(crate) const DOUBLE: i8 = 6;
pub(crate) const LIST: i8 = 7;

/// One setting with its value.
pub(crate) struct Effective {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) default: Option<&'static str>,
    /// The gateway's own default, where its configuration sets one.
    pub(crate) configured: Option<String>,
    pub(crate) source: i8,
    pub(crate) kind: i8,
    pub(crate) is_read_only: bool,
}

/// All settings of a topic that sets `own` itself.
pub(crate) fn of_topic(own: &BTreeMap<String, String>, defaults: &TopicDefaults) -> Vec<Effective> {
    let effective = |setting: &TopicSetting| {
        let own = own.get(setting.name);
        let configured = defaults.value_of(setting);
        let configured = (configured != setting.default).then_some(configured);
        let source = match (own, &configured) {
            (Some(_), _) => SOURCE_TOPIC,
            (None, Some(_)) => SOURCE_STATIC_BROKER,
            (None, None) => SOURCE_DEFAULT,
        };
        Effective {
            name: setting.name,
            value: own.or(configured.as_ref()).map_or(setting.default, String::as_str).to_owned(),
            default: Some(setting.default),
            configured,
            source,
            kind: kind_code(&setting.kind),
            is_read_only: false,
        }
    };
    TOPIC_SETTINGS.iter().map(effective).collect()
}

fn kind_code(kind: &SettingKind) -> i8 {
    match kind {
        SettingKind::Integer { max, .. } if *max <= i64::from(i32::MAX) => INTEGER,
        SettingKind::Integer { .. } => LONG,
        SettingKind::Ratio => DOUBLE,
        SettingKind::Boolean => BOOLEAN,
        SettingKind::SomeOf(_) => LIST,
        _ => STRING,
    }
}
