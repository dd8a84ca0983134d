//! Requests that differ from a sensible one in one field: what no client says, but anybody may.

use headwater_tests::schema::{Field, Kind, topic_id};
use serde_json::{Value, json};

/// Times that a server would wait for: only sensible values are tried.
const WAITS: [&str; 5] =
    ["MaxWaitMs", "TimeoutMs", "timeoutMs", "RebalanceTimeoutMs", "SessionTimeoutMs"];

/// Changes that are left out, by API and how their texts begin.
const LEFT_OUT: [(&str, &str); 10] = [
    // Kafka does not answer at all.
    ("JoinGroup", "Protocols[] twice"),
    ("Produce", "TopicData[].PartitionData[].Records = null"),
    // What they do stays, and all that follows would differ: these differences are listed.
    ("Produce", "TopicData[] twice"),
    ("Produce", "TopicData[].PartitionData[] twice"),
    ("Produce", "TransactionalId = "),
    ("OffsetCommit", "GroupId = \"\""),
    ("OffsetFetch", "GroupId = \"\""),
    ("OffsetFetch", "Groups[].GroupId = \"\""),
    // The first version creates topics by the way.
    ("Metadata", "Topics[].Name = "),
    ("Metadata", "Topics[].TopicId = "),
];

/// All changes of one field in a request, each with a text that says what it is.
pub(super) fn of(api: &str, fields: &[Field], version: i16, body: &Value) -> Vec<(String, Value)> {
    let is_left_out =
        |change: &str| LEFT_OUT.iter().any(|(of, begin)| *of == api && change.starts_with(begin));
    let mut mutants = changed(fields, version, body);
    mutants.retain(|(change, _)| !is_left_out(change));
    mutants
}

fn changed(fields: &[Field], version: i16, body: &Value) -> Vec<(String, Value)> {
    let mut mutants = Vec::new();
    for field in fields.iter().filter(|field| field.is_in(version)) {
        let current = body.get(&field.name).unwrap_or(&field.default);
        if WAITS.contains(&field.name.as_str()) {
            continue;
        }
        let mut others = values(&field.kind, version, current);
        if field.is_nullable(version) && !current.is_null() {
            others.push((String::new(), Value::Null));
        }
        for (below, value) in others {
            let shown = if below.is_empty() { format!(" = {}", short(&value)) } else { below };
            let mut changed = body.clone();
            changed[&field.name] = value;
            mutants.push((format!("{}{shown}", field.name), changed));
        }
    }
    mutants
}

/// Other values; those with a text are changed somewhere in them.
fn values(kind: &Kind, version: i16, current: &Value) -> Vec<(String, Value)> {
    let plain = |others: Vec<Value>| {
        let others = others.into_iter().filter(|other| other != current);
        others.map(|other| (String::new(), other)).collect()
    };
    match kind {
        Kind::Bool => plain(vec![json!(current != true)]),
        Kind::Int(bytes) => {
            let max = i64::MAX >> (64 - 8 * bytes);
            plain([-1, 0, 1, 2, -2, max, -max - 1].map(Value::from).to_vec())
        }
        Kind::Unsigned16 => plain(vec![json!(0), json!(u16::MAX)]),
        Kind::Float => plain(vec![json!(0.0)]),
        Kind::Uuid => {
            plain(vec![json!("0".repeat(32)), json!("f".repeat(32)), json!(topic_id("one"))])
        }
        Kind::Text => plain(vec![
            json!(""),
            json!("no such thing"),
            json!("no-such"),
            json!("one"),
            json!("x".repeat(300)),
        ]),
        Kind::Bytes => plain(vec![json!(""), json!("00ff00")]),
        Kind::Records => plain(vec![json!([]), json!("00ff00"), json!("00".repeat(70))]),
        Kind::Array(element) => {
            let elements = current.as_array().map_or(&[][..], Vec::as_slice);
            let mut others = plain(vec![json!([])]);
            if let Some(first) = elements.first() {
                let twice = [elements, elements].concat();
                others.push(("[] twice".to_owned(), Value::Array(twice)));
                for (below, value) in values(element, version, first) {
                    let shown = below_array(&below, &value);
                    let mut changed = elements.to_vec();
                    changed[0] = value;
                    others.push((shown, Value::Array(changed)));
                }
            }
            others
        }
        Kind::Struct(fields) if current.is_object() => changed(fields, version, current)
            .into_iter()
            .map(|(it, v)| (format!(".{it}"), v))
            .collect(),
        Kind::Struct(_) => Vec::new(),
    }
}

fn below_array(below: &str, value: &Value) -> String {
    if below.is_empty() { format!("[] = {}", short(value)) } else { format!("[]{below}") }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.len() > 40 { format!("{}...", &text[..30]) } else { text }
}
