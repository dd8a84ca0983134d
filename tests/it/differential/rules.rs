//! The reviewed list of what may differ between two right answers, and of what differs here for a reason.
//!
//! A rule is as narrow as what it is for. One that nothing needed fails the test, so the list stays true.

use serde_json::Value;

/// One reason why two answers need not be equal.
#[derive(Debug)]
pub(super) struct Rule {
    /// Name of the API, or `*`.
    pub(super) api: &'static str,
    /// Field, with `[]` behind arrays; `*.` and a field for wherever it is; empty for the whole answer.
    pub(super) path: &'static str,
    /// What the label of the request contains.
    pub(super) within: &'static str,
    pub(super) is: Is,
    /// Why.
    pub(super) why: Why,
}

/// What a rule allows.
#[derive(Debug)]
pub(super) enum Is {
    /// Kafka's value and the own one differ in this way.
    Value(fn(&Value, &Value) -> bool),
    /// The elements may have any order: they are compared by these fields, or by all of them.
    Order(&'static [&'static str]),
    /// Likewise, where names that a server draws decide it: nothing may need the rule.
    OrderByChance(&'static [&'static str]),
    /// Both whole answers are of this kind, and nothing in them is compared.
    Answer(fn(&Value, &Value) -> bool),
    /// Elements with the same fields are one, with what both have in that array.
    Merged(&'static [&'static str], &'static str),
    /// Elements that Kafka alone has.
    OnlyInKafka(fn(&Value) -> bool),
    /// Elements that Headwater alone has.
    OnlyHere(fn(&Value) -> bool),
}

/// Whether a difference means anything.
#[derive(Debug)]
pub(super) enum Why {
    /// It would between two servers of Kafka too.
    Kafka(&'static str),
    /// It does; this is how its row of DIFFERENCES.md begins.
    Listed(&'static str),
}

use Why::{Kafka, Listed};

const fn rule(
    api: &'static str,
    path: &'static str,
    within: &'static str,
    is: Is,
    why: Why,
) -> Rule {
    Rule { api, path, within, is, why }
}

#[rustfmt::skip]
pub(super) static RULES: &[Rule] = &[
    // What two servers of Kafka would differ in.
    rule("*", "*.ClusterId", "", Is::Value(texts), Kafka("each cluster has its own id")),
    rule("*", "*.Port", "", Is::Value(numbers), Kafka("each server has its own port")),
    rule("CreateTopics", "Topics[].TopicId", "", Is::Value(not_created), Kafka("the id of a topic that is not created is any")),
    rule("DescribeLogDirs", "Results[].LogDir", "", Is::Value(texts), Kafka("each server has its own folder")),
    rule("Produce", "Responses[].PartitionResponses[].LogAppendTimeMs", "append time", Is::Value(numbers), Kafka("the time of the append")),
    // Order: Kafka's hash tables.
    rule("CreatePartitions", "Results", "", Is::Order(&["Name"]), Listed("order of results")),
    rule("CreateTopics", "Topics", "", Is::Order(&["Name"]), Listed("order of results")),
    rule("DeleteGroups", "Results", "", Is::Order(&["GroupId"]), Listed("order of results")),
    rule("DeleteTopics", "Responses", "", Is::Order(&["Name", "TopicId"]), Listed("order of results")),
    rule("DescribeConfigs", "Results", "", Is::Order(&["ResourceType", "ResourceName"]), Listed("order of results")),
    rule("DescribeConfigs", "Results[].Configs", "", Is::Order(&["Name"]), Listed("order of results")),
    rule("DescribeGroups", "Groups", "", Is::Order(&["GroupId"]), Listed("order of results")),
    rule("DescribeGroups", "Groups[].Members", "", Is::OrderByChance(&["MemberId"]), Listed("order of results")),
    rule("DescribeLogDirs", "Results[].Topics", "", Is::Order(&["Name"]), Listed("order of results")),
    rule("DescribeLogDirs", "Results[].Topics[].Partitions", "", Is::Order(&["PartitionIndex"]), Listed("order of results")),
    rule("DescribeProducers", "Topics[].Partitions", "", Is::Order(&["PartitionIndex"]), Listed("order of results")),
    rule("ElectLeaders", "ReplicaElectionResults", "", Is::Order(&["Topic"]), Listed("order of results")),
    rule("ElectLeaders", "ReplicaElectionResults[].PartitionResult", "", Is::Order(&["PartitionId"]), Listed("order of results")),
    rule("ListConfigResources", "ConfigResources", "", Is::Order(&["ResourceType", "ResourceName"]), Listed("order of results")),
    rule("ListGroups", "Groups", "", Is::Order(&["GroupId"]), Listed("order of results")),
    rule("Fetch", "Responses", "session", Is::Merged(&["Topic", "TopicId"], "Partitions"), Kafka("a topic is told once for each run of its partitions")),
    rule("Fetch", "Responses", "session", Is::Order(&["Topic", "TopicId"]), Listed("order of results")),
    rule("JoinGroup", "Members", "", Is::OrderByChance(&["MemberId"]), Listed("order of results")),
    rule("ListOffsets", "Topics[].Partitions", "", Is::Order(&["PartitionIndex"]), Listed("order of results")),
    rule("Produce", "Responses[].PartitionResponses", "said by", Is::Order(&["Index"]), Listed("order of results")),
    rule("OffsetDelete", "Topics[].Partitions", "", Is::Order(&["PartitionIndex"]), Listed("order of results")),
    rule("Metadata", "Topics", "", Is::Order(&["Name", "TopicId"]), Listed("order of results")),
    rule("OffsetFetch", "Groups[].Topics", "", Is::Order(&["Name", "TopicId"]), Listed("order of results")),
    // Texts.
    rule("*", "*.ErrorMessage", "", Is::Value(texts), Listed("texts of errors")),
    rule("CreatePartitions", "Results[].ErrorMessage", "", Is::Value(null_and_text), Listed("texts of errors")),
    rule("Produce", "Responses[].PartitionResponses[].ErrorMessage", "", Is::Value(null_and_text), Listed("texts of errors")),
    // What Kafka has and Headwater has not.
    rule("ApiVersions", "ApiKeys", "", Is::OnlyInKafka(is_not_served), Listed("ApiVersions")),
    rule("ApiVersions", "SupportedFeatures", "", Is::OnlyInKafka(any), Listed("ApiVersions")),
    rule("ApiVersions", "FinalizedFeatures", "", Is::OnlyInKafka(any), Listed("ApiVersions")),
    rule("ApiVersions", "FinalizedFeaturesEpoch", "", Is::Value(numbers), Listed("ApiVersions")),
    rule("CreateTopics", "Topics[].Configs", "", Is::OnlyInKafka(is_foreign_setting), Listed("`remote.*`")),
    rule("CreateTopics", "Topics[].Configs", "", Is::OnlyHere(is_own_setting), Listed("`headwater.*`")),
    rule("DescribeConfigs", "Results[].Configs", "", Is::OnlyInKafka(is_foreign_setting), Listed("`remote.*`")),
    rule("DescribeConfigs", "Results[].Configs", "", Is::OnlyHere(is_own_setting), Listed("`headwater.*`")),
    rule("DescribeConfigs", "", "", Is::Answer(of_nodes), Listed("DescribeConfigs of the node")),
    rule("DescribeConfigs", "Results[].Configs[].Documentation", "IncludeDocumentation", Is::Value(text_and_null), Listed("DescribeConfigs of a topic")),
    rule("DescribeConfigs", "Results[].Configs[].Synonyms", "", Is::Value(any_two), Listed("DescribeConfigs of a topic")),
    rule("DescribeConfigs", "Results[].Configs[].Synonyms[].Name", "", Is::Value(texts), Listed("DescribeConfigs of a topic")),
    rule("DescribeGroups", "Groups[].AuthorizedOperations", "", Is::Value(numbers), Listed("group operations")),
    rule("DescribeGroups", "Groups", "Groups[] twice", Is::Value(any_two), Listed("DescribeGroups")),
    rule("DescribeLogDirs", "Results[].TotalBytes", "", Is::Value(numbers), Listed("DescribeLogDirs")),
    rule("DescribeLogDirs", "Results[].UsableBytes", "", Is::Value(numbers), Listed("DescribeLogDirs")),
    rule("DescribeLogDirs", "*.PartitionSize", "", Is::Value(numbers), Listed("DescribeLogDirs")),
    rule("DescribeLogDirs", "Results[].Topics", "", Is::OnlyInKafka(is_internal), Listed("internal topics")),
    rule("DescribeTopicPartitions", "Topics", "", Is::OnlyInKafka(is_internal), Listed("internal topics")),
    rule("ElectLeaders", "ReplicaElectionResults", "", Is::OnlyInKafka(is_internal), Listed("internal topics")),
    rule("ListConfigResources", "ConfigResources", "", Is::OnlyInKafka(is_internal), Listed("internal topics")),
    rule("ListConfigResources", "ConfigResources", "", Is::OnlyInKafka(is_no_topic), Listed("ListConfigResources")),
    rule("Metadata", "Topics", "", Is::OnlyInKafka(is_internal), Listed("internal topics")),
    rule("CreateTopics", "Topics[].Configs[].Value", "", Is::Value(other_defaults), Listed("`flush.messages`")),
    rule("CreateTopics", "Topics[].Configs[].ConfigSource", "", Is::Value(dynamic_default), Listed("DescribeConfigs of a topic")),
    rule("CreateTopics", "Topics[].ErrorCode", "NumPartitions = 2147483647", Is::Value(too_many), Listed("partitions")),
    rule("CreatePartitions", "Results[].ErrorCode", "Count = 2147483647", Is::Value(too_many), Listed("CreatePartitions above the limit")),
    rule("DescribeConfigs", "Results[].Configs[].Value", "", Is::Value(other_defaults), Listed("`flush.messages`")),
    rule("DescribeConfigs", "Results[].Configs[].Synonyms[].Value", "", Is::Value(other_defaults), Listed("`flush.messages`")),
    rule("DescribeConfigs", "Results[].Configs[].ConfigSource", "", Is::Value(dynamic_default), Listed("DescribeConfigs of a topic")),
    rule("DescribeConfigs", "Results", "twice", Is::Value(any_two), Listed("DescribeConfigs of a topic")),
    rule("DescribeConfigs", "Results", "ResourceName = \"no-such\"", Is::Value(any_two), Listed("DescribeConfigs of a topic")),
    rule("DescribeConfigs", "", "ResourceType", Is::Answer(refused_as_a_whole), Listed("DescribeConfigs of a topic")),
    rule("DescribeProducers", "Topics", "", Is::Value(any_two), Listed("DescribeProducers")),
    rule("DescribeProducers", "Topics[].Partitions", "", Is::Value(any_two), Listed("DescribeProducers")),
    rule("DescribeTopicPartitions", "", "Cursor.", Is::Answer(any_two), Listed("DescribeTopicPartitions")),
    rule("Fetch", "", "ReplicaId", Is::Answer(any_two), Listed("requests of a replica")),
    rule("Fetch", "", "LastFetchedEpoch", Is::Answer(any_two), Listed("requests of a replica")),
    rule("Fetch", "", "a future fetched epoch", Is::Answer(any_two), Listed("requests of a replica")),
    rule("ListOffsets", "", "after the deletion", Is::Answer(deleted_maximum), Listed("largest timestamp")),
    rule("Metadata", "Topics[].ErrorCode", "automatic creation", Is::Value(created), Listed("automatic creation")),
    rule("Metadata", "Topics[].Partitions", "automatic creation", Is::Value(any_two), Listed("automatic creation")),
    rule("Metadata", "Topics[].TopicId", "automatic creation", Is::Value(texts), Listed("automatic creation")),
    rule("OffsetForLeaderEpoch", "*.EndOffset", "LeaderEpoch = -", Is::Value(numbers), Listed("numbers without a meaning")),
    rule("OffsetForLeaderEpoch", "*.LeaderEpoch", "LeaderEpoch = -", Is::Value(numbers), Listed("numbers without a meaning")),
    rule("Produce", "", "gzip that is none", Is::Answer(any_two), Listed("records of a batch")),
    rule("Produce", "*.ErrorCode", "unknown codec", Is::Value(kafka_failed), Listed("numbers without a meaning")),
    rule("Produce", "*.ErrorCode", "transactional", Is::Value(transactional_batch), Listed("transactions")),
    rule("Produce", "*.ErrorCode", "Records = ", Is::Value(no_batch), Listed("bytes that are no batch")),
    rule("Produce", "*.ErrorCode", "", Is::Value(forgotten_duplicate), Listed("duplicates older than five batches")),
    rule("Produce", "*.LogAppendTimeMs", "said by", Is::Value(time_of_duplicate), Listed("log append time of a duplicate")),
    rule("Produce", "*.LogStartOffset", "", Is::Value(untold), Listed("log start of what is refused")),
    rule("DescribeGroups", "Groups[].GroupState", "", Is::Value(gone_state), Listed("a group without members and offsets")),
    rule("DescribeGroups", "Groups[].ErrorCode", "", Is::Value(gone_code), Listed("a group without members and offsets")),
    rule("DescribeGroups", "Groups[].ErrorMessage", "", Is::Value(null_and_text), Listed("a group without members and offsets")),
    rule("DescribeGroups", "Groups[].ProtocolType", "", Is::Value(gone_type), Listed("a group without members and offsets")),
    rule("OffsetCommit", "*.ErrorCode", "said by", Is::Value(gone_member), Listed("a group without members and offsets")),
    rule("DeleteGroups", "Results[].ErrorCode", "", Is::Value(gone_code), Listed("a group without members and offsets")),
    rule("OffsetDelete", "*.ErrorCode", "", Is::Value(rebalancing), Listed("OffsetDelete while a group rebalances")),
    rule("ListGroups", "Groups[].ProtocolType", "", Is::Value(gone_type), Listed("a group without members")),
    rule("ListGroups", "Groups", "said by", Is::OnlyHere(is_measurers), Listed("a group that was deleted")),
    rule("ListGroups", "Groups", "", Is::OnlyInKafka(any), Listed("a group without members and offsets")),
    // What Kafka's code stumbles over.
    rule("Fetch", "", "IsolationLevel", Is::Answer(kafka_fails), Listed("numbers without a meaning")),
    rule("Fetch", "", "SessionId", Is::Answer(kafka_fails), Listed("numbers without a meaning")),
    rule("Fetch", "", "MaxBytes", Is::Answer(kafka_fails), Listed("numbers without a meaning")),
    rule("ListOffsets", "", "IsolationLevel", Is::Answer(kafka_fails), Listed("numbers without a meaning")),
    rule("DescribeTopicPartitions", "", "Name = \"\"", Is::Answer(kafka_fails), Listed("numbers without a meaning")),
    // Members and groups.
    rule("FindCoordinator", "", "of a transaction", Is::Answer(no_coordinator), Listed("transactions")),
    rule("FindCoordinator", "", "KeyType = 1", Is::Answer(no_coordinator), Listed("transactions")),
    rule("InitProducerId", "", "TransactionalId", Is::Answer(no_transactions), Listed("transactions")),
    rule("InitProducerId", "", "of a transaction", Is::Answer(no_transactions), Listed("transactions")),
    rule("DescribeQuorum", "*.LastFetchTimestamp", "", Is::Value(numbers), Listed("DescribeQuorum")),
    rule("DescribeQuorum", "*.LastCaughtUpTimestamp", "", Is::Value(numbers), Listed("DescribeQuorum")),
    rule("DescribeQuorum", "*.LogEndOffset", "", Is::Value(numbers), Listed("DescribeQuorum")),
    rule("DescribeQuorum", "*.HighWatermark", "", Is::Value(numbers), Listed("DescribeQuorum")),
    rule("DescribeQuorum", "*.LeaderEpoch", "", Is::Value(numbers), Listed("DescribeQuorum")),
    rule("DescribeQuorum", "Nodes[].Listeners[].Name", "", Is::Value(texts), Listed("DescribeQuorum")),
];

fn any(_: &Value) -> bool {
    true
}

fn any_two(_: &Value, _: &Value) -> bool {
    true
}

fn texts(kafka: &Value, ours: &Value) -> bool {
    kafka.is_string() && ours.is_string()
}

fn numbers(kafka: &Value, ours: &Value) -> bool {
    kafka.is_i64() && ours.is_i64()
}

fn text_and_null(kafka: &Value, ours: &Value) -> bool {
    kafka.is_string() && ours.is_null()
}

fn not_created(kafka: &Value, ours: &Value) -> bool {
    kafka.is_string() && *ours == "0".repeat(32)
}

/// Kafka tells that its own code failed, and Headwater does not fail.
fn kafka_fails(kafka: &Value, ours: &Value) -> bool {
    kafka.to_string().contains("\"ErrorCode\":-1,")
        && !ours.to_string().contains("\"ErrorCode\":-1,")
}

/// All are refused.
fn no_coordinator(_: &Value, ours: &Value) -> bool {
    let each = ours["Coordinators"].as_array().into_iter().flatten();
    let codes: Vec<&Value> = each.map(|it| &it["ErrorCode"]).chain(ours.get("ErrorCode")).collect();
    !codes.is_empty() && codes.iter().all(|code| **code == 53)
}

/// The node's own settings are few, and Kafka's many.
fn of_nodes(kafka: &Value, ours: &Value) -> bool {
    let is_it = |answer: &Value| {
        let results = answer["Results"].as_array().into_iter().flatten();
        results.clone().count() > 0 && results.clone().all(|it| it["ResourceType"] == 4)
    };
    let codes = |answer: &Value| {
        let results = answer["Results"].as_array().into_iter().flatten();
        results.map(|it| it["ErrorCode"].clone()).collect::<Vec<_>>()
    };
    is_it(kafka) && is_it(ours) && codes(kafka) == codes(ours)
}

fn rebalancing(kafka: &Value, ours: &Value) -> bool {
    kafka == 0 && ours == 86
}

fn time_of_duplicate(kafka: &Value, ours: &Value) -> bool {
    kafka.as_i64().is_some_and(|time| time > 0) && ours == -1
}

fn null_and_text(kafka: &Value, ours: &Value) -> bool {
    kafka.is_null() && ours.is_string()
}

fn other_defaults(kafka: &Value, ours: &Value) -> bool {
    const FOREVER: &str = "9223372036854775807";
    let pairs = [("3600000", FOREVER), (FOREVER, "0"), (FOREVER, "1"), ("false", "true")];
    pairs.iter().any(|(theirs, own)| kafka == theirs && ours == own)
}

/// Kafka's controller sets it for the whole cluster.
fn dynamic_default(kafka: &Value, ours: &Value) -> bool {
    kafka == 3 && ours == 5
}

fn too_many(kafka: &Value, ours: &Value) -> bool {
    (kafka == 44 || kafka == 39) && ours == 37
}

fn refused_as_a_whole(kafka: &Value, _: &Value) -> bool {
    let results = kafka["Results"].as_array();
    results.is_some_and(|results| results.iter().all(|it| it["ErrorCode"] == 42))
}

fn deleted_maximum(kafka: &Value, ours: &Value) -> bool {
    let offset = |it: &Value| it["Topics"][0]["Partitions"][0]["Offset"].as_i64();
    offset(kafka) == Some(3) && offset(ours) == Some(-1)
}

fn created(kafka: &Value, ours: &Value) -> bool {
    kafka == 3 && ours == 0
}

fn kafka_failed(kafka: &Value, ours: &Value) -> bool {
    kafka == -1 && ours != -1
}

fn transactional_batch(kafka: &Value, ours: &Value) -> bool {
    kafka == 53 && ours == 48
}

fn no_batch(kafka: &Value, ours: &Value) -> bool {
    (kafka == 2 && ours == 87) || (kafka == 87 && ours == 2)
}

fn forgotten_duplicate(kafka: &Value, ours: &Value) -> bool {
    kafka == 45 && ours == 46
}

fn untold(kafka: &Value, ours: &Value) -> bool {
    kafka == 0 && ours == -1
}

fn gone_state(kafka: &Value, ours: &Value) -> bool {
    kafka == "Empty" && ours == "Dead"
}

fn gone_code(kafka: &Value, ours: &Value) -> bool {
    kafka == 0 && ours == 69
}

/// The one group that was deleted while somebody had an id of it.
fn is_measurers(element: &Value) -> bool {
    element["GroupId"].as_str().is_some_and(|group| group.starts_with("measurers"))
}

/// UNKNOWN_MEMBER_ID of a group that is there, ILLEGAL_GENERATION of one that is not.
fn gone_member(kafka: &Value, ours: &Value) -> bool {
    kafka == 25 && ours == 22
}

fn gone_type(kafka: &Value, ours: &Value) -> bool {
    kafka == "consumer" && ours == ""
}

fn no_transactions(_: &Value, ours: &Value) -> bool {
    ours["ErrorCode"] == 53
}

fn is_not_served(element: &Value) -> bool {
    let key = element["ApiKey"].as_i64();
    key.is_some_and(|key| !super::cases::is_listed(key))
}

fn name(element: &Value) -> &str {
    let names = ["Name", "Topic", "ResourceName"].map(|it| element[it].as_str());
    names.into_iter().flatten().next().unwrap_or_default()
}

fn is_internal(element: &Value) -> bool {
    ["__consumer_offsets", "__transaction_state"].contains(&name(element))
}

fn is_no_topic(element: &Value) -> bool {
    element["ResourceType"] != 2 && element["ResourceType"] != 4
}

fn is_own_setting(element: &Value) -> bool {
    name(element).starts_with("headwater.")
}

/// Settings that Headwater does not take.
fn is_foreign_setting(element: &Value) -> bool {
    let name = name(element);
    let is_level = name.starts_with("compression.") && name.ends_with(".level");
    let others = ["remote.", "local.retention.", "errors.deadletterqueue."];
    is_level
        || others.iter().any(|it| name.starts_with(it))
        || name.ends_with(".replication.throttled.replicas")
}
