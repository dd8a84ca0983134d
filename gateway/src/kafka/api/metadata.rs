//! Metadata: the node, the topics and their partitions; creates unknown topics if the client and
//! the gateway allow it.

use std::{collections::HashSet, sync::Arc};

use kafka_wire::{
    MetadataRequest, MetadataResponse,
    metadata_request::MetadataRequestTopic,
    metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
};

use crate::{
    broker::{Topic, TopicError},
    kafka::{
        codec::{StrBytes, Uuid},
        context::{CLUSTER_OPERATIONS, Context, Endpoint, NODE_ID, TOPIC_OPERATIONS},
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// What a request asks for.
enum Wanted {
    All,
    Some(Vec<MetadataRequestTopic>),
}

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: MetadataRequest = call.decode()?;
    let may_create = request.allow_auto_topic_creation && context.auto_create_topics;
    let wants_topic_operations = request.include_topic_authorized_operations;
    let response = frame(context, &call.endpoint, request.include_cluster_authorized_operations);
    let wanted = match request.topics {
        None => Wanted::All,
        // Version 0 has no null: an empty list means all.
        Some(topics) if topics.is_empty() && call.version() == 0 => Wanted::All,
        Some(topics) => Wanted::Some(topics),
    };
    let operations = if wants_topic_operations { TOPIC_OPERATIONS } else { i32::MIN };
    let context = Arc::clone(context);
    let finish = move |mut response: MetadataResponse, mut topics: Vec<MetadataResponseTopic>| {
        for topic in topics.iter_mut().filter(|topic| topic.error_code == 0) {
            topic.topic_authorized_operations = operations;
        }
        response.topics = topics;
        response
    };
    let topics = match wanted {
        Wanted::All => {
            let all = context.broker.topics();
            let described = all.iter().map(|topic| describe(&context, topic)).collect();
            return call.answer(&finish(response, described));
        }
        Wanted::Some(topics) => distinct(topics),
    };
    let found: Vec<Found> = topics.into_iter().map(|topic| find(&context, topic)).collect();
    if !may_create || !found.iter().any(Found::is_missing) {
        let described = found.into_iter().map(|found| found.describe(&context)).collect();
        return call.answer(&finish(response, described));
    }
    Ok(call.answer_later(async move {
        let mut described = Vec::with_capacity(found.len());
        for found in found {
            described.push(match found {
                Found::Missing(name) => create(&context, name).await,
                other => other.describe(&context),
            });
        }
        finish(response, described)
    }))
}

/// A requested topic, looked up.
enum Found {
    Topic(Arc<Topic>),
    Missing(StrBytes),
    MissingId(Uuid),
}

impl Found {
    fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    fn describe(self, context: &Context) -> MetadataResponseTopic {
        match self {
            Self::Topic(topic) => describe(context, &topic),
            Self::Missing(name) => {
                let is_legal = Topic::is_legal_name(&name);
                let code = match is_legal {
                    true => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    false => ErrorCode::INVALID_TOPIC,
                };
                failed(Some(name), code)
            }
            Self::MissingId(id) => {
                let mut topic = failed(None, ErrorCode::UNKNOWN_TOPIC_ID);
                topic.topic_id = id;
                topic
            }
        }
    }
}

/// An id wins over a name: beside it Java's AdminClient sends an empty one.
fn find(context: &Context, wanted: MetadataRequestTopic) -> Found {
    match wanted.name.filter(|_| wanted.topic_id == Uuid::ZERO) {
        Some(name) => match context.broker.topic(&name) {
            Some(topic) => Found::Topic(topic),
            None => Found::Missing(name),
        },
        None => match context.broker.topic_by_id(wanted.topic_id.as_bytes()) {
            Some(topic) => Found::Topic(topic),
            None => Found::MissingId(wanted.topic_id),
        },
    }
}

/// The requested topics, each once: a repeated name would multiply the answer.
fn distinct(mut topics: Vec<MetadataRequestTopic>) -> Vec<MetadataRequestTopic> {
    let mut seen = HashSet::new();
    topics.retain(|topic| seen.insert((topic.name.clone(), topic.topic_id.to_bytes())));
    topics
}

async fn create(context: &Context, name: StrBytes) -> MetadataResponseTopic {
    match context.broker.ensure_topic(&name).await {
        Ok(topic) => describe(context, &topic),
        Err(error) => {
            tracing::debug!(topic = name.as_str(), "not created: {error}");
            failed(Some(name), creation_code(&error))
        }
    }
}

/// The code that makes clients ask again where that may help.
fn creation_code(error: &TopicError) -> ErrorCode {
    match error {
        TopicError::Append(_) | TopicError::Stopped => ErrorCode::LEADER_NOT_AVAILABLE,
        other => other.into(),
    }
}

fn frame(context: &Context, endpoint: &Endpoint, wants_operations: bool) -> MetadataResponse {
    let mut broker = MetadataResponseBroker::default();
    broker.node_id = NODE_ID;
    broker.host = endpoint.host.clone();
    broker.port = endpoint.port;
    let mut response = MetadataResponse::default();
    response.brokers = vec![broker];
    response.cluster_id = Some(context.cluster_id.clone());
    response.controller_id = NODE_ID;
    if wants_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

fn describe(context: &Context, topic: &Topic) -> MetadataResponseTopic {
    let mut described = MetadataResponseTopic::default();
    described.name = Some(topic.name.as_str().into());
    described.topic_id = Uuid::from_bytes(topic.id);
    described.partitions = topic
        .partitions
        .iter()
        .zip(0..)
        .map(|(&id, index)| {
            let mut partition = MetadataResponsePartition::default();
            partition.partition_index = index;
            partition.leader_id = NODE_ID;
            partition.leader_epoch = context.broker.ends(id).leader_epoch;
            partition.replica_nodes = vec![NODE_ID];
            partition.isr_nodes = vec![NODE_ID];
            partition
        })
        .collect();
    described
}

fn failed(name: Option<StrBytes>, code: ErrorCode) -> MetadataResponseTopic {
    let mut topic = MetadataResponseTopic::default();
    topic.name = name;
    topic.error_code = code.0;
    topic
}
