//! DescribeConfigs: every setting of topics, and what of the broker's settings has a meaning here.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use kafka_wire::{
    DescribeConfigsRequest, DescribeConfigsResponse,
    describe_configs_request::DescribeConfigsResource,
    describe_configs_response::{
        DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
    },
};

use crate::broker::Topic;
use crate::kafka::{
    codec::StrBytes,
    context::{Context, NODE_ID},
    dispatch::{Call, Pending},
    effective::{
        self, BOOLEAN, Effective, LIST, LONG, SOURCE_DEFAULT, SOURCE_STATIC_BROKER, SOURCE_TOPIC,
    },
    error_code::ErrorCode,
    refusal::Refusal,
};

/// Resource types on the wire.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: DescribeConfigsRequest = call.decode()?;
    let mut response = DescribeConfigsResponse::default();
    let mut seen = HashSet::new();
    for resource in request.resources {
        if seen.insert((resource.resource_type, resource.resource_name.clone())) {
            response.results.push(describe(context, resource, request.include_synonyms));
        }
    }
    call.answer(&response)
}

fn describe(
    context: &Context,
    resource: DescribeConfigsResource,
    wants_synonyms: bool,
) -> DescribeConfigsResult {
    let mut result = DescribeConfigsResult::default();
    let entries = match resource.resource_type {
        TOPIC => topic_entries(context, &resource.resource_name),
        BROKER => broker_entries(context, &resource.resource_name),
        _ => Err((ErrorCode::INVALID_REQUEST, "topics and the broker have settings here")),
    };
    match entries {
        Ok(entries) => {
            result.error_message = Some(StrBytes::default());
            result.configs = entries
                .into_iter()
                .filter(|entry| is_wanted(resource.configuration_keys.as_deref(), entry.name))
                .map(|entry| entry.into_wire(wants_synonyms))
                .collect();
        }
        Err((code, message)) => {
            result.error_code = code.0;
            result.error_message = Some(message.into());
        }
    }
    result.resource_type = resource.resource_type;
    result.resource_name = resource.resource_name;
    result
}

/// No list wants every setting, and so does an empty one.
fn is_wanted(keys: Option<&[StrBytes]>, name: &str) -> bool {
    keys.is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| key.as_str() == name))
}

fn topic_entries(
    context: &Context,
    name: &str,
) -> Result<Vec<Effective>, (ErrorCode, &'static str)> {
    if !Topic::is_legal_name(name) {
        return Err((ErrorCode::INVALID_TOPIC, "no topic can have this name"));
    }
    let topic = context
        .broker
        .topic(name)
        .ok_or((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic"))?;
    Ok(effective::of_topic(&topic.settings, &context.broker.options().topic_defaults))
}

fn broker_entries(
    context: &Context,
    name: &str,
) -> Result<Vec<Effective>, (ErrorCode, &'static str)> {
    // An empty name asks for what holds for all brokers of a cluster: nothing is set that way.
    if name.is_empty() {
        return Ok(Vec::new());
    }
    if name.parse() != Ok(NODE_ID) {
        return Err((ErrorCode::INVALID_REQUEST, "there is one node, and its id is 1"));
    }
    let fixed: BTreeMap<&'static str, (String, i8)> = BTreeMap::from([
        ("auto.create.topics.enable", (context.auto_create_topics.to_string(), BOOLEAN)),
        ("default.replication.factor", ("1".to_owned(), LONG)),
        (
            "group.initial.rebalance.delay.ms",
            (context.initial_rebalance_delay.as_millis().to_string(), LONG),
        ),
        ("log.dirs", (context.data_folder.as_str().to_owned(), LIST)),
        ("node.id", (NODE_ID.to_string(), LONG)),
        ("num.partitions", (context.broker.options().default_partitions.to_string(), LONG)),
        (
            "offsets.retention.minutes",
            ((context.offsets_retention.as_secs() / 60).to_string(), LONG),
        ),
        ("socket.request.max.bytes", (context.frame_limits.produce_bytes.to_string(), LONG)),
    ]);
    let entry = |(name, (value, kind))| Effective {
        name,
        value,
        default: None,
        configured: None,
        source: SOURCE_STATIC_BROKER,
        kind,
        is_read_only: true,
    };
    Ok(fixed.into_iter().map(entry).collect())
}

impl Effective {
    fn into_wire(self, wants_synonyms: bool) -> DescribeConfigsResourceResult {
        let mut result = DescribeConfigsResourceResult::default();
        if wants_synonyms {
            result.synonyms = self.synonyms();
        }
        result.name = self.name.into();
        result.value = Some(self.value.into());
        result.read_only = self.is_read_only;
        result.config_source = self.source;
        result.config_type = self.kind;
        result.documentation = None;
        result
    }

    /// Every place that has a value, the winning one first.
    fn synonyms(&self) -> Vec<DescribeConfigsSynonym> {
        let synonym = |value: &str, source: i8| {
            let mut synonym = DescribeConfigsSynonym::default();
            synonym.name = self.name.into();
            synonym.value = Some(value.into());
            synonym.source = source;
            synonym
        };
        let own = (self.source != SOURCE_DEFAULT).then(|| synonym(&self.value, self.source));
        let configured = self.configured.as_ref().filter(|_| self.source == SOURCE_TOPIC);
        let configured = configured.map(|value| synonym(value, SOURCE_STATIC_BROKER));
        let default = self.default.map(|value| synonym(value, SOURCE_DEFAULT));
        own.into_iter().chain(configured).chain(default).collect()
    }
}
