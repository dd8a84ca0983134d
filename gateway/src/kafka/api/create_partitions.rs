//! CreatePartitions: more partitions for topics that are there.

use std::{collections::HashMap, sync::Arc};

use kafka_wire::{
    CreatePartitionsRequest, CreatePartitionsResponse,
    create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic},
    create_partitions_response::CreatePartitionsTopicResult,
};

use crate::kafka::{
    codec::StrBytes,
    context::{Context, NODE_ID},
    dispatch::{Call, Pending},
    error_code::ErrorCode,
    refusal::Refusal,
};

/// Why a topic gets no partitions.
type Refused = (ErrorCode, String);

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: CreatePartitionsRequest = call.decode()?;
    let mut count: HashMap<StrBytes, usize> = HashMap::new();
    for topic in &request.topics {
        *count.entry(topic.name.clone()).or_default() += 1;
    }
    let (context, is_dry) = (Arc::clone(context), request.validate_only);
    Ok(call.answer_later(async move {
        let mut response = CreatePartitionsResponse::default();
        for topic in request.topics {
            let name = topic.name.clone();
            let grown = match count.remove(&name) {
                // Answered already.
                None => continue,
                Some(1) => grow(&context, topic, is_dry).await,
                Some(_) => Err((ErrorCode::INVALID_REQUEST, "Duplicate topic name.".into())),
            };
            response.results.push(answer(name, grown));
        }
        response
    }))
}

async fn grow(
    context: &Context,
    topic: CreatePartitionsTopic,
    is_dry: bool,
) -> Result<(), Refused> {
    let broker = &context.broker;
    // Below zero is not more either.
    let total = u32::try_from(topic.count).unwrap_or(0);
    broker.check_growth(&topic.name, total).map_err(|error| refused(&error))?;
    if let Some(assignments) = &topic.assignments {
        let there = broker.topic(&topic.name).map_or(0, |topic| topic.partitions.len());
        check_assignments(assignments, (total as usize).saturating_sub(there))?;
    }
    if is_dry {
        return Ok(());
    }
    broker.grow_topic(&topic.name, total).await.map(|_| ()).map_err(|error| refused(&error))
}

/// A manual assignment can only name the one node.
fn check_assignments(
    assignments: &[CreatePartitionsAssignment],
    added: usize,
) -> Result<(), Refused> {
    let illegal = |message: String| Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    if assignments.len() != added {
        return illegal(format!(
            "Attempted to add {added} additional partition(s), but only {} assignment(s) were \
             specified.",
            assignments.len()
        ));
    }
    match assignments.iter().find(|assignment| assignment.broker_ids != [NODE_ID]) {
        None => Ok(()),
        Some(other) => illegal(format!(
            "a partition is assigned to nodes {:?}: node {NODE_ID} is the only one",
            other.broker_ids
        )),
    }
}

fn refused(error: &crate::broker::TopicError) -> Refused {
    (error.into(), error.to_string())
}

fn answer(name: StrBytes, grown: Result<(), Refused>) -> CreatePartitionsTopicResult {
    let mut result = CreatePartitionsTopicResult::default();
    result.name = name;
    result.error_message = None;
    if let Err((code, message)) = grown {
        result.error_code = code.0;
        result.error_message = Some(message.into());
    }
    result
}
