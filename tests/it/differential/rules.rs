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
    /// Both whole answers are of this kind, and nothing in them is compared.
    Answer(fn(&Value, &Value) -> bool),
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
    rule("CreateTopics", "Topics[].TopicId", "only validated", Is::Value(texts), Kafka("the id of a topic that is not created is any")),
    rule("DescribeLogDirs", "Results[].LogDir", "", Is::Value(texts), Kafka("each server has its own folder")),
    rule("Produce", "Responses[].PartitionResponses[].LogAppendTimeMs", "append time", Is::Value(numbers), Kafka("the time of the append")),
    rule("Fetch", "Responses[].Partitions[].Records[].maxTimestamp", "", Is::Value(numbers), Kafka("the time of the append")),
    // Order: Kafka's hash tables.
    rule("CreatePartitions", "Results", "", Is::Order(&["Name"]), Listed("order of results")),
    rule("CreateTopics", "Topics", "", Is::Order(&["Name"]), Listed("order of results")),
    rule("DeleteGroups", "Results", "", Is::Order(&["GroupId"]), Listed("order of results")),
    rule("DeleteRecords", "Topics", "", Is::Order(&["Name"]), Listed("order of results")),
    rule("DeleteTopics", "Responses", "", Is::Order(&["Name", "TopicId"]), Listed("order of results")),
    rule("DescribeConfigs", "Results", "", Is::Order(&["ResourceType", "ResourceName"]), Listed("order of results")),
    rule("DescribeConfigs", "Results[].Configs", "", Is::Order(&["Name"]), Listed("order of results")),
    rule("DescribeGroups", "Groups", "", Is::Order(&["GroupId"]), Listed("order of results")),
    rule("DescribeGroups", "Groups[].Members", "", Is::Order(&["MemberId"]), Listed("order of results")),
    rule("DescribeLogDirs", "Results[].Topics", "", Is::Order(&["Name"]), Listed("order of results")),
    rule("DescribeLogDirs", "Results[].Topics[].Partitions", "", Is::Order(&["PartitionIndex"]), Listed("order of results")),
    rule("DescribeProducers", "Topics[].Partitions", "", Is::Order(&["PartitionIndex"]), Listed("order of results")),
    rule("ElectLeaders", "ReplicaElectionResults", "", Is::Order(&["Topic"]), Listed("order of results")),
    rule("ElectLeaders", "ReplicaElectionResults[].PartitionResult", "", Is::Order(&["PartitionId"]), Listed("order of results")),
    rule("IncrementalAlterConfigs", "Responses", "", Is::Order(&["ResourceType", "ResourceName"]), Listed("order of results")),
    rule("ListConfigResources", "ConfigResources", "", Is::Order(&["ResourceType", "ResourceName"]), Listed("order of results")),
    rule("ListGroups", "Groups", "", Is::Order(&["GroupId"]), Listed("order of results")),
    rule("ListOffsets", "Topics", "", Is::Order(&["Name"]), Listed("order of results")),
    rule("Metadata", "Topics", "", Is::Order(&["Name", "TopicId"]), Listed("order of results")),
    rule("OffsetFetch", "Topics", "", Is::Order(&["Name"]), Listed("order of results")),
    rule("OffsetFetch", "Groups[].Topics", "", Is::Order(&["Name", "TopicId"]), Listed("order of results")),
    rule("OffsetForLeaderEpoch", "Topics", "", Is::Order(&["Topic"]), Listed("order of results")),
    rule("Produce", "Responses", "", Is::Order(&["Name", "TopicId"]), Listed("order of results")),
    // Texts.
    rule("*", "*.ErrorMessage", "", Is::Value(texts), Listed("texts of errors")),
    rule("Produce", "Responses[].PartitionResponses[].RecordErrors[].BatchIndexErrorMessage", "", Is::Value(texts), Listed("texts of errors")),
    // What Kafka has and Headwater has not.
    rule("ApiVersions", "ApiKeys", "", Is::OnlyInKafka(is_not_served), Listed("ApiVersions")),
    rule("ApiVersions", "SupportedFeatures", "", Is::OnlyInKafka(any), Listed("ApiVersions")),
    rule("ApiVersions", "FinalizedFeatures", "", Is::OnlyInKafka(any), Listed("ApiVersions")),
    rule("ApiVersions", "FinalizedFeaturesEpoch", "", Is::Value(numbers), Listed("ApiVersions")),
    rule("CreateTopics", "Topics[].Configs", "", Is::OnlyInKafka(is_foreign_setting), Listed("`remote.*`")),
    rule("CreateTopics", "Topics[].Configs", "", Is::OnlyHere(is_own_setting), Listed("`headwater.*`")),
    rule("DescribeConfigs", "Results[].Configs", "", Is::OnlyInKafka(is_foreign_setting), Listed("`remote.*`")),
    rule("DescribeConfigs", "Results[].Configs", "", Is::OnlyHere(is_own_setting), Listed("`headwater.*`")),
    rule("DescribeConfigs", "Results[].Configs", "of nodes", Is::OnlyInKafka(any), Listed("DescribeConfigs of the node")),
    rule("DescribeConfigs", "Results[].Configs[].Documentation", "IncludeDocumentation", Is::Value(text_and_null), Listed("DescribeConfigs of a topic")),
    rule("DescribeConfigs", "Results[].Configs[].Synonyms", "", Is::Value(any_two), Listed("DescribeConfigs of a topic")),
    rule("DescribeConfigs", "Results[].Configs[].Synonyms[].Name", "", Is::Value(texts), Listed("DescribeConfigs of a topic")),
    rule("DescribeGroups", "Groups[].AuthorizedOperations", "", Is::Value(numbers), Listed("group operations")),
    rule("DescribeGroups", "Groups", "Groups[] twice", Is::Value(any_two), Listed("DescribeGroups")),
    rule("DescribeLogDirs", "Results[].TotalBytes", "", Is::Value(numbers), Listed("DescribeLogDirs")),
    rule("DescribeLogDirs", "Results[].UsableBytes", "", Is::Value(numbers), Listed("DescribeLogDirs")),
    rule("DescribeLogDirs", "Results[].Topics", "", Is::OnlyInKafka(is_internal), Listed("internal topics")),
    rule("DescribeTopicPartitions", "Topics", "", Is::OnlyInKafka(is_internal), Listed("internal topics")),
    rule("ElectLeaders", "ReplicaElectionResults", "", Is::OnlyInKafka(is_internal), Listed("internal topics")),
    rule("ListConfigResources", "ConfigResources", "", Is::OnlyInKafka(is_internal), Listed("internal topics")),
    rule("ListConfigResources", "ConfigResources", "", Is::OnlyInKafka(is_no_topic), Listed("ListConfigResources")),
    rule("Metadata", "Topics", "", Is::OnlyInKafka(is_internal), Listed("internal topics")),
    // What Kafka's code stumbles over.
    rule("Fetch", "", "IsolationLevel", Is::Answer(kafka_fails), Listed("numbers without a meaning")),
    rule("Fetch", "", "SessionId", Is::Answer(kafka_fails), Listed("numbers without a meaning")),
    rule("Fetch", "", "MaxBytes", Is::Answer(kafka_fails), Listed("numbers without a meaning")),
    rule("ListOffsets", "", "IsolationLevel", Is::Answer(kafka_fails), Listed("numbers without a meaning")),
    rule("DescribeTopicPartitions", "", "Name = \"\"", Is::Answer(kafka_fails), Listed("numbers without a meaning")),
    // Members and groups.
    rule("FindCoordinator", "ErrorCode", "", Is::Value(transactions), Listed("transactions")),
    rule("FindCoordinator", "Coordinators[].ErrorCode", "", Is::Value(transactions), Listed("transactions")),
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

/// Kafka tells that its own code failed, and Headwater does not fail.
fn kafka_fails(kafka: &Value, ours: &Value) -> bool {
    kafka.to_string().contains("\"ErrorCode\":-1,")
        && !ours.to_string().contains("\"ErrorCode\":-1,")
}

/// COORDINATOR_NOT_AVAILABLE while Kafka makes its topic of transactions, and the final refusal.
fn transactions(kafka: &Value, ours: &Value) -> bool {
    (kafka == 0 || kafka == 15) && ours == 53
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
