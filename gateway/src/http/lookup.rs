//! `/api/v1/lookup/TOPIC/KEY`: the last record of a key. `/api/v1/lookup/TOPIC`: those of all keys, page by page.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use crate::{
    journal::ReadError,
    record::Record,
    views::{Found, Listing, LookupError, MAX_KEY_BYTES, Page, Views},
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

/// Most keys of a page.
const MAX_LIMIT: usize = 1000;
/// If the request names none.
const DEFAULT_LIMIT: usize = 100;

/// Code and body of a page of keys.
pub(super) async fn list(
    views: Option<&Arc<Views>>,
    topic: &str,
    query: &str,
) -> (StatusCode, Value) {
    let query = match Query::parse(query) {
        Ok(query) => query,
        Err(error) => return (StatusCode::BAD_REQUEST, json!({"error": error})),
    };
    let page = match views {
        Some(views) => views.list(topic, query.listing()).await,
        None => Err(LookupError::NotViewed(topic.to_owned())),
    };
    match page {
        Ok(page) => (StatusCode::OK, page_body(topic, &query, page)),
        Err(error) => (code(&error), json!({"error": error.to_string()})),
    }
}

/// `prefix=..&after=..&limit=..`, percent-encoded, so that keys may be any bytes.
#[derive(Debug, PartialEq, Eq)]
struct Query {
    prefix: Vec<u8>,
    after: Option<Vec<u8>>,
    limit: usize,
}

impl Query {
    fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self { prefix: Vec::new(), after: None, limit: DEFAULT_LIMIT };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decoded(value).ok_or(format!("{name}: not percent-encoded"))?;
            if value.len() > MAX_KEY_BYTES {
                return Err(format!("{name} is longer than {MAX_KEY_BYTES} bytes"));
            }
            match name {
                "prefix" => parsed.prefix = value,
                "after" => parsed.after = Some(value),
                "limit" => parsed.limit = limit(&value)?,
                _ => return Err(format!("{name} is not one of prefix, after, limit")),
            }
        }
        Ok(parsed)
    }

    fn listing(&self) -> Listing<'_> {
        Listing { prefix: &self.prefix, after: self.after.as_deref(), limit: self.limit }
    }

    /// The query of the next page.
    fn behind(&self, key: &[u8]) -> String {
        let (prefix, after) = (percent_encoded(&self.prefix), percent_encoded(key));
        format!("prefix={prefix}&after={after}&limit={}", self.limit)
    }
}

fn limit(digits: &[u8]) -> Result<usize, String> {
    let number = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    let within = number.filter(|limit| (1..=MAX_LIMIT).contains(limit));
    within.ok_or_else(|| format!("limit is a number from 1 to {MAX_LIMIT}"))
}

pub(super) fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high << 4 | low).ok()?
            }
            byte => byte,
        });
    }
    Some(decoded)
}

pub(crate) fn percent_encoded(bytes: &[u8]) -> String {
    let encode = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(*byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    bytes.iter().map(encode).collect()
}

fn page_body(topic: &str, query: &Query, page: Page) -> Value {
    let records = page.found.iter().map(|(key, found)| match found {
        Ok(found) => body(topic, found),
        Err(error) => {
            let mut lost = Map::new();
            put(&mut lost, "key", Some(key));
            lost.insert("error".into(), json!(error.to_string()));
            Value::Object(lost)
        }
    });
    let records: Vec<_> = records.collect();
    let next = page.next.map(|key| query.behind(&key));
    json!({"records": records, "next": next})
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_what_they_say_or_refused() {
        let all = Query { prefix: Vec::new(), after: None, limit: DEFAULT_LIMIT };
        for (text, expect) in [
            ("", Ok(all)),
            (
                "prefix=a%2Fb+c&after=%ff%00&limit=7",
                Ok(Query { prefix: b"a/b c".into(), after: Some(vec![0xff, 0]), limit: 7 }),
            ),
            ("limit=1000", Ok(Query { prefix: Vec::new(), after: None, limit: 1000 })),
            ("limit=1001", Err("1 to 1000")),
            ("limit=0", Err("1 to 1000")),
            ("limit=-1", Err("1 to 1000")),
            ("limit=", Err("1 to 1000")),
            ("prefix=%f", Err("percent")),
            ("prefix=%zz", Err("percent")),
            ("prefix=%+1", Err("percent")),
            ("prefx=a", Err("prefx is not one of")),
        ] {
            match (Query::parse(text), expect) {
                (Ok(found), Ok(expect)) => {
                    assert_eq!(found, expect, "{text}");
                    let behind = Query::parse(&found.behind(b"k&=%\xfe")).unwrap();
                    assert_eq!(behind, Query { after: Some(b"k&=%\xfe".into()), ..found });
                }
                (Err(found), Err(expect)) => assert!(found.contains(expect), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        let long = format!("after={}", "a".repeat(MAX_KEY_BYTES + 1));
        assert!(Query::parse(&long).unwrap_err().contains("longer"));
    }
}
