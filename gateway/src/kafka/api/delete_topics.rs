//! DeleteTopics: topics with all that belongs to them, by name or by id (KIP-516).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use kafka_wire::{
    DeleteTopicsRequest, DeleteTopicsResponse, delete_topics_request::DeleteTopicState,
    delete_topics_response::DeletableTopicResult,
};

use crate::{
    broker::TopicError,
    kafka::{
        codec::{StrBytes, Uuid},
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// First version that names topics in structures, and may give their ids instead.
const IDS_FROM: i16 = 6;

/// A topic as the request names it.
type Named = (Option<StrBytes>, Uuid);

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: DeleteTopicsRequest = call.decode()?;
    let named: Vec<Named> = match call.version() >= IDS_FROM {
        true => request.topics.into_iter().map(by_name_or_id).collect(),
        false => request.topic_names.into_iter().map(|it| (Some(it), Uuid::ZERO)).collect(),
    };
    let (plan, refused) = plan(context, named);
    let context = Arc::clone(context);
    Ok(call.answer_later(async move {
        let mut response = DeleteTopicsResponse::default();
        response.responses = refused;
        for (name, id) in plan {
            response.responses.push(delete(&context, name, id).await);
        }
        response
    }))
}

fn by_name_or_id(topic: DeleteTopicState) -> Named {
    (topic.name, topic.topic_id)
}

/// What to delete, and what is refused at once.
fn plan(
    context: &Context,
    named: Vec<Named>,
) -> (Vec<(StrBytes, Uuid)>, Vec<DeletableTopicResult>) {
    let mut count: HashMap<Named, usize> = HashMap::new();
    for named in &named {
        *count.entry(named.clone()).or_default() += 1;
    }
    let names: HashSet<StrBytes> =
        named.iter().filter(|(_, id)| *id == Uuid::ZERO).filter_map(|it| it.0.clone()).collect();
    let mut by_id = HashSet::new();
    let (mut plan, mut refused) = (Vec::new(), Vec::new());
    let invalid = |name, id, message: &str| failed(name, id, ErrorCode::INVALID_REQUEST, message);
    for (name, id) in named {
        let many = count.remove(&(name.clone(), id));
        let is_repeated = many.is_some_and(|many| many > 1);
        match (name, id) {
            // Answered already.
            _ if many.is_none() => {}
            (None, Uuid::ZERO) => {
                refused.push(invalid(None, id, "Neither topic name nor id were specified."));
            }
            (Some(name), Uuid::ZERO) if is_repeated => {
                refused.push(invalid(Some(name), id, "Duplicate topic name."));
            }
            (Some(name), Uuid::ZERO) => plan.push((name, id)),
            (Some(name), id) => {
                let message = "You may not specify both topic name and topic id.";
                refused.push(invalid(Some(name), id, message));
            }
            (None, id) if is_repeated => refused.push(invalid(None, id, "Duplicate topic id.")),
            (None, id) => match context.broker.topic_by_id(id.as_bytes()) {
                Some(topic) if names.contains(&StrBytes::from(topic.name.as_str())) => {
                    let message =
                        "The provided topic name maps to an ID that was already supplied.";
                    by_id.insert(StrBytes::from(topic.name.as_str()));
                    refused.push(invalid(Some(topic.name.as_str().into()), id, message));
                }
                Some(topic) => plan.push((topic.name.as_str().into(), id)),
                None => {
                    let message = "This server does not host this topic ID.";
                    refused.push(failed(None, id, ErrorCode::UNKNOWN_TOPIC_ID, message));
                }
            },
        }
    }
    plan.retain(|(name, _)| !by_id.contains(name));
    (plan, refused)
}

async fn delete(context: &Context, name: StrBytes, id: Uuid) -> DeletableTopicResult {
    let known = context.broker.topic(&name);
    let deleted = match id {
        Uuid::ZERO => context.broker.delete_topic(&name).await,
        id => context.broker.delete_topic_of_id(&name, id.to_bytes()).await,
    };
    match deleted {
        Ok(()) => {
            let mut result = DeletableTopicResult::default();
            result.name = Some(name);
            result.topic_id = known.map_or(id, |topic| Uuid::from_bytes(topic.id));
            result.error_message = None;
            result
        }
        Err(TopicError::Unknown(_)) if id != Uuid::ZERO => failed(
            None,
            id,
            ErrorCode::UNKNOWN_TOPIC_ID,
            "This server does not host this topic ID.",
        ),
        Err(error) => failed(Some(name), id, (&error).into(), &error.to_string()),
    }
}

fn failed(
    name: Option<StrBytes>,
    id: Uuid,
    code: ErrorCode,
    message: &str,
) -> DeletableTopicResult {
    let mut result = DeletableTopicResult::default();
    result.name = name;
    result.topic_id = id;
    result.error_code = code.0;
    result.error_message = Some(message.into());
    result
}
