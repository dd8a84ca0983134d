//! Topics at the centre: what is there, creating what is missing, settings that matter.

use std::{collections::HashMap, sync::Arc};

use krafka::{
    KrafkaError,
    admin::{
        AdminClient, ConfigResource, CreateTopicsOptions, DescribeConfigsOptions,
        DescribeTopicsOptions, NewTopic,
    },
    error::ErrorCode,
};

use super::{
    centre::{CentralTopic, CentreError, WantedTopic},
    client::Timeouts,
    verdict::{explain, is_missing},
};

/// Partitions of the cursor topic, if it has to be created.
const CURSOR_PARTITIONS: u32 = 8;
/// Its segments: small ones, because compaction leaves the active one alone and a start reads all
/// of it.
const CURSOR_SEGMENT_BYTES: &str = "4194304";
/// How much of it may be dirty before it is compacted.
const CURSOR_DIRTY_RATIO: &str = "0.1";

/// The centre's topics.
pub(super) struct Topics {
    admin: AdminClient,
    timeouts: Timeouts,
}

impl Topics {
    /// Asked through `admin`.
    pub(super) fn new(admin: AdminClient, timeouts: Timeouts) -> Self {
        Self { admin, timeouts }
    }

    /// Looks the topics up, creates the missing ones, and answers for each in the order of
    /// `wanted`.
    pub(super) async fn ensure(
        &self,
        wanted: &[WantedTopic],
    ) -> Result<Vec<Result<CentralTopic, String>>, CentreError> {
        let mut found = self.describe(wanted.iter().map(|topic| &*topic.name)).await?;
        let missing: Vec<_> = wanted
            .iter()
            .filter(|topic| matches!(found.get(&*topic.name), Some(Ok(None))))
            .collect();
        if !missing.is_empty() {
            let mut created = Vec::new();
            for topic in &missing {
                created.push(new_topic(topic)?);
            }
            let refused = self.create(created).await?;
            let there = self.describe(missing.iter().map(|topic| &*topic.name)).await?;
            for topic in missing {
                let outcome = match (refused.get(&*topic.name), there.get(&*topic.name)) {
                    (Some(why), _) => Err(format!("cannot be created: {why}")),
                    (None, Some(Ok(Some(partitions)))) => Ok(Some(*partitions)),
                    // Created, and not every broker has heard of it: the producer waits for it.
                    (None, _) => Ok(Some(topic.partitions)),
                };
                found.insert(topic.name.to_string(), outcome);
            }
        }
        let settings = self.settings(wanted.iter().map(|topic| &*topic.name)).await;
        Ok(wanted
            .iter()
            .map(|topic| match found.remove(&*topic.name) {
                Some(Ok(Some(partitions))) => Ok(CentralTopic {
                    partitions,
                    retention_ms: settings.get(&*topic.name).and_then(retention_by_sample_time),
                }),
                Some(Err(why)) => Err(why),
                Some(Ok(None)) | None => Err("the centre said nothing about it".to_owned()),
            })
            .collect())
    }

    /// Makes sure that the cursor topic is there and keeps the last cursor of every key for ever.
    /// Gives the number of its partitions.
    pub(super) async fn ensure_cursors(&self, name: &Arc<str>) -> Result<u32, CentreError> {
        let mut there = self.describe([&**name]).await?;
        if let Some(Ok(None)) = there.get(&**name) {
            let topic = WantedTopic { name: name.clone(), partitions: CURSOR_PARTITIONS };
            let topic = new_topic(&topic)?
                .with_config("cleanup.policy", "compact")
                .with_config("segment.bytes", CURSOR_SEGMENT_BYTES)
                .with_config("min.cleanable.dirty.ratio", CURSOR_DIRTY_RATIO);
            if let Some(why) = self.create(vec![topic]).await?.get(&**name) {
                return Err(CentreError::refused(format!(
                    "the cursor topic {name:?} cannot be created at the centre: {why}"
                )));
            }
            there = self.describe([&**name]).await?;
        }
        let partitions = match there.remove(&**name) {
            Some(Ok(Some(partitions))) if partitions > 0 => partitions,
            Some(Err(why)) => {
                return Err(CentreError::refused(format!("cursor topic {name:?}: {why}")));
            }
            _ => {
                return Err(CentreError::transient(format!(
                    "cursor topic {name:?} is not there yet"
                )));
            }
        };
        let settings = self.settings([&**name]).await;
        match settings.get(&**name).and_then(|settings| settings.get("cleanup.policy")) {
            Some(policy) if !policy.split(',').any(|policy| policy.trim() == "compact") => {
                Err(CentreError::refused(format!(
                    "the cursor topic {name:?} has cleanup.policy={policy} at the centre: it would \
                     forget the cursors, and records would be sent twice; set \
                     cleanup.policy=compact"
                )))
            }
            _ => Ok(partitions),
        }
    }

    /// The partition count of each topic; `None` if it is not there, an error text if the centre
    /// will not tell.
    async fn describe(
        &self,
        names: impl IntoIterator<Item = &str>,
    ) -> Result<HashMap<String, Result<Option<u32>, String>>, CentreError> {
        let options = DescribeTopicsOptions::default().timeout(self.timeouts.coordinator);
        let described = self
            .admin
            .describe_topics(names, options)
            .await
            .map_err(|error| explain("look topics up", &error))?;
        let mut found = HashMap::new();
        for (name, result) in described {
            let outcome = match result {
                Ok(topic) => Ok(Some(u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX))),
                Err(error) if is_missing(&error) => Ok(None),
                Err(error) if error.is_retriable() => {
                    return Err(explain("look topics up", &error));
                }
                Err(error) => Err(error.to_string()),
            };
            found.insert(name, outcome);
        }
        Ok(found)
    }

    /// Creates topics; gives the reasons of those that were refused.
    async fn create(&self, topics: Vec<NewTopic>) -> Result<HashMap<String, String>, CentreError> {
        let options = CreateTopicsOptions::default().timeout(self.timeouts.coordinator);
        let outcomes = self
            .admin
            .create_topics(topics, options)
            .await
            .map_err(|error| explain("create topics", &error))?;
        let mut refused = HashMap::new();
        for (name, outcome) in outcomes {
            match outcome {
                Ok(()) | Err(KrafkaError::Broker { code: ErrorCode::TopicAlreadyExists, .. }) => {}
                Err(error) if error.is_retriable() => return Err(explain("create topics", &error)),
                Err(error) => {
                    refused.insert(name, error.to_string());
                }
            }
        }
        Ok(refused)
    }

    /// Settings of topics. Advice only: a centre that does not tell them is used without.
    async fn settings(
        &self,
        names: impl IntoIterator<Item = &str>,
    ) -> HashMap<String, HashMap<String, String>> {
        let wanted = ["cleanup.policy", "retention.ms", "message.timestamp.type"];
        let options = DescribeConfigsOptions::default()
            .timeout(self.timeouts.connect)
            .config_names(wanted.map(str::to_owned).to_vec());
        let resources: Vec<_> = names.into_iter().map(ConfigResource::topic).collect();
        let described = match self.admin.describe_configs(resources, options).await {
            Ok(described) => described,
            Err(error) => {
                tracing::debug!(%error, "the centre does not tell topic settings");
                return HashMap::new();
            }
        };
        described
            .into_iter()
            .filter_map(|(resource, entries)| Some((resource.name, entries.ok()?)))
            .map(|(name, entries)| {
                let values =
                    entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
                (name, values.collect())
            })
            .collect()
    }
}

fn new_topic(topic: &WantedTopic) -> Result<NewTopic, CentreError> {
    let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
    // Replication is the centre's own business.
    NewTopic::new(&*topic.name, partitions, -1)
        .map_err(|error| CentreError::refused(format!("topic {:?}: {error}", topic.name)))
}

/// How long the topic keeps records by the time of their sample, if it deletes them by that.
fn retention_by_sample_time(settings: &HashMap<String, String>) -> Option<i64> {
    let is =
        |name: &str, value: &str| settings.get(name).is_some_and(|found| found.contains(value));
    if !is("cleanup.policy", "delete") || is("message.timestamp.type", "LogAppendTime") {
        return None;
    }
    settings.get("retention.ms")?.parse().ok().filter(|retention| *retention >= 0)
}
