//! CreateTopics: topics with partitions and settings; the replication factor can only be one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use kafka_wire::{
    CreateTopicsRequest, CreateTopicsResponse,
    create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig},
    create_topics_response::{CreatableTopicConfigs, CreatableTopicResult},
};

use crate::{
    broker::{Topic, TopicError},
    kafka::{
        codec::{StrBytes, Uuid},
        context::{Context, NODE_ID},
        dispatch::{Call, Pending},
        effective,
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// "Whatever the broker's default is" for partitions and replication factor.
const DEFAULT: i32 = -1;

/// The replication factor of a gateway.
const REPLICATION_FACTOR: i16 = 1;

/// A checked wish for a topic.
struct Plan {
    partitions: Option<u32>,
    settings: BTreeMap<String, String>,
}

/// Why a topic is refused before the broker is asked.
struct Refused {
    code: ErrorCode,
    message: String,
}

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: CreateTopicsRequest = call.decode()?;
    let mut count: HashMap<StrBytes, usize> = HashMap::new();
    for topic in &request.topics {
        *count.entry(topic.name.clone()).or_default() += 1;
    }
    let plans: Vec<(StrBytes, Result<Plan, Refused>)> = request
        .topics
        .into_iter()
        .filter_map(|topic| {
            let name = topic.name.clone();
            // What is named more than once is answered once.
            let is_repeated = count.remove(&name)? > 1;
            let plan = if is_repeated { Err(repeated()) } else { plan(topic) };
            Some((name, plan))
        })
        .collect();
    let context = Arc::clone(context);
    let is_dry = request.validate_only;
    Ok(call.answer_later(async move {
        let mut response = CreateTopicsResponse::default();
        for (name, plan) in plans {
            let result = match plan {
                Ok(plan) if is_dry => check(&context, &name, &plan),
                Ok(plan) => create(&context, &name, plan).await,
                Err(refused) => failed(name, refused),
            };
            response.topics.push(result);
        }
        response
    }))
}

fn plan(topic: CreatableTopic) -> Result<Plan, Refused> {
    let settings = settings(topic.configs)?;
    let has_assignments = !topic.assignments.is_empty();
    let asked_for_count =
        topic.num_partitions != DEFAULT || i32::from(topic.replication_factor) != DEFAULT;
    if has_assignments && asked_for_count {
        return Err(Refused {
            code: ErrorCode::INVALID_REQUEST,
            message: "give either assignments, or a number of partitions and a replication factor"
                .into(),
        });
    }
    let partitions = match (has_assignments, topic.num_partitions) {
        (true, _) => Some(assigned(&topic.assignments)?),
        (false, DEFAULT) => None,
        (false, count) => Some(u32::try_from(count).unwrap_or(0)),
    };
    if !has_assignments && !matches!(topic.replication_factor, -1 | REPLICATION_FACTOR) {
        return Err(Refused {
            code: ErrorCode::INVALID_REPLICATION_FACTOR,
            message: format!(
                "replication factor {} is not possible: a gateway is one node, use 1 or -1",
                topic.replication_factor
            ),
        });
    }
    Ok(Plan { partitions, settings })
}

/// Kafka takes no null as "the default": all that have one are named.
fn settings(configs: Vec<CreatableTopicConfig>) -> Result<BTreeMap<String, String>, Refused> {
    let mut settings = BTreeMap::new();
    let mut without_value = Vec::new();
    for config in configs {
        match config.value {
            Some(value) => drop(settings.insert(config.name.into_string(), value.into_string())),
            None => without_value.push(config.name.into_string()),
        }
    }
    if without_value.is_empty() {
        return Ok(settings);
    }
    Err(Refused {
        code: ErrorCode::INVALID_CONFIG,
        message: format!("Null value not supported for topic configs: {}", without_value.join(",")),
    })
}

/// The number of partitions that a manual assignment gives to the one node.
fn assigned(assignments: &[CreatableReplicaAssignment]) -> Result<u32, Refused> {
    let refused =
        |message: String| Refused { code: ErrorCode::INVALID_REPLICA_ASSIGNMENT, message };
    let mut is_assigned = vec![false; assignments.len()];
    for assignment in assignments {
        let index = assignment.partition_index;
        if assignment.broker_ids != [NODE_ID] {
            return Err(refused(format!(
                "partition {index} is assigned to nodes {:?}: node {NODE_ID} is the only one",
                assignment.broker_ids
            )));
        }
        let slot = usize::try_from(index).ok().and_then(|index| is_assigned.get_mut(index));
        match slot {
            Some(slot) if !*slot => *slot = true,
            _ => {
                return Err(refused(format!(
                    "partition {index} is assigned twice or leaves a hole: partitions count from 0"
                )));
            }
        }
    }
    u32::try_from(assignments.len()).map_err(|_| refused("too many partitions".into()))
}

fn repeated() -> Refused {
    Refused {
        code: ErrorCode::INVALID_REQUEST,
        message: "the topic is named more than once".into(),
    }
}

/// What would happen, without doing it.
fn check(context: &Context, name: &StrBytes, plan: &Plan) -> CreatableTopicResult {
    let partitions = plan.partitions.unwrap_or(context.broker.options().default_partitions);
    match context.broker.check_topic(name, partitions, &plan.settings) {
        Ok(()) => created(context, name, None, partitions, &plan.settings),
        Err(error) => refused_by_broker(name, &error),
    }
}

async fn create(context: &Context, name: &StrBytes, plan: Plan) -> CreatableTopicResult {
    match context.broker.create_topic(name, plan.partitions, plan.settings).await {
        Ok(topic) => {
            let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            created(context, name, Some(&topic), partitions, &topic.settings)
        }
        Err(error) => refused_by_broker(name, &error),
    }
}

fn created(
    context: &Context,
    name: &StrBytes,
    topic: Option<&Topic>,
    partitions: u32,
    settings: &BTreeMap<String, String>,
) -> CreatableTopicResult {
    let mut result = CreatableTopicResult::default();
    result.name = name.clone();
    result.topic_id = topic.map_or(Uuid::ZERO, |topic| Uuid::from_bytes(topic.id));
    result.num_partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
    result.replication_factor = REPLICATION_FACTOR;
    result.error_message = None;
    let defaults = &context.broker.options().topic_defaults;
    let configs = effective::of_topic(settings, defaults).into_iter().map(|setting| {
        let mut config = CreatableTopicConfigs::default();
        config.name = setting.name.into();
        config.value = Some(setting.value.into());
        config.config_source = setting.source;
        config
    });
    result.configs = Some(configs.collect());
    result
}

fn refused_by_broker(name: &StrBytes, error: &TopicError) -> CreatableTopicResult {
    failed(name.clone(), Refused { code: error.into(), message: error.to_string() })
}

fn failed(name: StrBytes, refused: Refused) -> CreatableTopicResult {
    let mut result = CreatableTopicResult::default();
    result.name = name;
    result.error_code = refused.code.0;
    result.error_message = Some(refused.message.into());
    result.num_partitions = DEFAULT;
    result.replication_factor = -1;
    result.configs = Some(Vec::new());
    result
}
