//! `headwater tail`: shows the records of a topic, and those to come.

use std::{
    collections::BTreeMap,
    io::{Write, stdout},
    str::FromStr,
    time::Duration,
};

use anyhow::Result;
use krafka::{
    admin::TopicPartition,
    consumer::{Consumer, ConsumerRecord, IsolationLevel},
    error::KrafkaError,
};

use super::{
    client::{Gateway, Unknown},
    record_line::{Format, write_record},
};

/// How long one poll waits; only bounds how late an end is noticed.
const POLL: Duration = Duration::from_millis(500);

/// Options of `headwater tail`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  headwater tail readings\n  headwater tail readings --from beginning --no-follow \
                  --format json\n  headwater tail readings --from 1000 --partition 0"
)]
pub(super) struct Options {
    #[command(flatten)]
    gateway: Gateway,
    /// Name of the topic
    topic: String,
    /// Where to begin: beginning, end or an offset [default: end, with --no-follow: beginning]
    #[arg(long, value_name = "WHERE")]
    from: Option<From>,
    /// Wait for new records (the default)
    #[arg(long, overrides_with = "no_follow")]
    follow: bool,
    /// End at the last record that is durable now
    #[arg(long)]
    no_follow: bool,
    /// Only this partition
    #[arg(long)]
    partition: Option<i32>,
    /// End after so many records
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// How records are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Beginning,
    End,
    Offset(i64),
}

/// What is left to show of a partition: from the next offset to this one, if there is an end.
type Ends = BTreeMap<i32, i64>;

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "beginning" => Ok(Self::Beginning),
            "end" => Ok(Self::End),
            number => match number.parse() {
                Ok(offset) if offset >= 0 => Ok(Self::Offset(offset)),
                _ => Err(format!("{text:?} is neither `beginning`, `end` nor an offset")),
            },
        }
    }
}

pub(super) async fn run(options: &Options) -> Result<()> {
    let explain = |error| options.gateway.explain(error);
    let kafka = options.gateway.connect(Unknown::IsAnError).await?;
    let consumer = kafka
        .consumer_without_group()
        .isolation_level(IsolationLevel::ReadCommitted)
        .build()
        .await
        .map_err(explain)?;
    let partitions = partitions(options, &consumer).await?;
    let follows = !options.no_follow;
    let from = options.from.unwrap_or(if follows { From::End } else { From::Beginning });
    let mut ends = Ends::new();
    let mut starts = Vec::new();
    for &partition in &partitions {
        let watermarks = consumer.fetch_watermarks(&options.topic, partition).await;
        let (first, next) = watermarks.map_err(explain)?;
        let start = match from {
            From::Beginning => first,
            From::End => next,
            From::Offset(offset) => offset.clamp(first, next),
        };
        starts.push((TopicPartition::new(options.topic.clone(), partition), start));
        if !follows && start < next {
            ends.insert(partition, next);
        }
    }
    if !follows && ends.is_empty() {
        return Ok(());
    }
    consumer.assign(&options.topic, partitions).await.map_err(explain)?;
    consumer.seek_many(starts).await.map_err(explain)?;
    show(options, &consumer, ends).await
}

/// The partitions to show.
async fn partitions(options: &Options, consumer: &Consumer) -> Result<Vec<i32>> {
    let topic = &options.topic;
    let metadata = match consumer.fetch_metadata(Some(topic)).await {
        Ok(metadata) => metadata,
        Err(KrafkaError::Network(error)) => {
            return Err(options.gateway.explain(KrafkaError::Network(error)));
        }
        Err(_) => return Err(options.gateway.no_topic(topic)),
    };
    let found = metadata.topics.iter().find(|it| it.name == *topic);
    let mut partitions: Vec<i32> =
        found.map(|it| it.partitions.keys().copied().collect()).unwrap_or_default();
    partitions.sort_unstable();
    if partitions.is_empty() {
        return Err(options.gateway.no_topic(topic));
    }
    match options.partition {
        None => Ok(partitions),
        Some(only) if partitions.contains(&only) => Ok(vec![only]),
        Some(other) => {
            let count = partitions.len();
            anyhow::bail!("topic {topic:?} has {count} partitions, counted from 0; {other} is none")
        }
    }
}

/// Writes records until the end that was asked for.
async fn show(options: &Options, consumer: &Consumer, mut ends: Ends) -> Result<()> {
    let has_end = !ends.is_empty();
    let mut left = options.count.unwrap_or(u64::MAX);
    while left > 0 && !(has_end && ends.is_empty()) {
        let records = consumer.poll(POLL).await.map_err(|error| options.gateway.explain(error))?;
        let mut out = stdout().lock();
        for record in &records {
            if has_end && !is_before_end(&mut ends, record) {
                continue;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            write_record(&mut out, record, options.format)?;
        }
        out.flush()?;
    }
    Ok(())
}

/// Whether the record is still to be shown; notes the end of its partition.
fn is_before_end(ends: &mut Ends, record: &ConsumerRecord) -> bool {
    let Some(&end) = ends.get(&record.partition) else { return false };
    if record.offset + 1 >= end {
        ends.remove(&record.partition);
    }
    record.offset < end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_begin() {
        assert_eq!("beginning".parse(), Ok(From::Beginning));
        assert_eq!("end".parse(), Ok(From::End));
        assert_eq!("12".parse(), Ok(From::Offset(12)));
        assert!("-1".parse::<From>().is_err());
        assert!("start".parse::<From>().is_err());
    }

    #[test]
    fn a_partition_is_shown_up_to_its_end() {
        let mut ends = Ends::from([(0, 2), (1, 1)]);
        let record = |partition, offset| ConsumerRecord::new("t", partition, offset, None, None);
        assert!(is_before_end(&mut ends, &record(0, 0)));
        assert!(is_before_end(&mut ends, &record(1, 0)));
        assert!(!is_before_end(&mut ends, &record(1, 1)));
        assert!(is_before_end(&mut ends, &record(0, 1)));
        assert!(!is_before_end(&mut ends, &record(0, 2)));
        assert!(ends.is_empty());
    }
}
