//! `headwater topics`: list, create and describe topics.

use std::{
    collections::{BTreeMap, HashMap},
    io::{Write, stdout},
};

use anyhow::{Result, bail};
use krafka::{
    admin::{
        AdminClient, ConfigResource, CreateTopicsOptions, DescribeConfigsOptions,
        DescribeTopicsOptions, ListOffsetsOptions, ListTopicsOptions, NewTopic, OffsetSpec,
        TopicDescription, TopicPartition,
    },
    error::{ErrorCode, KrafkaError},
};

use super::client::{Gateway, Unknown};

/// Source of a setting that was made for its topic.
const SOURCE_TOPIC: i8 = 1;

/// Options of `headwater topics`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  headwater topics\n  headwater topics create readings --partitions 3 \
                  --config retention.ms=86400000\n  headwater topics describe readings"
)]
pub(super) struct Options {
    #[command(flatten)]
    gateway: Gateway,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// All topics, with their partitions and records (the default)
    #[command(after_help = "Example:\n  headwater topics list")]
    List,
    /// Create a topic; it is durable when this returns
    #[command(after_help = "Example:\n  headwater topics create readings --partitions 3 \
                            --config cleanup.policy=compact")]
    Create {
        /// Name of the topic
        topic: String,
        /// Number of partitions; the gateway's default if not given
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..=1024))]
        partitions: Option<i32>,
        /// A setting under Kafka's name; may be given many times
        #[arg(long = "config", value_name = "NAME=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
    },
    /// Offsets of every partition, and the settings that differ from the defaults
    #[command(after_help = "Example:\n  headwater topics describe readings")]
    Describe {
        /// Name of the topic
        topic: String,
    },
}

pub(super) async fn run(options: &Options) -> Result<()> {
    let gateway = &options.gateway;
    let admin = gateway.connect(Unknown::IsAnError).await?.admin();
    match &options.action {
        None | Some(Action::List) => list(gateway, &admin).await,
        Some(Action::Create { topic, partitions, settings }) => {
            let mut wanted = NewTopic::new(topic, partitions.unwrap_or(-1), -1)
                .map_err(|error| gateway.explain(error))?;
            wanted.configs = settings.iter().cloned().collect();
            create(gateway, &admin, wanted).await
        }
        Some(Action::Describe { topic }) => describe(gateway, &admin, topic).await,
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}

async fn list(gateway: &Gateway, admin: &AdminClient) -> Result<()> {
    let names = admin
        .list_topics(ListTopicsOptions::default())
        .await
        .map_err(|error| gateway.explain(error))?;
    if names.is_empty() {
        eprintln!("there are no topics yet: `headwater topics create NAME` makes one");
        return Ok(());
    }
    let described = admin
        .describe_topics(&names, DescribeTopicsOptions::default())
        .await
        .map_err(|error| gateway.explain(error))?;
    let topics: Vec<TopicDescription> = described.into_values().flatten().collect();
    let ends = ends(gateway, admin, &topics).await?;
    let width = topics.iter().map(|topic| topic.name.len()).max().unwrap_or(0).max("TOPIC".len());
    let mut rows: Vec<(&str, usize, i64)> = topics
        .iter()
        .map(|topic| {
            let records = ends.iter().filter(|((name, _), _)| *name == topic.name);
            let records = records.map(|(_, (start, end))| end - start).sum();
            (topic.name.as_str(), topic.partitions.len(), records)
        })
        .collect();
    rows.sort_unstable();
    let mut out = stdout().lock();
    writeln!(out, "{:width$}  PARTITIONS  RECORDS", "TOPIC")?;
    for (name, partitions, records) in rows {
        writeln!(out, "{name:width$}  {partitions:>10}  {records:>7}")?;
    }
    Ok(())
}

async fn create(gateway: &Gateway, admin: &AdminClient, wanted: NewTopic) -> Result<()> {
    let topic = wanted.name.clone();
    let created = admin
        .create_topics([wanted], CreateTopicsOptions::default())
        .await
        .map_err(|error| gateway.explain(error))?;
    match created.into_values().next() {
        Some(Ok(())) => writeln!(stdout(), "created {topic}")?,
        Some(Err(KrafkaError::Broker { code: ErrorCode::TopicAlreadyExists, .. })) => {
            bail!("topic {topic:?} is there already: `headwater topics describe {topic}` shows it")
        }
        Some(Err(KrafkaError::Broker { message, .. })) => bail!("not created: {message}"),
        Some(Err(error)) => return Err(gateway.explain(error)),
        None => bail!("the gateway did not say what became of {topic:?}"),
    }
    Ok(())
}

async fn describe(gateway: &Gateway, admin: &AdminClient, topic: &str) -> Result<()> {
    let described = admin
        .describe_topics([topic], DescribeTopicsOptions::default())
        .await
        .map_err(|error| gateway.explain(error))?;
    let Some(Ok(topic)) = described.into_values().next() else {
        return Err(gateway.no_topic(topic));
    };
    let topics = [topic];
    let ends = ends(gateway, admin, &topics).await?;
    let settings = settings(admin, &topics[0].name).await;
    let mut out = stdout().lock();
    writeln!(out, "topic {}", topics[0].name)?;
    writeln!(out, "PARTITION       FIRST        NEXT     RECORDS")?;
    for ((_, partition), (start, end)) in &ends {
        writeln!(out, "{partition:>9}  {start:>10}  {end:>10}  {:>10}", end - start)?;
    }
    for (name, value) in settings {
        writeln!(out, "{name}={value}")?;
    }
    Ok(())
}

/// First and next offset of every partition.
async fn ends(
    gateway: &Gateway,
    admin: &AdminClient,
    topics: &[TopicDescription],
) -> Result<BTreeMap<(String, i32), (i64, i64)>> {
    let partitions: Vec<TopicPartition> = topics
        .iter()
        .flat_map(|topic| {
            topic.partitions.iter().map(|it| TopicPartition::new(topic.name.clone(), it.partition))
        })
        .collect();
    let starts = offsets(gateway, admin, &partitions, OffsetSpec::Earliest).await?;
    let ends = offsets(gateway, admin, &partitions, OffsetSpec::Latest).await?;
    let both = starts.into_iter().filter_map(|(partition, start)| {
        let end = ends.get(&partition)?;
        Some(((partition.topic, partition.partition), (start, *end)))
    });
    Ok(both.collect())
}

async fn offsets(
    gateway: &Gateway,
    admin: &AdminClient,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<HashMap<TopicPartition, i64>> {
    let specs = partitions.iter().cloned().map(|partition| (partition, spec));
    let listed = admin
        .list_offsets(specs, ListOffsetsOptions::default())
        .await
        .map_err(|error| gateway.explain(error))?;
    let known = listed.into_iter().filter_map(|(partition, it)| Some((partition, it.ok()?.offset)));
    Ok(known.collect())
}

/// Settings that were made for a topic. A broker that does not tell is no reason to fail.
async fn settings(admin: &AdminClient, topic: &str) -> BTreeMap<String, String> {
    let resource = ConfigResource::topic(topic);
    let described = admin
        .describe_configs([resource], DescribeConfigsOptions::default())
        .await
        .unwrap_or_default();
    described
        .into_values()
        .flatten()
        .flatten()
        .filter(|entry| entry.config_source == SOURCE_TOPIC)
        .map(|entry| (entry.name, entry.value.unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_names_with_values() {
        assert_eq!(setting("a=b"), Ok(("a".into(), "b".into())));
        assert_eq!(setting("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(setting("a="), Ok(("a".into(), String::new())));
        assert!(setting("a").is_err());
        assert!(setting("=b").is_err());
    }
}
