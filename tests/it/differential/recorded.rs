//! Requests that clients were heard to say to Kafka (tests/fixtures/kafka-requests).

use std::{collections::BTreeSet, fs, path::Path};

use headwater_tests::schema::{FrameHead, Schemas};
use serde_json::{Value, json};

use super::step::{Answered, Source, Step};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/kafka-requests");

/// APIs that say which topics there are to be, which others only read.
const CREATE_TOPICS: &str = "CreateTopics";
const METADATA: &str = "Metadata";
/// Versions of the requests that are added; both tell ids.
const CREATE_TOPICS_VERSION: i16 = 7;
const METADATA_VERSION: i16 = 12;

/// How the names of Kafka's own topics begin, which nobody can create.
const INTERNAL: &str = "__";

const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Fields that name groups, or hold fields that do.
const GROUPS: [&str; 5] = ["GroupId", "Groups", "GroupsNames", "CoordinatorKeys", "Key"];

/// Client by client, each with the topics that it has not created itself.
pub(super) fn all(schemas: &Schemas, is_served: impl Fn(&str, i16) -> bool) -> Vec<Step> {
    let entries = fs::read_dir(FOLDER).expect("the folder of recordings");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "frames"));
    files.sort();
    let mut steps = Vec::new();
    for file in &files {
        let mut heard = read(schemas, file);
        heard.retain(|step| is_served(&step.api, step.version));
        assert!(!heard.is_empty(), "nothing in {}", file.display());
        steps.extend(topics(&heard));
        for step in heard {
            let created = (step.api == CREATE_TOPICS).then(|| names(&step.body));
            let client = step.label.clone();
            steps.push(step);
            steps.extend(created.map(|names| ids(&client, &names)));
        }
    }
    steps
}

fn read(schemas: &Schemas, file: &Path) -> Vec<Step> {
    let client = file.file_stem().unwrap_or_default().to_string_lossy();
    let client = format!("said by {client}");
    let bytes = fs::read(file).expect("a readable recording");
    let mut rest = &bytes[..];
    let mut steps = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let (frame, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
        rest = behind;
        let head = FrameHead::peek(frame).expect("a request");
        let pair = schemas.by_key(head.key).expect("an API of Kafka");
        let body = pair.decode_request(head.version, frame);
        let mut body = body.unwrap_or_else(|fault| panic!("{}: {fault}", file.display()));
        // There is no such topic here.
        if body.to_string().contains(OFFSETS_TOPIC) {
            continue;
        }
        own_groups(&mut body, "", &client);
        steps.push(step(&client, &pair.name, head.version, body));
    }
    steps
}

/// Clients that were recorded apart used the same names for their groups.
fn own_groups(value: &mut Value, field: &str, client: &str) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|it| own_groups(it, field, client)),
        Value::Object(fields) => {
            fields.iter_mut().for_each(|(name, it)| own_groups(it, name, client))
        }
        Value::String(name) if GROUPS.contains(&field) && !name.is_empty() => {
            *name = format!("{name}, {client}");
        }
        _ => {}
    }
}

/// Topics that the client had from elsewhere, or made by asking for them.
fn topics(heard: &[Step]) -> Vec<Step> {
    let (creating, others): (Vec<_>, Vec<_>) =
        heard.iter().partition(|step| step.api == CREATE_TOPICS);
    let created: BTreeSet<String> = creating.iter().flat_map(|step| names(&step.body)).collect();
    let mut missing: BTreeSet<String> = others.iter().flat_map(|step| names(&step.body)).collect();
    missing.retain(|name| !created.contains(name));
    let new: Vec<_> = missing
        .iter()
        .map(|name| json!({ "Name": name, "NumPartitions": 3, "ReplicationFactor": 1 }))
        .collect();
    let client = &heard[0].label;
    let create = step(client, CREATE_TOPICS, CREATE_TOPICS_VERSION, json!({ "Topics": new }));
    vec![create, ids(client, &missing)]
}

/// A request whose answer tells ids of these topics.
fn ids(client: &str, names: &BTreeSet<String>) -> Step {
    let topics: Vec<_> = names.iter().map(|name| json!({ "Name": name })).collect();
    let body = json!({ "Topics": topics, "AllowAutoTopicCreation": false });
    step(client, METADATA, METADATA_VERSION, body)
}

/// Names of the topics in a request.
fn names(body: &Value) -> BTreeSet<String> {
    let lists = ["Topics", "TopicData", "TopicPartitions"].map(|it| body[it].as_array());
    let names = lists.into_iter().flatten().flatten();
    let names = names.filter_map(|topic| {
        topic["Name"].as_str().or(topic["Topic"].as_str()).or(topic["TopicName"].as_str())
    });
    names
        .filter(|name| !name.is_empty() && !name.starts_with(INTERNAL))
        .map(str::to_owned)
        .collect()
}

fn step(client: &str, api: &str, version: i16, body: Value) -> Step {
    Step {
        label: client.to_owned(),
        connection: 2,
        api: api.to_owned(),
        version,
        body,
        source: Source::Recorded,
        answered: Answered::AtOnce,
    }
}
