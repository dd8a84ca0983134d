//! Topics and their settings.

use serde_json::{Value, json};

use super::Cases;

/// Topics that all requests know.
pub(super) const KNOWN: [&str; 7] =
    ["one", "three", "empty", "compacted", "append-time", "small", "garbage"];

/// The request that creates them.
pub(super) fn prepared() -> Value {
    let topic = |name: &str, partitions: i32, settings: &[(&str, &str)]| {
        let settings: Vec<_> =
            settings.iter().map(|(name, value)| json!({ "Name": name, "Value": value })).collect();
        json!({
            "Name": name, "NumPartitions": partitions, "ReplicationFactor": 1, "Configs": settings,
        })
    };
    json!({ "Topics": [
        topic("one", 1, &[]),
        topic("three", 3, &[]),
        topic("empty", 2, &[]),
        topic("compacted", 1, &[("cleanup.policy", "compact")]),
        topic("append-time", 1, &[("message.timestamp.type", "LogAppendTime")]),
        topic("garbage", 1, &[]),
        topic("small", 1, &[("max.message.bytes", "200")]),
    ] })
}

pub(super) fn add(cases: &mut Cases<'_>) {
    create(cases);
    partitions(cases);
    configs(cases);
    alter(cases);
    delete(cases);
}

fn create(cases: &mut Cases<'_>) {
    let topic = json!({ "Name": "new-{n}", "NumPartitions": 2, "ReplicationFactor": 1 });
    cases.each("CreateTopics", "a topic", &json!({ "Topics": [topic] }));
    let mut set = topic.clone();
    set["Configs"] = json!([
        { "Name": "retention.ms", "Value": "86400000" },
        { "Name": "cleanup.policy", "Value": "compact,delete" },
    ]);
    cases.each("CreateTopics", "with settings", &json!({ "Topics": [set] }));
    let only = json!({ "Topics": [set], "validateOnly": true });
    cases.mutated("CreateTopics", "only validated", &only);
    for (label, change) in [
        (
            "by hand",
            json!({ "NumPartitions": -1, "ReplicationFactor": -1, "Assignments": [
            { "PartitionIndex": 0, "BrokerIds": [1] }, { "PartitionIndex": 1, "BrokerIds": [1] },
        ] }),
        ),
        (
            "by hand on nobody",
            json!({ "NumPartitions": -1, "ReplicationFactor": -1,
            "Assignments": [{ "PartitionIndex": 0, "BrokerIds": [7] }] }),
        ),
        (
            "by hand on none",
            json!({ "NumPartitions": -1, "ReplicationFactor": -1,
            "Assignments": [{ "PartitionIndex": 0, "BrokerIds": [] }] }),
        ),
        (
            "by hand with a gap",
            json!({ "NumPartitions": -1, "ReplicationFactor": -1,
            "Assignments": [{ "PartitionIndex": 1, "BrokerIds": [1] }] }),
        ),
        (
            "by hand and by number",
            json!({ "NumPartitions": 1,
            "Assignments": [{ "PartitionIndex": 0, "BrokerIds": [1] }] }),
        ),
        (
            "by hand twice on one",
            json!({ "NumPartitions": -1, "ReplicationFactor": -1,
            "Assignments": [{ "PartitionIndex": 0, "BrokerIds": [1, 1] }] }),
        ),
        ("with defaults", json!({ "NumPartitions": -1, "ReplicationFactor": -1 })),
        ("no partitions", json!({ "NumPartitions": 0 })),
        ("two replicas", json!({ "ReplicationFactor": 2 })),
        ("no replicas", json!({ "ReplicationFactor": 0 })),
        ("one that is there", json!({ "Name": "one" })),
        ("a name with a space", json!({ "Name": "a name" })),
        ("a name of dots", json!({ "Name": ".." })),
        ("no name", json!({ "Name": "" })),
        ("a long name", json!({ "Name": "n".repeat(250) })),
        ("unknown setting", json!({ "Configs": [{ "Name": "no.such", "Value": "1" }] })),
        ("bad value", json!({ "Configs": [{ "Name": "retention.ms", "Value": "long" }] })),
        ("bad policy", json!({ "Configs": [{ "Name": "cleanup.policy", "Value": "keep" }] })),
        ("null value", json!({ "Configs": [{ "Name": "retention.ms", "Value": null }] })),
        ("setting out of range", json!({ "Configs": [{ "Name": "segment.bytes", "Value": "1" }] })),
    ] {
        let mut changed = topic.clone();
        for (name, value) in change.as_object().expect("fields") {
            changed[name] = value.clone();
        }
        cases.each("CreateTopics", label, &json!({ "Topics": [changed] }));
    }
    cases.each(
        "CreateTopics",
        "collides",
        &json!({ "Topics": [
        { "Name": "with.dot{n}", "NumPartitions": 1, "ReplicationFactor": 1 },
        { "Name": "with_dot{n}", "NumPartitions": 1, "ReplicationFactor": 1 },
    ] }),
    );
    let twice = json!({ "Topics": [topic, topic] });
    cases.each("CreateTopics", "twice in a request", &twice);
    cases.each("CreateTopics", "none", &json!({ "Topics": [] }));
}

fn partitions(cases: &mut Cases<'_>) {
    for (version, name) in (0..).zip(["grow-a", "grow-b", "grow-c", "grow-d"]) {
        cases.at(
            "CreateTopics",
            7,
            "to grow",
            &json!({ "Topics": [
            { "Name": name, "NumPartitions": 1, "ReplicationFactor": 1 },
        ] }),
        );
        let ask = |count: i32, assignments: Value| {
            json!({ "TimeoutMs": 9_000, "Topics": [
                { "Name": name, "Count": count, "Assignments": assignments },
            ] })
        };
        for (label, count, assignments) in [
            ("more", 3, Value::Null),
            ("fewer", 2, Value::Null),
            ("the same", 3, Value::Null),
            ("negative", -1, Value::Null),
            ("by hand", 4, json!([{ "BrokerIds": [1] }])),
            ("too few by hand", 6, json!([{ "BrokerIds": [1] }])),
            ("on nobody", 5, json!([{ "BrokerIds": [9] }])),
            ("two replicas", 5, json!([{ "BrokerIds": [1, 1] }])),
            ("none by hand", 5, json!([])),
        ] {
            cases.at("CreatePartitions", version, label, &ask(count, assignments));
        }
    }
    let only = json!({ "TimeoutMs": 9_000, "ValidateOnly": true, "Topics": [
        { "Name": "three", "Count": 5 }, { "Name": "no-such", "Count": 5 },
    ] });
    cases.mutated("CreatePartitions", "only validated", &only);
}

fn configs(cases: &mut Cases<'_>) {
    let topic = json!({ "Resources": [
        { "ResourceType": 2, "ResourceName": "compacted", "ConfigurationKeys": null },
    ] });
    cases.each("DescribeConfigs", "of a topic", &topic);
    let some = json!({ "IncludeSynonyms": true, "Resources": [
        { "ResourceType": 2, "ResourceName": "compacted",
          "ConfigurationKeys": ["cleanup.policy", "retention.ms", "no.such"] },
        { "ResourceType": 2, "ResourceName": "no-such", "ConfigurationKeys": null },
    ] });
    cases.mutated("DescribeConfigs", "some", &some);
    let broker = json!({ "Resources": [
        { "ResourceType": 4, "ResourceName": "1", "ConfigurationKeys": ["log.retention.ms"] },
        { "ResourceType": 4, "ResourceName": "7", "ConfigurationKeys": null },
        { "ResourceType": 4, "ResourceName": "x", "ConfigurationKeys": null },
    ] });
    cases.each("DescribeConfigs", "of nodes", &broker);
}

fn alter(cases: &mut Cases<'_>) {
    let resource = |kind: i32, name: &str, settings: Value| {
        json!({ "Resources": [
            { "ResourceType": kind, "ResourceName": name, "Configs": settings },
        ] })
    };
    for (label, setting) in [
        ("a setting", json!({ "Name": "retention.ms", "Value": "7200000" })),
        ("a bad value", json!({ "Name": "retention.ms", "Value": "-7" })),
        ("an unknown setting", json!({ "Name": "no.such", "Value": "1" })),
        ("no value", json!({ "Name": "retention.ms", "Value": null })),
        ("a list", json!({ "Name": "cleanup.policy", "Value": "compact,delete" })),
        ("an empty list", json!({ "Name": "cleanup.policy", "Value": "" })),
    ] {
        cases.each("AlterConfigs", label, &resource(2, "empty", json!([setting])));
        for operation in 0..=4 {
            let mut setting = setting.clone();
            setting["ConfigOperation"] = operation.into();
            let label = format!("{label}, operation {operation}");
            let request = resource(2, "empty", json!([setting]));
            cases.each("IncrementalAlterConfigs", &label, &request);
        }
        cases.last(
            "DescribeConfigs",
            "after a change",
            &json!({ "Resources": [
            { "ResourceType": 2, "ResourceName": "empty", "ConfigurationKeys": null },
        ] }),
        );
    }
    for (label, kind, name) in [
        ("of an unknown topic", 2, "no-such"),
        ("of a bad name", 2, "a name"),
        ("of an unknown node", 4, "7"),
        ("of an unknown type", 3, "one"),
    ] {
        let setting = json!([{ "Name": "retention.ms", "Value": "7200000" }]);
        cases.each("AlterConfigs", label, &resource(kind, name, setting.clone()));
        cases.each("IncrementalAlterConfigs", label, &resource(kind, name, setting));
    }
    let mut only = resource(2, "one", json!([{ "Name": "retention.ms", "Value": "7200000" }]));
    only["ValidateOnly"] = true.into();
    cases.mutated("IncrementalAlterConfigs", "only validated", &only);
    cases.each("AlterConfigs", "only validated", &only);
    cases.each("AlterConfigs", "nothing", &json!({ "Resources": [] }));
    let twice = json!([
        { "Name": "retention.ms", "Value": "7200000" }, { "Name": "retention.ms", "Value": "7300000" },
    ]);
    cases.each("IncrementalAlterConfigs", "a setting twice", &resource(2, "empty", twice.clone()));
    cases.each("AlterConfigs", "a setting twice", &resource(2, "empty", twice));
}

fn delete(cases: &mut Cases<'_>) {
    for version in 1..=6 {
        let name = format!("gone-{version}");
        cases.at(
            "CreateTopics",
            7,
            "to go",
            &json!({ "Topics": [
            { "Name": name, "NumPartitions": 1, "ReplicationFactor": 1 },
        ] }),
        );
        let both = |names: &[&str]| {
            let topics: Vec<_> = names.iter().map(|name| json!({ "Name": name })).collect();
            json!({ "TopicNames": names, "Topics": topics, "TimeoutMs": 9_000 })
        };
        cases.at("DeleteTopics", version, "some", &both(&[&name, "no-such", "a name", ""]));
        cases.at("DeleteTopics", version, "again", &both(&[&name]));
        cases.at("DeleteTopics", version, "twice in a request", &both(&["no-such", "no-such"]));
    }
    cases.at(
        "CreateTopics",
        7,
        "to go",
        &json!({ "Topics": [
        { "Name": "gone-by-id", "NumPartitions": 1, "ReplicationFactor": 1 },
    ] }),
    );
    for (label, topic) in [
        ("by unknown id", json!({ "Name": null, "TopicId": "id of nothing" })),
        ("by name and id", json!({ "Name": "gone-by-id", "TopicId": "id of gone-by-id" })),
        ("by nothing", json!({ "Name": null })),
        ("by id", json!({ "Name": null, "TopicId": "id of gone-by-id" })),
        ("by id again", json!({ "Name": null, "TopicId": "id of gone-by-id" })),
    ] {
        cases.last("DeleteTopics", label, &json!({ "Topics": [topic], "TimeoutMs": 9_000 }));
    }
    cases.each("DeleteTopics", "none", &json!({ "TimeoutMs": 9_000 }));
}
