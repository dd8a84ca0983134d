//! OffsetCommit: how far a group has read, durable when it is answered.

use std::{collections::VecDeque, sync::Arc};

use kafka_wire::{
    OffsetCommitRequest, OffsetCommitResponse,
    offset_commit_request::OffsetCommitRequestTopic,
    offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
};

use crate::{
    broker::group::{CommitError, MemberRef, OffsetCommit},
    kafka::{
        codec::StrBytes,
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: OffsetCommitRequest = call.decode()?;
    let member = MemberRef {
        group: request.group_id.into_string(),
        member_id: request.member_id.into_string(),
        instance_id: request.group_instance_id.map(StrBytes::into_string),
        generation: request.generation_id_or_member_epoch,
    };
    let topics = request.topics;
    let commits = topics.iter().flat_map(commits).collect();
    let context = Arc::clone(context);
    Ok(call.answer_later(async move {
        let results = context.groups.commit(&member, commits).await;
        respond(topics, results)
    }))
}

/// The commits of one topic, those that name a possible partition.
fn commits(topic: &OffsetCommitRequestTopic) -> impl Iterator<Item = OffsetCommit> {
    topic.partitions.iter().filter_map(|partition| {
        Some(OffsetCommit {
            topic: topic.name.as_str().to_owned(),
            partition: u32::try_from(partition.partition_index).ok()?,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.as_deref().unwrap_or_default().to_owned(),
        })
    })
}

fn respond(
    topics: Vec<OffsetCommitRequestTopic>,
    results: Result<Vec<Result<(), CommitError>>, CommitError>,
) -> OffsetCommitResponse {
    // Either every partition has the group's error, or each its own.
    let (mut each, all) = match results {
        Ok(results) => (VecDeque::from(results), None),
        Err(error) => (VecDeque::new(), Some(ErrorCode::from(&error))),
    };
    let mut code = |index: i32| match all {
        Some(code) => code,
        None if index < 0 => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        None => each.pop_front().map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |it| ErrorCode::of(&it)),
    };
    let mut response = OffsetCommitResponse::default();
    for asked in topics {
        let mut topic = OffsetCommitResponseTopic::default();
        topic.name = asked.name;
        topic.partitions = asked
            .partitions
            .iter()
            .map(|asked| {
                let mut partition = OffsetCommitResponsePartition::default();
                partition.partition_index = asked.partition_index;
                partition.error_code = code(asked.partition_index).0;
                partition
            })
            .collect();
        response.topics.push(topic);
    }
    response
}
