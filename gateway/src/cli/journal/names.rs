//! Partitions under the names that people know.

use std::collections::HashMap;

use crate::{
    broker::Topic,
    journal::{PartitionId, State},
};

/// Topic and index of each partition, as the state tells.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<PartitionId, (String, usize)>,
}

impl Names {
    pub(super) fn of(state: &State) -> Self {
        let topics = Topic::all_of(state);
        let partitions = topics.into_iter().flat_map(|topic| {
            let name = topic.name;
            let indexed = topic.partitions.into_iter().enumerate();
            indexed.map(move |(index, id)| (id, (name.clone(), index)))
        });
        Self { known: partitions.collect() }
    }

    /// Topic and index.
    pub(super) fn find(&self, partition: PartitionId) -> Option<(&str, usize)> {
        self.known.get(&partition).map(|(name, index)| (name.as_str(), *index))
    }

    /// For people.
    pub(super) fn show(&self, partition: PartitionId) -> String {
        match self.find(partition) {
            Some((topic, index)) => format!("{topic}/{index}"),
            None => format!("partition id {}", partition.0),
        }
    }
}
