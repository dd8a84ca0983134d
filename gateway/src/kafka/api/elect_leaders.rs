//! ElectLeaders: of one node there is nothing to elect; it leads every partition.

use std::sync::Arc;

use kafka_wire::{
    ElectLeadersRequest, ElectLeadersResponse,
    elect_leaders_request::TopicPartitions,
    elect_leaders_response::{PartitionResult, ReplicaElectionResult},
};

use crate::{
    broker::Topic,
    kafka::{
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// Kinds of elections: of the preferred replica, of any.
const ELECTION_TYPES: std::ops::RangeInclusive<i8> = 0..=1;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: ElectLeadersRequest = call.decode()?;
    let mut response = ElectLeadersResponse::default();
    let is_legal = ELECTION_TYPES.contains(&request.election_type);
    if !is_legal {
        response.error_code = ErrorCode::INVALID_REQUEST.0;
    }
    response.replica_election_results = match request.topic_partitions {
        // All topics: those are left out whose leader is the right one.
        None => context.broker.topics().iter().map(|topic| nothing_for(topic)).collect(),
        Some(asked) => {
            let elect = |asked| elect(context, asked, is_legal);
            asked.into_iter().map(elect).collect()
        }
    };
    call.answer(&response)
}

fn nothing_for(topic: &Topic) -> ReplicaElectionResult {
    let mut result = ReplicaElectionResult::default();
    result.topic = topic.name.as_str().into();
    result
}

fn elect(context: &Context, asked: TopicPartitions, is_legal: bool) -> ReplicaElectionResult {
    let topic = context.broker.topic(&asked.topic);
    let mut result = ReplicaElectionResult::default();
    result.partition_result = asked
        .partitions
        .into_iter()
        .map(|index| {
            let known = topic.as_deref().and_then(|topic| Context::partition(topic, index));
            let (code, message) = match known {
                _ if !is_legal => (ErrorCode::INVALID_REQUEST, "Unknown election type"),
                None => (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "No such partition"),
                Some(_) => (
                    ErrorCode::ELECTION_NOT_NEEDED,
                    "Leader election not needed for topic partition.",
                ),
            };
            let mut partition = PartitionResult::default();
            partition.partition_id = index;
            partition.error_code = code.0;
            partition.error_message = Some(message.into());
            partition
        })
        .collect();
    result.topic = asked.topic;
    result
}
