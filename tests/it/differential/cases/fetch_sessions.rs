//! Fetch sessions (KIP-227).

use serde_json::{Value, json};

use super::Cases;

/// Names until 12, ids since.
const VERSIONS: [i16; 4] = [7, 12, 13, 18];

pub(super) fn add(cases: &mut Cases<'_>) {
    for version in VERSIONS {
        life(cases, version);
        errors(cases, version);
    }
    let one = |cases: &mut Cases<'_>, version, label: &str, id: Value, epoch| {
        cases.at("Fetch", version, label, &request(id, epoch, &[("three", 0, 0)]));
    };
    one(cases, 12, "session by name", json!(0), 0);
    one(cases, 13, "session by name, then by id", json!("last"), 1);
    one(cases, 13, "session by id", json!(0), 0);
    one(cases, 12, "session by id, then by name", json!("last"), 1);
}

fn life(cases: &mut Cases<'_>, version: i16) {
    let mut step = |label: &str, id: Value, epoch: i32, parts: &[(&str, i32, i64)]| {
        cases.at("Fetch", version, &format!("session, {label}"), &request(id, epoch, parts));
    };
    let all = [("three", 0, 0), ("three", 1, 0), ("empty", 0, 0), ("no-such", 0, 0), ("one", 5, 0)];
    step("full", json!(0), 0, &all);
    step("nothing new", json!("last"), 1, &[]);
    step("one moved", json!("last"), 2, &[("three", 0, 2)]);
    step("one at the end", json!("last"), 3, &[("three", 1, 4)]);
    step("one more", json!("last"), 4, &[("empty", 1, 0)]);
    step("one out of range", json!("last"), 5, &[("three", 1, 99)]);
    step("still out of range", json!("last"), 6, &[]);
    let mut forgotten = request(json!("last"), 7, &[]);
    forgotten["ForgottenTopicsData"] = json!([
        { "Topic": "three", "TopicId": "id of three", "Partitions": [0, 7] },
        { "Topic": "no-such", "TopicId": "id of no-such", "Partitions": [0] },
    ]);
    cases.at("Fetch", version, "session, forgotten", &forgotten);
    let mut step = |label: &str, id: Value, epoch: i32, parts: &[(&str, i32, i64)]| {
        cases.at("Fetch", version, &format!("session, {label}"), &request(id, epoch, parts));
    };
    step("after forgetting", json!("last"), 8, &[]);
    step("final", json!("last"), -1, &[("three", 0, 0)]);
    step("after the end", json!("last"), 9, &[]);
}

fn errors(cases: &mut Cases<'_>, version: i16) {
    let mut step = |label: &str, id: Value, epoch: i32| {
        let parts = [("three", 0, 0), ("three", 1, 4)];
        cases.at("Fetch", version, &format!("session, {label}"), &request(id, epoch, &parts));
    };
    step("unknown id", json!(12_345), 1);
    step("unknown id, new", json!(12_345), 0);
    step("no id, epoch 5", json!(0), 5);
    step("full", json!(0), 0);
    step("wrong epoch", json!("last"), 5);
    step("right epoch", json!("last"), 1);
    step("the same epoch again", json!("last"), 1);
    step("anew", json!("last"), 0);
    step("negative epoch", json!("last"), -2);
    step("nothing in it", json!(0), 0);
}

fn request(id: Value, epoch: i32, parts: &[(&str, i32, i64)]) -> Value {
    let topics: Vec<_> = parts
        .iter()
        .map(|(topic, partition, offset)| {
            json!({ "Topic": topic, "TopicId": format!("id of {topic}"), "Partitions": [
                { "Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": 1 << 20 },
            ] })
        })
        .collect();
    json!({
        "MaxWaitMs": 10, "MinBytes": 1, "MaxBytes": 1 << 20, "SessionId": id, "SessionEpoch": epoch,
        "Topics": topics, "ForgottenTopicsData": [],
    })
}
