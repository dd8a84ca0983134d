//! The topics and partitions that exist: durable ones only.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::{BufMut, Bytes};

use super::{FactError, MAX_TOPICS, Topic, TopicError, fact::FactReader, space};
use crate::journal::{Fact, PartitionId, State};

/// Key of the next partition id in [`space::GATEWAY`]: ids of deleted topics never come back.
const NEXT_PARTITION_KEY: &[u8] = b"next-partition";
const FACT: &str = "next partition id";
const FACT_VERSION: u8 = 1;

/// The topics and partitions that exist.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    topics: BTreeMap<String, Arc<Topic>>,
    ids: HashMap<[u8; 16], Arc<Topic>>,
    partitions: HashMap<PartitionId, Arc<Topic>>,
}

impl Catalog {
    /// The catalog that the facts describe.
    pub(super) fn restore(state: &State) -> Result<Self, FactError> {
        // Found unreadable now, not when the first topic is created.
        next_partition(state)?;
        let mut catalog = Self::default();
        for (name, value) in state.facts(space::TOPIC) {
            catalog.insert(Arc::new(Topic::from_fact(name, value.clone())?));
        }
        Ok(catalog)
    }

    pub(super) fn insert(&mut self, topic: Arc<Topic>) {
        for partition in &topic.partitions {
            self.partitions.insert(*partition, Arc::clone(&topic));
        }
        self.ids.insert(topic.id, Arc::clone(&topic));
        self.topics.insert(topic.name.clone(), topic);
    }

    pub(super) fn remove(&mut self, topic: &Topic) {
        for partition in &topic.partitions {
            self.partitions.remove(partition);
        }
        self.ids.remove(&topic.id);
        self.topics.remove(&topic.name);
    }

    pub(super) fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    pub(super) fn topic_by_id(&self, id: &[u8; 16]) -> Option<&Arc<Topic>> {
        self.ids.get(id)
    }

    pub(super) fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics.values().cloned().collect()
    }

    /// The topic that a partition belongs to.
    pub(super) fn of_partition(&self, partition: PartitionId) -> Option<&Arc<Topic>> {
        self.partitions.get(&partition)
    }
}

/// A topic about to be created, with the facts that create it.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) topic: Topic,
    pub(super) facts: Vec<Fact>,
}

impl Draft {
    /// Takes the next partition ids of the state.
    pub(super) fn new(
        state: &State,
        name: &str,
        id: [u8; 16],
        partitions: u32,
        settings: BTreeMap<String, String>,
    ) -> Result<Self, TopicError> {
        if state.facts(space::TOPIC).count() >= MAX_TOPICS {
            return Err(TopicError::TooMany(MAX_TOPICS));
        }
        let first = next_partition(state)?;
        let next = first.checked_add(partitions).ok_or(TopicError::TooMany(MAX_TOPICS))?;
        let partitions = (first..next).map(PartitionId).collect();
        let topic = Topic { name: name.to_owned(), id, partitions, settings };
        let facts = vec![next_fact(next), topic_fact(&topic)];
        Ok(Self { topic, facts })
    }
}

impl Draft {
    /// A topic whose fact is to be replaced.
    pub(super) fn of_changed(topic: Topic) -> Self {
        let facts = vec![topic_fact(&topic)];
        Self { topic, facts }
    }

    /// A topic with more partitions, which take the next ids of the state.
    pub(super) fn grown(state: &State, topic: &Topic, total: u32) -> Result<Self, TopicError> {
        let there = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        let first = next_partition(state)?;
        let next = first.checked_add(total.saturating_sub(there));
        let next = next.ok_or(TopicError::TooMany(MAX_TOPICS))?;
        let mut topic = topic.clone();
        topic.partitions.extend((first..next).map(PartitionId));
        let facts = vec![next_fact(next), topic_fact(&topic)];
        Ok(Self { topic, facts })
    }
}

fn topic_fact(topic: &Topic) -> Fact {
    let key = Bytes::copy_from_slice(topic.name.as_bytes());
    Fact { space: space::TOPIC, key, value: Some(topic.to_fact()) }
}

fn next_fact(next: u32) -> Fact {
    let key = Bytes::from_static(NEXT_PARTITION_KEY);
    Fact { space: space::GATEWAY, key, value: Some(next_partition_fact(next)) }
}

fn next_partition(state: &State) -> Result<u32, FactError> {
    let Some(value) = state.fact(space::GATEWAY, NEXT_PARTITION_KEY) else { return Ok(0) };
    let mut reader = FactReader::new(FACT, value.clone());
    reader.version(FACT_VERSION)?;
    let next = reader.u32()?;
    reader.end()?;
    Ok(next)
}

fn next_partition_fact(next: u32) -> Bytes {
    let mut out = Vec::with_capacity(5);
    out.put_u8(FACT_VERSION);
    out.put_u32(next);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Change;

    #[test]
    fn golden_counter() {
        assert_eq!(&next_partition_fact(258)[..], [1, 0, 0, 1, 2]);
        let with = |value: &[u8]| {
            let mut state = State::default();
            let (space, key) = (space::GATEWAY, NEXT_PARTITION_KEY);
            state.apply(Change::Fact { space, key, value: Some(value) }, 0);
            next_partition(&state)
        };
        assert_eq!(next_partition(&State::default()), Ok(0));
        assert_eq!(with(&[1, 0, 0, 1, 2]), Ok(258));
        for bad in [&[][..], &[1], &[2, 0, 0, 1, 2], &[1, 0, 0, 1], &[1, 0, 0, 1, 2, 3]] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_that_run_out_are_not_reused() {
        let mut state = State::default();
        let (space, key) = (space::GATEWAY, NEXT_PARTITION_KEY);
        let value = next_partition_fact(u32::MAX - 1);
        state.apply(Change::Fact { space, key, value: Some(&value) }, 0);
        let draft = |partitions| Draft::new(&state, "t", [0; 16], partitions, BTreeMap::new());
        assert_eq!(draft(1).expect("the last one").topic.partitions, [PartitionId(u32::MAX - 1)]);
        assert!(matches!(draft(2), Err(TopicError::TooMany(_))));
    }

    #[test]
    fn topics_are_limited() {
        let mut state = State::default();
        for number in 0..MAX_TOPICS {
            let (space, key) = (space::TOPIC, number.to_string());
            state.apply(Change::Fact { space, key: key.as_bytes(), value: Some(b"") }, 0);
        }
        let error = Draft::new(&state, "t", [0; 16], 1, BTreeMap::new()).expect_err("full");
        assert!(matches!(error, TopicError::TooMany(MAX_TOPICS)));
    }
}
