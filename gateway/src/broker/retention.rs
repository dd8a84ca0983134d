//! What leaves a topic: records before an offset, and whole topics.
//!
//! All of it is facts: log starts move, a deleted topic's partitions are forgotten. The journal lets go of the space when
//! nothing live is left in a segment. Such appends may use the journal's reserve: they are the way out of full storage.

use std::sync::Arc;

use super::{
    AppendError, AppendRequest, Broker, Topic, TopicError, alter::finished, broker::Core, group,
    space,
};
use crate::journal::{Fact, Offset, PartitionId, Retain, State};

/// Why records were not deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteRecordsError {
    /// Past the last durable record.
    #[error("offset {} is past the end, {}", .asked.0, .end.0)]
    OutOfRange {
        /// Asked for.
        asked: Offset,
        /// One past the last durable offset.
        end: Offset,
    },
    /// No such partition, or refused by the journal.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl Broker {
    /// Deletes all records of a partition before an offset (none: all durable ones); durable when this returns, with
    /// the new log start. One that lies further on already stays.
    pub async fn delete_records(
        &self,
        partition: PartitionId,
        before: Option<Offset>,
    ) -> Result<Offset, DeleteRecordsError> {
        let end = self.journal().durable_end(partition);
        let start = before.unwrap_or(end);
        if start > end || start < Offset(0) {
            return Err(DeleteRecordsError::OutOfRange { asked: start, end });
        }
        let (start, commit) = {
            let mut admission = self.admission();
            if !self.core.exists(partition) {
                return Err(AppendError::UnknownPartition(partition).into());
            }
            let known = admission.state.partition(partition).log_start;
            let start = start.max(known);
            // One that moved it before may not be durable yet: what is said here once more then, is.
            let is_durable = start <= self.journal().log_start(partition);
            let fact = (!is_durable).then(|| Fact::log_start(partition, start));
            let facts = fact.into_iter().collect();
            let request = AppendRequest { batches: Vec::new(), facts };
            (start, admission.append_freeing(&self.core.journal, request)?)
        };
        commit.durable().await.map_err(AppendError::from)?;
        Ok(start)
    }

    /// Deletes a topic with its records, producers and the offsets that groups committed for it; durable when this returns.
    /// A topic created under its name later has other partitions.
    ///
    /// What was begun is finished even if the caller stops waiting.
    pub async fn delete_topic(&self, name: &str) -> Result<(), TopicError> {
        self.delete_topic_if(name, |_| true).await
    }

    /// As [`Broker::delete_topic`], if the topic is the very one of this id.
    pub async fn delete_topic_of_id(&self, name: &str, id: [u8; 16]) -> Result<(), TopicError> {
        self.delete_topic_if(name, move |topic| topic.id == id).await
    }

    async fn delete_topic_if(
        &self,
        name: &str,
        is_meant: impl FnOnce(&Topic) -> bool + Send + 'static,
    ) -> Result<(), TopicError> {
        let core = Arc::clone(&self.core);
        let name = name.to_owned();
        finished(tokio::spawn(async move { core.delete_topic(&name, is_meant).await })).await
    }
}

impl Core {
    async fn delete_topic(
        &self,
        name: &str,
        is_meant: impl FnOnce(&Topic) -> bool,
    ) -> Result<(), TopicError> {
        let _creating = self.creating.lock().await;
        let topic = self.catalog().topic(name).filter(|topic| is_meant(topic)).cloned();
        let topic = topic.ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        let commit = {
            let mut admission = self.admission();
            let facts = deletion(&admission.state, &topic);
            let request = AppendRequest { batches: Vec::new(), facts };
            let commit = admission.append_freeing(&self.journal, request)?;
            admission.newest.forget(&topic.partitions);
            // Under the lock: from here on nothing is appended to its partitions.
            self.catalog_mut().remove(&topic);
            for &partition in &topic.partitions {
                self.journal.retain(partition, Retain::default());
            }
            commit
        };
        commit.durable().await.map_err(AppendError::from)?;
        tracing::info!(topic = name, partitions = topic.partitions.len(), "topic deleted");
        Ok(())
    }
}

/// Everything that goes with a topic, in one append: there is no half of a deletion.
fn deletion(state: &State, topic: &Topic) -> Vec<Fact> {
    let name = topic.name.clone().into();
    let mut facts = vec![Fact { space: space::TOPIC, key: name, value: None }];
    facts.extend(topic.partitions.iter().map(|&partition| Fact::forget_partition(partition)));
    for (key, _) in state.facts(space::GROUP_OFFSET) {
        if group::is_of_topic(key, &topic.name) {
            facts.push(Fact { space: space::GROUP_OFFSET, key: key.clone(), value: None });
        }
    }
    facts
}
