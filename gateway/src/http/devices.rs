//! `PUT /api/v1/devices/ID?name=..&label.NAME=..&admission=accepted|refused|undecided`: what people say of a device.
//!
//! A page of another origin cannot ask for it: PUT takes a preflight that nothing here answers, and a name that somebody
//! else made point to this machine is refused.

use std::net::IpAddr;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::lookup::percent_decoded;
use crate::device::{Admission, DevicesWatch, Profile, ProfileEdit, ProfileError};

/// Code and body.
pub(super) async fn edit(
    devices: Option<&DevicesWatch>,
    host: &str,
    device: &str,
    query: &str,
) -> (StatusCode, Value) {
    if !is_address(host) {
        let error = "ask by address (or localhost), not by a name";
        return (StatusCode::FORBIDDEN, json!({"error": error}));
    }
    let edit = match parse(query) {
        Ok(edit) => edit,
        Err(error) => return (StatusCode::BAD_REQUEST, json!({"error": error})),
    };
    let Some(devices) = devices else {
        return (StatusCode::NOT_FOUND, json!({"error": "no device link runs here"}));
    };
    match devices.edit(device, &edit).await {
        Ok(Profile { admission, name, labels }) => {
            let body = json!({
                "device": device, "admission": admission.name(), "name": name, "labels": labels
            });
            (StatusCode::OK, body)
        }
        Err(error) => {
            let code = match error {
                ProfileError::Storage(_) => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::BAD_REQUEST,
            };
            (code, json!({"error": error.to_string()}))
        }
    }
}

/// Whether a Host header names a machine by its address.
fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok()
}

fn parse(query: &str) -> Result<ProfileEdit, String> {
    let mut edit = ProfileEdit::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let text = |part| percent_decoded(part).and_then(|bytes| String::from_utf8(bytes).ok());
        let value = text(value).ok_or(format!("{name}: no percent-encoded UTF-8"))?;
        match name {
            "name" => edit.name = Some(value),
            "admission" => edit.admission = Some(admission(&value)?),
            _ => {
                let label = name
                    .strip_prefix("label.")
                    .and_then(text)
                    .ok_or_else(|| format!("{name:?} is none of name, label.NAME and admission"))?;
                edit.labels.insert(label, value);
            }
        }
    }
    if edit == ProfileEdit::default() {
        return Err("nothing to change: give name, label.NAME or admission".into());
    }
    Ok(edit)
}

fn admission(word: &str) -> Result<Admission, String> {
    [Admission::Undecided, Admission::Accepted, Admission::Refused]
        .into_iter()
        .find(|admission| admission.name() == word)
        .ok_or(format!("admission {word:?} is none of undecided, accepted and refused"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_are_asked_by() {
        for host in
            ["127.0.0.1", "127.0.0.1:8080", "localhost:1", "[::1]:8080", "[::1]", "10.0.0.7"]
        {
            assert!(is_address(host), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.x"]
        {
            assert!(!is_address(host), "{host}");
        }
    }

    #[test]
    fn what_is_asked_for_is_read_or_said_to_be_wrong() {
        let edit =
            parse("name=boiler%20%C3%BC&label.site=a%26b&admission=accepted").expect("legal");
        assert_eq!(edit.name.as_deref(), Some("boiler \u{fc}"));
        assert_eq!(edit.admission, Some(Admission::Accepted));
        assert_eq!(edit.labels["site"], "a&b");
        for bad in ["", "&", "nme=a", "name=%zz", "admission=yes", "label=a", "name=%ff"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
