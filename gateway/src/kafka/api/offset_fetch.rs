//! OffsetFetch: how far groups have read.

use std::{collections::BTreeMap, sync::Arc};

use kafka_wire::{
    OffsetFetchRequest, OffsetFetchResponse,
    offset_fetch_request::OffsetFetchRequestGroup,
    offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    },
};

use crate::{
    broker::group::CommittedOffset,
    kafka::{
        codec::{StrBytes, Uuid},
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// First version that asks for many groups at once.
const BATCHED_FROM: i16 = 8;

/// First version that names topics by id.
const TOPIC_IDS_FROM: i16 = 10;

/// Offset and epoch of a partition that the group never committed.
const NEVER_COMMITTED: i64 = -1;
const NO_EPOCH: i32 = -1;

/// Partitions of one topic with what was committed.
type Offsets = Vec<(i32, Option<CommittedOffset>)>;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: OffsetFetchRequest = call.decode()?;
    let mut response = OffsetFetchResponse::default();
    if call.version() >= BATCHED_FROM {
        let has_ids = call.version() >= TOPIC_IDS_FROM;
        let answer = |group| match has_ids {
            true => by_id(context, group),
            false => batched(context, group),
        };
        response.groups = request.groups.into_iter().map(answer).collect();
        return call.answer(&response);
    }
    let group = request.group_id.as_str();
    if group.is_empty() {
        response.error_code = ErrorCode::INVALID_GROUP_ID.0;
    }
    let asked = request.topics.map(|topics| {
        topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect()
    });
    response.topics = offsets(context, group, asked)
        .into_iter()
        .map(|(name, partitions)| {
            let mut topic = OffsetFetchResponseTopic::default();
            topic.name = name;
            topic.partitions = partitions.into_iter().map(single_partition).collect();
            topic
        })
        .collect();
    call.answer(&response)
}

fn batched(context: &Context, asked: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let mut group = OffsetFetchResponseGroup::default();
    if asked.group_id.is_empty() {
        group.error_code = ErrorCode::INVALID_GROUP_ID.0;
        return group;
    }
    let topics = asked.topics.map(|topics| {
        topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect()
    });
    group.topics = offsets(context, &asked.group_id, topics)
        .into_iter()
        .map(|(name, partitions)| {
            let mut topic = OffsetFetchResponseTopics::default();
            topic.name = name;
            topic.partitions = partitions.into_iter().map(batched_partition).collect();
            topic
        })
        .collect();
    group.group_id = asked.group_id;
    group
}

/// As [`batched`], where topics are named by their ids alone.
fn by_id(context: &Context, asked: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let mut group = OffsetFetchResponseGroup::default();
    if asked.group_id.is_empty() {
        group.error_code = ErrorCode::INVALID_GROUP_ID.0;
        return group;
    }
    let answer = |id: Uuid, partitions: Vec<OffsetFetchResponsePartitions>| {
        let mut topic = OffsetFetchResponseTopics::default();
        topic.topic_id = id;
        topic.partitions = partitions;
        topic
    };
    group.topics = match asked.topics {
        None => all_offsets(context, &asked.group_id)
            .into_iter()
            .filter_map(|(name, offsets)| {
                let id = Uuid::from_bytes(context.broker.topic(&name)?.id);
                Some(answer(id, offsets.into_iter().map(batched_partition).collect()))
            })
            .collect(),
        Some(topics) => topics
            .into_iter()
            .map(|topic| {
                let indexes = topic.partition_indexes;
                let Some(known) = context.broker.topic_by_id(topic.topic_id.as_bytes()) else {
                    return answer(topic.topic_id, indexes.into_iter().map(unknown_id).collect());
                };
                let committed = |index: i32| {
                    let at = u32::try_from(index).ok();
                    at.and_then(|at| context.groups.committed(&asked.group_id, &known.name, at))
                };
                let found = indexes.into_iter().map(|it| batched_partition((it, committed(it))));
                answer(topic.topic_id, found.collect())
            })
            .collect(),
    };
    group.group_id = asked.group_id;
    group
}

fn unknown_id(index: i32) -> OffsetFetchResponsePartitions {
    let mut partition = batched_partition((index, None));
    partition.error_code = ErrorCode::UNKNOWN_TOPIC_ID.0;
    partition
}

/// The offsets that are asked for; `None` asks for all there are.
fn offsets(
    context: &Context,
    group: &str,
    asked: Option<Vec<(StrBytes, Vec<i32>)>>,
) -> Vec<(StrBytes, Offsets)> {
    let Some(asked) = asked else { return all_offsets(context, group) };
    let committed = |topic: &str, index: i32| {
        context.groups.committed(group, topic, u32::try_from(index).ok()?)
    };
    asked
        .into_iter()
        .map(|(name, indexes)| {
            let offsets = indexes.into_iter().map(|index| (index, committed(&name, index)));
            let offsets = offsets.collect();
            (name, offsets)
        })
        .collect()
}

fn all_offsets(context: &Context, group: &str) -> Vec<(StrBytes, Offsets)> {
    let mut topics: BTreeMap<String, Offsets> = BTreeMap::new();
    for (topic, index, offset) in context.groups.all_committed(group) {
        let index = i32::try_from(index).unwrap_or(i32::MAX);
        topics.entry(topic).or_default().push((index, Some(offset)));
    }
    topics.into_iter().map(|(name, offsets)| (name.into(), offsets)).collect()
}

/// One partition in the layout of a single group.
fn single_partition(
    (index, committed): (i32, Option<CommittedOffset>),
) -> OffsetFetchResponsePartition {
    let mut partition = OffsetFetchResponsePartition::default();
    partition.partition_index = index;
    partition.committed_offset = committed.as_ref().map_or(NEVER_COMMITTED, |it| it.offset);
    partition.committed_leader_epoch = committed.as_ref().map_or(NO_EPOCH, |it| it.leader_epoch);
    partition.metadata = Some(committed.map(|it| it.metadata).unwrap_or_default().into());
    partition
}

/// The same in the layout of many groups.
fn batched_partition(
    (index, committed): (i32, Option<CommittedOffset>),
) -> OffsetFetchResponsePartitions {
    let mut partition = OffsetFetchResponsePartitions::default();
    partition.partition_index = index;
    partition.committed_offset = committed.as_ref().map_or(NEVER_COMMITTED, |it| it.offset);
    partition.committed_leader_epoch = committed.as_ref().map_or(NO_EPOCH, |it| it.leader_epoch);
    partition.metadata = Some(committed.map(|it| it.metadata).unwrap_or_default().into());
    partition
}
