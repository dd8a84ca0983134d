//! OffsetForLeaderEpoch: where an epoch ends, for consumers that look whether the log was cut off (KIP-320).

use std::{collections::HashMap, sync::Arc};

use kafka_wire::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    offset_for_leader_epoch_request::OffsetForLeaderPartition,
    offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
};

use crate::{
    broker::{EpochEnd, Topic},
    journal::PartitionId,
    kafka::{
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// Ends that were found for this request: each takes a search through the log, and a request may name one
/// thousands of times.
type Known = HashMap<(PartitionId, i32), Option<EpochEnd>>;

/// Epoch or offset that nobody knows.
const UNKNOWN: i32 = -1;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: OffsetForLeaderEpochRequest = call.decode()?;
    let context = Arc::clone(context);
    Ok(call.answer_later(async move {
        let mut response = OffsetForLeaderEpochResponse::default();
        let mut known = Known::new();
        for asked in request.topics {
            let topic = context.broker.topic(&asked.topic);
            let mut result = OffsetForLeaderTopicResult::default();
            result.topic = asked.topic;
            for asked in asked.partitions {
                let found = find(&context, topic.as_deref(), &asked, &mut known).await;
                result.partitions.push(answer(asked.partition, found));
            }
            response.topics.push(result);
        }
        response
    }))
}

async fn find(
    context: &Context,
    topic: Option<&Topic>,
    asked: &OffsetForLeaderPartition,
    known: &mut Known,
) -> Result<Option<EpochEnd>, ErrorCode> {
    let partition = topic.and_then(|topic| Context::partition(topic, asked.partition));
    let partition = partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let current = context.broker.ends(partition).leader_epoch;
    ErrorCode::of_epoch(asked.current_leader_epoch, current)?;
    if let Some(end) = known.get(&(partition, asked.leader_epoch)) {
        return Ok(*end);
    }
    let found = context.broker.epoch_end(partition, asked.leader_epoch).await;
    let found = found.map_err(|error| ErrorCode::from(&error))?;
    known.insert((partition, asked.leader_epoch), found);
    Ok(found)
}

fn answer(index: i32, found: Result<Option<EpochEnd>, ErrorCode>) -> EpochEndOffset {
    let mut answer = EpochEndOffset::default();
    answer.partition = index;
    answer.leader_epoch = UNKNOWN;
    answer.end_offset = UNKNOWN.into();
    match found {
        Ok(Some(EpochEnd { leader_epoch, end })) => {
            answer.leader_epoch = leader_epoch;
            answer.end_offset = end.0;
        }
        Ok(None) => {}
        Err(code) => answer.error_code = code.0,
    }
    answer
}
