//! OffsetCommit: how far a group has read, durable when it is answered.

use std::{collections::VecDeque, sync::Arc};

use kafka_wire::{
    OffsetCommitRequest, OffsetCommitResponse,
    offset_commit_request::OffsetCommitRequestTopic,
    offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
};

use crate::{
    broker::group::{CommitError, GroupError, MemberRef, OffsetCommit},
    kafka::{
        codec::StrBytes,
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// First version that names topics by id.
const TOPIC_IDS_FROM: i16 = 10;

/// First version in which a group that is not there is told apart from one of another generation.
const NOT_FOUND_FROM: i16 = 9;

/// A topic of the request; its name is none if nothing has its id.
type Asked = (Option<String>, OffsetCommitRequestTopic);

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: OffsetCommitRequest = call.decode()?;
    let version = call.version();
    let member = MemberRef {
        group: request.group_id.into_string(),
        member_id: request.member_id.into_string(),
        instance_id: request.group_instance_id.map(StrBytes::into_string),
        generation: request.generation_id_or_member_epoch,
    };
    let named = |topic: OffsetCommitRequestTopic| {
        let name = match version >= TOPIC_IDS_FROM {
            true => {
                let known = context.broker.topic_by_id(topic.topic_id.as_bytes());
                known.map(|topic| topic.name.clone())
            }
            false => Some(topic.name.as_str().to_owned()),
        };
        (name, topic)
    };
    let topics: Vec<Asked> = request.topics.into_iter().map(named).collect();
    let commits = topics.iter().flat_map(commits).collect();
    let context = Arc::clone(context);
    Ok(call.answer_later(async move {
        let mut results = context.groups.commit(&member, commits).await;
        let is_illegal = matches!(results, Err(CommitError::Group(GroupError::IllegalGeneration)));
        if is_illegal
            && version >= NOT_FOUND_FROM
            && context.groups.describe(&member.group).is_none()
        {
            results = Err(CommitError::Group(GroupError::NotFound));
        }
        respond(topics, results)
    }))
}

/// The commits of one topic, those that name a possible partition.
fn commits((name, topic): &Asked) -> impl Iterator<Item = OffsetCommit> {
    let partitions = name.iter().flat_map(|name| topic.partitions.iter().map(move |it| (name, it)));
    partitions.filter_map(|(name, partition)| {
        Some(OffsetCommit {
            topic: name.clone(),
            partition: u32::try_from(partition.partition_index).ok()?,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.as_deref().unwrap_or_default().to_owned(),
        })
    })
}

fn respond(
    topics: Vec<Asked>,
    results: Result<Vec<Result<(), CommitError>>, CommitError>,
) -> OffsetCommitResponse {
    // Either every partition has the group's error, or each its own.
    let (mut each, all) = match results {
        Ok(results) => (VecDeque::from(results), None),
        Err(error) => (VecDeque::new(), Some(ErrorCode::from(&error))),
    };
    let mut code = |is_known: bool, index: i32| match all {
        _ if !is_known => ErrorCode::UNKNOWN_TOPIC_ID,
        Some(code) => code,
        None if index < 0 => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        None => each.pop_front().map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |it| ErrorCode::of(&it)),
    };
    let mut response = OffsetCommitResponse::default();
    for (name, asked) in topics {
        let mut topic = OffsetCommitResponseTopic::default();
        topic.name = asked.name;
        topic.topic_id = asked.topic_id;
        topic.partitions = asked
            .partitions
            .iter()
            .map(|asked| {
                let mut partition = OffsetCommitResponsePartition::default();
                partition.partition_index = asked.partition_index;
                partition.error_code = code(name.is_some(), asked.partition_index).0;
                partition
            })
            .collect();
        if !topic.partitions.is_empty() {
            response.topics.push(topic);
        }
    }
    response
}
