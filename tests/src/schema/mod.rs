//! Kafka's protocol as Kafka itself describes it: the message schemas in its own jar, and a codec that knows nothing else.
//!
//! Messages are JSON with the fields' names as in the schemas, so that a test can write, change and compare any request or
//! answer in any version without a type for it. Nothing is shared with the gateway: an error of its codec is not
//! repeated here. Identifiers and bytes are strings of hexadecimal digits, records are what [`batches`] makes of them.

pub mod batches;
mod codec;
mod fields;
mod frames;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde_json::Value;

pub use fields::{Field, Kind, Message};
pub use frames::{FrameHead, Pair};

use crate::environment;

/// Requests and answers by API key.
#[derive(Debug)]
pub struct Schemas(BTreeMap<i16, Pair>);

impl Schemas {
    /// Reads them from the jar of Kafka's clients, with `folder` for the files.
    ///
    /// # Panics
    /// If they are not there or not understood.
    #[must_use]
    pub fn load(folder: &Path) -> Self {
        let libs = environment::kafka_libs();
        let jars = fs::read_dir(&libs).expect("the folder of Kafka's jars");
        let jar = jars
            .map(|entry| entry.expect("a readable folder").path())
            .find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("kafka-clients-")
            })
            .expect("the jar of Kafka's clients");
        let mut extract = Command::new("jar");
        extract.current_dir(folder).args(["--extract", "--file"]).arg(jar).arg("common/message");
        assert!(extract.status().is_ok_and(|it| it.success()), "{extract:?} failed");

        let mut messages = BTreeMap::new();
        for entry in fs::read_dir(folder.join("common/message")).expect("the jar has schemas") {
            let path = entry.expect("a readable folder").path();
            if path.extension().is_none_or(|it| it != "json") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a readable file");
            if let Some(message) = Message::parse(&text) {
                messages.insert(message.name.clone(), message);
            }
        }
        let mut pairs = BTreeMap::new();
        let names: Vec<String> = messages.keys().cloned().collect();
        for name in names.iter().filter_map(|name| name.strip_suffix("Request")) {
            let request = messages.remove(&format!("{name}Request")).expect("it is a key");
            let response = messages.remove(&format!("{name}Response"));
            if let Some(response) = response {
                let pair = Pair { name: name.to_owned(), request, response };
                pairs.insert(pair.request.api_key, pair);
            }
        }
        Self(pairs)
    }

    /// Of one API.
    #[must_use]
    pub fn by_key(&self, key: i16) -> Option<&Pair> {
        self.0.get(&key)
    }

    /// Of one API.
    ///
    /// # Panics
    /// If Kafka has none of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> &Pair {
        let found = self.0.values().find(|pair| pair.name == name);
        found.unwrap_or_else(|| panic!("Kafka has no {name}"))
    }
}

/// What stands for a topic's id in what is written down: servers choose them, and differently each time.
#[must_use]
pub fn topic_id(name: &str) -> String {
    // FNV-1a of 128 bits: nothing more than that names differ is asked of it.
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = name.bytes().fold(BASIS, |it, byte| (it ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

/// Ids of topics, each with the name that an answer tells beside it.
#[must_use]
pub fn topic_ids(answer: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    find_topic_ids(answer, &mut found);
    found
}

fn find_topic_ids(value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Array(elements) => elements.iter().for_each(|it| find_topic_ids(it, found)),
        Value::Object(fields) => {
            let name = ["Name", "TopicName", "Topic"].iter().find_map(|it| fields.get(*it));
            let name = name.and_then(Value::as_str).filter(|name| !name.is_empty());
            let id = fields.get("TopicId").and_then(Value::as_str);
            let id = id.filter(|id| id.bytes().any(|digit| digit != b'0'));
            if let (Some(name), Some(id)) = (name, id) {
                found.push((id.to_owned(), name.to_owned()));
            }
            fields.values().for_each(|it| find_topic_ids(it, found));
        }
        _ => {}
    }
}

/// Puts other texts where these are, at any depth.
pub fn replace_texts(value: &mut Value, others: &BTreeMap<String, String>) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|it| replace_texts(it, others)),
        Value::Object(fields) => fields.values_mut().for_each(|it| replace_texts(it, others)),
        Value::String(text) => {
            if let Some(other) = others.get(text) {
                text.clone_from(other);
            }
        }
        _ => {}
    }
}
