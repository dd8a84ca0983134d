//! DescribeProducers: who writes to a partition, and which transactions are open in it (KIP-664).

use std::{collections::HashSet, sync::Arc};

use kafka_wire::{
    DescribeProducersRequest, DescribeProducersResponse,
    describe_producers_response::{PartitionResponse, ProducerState, TopicResponse},
};

use crate::{
    broker::{ActiveProducer, Topic},
    journal::PartitionId,
    kafka::{
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// For topics that are not there; partitions have no text.
const REFUSED: &str = "This server does not host this topic-partition.";

/// Nothing of the kind.
const NONE: i32 = -1;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: DescribeProducersRequest = call.decode()?;
    let context = Arc::clone(context);
    Ok(call.answer_later(async move {
        let mut response = DescribeProducersResponse::default();
        let mut seen_topics = HashSet::new();
        let topics = request.topics.into_iter();
        for asked in topics.filter(|asked| seen_topics.insert(asked.name.clone())) {
            let topic = context.broker.topic(&asked.name);
            let unknown = match Topic::is_legal_name(&asked.name) {
                true => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                false => ErrorCode::INVALID_TOPIC,
            };
            let mut result = TopicResponse::default();
            result.name = asked.name;
            // Each once: a partition has many producers, and the answer is built in memory.
            let mut seen = HashSet::new();
            for index in asked.partition_indexes.into_iter().filter(|index| seen.insert(*index)) {
                let known = topic.as_deref().and_then(|topic| Context::partition(topic, index));
                let mut described = partition(&context, index, known.ok_or(unknown)).await;
                if topic.is_none() {
                    described.error_message = Some(REFUSED.into());
                }
                result.partitions.push(described);
            }
            response.topics.push(result);
        }
        response
    }))
}

async fn partition(
    context: &Context,
    index: i32,
    known: Result<PartitionId, ErrorCode>,
) -> PartitionResponse {
    let mut response = PartitionResponse::default();
    response.partition_index = index;
    response.error_message = None;
    match known {
        Ok(partition) => {
            let producers = context.broker.active_producers(partition).await;
            response.active_producers = producers.iter().map(producer).collect();
        }
        Err(code) => response.error_code = code.0,
    }
    response
}

fn producer(known: &ActiveProducer) -> ProducerState {
    let mut state = ProducerState::default();
    state.producer_id = known.producer_id;
    state.producer_epoch = known.producer_epoch.into();
    state.last_sequence = known.last_sequence;
    state.last_timestamp = known.last_timestamp_ms;
    state.coordinator_epoch = NONE;
    state.current_txn_start_offset = known.open_since.map_or(NONE.into(), |offset| offset.0);
    state
}
