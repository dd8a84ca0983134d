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
        codec::StrBytes,
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// First version that asks for many groups at once.
const BATCHED_FROM: i16 = 8;

/// Offset and epoch of a partition that the group never committed.
const NEVER_COMMITTED: i64 = -1;
const NO_EPOCH: i32 = -1;

/// Partitions of one topic with what was committed.
type Offsets = Vec<(i32, Option<CommittedOffset>)>;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: OffsetFetchRequest = call.decode()?;
    let mut response = OffsetFetchResponse::default();
    if call.version() >= BATCHED_FROM {
        response.groups = request.groups.into_iter().map(|group| batched(context, group)).collect();
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
