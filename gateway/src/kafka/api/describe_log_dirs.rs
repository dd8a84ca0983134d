//! DescribeLogDirs: the data folder, and how much of it each partition takes.

use std::{collections::BTreeMap, sync::Arc};

use kafka_wire::{
    DescribeLogDirsRequest, DescribeLogDirsResponse,
    describe_log_dirs_request::DescribableLogDirTopic,
    describe_log_dirs_response::{
        DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
    },
};

use crate::{
    journal::PartitionId,
    kafka::{
        codec::StrBytes,
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// Partitions of topics that are to be described, by index.
type Wanted = Vec<(StrBytes, Vec<(i32, PartitionId)>)>;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: DescribeLogDirsRequest = call.decode()?;
    let wanted = match request.topics {
        None => all(context),
        Some(topics) => some(context, topics),
    };
    let context = Arc::clone(context);
    Ok(call.answer_later(async move {
        let status = context.broker.journal().status();
        let mut folder = DescribeLogDirsResult::default();
        folder.log_dir = context.data_folder.clone();
        folder.total_bytes = i64::try_from(status.max_bytes).unwrap_or(i64::MAX);
        let usable = status.max_bytes.saturating_sub(status.used_bytes);
        folder.usable_bytes = i64::try_from(usable).unwrap_or(i64::MAX);
        let measured = context.broker.journal().off_worker(move |journal| {
            let bytes = |id| journal.partition_bytes(id);
            wanted.into_iter().map(|(name, partitions)| topic(name, partitions, bytes)).collect()
        });
        match measured.await {
            Ok(topics) => folder.topics = topics,
            Err(error) => folder.error_code = ErrorCode::from(&error).0,
        }
        let mut response = DescribeLogDirsResponse::default();
        response.results = vec![folder];
        response
    }))
}

fn all(context: &Context) -> Wanted {
    let topics = context.broker.topics();
    let indexed = |partitions: &[PartitionId]| (0..).zip(partitions.iter().copied()).collect();
    topics.iter().map(|it| (it.name.as_str().into(), indexed(&it.partitions))).collect()
}

/// What is not here is left out, as by Kafka.
fn some(context: &Context, topics: Vec<DescribableLogDirTopic>) -> Wanted {
    let mut wanted: BTreeMap<StrBytes, BTreeMap<i32, PartitionId>> = BTreeMap::new();
    for asked in topics {
        let Some(topic) = context.broker.topic(&asked.topic) else { continue };
        for index in asked.partitions {
            if let Some(id) = Context::partition(&topic, index) {
                wanted.entry(asked.topic.clone()).or_default().insert(index, id);
            }
        }
    }
    wanted.into_iter().map(|(name, partitions)| (name, partitions.into_iter().collect())).collect()
}

fn topic<E>(
    name: StrBytes,
    partitions: Vec<(i32, PartitionId)>,
    bytes: impl Fn(PartitionId) -> Result<u64, E>,
) -> Result<DescribeLogDirsTopic, E> {
    let mut topic = DescribeLogDirsTopic::default();
    topic.name = name;
    for (index, id) in partitions {
        let mut partition = DescribeLogDirsPartition::default();
        partition.partition_index = index;
        partition.partition_size = i64::try_from(bytes(id)?).unwrap_or(i64::MAX);
        topic.partitions.push(partition);
    }
    Ok(topic)
}
