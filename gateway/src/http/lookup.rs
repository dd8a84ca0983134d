//! `/api/v1/lookup/TOPIC/KEY`: the last record of a key.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use crate::{
    journal::ReadError,
    record::Record,
    views::{Found, LookupError, Views},
};

/// Code and body.
pub(super) async fn answer(views: Option<&Views>, topic: &str, key: &str) -> (StatusCode, Value) {
    let found = match views {
        Some(views) => views.lookup(topic, key.as_bytes()).await,
        None => Err(LookupError::NotViewed(topic.to_owned())),
    };
    match found {
        Ok(Some(found)) => (StatusCode::OK, body(topic, &found)),
        Ok(None) => (StatusCode::NOT_FOUND, json!({"error": "no record of this key"})),
        Err(error) => (code(&error), json!({"error": error.to_string()})),
    }
}

fn code(error: &LookupError) -> StatusCode {
    match error {
        LookupError::NotViewed(_) => StatusCode::NOT_FOUND,
        LookupError::Read(ReadError::Damaged { .. }) => StatusCode::GONE,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn body(topic: &str, found: &Found) -> Value {
    let Record { offset, timestamp, key, value, headers } = &found.record;
    let mut body = Map::new();
    body.insert("topic".into(), json!(topic));
    body.insert("partition".into(), json!(found.partition));
    body.insert("offset".into(), json!(offset));
    body.insert("timestamp".into(), json!(timestamp));
    put(&mut body, "key", key.as_deref());
    put(&mut body, "value", value.as_deref());
    body.insert("headers".into(), json!(headers.len()));
    Value::Object(body)
}

/// Bytes as text where they are, else as hexadecimal digits under `*_hex`.
fn put(body: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(str::from_utf8) {
        None => drop(body.insert(name.into(), Value::Null)),
        Some(Ok(text)) => drop(body.insert(name.into(), json!(text))),
        Some(Err(_)) => {
            let digits = bytes.unwrap_or_default().iter().map(|byte| format!("{byte:02x}"));
            body.insert(format!("{name}_hex"), json!(digits.collect::<String>()));
        }
    }
}
