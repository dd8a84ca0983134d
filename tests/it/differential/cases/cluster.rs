//! What a client asks of the cluster itself.

use serde_json::{Value, json};

use super::Cases;

pub(super) fn add(cases: &mut Cases<'_>) {
    versions(cases);
    metadata(cases);
    coordinators(cases);
    nodes(cases);
    partitions(cases);
}

fn versions(cases: &mut Cases<'_>) {
    let client = json!({ "ClientSoftwareName": "differential", "ClientSoftwareVersion": "1.0" });
    cases.mutated("ApiVersions", "versions", &client);
    cases.at("ApiVersions", 5, "a version that is not there", &client);
}

fn metadata(cases: &mut Cases<'_>) {
    let named = |names: &[&str]| -> Vec<Value> {
        names.iter().map(|name| json!({ "Name": name })).collect()
    };
    let two = json!({ "Topics": named(&["one", "three"]), "AllowAutoTopicCreation": false });
    cases.mutated("Metadata", "two topics", &two);
    let none = json!({ "Topics": [], "AllowAutoTopicCreation": false });
    cases.each("Metadata", "no topics", &none);
    let unknown = named(&["no-such", "a bad name", "one", "__consumer_offsets "]);
    let unknown = json!({ "Topics": unknown, "AllowAutoTopicCreation": false });
    for version in 4..=13 {
        cases.at("Metadata", version, "unknown topics", &unknown);
    }
    for version in 1..=13 {
        let all = json!({ "Topics": null, "AllowAutoTopicCreation": false });
        cases.at("Metadata", version, "all topics", &all);
    }
    for version in 0..=13 {
        let new = json!({ "Topics": named(&["created-{n}"]) });
        cases.at("Metadata", version, "automatic creation", &new);
    }
    for version in 12..=13 {
        let ids = json!({ "AllowAutoTopicCreation": false, "Topics": [
            { "Name": null, "TopicId": "id of one" }, { "Name": null, "TopicId": "id of nothing" },
        ] });
        cases.at("Metadata", version, "by id", &ids);
    }
}

fn coordinators(cases: &mut Cases<'_>) {
    let group = json!({ "Key": "readers", "KeyType": 0, "CoordinatorKeys": ["readers", "others"] });
    cases.mutated("FindCoordinator", "of groups", &group);
    let transaction = json!({ "Key": "transaction", "KeyType": 1, "CoordinatorKeys": ["t"] });
    for version in 1..=6 {
        cases.at("FindCoordinator", version, "of a transaction", &transaction);
    }
    let share = json!({ "Key": "g:id:0", "KeyType": 2, "CoordinatorKeys": ["g:id:0"] });
    for version in 1..=6 {
        cases.at("FindCoordinator", version, "of a share group", &share);
    }
}

fn nodes(cases: &mut Cases<'_>) {
    let operations = json!({ "IncludeClusterAuthorizedOperations": true });
    cases.mutated("DescribeCluster", "with operations", &operations);
    let quorum = json!({ "Topics": [
        { "TopicName": "__cluster_metadata", "Partitions": [{ "PartitionIndex": 0 }] },
    ] });
    cases.mutated("DescribeQuorum", "the quorum", &quorum);
    cases.mutated("DescribeLogDirs", "all", &json!({ "Topics": null }));
    let some = json!({ "Topics": [{ "Topic": "three", "Partitions": [0, 2] }] });
    cases.mutated("DescribeLogDirs", "some", &some);
    cases.mutated("ListConfigResources", "any", &json!({}));
    for kind in [2, 4, 8, 16, 32, 3] {
        let of = json!({ "ResourceTypes": [kind] });
        cases.at("ListConfigResources", 1, "of one type", &of);
    }
    let quotas = json!({ "Components": [{ "EntityType": "user", "MatchType": 0, "Match": "u" }] });
    cases.mutated("DescribeClientQuotas", "of a user", &quotas);
    let any = json!({ "Components": [
        { "EntityType": "client-id", "MatchType": 2, "Match": null },
        { "EntityType": "user", "MatchType": 1, "Match": null },
    ] });
    cases.mutated("DescribeClientQuotas", "of any client", &any);
}

fn partitions(cases: &mut Cases<'_>) {
    let election = json!({ "ElectionType": 0, "TopicPartitions": [
        { "Topic": "three", "Partitions": [0, 1, 7] },
    ] });
    cases.mutated("ElectLeaders", "some", &election);
    cases.each("ElectLeaders", "all", &json!({ "TopicPartitions": null }));
    let reassigned = json!({ "Topics": [{ "Name": "three", "PartitionIndexes": [0, 9] }] });
    cases.mutated("ListPartitionReassignments", "some", &reassigned);
    let described = json!({ "Topics": [{ "Name": "three" }, { "Name": "one" }] });
    cases.mutated("DescribeTopicPartitions", "two topics", &described);
    let cursor = json!({
        "Topics": [{ "Name": "one" }, { "Name": "three" }, { "Name": "no-such" }],
        "ResponsePartitionLimit": 2, "Cursor": { "TopicName": "three", "PartitionIndex": 1 },
    });
    cases.mutated("DescribeTopicPartitions", "from a cursor", &cursor);
}
