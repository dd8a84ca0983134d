//! A topic, its legal names, and its fact.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes};

use super::{
    AppendError, FactError,
    fact::{FactReader, put_string},
    settings::{MAX_MESSAGE_BYTES, TopicDefaults, TopicSettings},
    space,
};
use crate::journal::{PartitionId, State};

/// Most partitions of one topic: their ids must fit into one fact beside the settings.
pub const MAX_PARTITIONS_PER_TOPIC: u32 = 1024;
/// Most topics: their facts are in memory and in every snapshot.
pub const MAX_TOPICS: usize = 4096;
/// Longest topic name, Kafka's.
pub const MAX_TOPIC_NAME_BYTES: usize = 249;

/// A topic; immutable snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// Random id, as Kafka's topic ids.
    pub id: [u8; 16],
    /// Partitions by index.
    pub partitions: Vec<PartitionId>,
    /// Settings that differ from the defaults, Kafka's names.
    pub settings: BTreeMap<String, String>,
}

/// Why a topic could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// It is already there.
    #[error("topic {0:?} already exists")]
    Exists(String),
    /// Kafka's rules: 1-249 of `[a-zA-Z0-9._-]`, not `.` or `..`.
    #[error("topic name {0:?} is not legal: use 1 to 249 of a-z A-Z 0-9 . _ -")]
    IllegalName(String),
    /// It is not there.
    #[error("topic {0:?} does not exist")]
    Unknown(String),
    /// Zero or more partitions than a topic may have.
    #[error("{0} partitions are not possible: use 1 to 1024")]
    IllegalPartitions(u32),
    /// Partitions can only become more.
    #[error("the topic has {there} partitions, and {asked} are not more")]
    NoMorePartitions {
        /// How many it has.
        there: u32,
        /// How many were asked for.
        asked: u32,
    },
    /// A setting that nobody knows, or a value it cannot take.
    #[error("topic setting {0:?}: {1}")]
    IllegalSetting(String, String),
    /// [`MAX_TOPICS`] are there, or no partition id is left.
    #[error("no more than {0} topics are possible")]
    TooMany(usize),
    /// A fact of the broker itself is not readable.
    #[error(transparent)]
    Fact(#[from] FactError),
    /// The gateway stops.
    #[error("the gateway stops")]
    Stopped,
    /// Refused by the journal.
    #[error(transparent)]
    Append(#[from] AppendError),
}

const FACT: &str = "topic";
const FACT_VERSION: u8 = 1;

impl Topic {
    /// Whether Kafka allows the name.
    #[must_use]
    pub fn is_legal_name(name: &str) -> bool {
        (1..=MAX_TOPIC_NAME_BYTES).contains(&name.len())
            && name != "."
            && name != ".."
            && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
    }

    /// What the gateway acts on of the settings, with defaults; [`super::Broker::settings_of`] knows the gateway's.
    #[must_use]
    pub fn settings(&self, defaults: &TopicDefaults) -> TopicSettings {
        TopicSettings::of(&self.settings, defaults)
    }

    /// `max.message.bytes` of the topic, where it sets one.
    #[must_use]
    pub fn max_message_bytes(&self) -> Option<usize> {
        self.settings.get(MAX_MESSAGE_BYTES).and_then(|value| value.parse().ok())
    }

    /// All topics that a state holds; facts that are not readable are passed over.
    #[must_use]
    pub fn all_of(state: &State) -> Vec<Self> {
        let facts = state.facts(space::TOPIC);
        facts.filter_map(|(name, value)| Self::from_fact(name, value.clone()).ok()).collect()
    }

    /// The value of the fact whose key is the name.
    pub(super) fn to_fact(&self) -> Bytes {
        let mut out = Vec::with_capacity(32 + self.partitions.len() * 4);
        out.put_u8(FACT_VERSION);
        out.put_slice(&self.id);
        out.put_u16(u16::try_from(self.partitions.len()).expect("1024 at most"));
        for partition in &self.partitions {
            out.put_u32(partition.0);
        }
        out.put_u16(u16::try_from(self.settings.len()).expect("each is a known one"));
        for (name, value) in &self.settings {
            put_string(&mut out, name);
            put_string(&mut out, value);
        }
        out.into()
    }

    pub(super) fn from_fact(name: &[u8], value: Bytes) -> Result<Self, FactError> {
        let mut reader = FactReader::new(FACT, value);
        let name = str::from_utf8(name)
            .ok()
            .filter(|name| Self::is_legal_name(name))
            .ok_or_else(|| reader.error("name is not legal"))?
            .to_owned();
        reader.version(FACT_VERSION)?;
        let id = reader.array()?;
        let partitions = (0..reader.count(4)?)
            .map(|_| reader.u32().map(PartitionId))
            .collect::<Result<Vec<_>, _>>()?;
        if partitions.is_empty() {
            return Err(reader.error("no partitions"));
        }
        // A setting is at least two lengths.
        let settings = (0..reader.count(4)?)
            .map(|_| Ok((reader.string()?, reader.string()?)))
            .collect::<Result<_, FactError>>()?;
        reader.end()?;
        Ok(Self { name, id, partitions, settings })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic() -> Topic {
        Topic {
            name: "readings".to_owned(),
            id: [7; 16],
            partitions: vec![PartitionId(3), PartitionId(9)],
            settings: BTreeMap::from([
                ("headwater.full.policy".to_owned(), "block".to_owned()),
                ("retention.ms".to_owned(), "1000".to_owned()),
            ]),
        }
    }

    #[test]
    fn names() {
        let long = "a".repeat(249);
        for name in ["a", "A.b_c-9", "...", "__consumer_offsets", &long] {
            assert!(Topic::is_legal_name(name), "{name}");
        }
        let longer = "a".repeat(250);
        for name in ["", ".", "..", "a b", "a/b", "ä", "a\0", "a,b", &longer] {
            assert!(!Topic::is_legal_name(name), "{name}");
        }
    }

    #[test]
    fn golden_fact() {
        let mut expected = vec![1];
        expected.extend_from_slice(&[7; 16]);
        expected.extend_from_slice(&[0, 2, 0, 0, 0, 3, 0, 0, 0, 9]);
        expected.extend_from_slice(&[0, 2, 0, 21]);
        expected.extend_from_slice(b"headwater.full.policy");
        expected.extend_from_slice(&[0, 5]);
        expected.extend_from_slice(b"block");
        expected.extend_from_slice(&[0, 12]);
        expected.extend_from_slice(b"retention.ms");
        expected.extend_from_slice(&[0, 4]);
        expected.extend_from_slice(b"1000");
        assert_eq!(topic().to_fact(), expected);
        assert_eq!(Topic::from_fact(b"readings", expected.into()), Ok(topic()));
    }

    #[test]
    fn damaged_facts_are_refused() {
        let fact = topic().to_fact();
        for end in 0..fact.len() {
            assert!(Topic::from_fact(b"readings", fact.slice(..end)).is_err(), "{end}");
        }
        let longer = [&fact[..], &[0]].concat();
        assert!(Topic::from_fact(b"readings", longer.into()).is_err());
        assert!(Topic::from_fact(b"no/name", fact).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_error_or_a_topic(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = FACT_VERSION;
            }
            let _ = Topic::from_fact(b"t", bytes.into());
        }
    }
}
