//! DescribeTopicPartitions: topics by name, page by page (KIP-966).

use std::{collections::BTreeSet, sync::Arc};

use kafka_wire::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    describe_topic_partitions_response::{
        Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
    },
};

use crate::{
    broker::Topic,
    kafka::{
        codec::Uuid,
        context::{Context, NODE_ID, TOPIC_OPERATIONS},
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// Most partitions in one answer, Kafka's `max.request.partition.size.limit`.
const MAX_PARTITIONS: i32 = 2000;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: DescribeTopicPartitionsRequest = call.decode()?;
    let (from_topic, from_index) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), usize::try_from(cursor.partition_index)),
        None => ("", Ok(0)),
    };
    let Ok(from_index) = from_index else {
        // Kafka answers with nothing.
        return call.answer(&DescribeTopicPartitionsResponse::default());
    };
    let is_all = request.topics.is_empty();
    let mut names: BTreeSet<String> =
        request.topics.iter().map(|topic| topic.name.as_str().to_owned()).collect();
    if is_all {
        names.extend(context.broker.topics().iter().map(|topic| topic.name.clone()));
    }
    let mut left = usize::try_from(request.response_partition_limit.clamp(1, MAX_PARTITIONS))
        .unwrap_or_default();
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.range(from_topic.to_owned()..) {
        let first = if name == from_topic { from_index } else { 0 };
        if left == 0 {
            response.next_cursor = Some(cursor(name, first));
            break;
        }
        match context.broker.topic(name) {
            Some(topic) => {
                let (described, next) = describe(context, &topic, first, left);
                left -= described.partitions.len();
                response.topics.push(described);
                if let Some(next) = next {
                    response.next_cursor = Some(cursor(name, next));
                    break;
                }
            }
            // It may have been deleted in the meantime.
            None if is_all => {}
            None => response.topics.push(unknown(name)),
        }
    }
    call.answer(&response)
}

/// A topic's partitions from `first` on, at most `most` of them, and where the next page begins.
fn describe(
    context: &Context,
    topic: &Topic,
    first: usize,
    most: usize,
) -> (DescribeTopicPartitionsResponseTopic, Option<usize>) {
    let mut described = DescribeTopicPartitionsResponseTopic::default();
    described.name = Some(topic.name.as_str().into());
    described.topic_id = Uuid::from_bytes(topic.id);
    described.topic_authorized_operations = TOPIC_OPERATIONS;
    let partitions = topic.partitions.iter().zip(0..).skip(first).take(most);
    described.partitions = partitions
        .map(|(&id, index)| {
            let mut partition = DescribeTopicPartitionsResponsePartition::default();
            partition.partition_index = index;
            partition.leader_id = NODE_ID;
            partition.leader_epoch = context.broker.ends(id).leader_epoch;
            partition.replica_nodes = vec![NODE_ID];
            partition.isr_nodes = vec![NODE_ID];
            partition.eligible_leader_replicas = Some(Vec::new());
            partition.last_known_elr = Some(Vec::new());
            partition
        })
        .collect();
    let next = first.saturating_add(most);
    (described, (next < topic.partitions.len()).then_some(next))
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let mut topic = DescribeTopicPartitionsResponseTopic::default();
    topic.name = Some(name.into());
    topic.topic_authorized_operations = TOPIC_OPERATIONS;
    topic.error_code = match Topic::is_legal_name(name) {
        true => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0,
        false => ErrorCode::INVALID_TOPIC.0,
    };
    topic
}

fn cursor(topic: &str, index: usize) -> Cursor {
    let mut cursor = Cursor::default();
    cursor.topic_name = topic.into();
    cursor.partition_index = i32::try_from(index).unwrap_or(i32::MAX);
    cursor
}
