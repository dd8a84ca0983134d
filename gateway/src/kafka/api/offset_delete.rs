//! OffsetDelete: single committed offsets of a group are forgotten (KIP-496).

use std::{collections::VecDeque, sync::Arc};

use kafka_wire::{
    OffsetDeleteRequest, OffsetDeleteResponse,
    offset_delete_request::OffsetDeleteRequestTopic,
    offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic},
};

use crate::{
    broker::group::CommitError,
    kafka::{
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: OffsetDeleteRequest = call.decode()?;
    let offsets = request.topics.iter().flat_map(offsets).collect();
    let context = Arc::clone(context);
    Ok(call.answer_later(async move {
        match context.groups.delete_offsets(&request.group_id, offsets).await {
            Ok(results) => respond(request.topics, results),
            Err(error) => {
                let mut response = OffsetDeleteResponse::default();
                response.error_code = ErrorCode::from(&error).0;
                response
            }
        }
    }))
}

/// Those that name a possible partition.
fn offsets(topic: &OffsetDeleteRequestTopic) -> impl Iterator<Item = (String, u32)> {
    let indexes = topic.partitions.iter().map(|it| u32::try_from(it.partition_index));
    indexes.filter_map(|index| Some((topic.name.as_str().to_owned(), index.ok()?)))
}

fn respond(
    topics: Vec<OffsetDeleteRequestTopic>,
    results: Vec<Result<(), CommitError>>,
) -> OffsetDeleteResponse {
    let mut results = VecDeque::from(results);
    let mut code = |index: i32| match index {
        ..0 => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        _ => results.pop_front().map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |it| ErrorCode::of(&it)),
    };
    let mut response = OffsetDeleteResponse::default();
    for asked in topics {
        let mut topic = OffsetDeleteResponseTopic::default();
        for asked in asked.partitions {
            let mut partition = OffsetDeleteResponsePartition::default();
            partition.partition_index = asked.partition_index;
            partition.error_code = code(asked.partition_index).0;
            topic.partitions.push(partition);
        }
        topic.name = asked.name;
        if !topic.partitions.is_empty() {
            response.topics.push(topic);
        }
    }
    response
}
