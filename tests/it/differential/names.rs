//! What a server gives out under names of its own: ids of topics, members, producers and fetch sessions.
//!
//! Requests and compared answers have common names for them: a topic's id follows from its name, the others are counted in
//! the order in which a server gave them. So an answer that names the wrong one still differs.

use std::collections::BTreeMap;

use headwater_tests::schema::{replace_texts, topic_id, topic_ids};
use serde_json::Value;

/// Common producer ids begin here, far from those that a server gives.
const FIRST_PRODUCER: i64 = 1_000_000;
/// Likewise common ids of fetch sessions.
const FIRST_SESSION: i64 = 2_000_000;

/// Both directions of each kind of name.
#[derive(Debug, Default)]
pub(super) struct Names {
    texts: Both<String>,
    producers: Both<i64>,
    sessions: Both<i64>,
    /// How many members each group has named.
    members: BTreeMap<String, usize>,
    /// Requests by API, which both servers get as many of, whatever they answer.
    requests: BTreeMap<String, i64>,
}

#[derive(Debug, Default)]
struct Both<T> {
    to_server: BTreeMap<T, T>,
    to_common: BTreeMap<T, T>,
}

impl<T: Clone + Ord> Both<T> {
    fn learn(&mut self, server: T, common: T) {
        self.to_common.insert(server.clone(), common.clone());
        self.to_server.insert(common, server);
    }
}

impl Names {
    /// A request for this server.
    pub(super) fn to_server(&mut self, api: &str, body: &Value) -> Value {
        *self.requests.entry(api.to_owned()).or_default() += 1;
        let mut body = body.clone();
        let (producers, sessions) = (&self.producers.to_server, &self.sessions.to_server);
        replace_texts(&mut body, &self.texts.to_server);
        replace_numbers(&mut body, "", producers, sessions);
        body
    }

    /// An answer with common names.
    pub(super) fn from_server(&mut self, api: &str, request: &Value, mut answer: Value) -> Value {
        for (id, name) in topic_ids(&answer) {
            self.texts.learn(id, topic_id(&name));
        }
        let number = self.requests.get(api).copied().unwrap_or_default();
        match api {
            "JoinGroup" => {
                let id = answer["MemberId"].as_str().unwrap_or_default();
                let given = id.is_empty() || request["MemberId"] == id;
                if !given && !self.texts.to_common.contains_key(id) {
                    let group = request["GroupId"].as_str().unwrap_or_default();
                    let count = self.members.entry(group.to_owned()).or_default();
                    *count += 1;
                    self.texts.learn(id.to_owned(), member(group, *count));
                }
            }
            "InitProducerId" => {
                let id = answer["ProducerId"].as_i64().filter(|_| answer["ErrorCode"] == 0);
                learn_number(&mut self.producers, id, FIRST_PRODUCER + number);
            }
            "Fetch" => {
                let is_given = answer["ErrorCode"] == 0 && answer["SessionId"] != 0;
                let id = answer["SessionId"].as_i64().filter(|_| is_given);
                learn_number(&mut self.sessions, id, FIRST_SESSION + number);
            }
            _ => {}
        }
        let (producers, sessions) = (&self.producers.to_common, &self.sessions.to_common);
        replace_texts(&mut answer, &self.texts.to_common);
        replace_numbers(&mut answer, "", producers, sessions);
        answer
    }
}

/// The common name of the so-manieth member that a group has named.
pub(super) fn member(group: &str, number: usize) -> String {
    format!("member {number} of {group}")
}

fn learn_number(names: &mut Both<i64>, given: Option<i64>, common: i64) {
    if let Some(given) = given.filter(|it| *it >= 0 && !names.to_common.contains_key(it)) {
        names.learn(given, common);
    }
}

fn replace_numbers(
    value: &mut Value,
    field: &str,
    producers: &BTreeMap<i64, i64>,
    sessions: &BTreeMap<i64, i64>,
) {
    match value {
        Value::Array(elements) => {
            elements.iter_mut().for_each(|it| replace_numbers(it, field, producers, sessions));
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                replace_numbers(value, name, producers, sessions);
            }
        }
        Value::Number(number) => {
            let names = match field {
                "ProducerId" | "producerId" => producers,
                "SessionId" => sessions,
                _ => return,
            };
            if let Some(other) = number.as_i64().and_then(|it| names.get(&it)) {
                *value = (*other).into();
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
