//! ApiVersions: which APIs and versions are served here (KIP-35, KIP-511).

use std::sync::Arc;

use kafka_wire::{ApiVersionsRequest, ApiVersionsResponse, api_versions_response::ApiVersion};

use crate::kafka::{
    codec::{self, FixedHead, Head},
    context::Context,
    dispatch::{APIS, Call, Pending},
    error_code::ErrorCode,
    output::Reply,
    refusal::Refusal,
};

/// Key of this API, which dispatch treats apart: its version errors can be told.
pub(crate) const KEY: i16 = 18;

/// First version in which clients name their software.
const NAMED_FROM: i16 = 3;

pub(crate) fn handle(_: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: ApiVersionsRequest = call.decode()?;
    let is_named = call.version() >= NAMED_FROM;
    let is_legal = !is_named
        || (is_software_name(&request.client_software_name)
            && is_software_name(&request.client_software_version));
    if !is_legal {
        let mut response = ApiVersionsResponse::default();
        response.error_code = ErrorCode::INVALID_REQUEST.0;
        return call.answer(&response);
    }
    tracing::debug!(
        peer = %call.peer,
        client = call.head.client_id.as_deref(),
        software = request.client_software_name.as_str(),
        version = request.client_software_version.as_str(),
        "kafka client"
    );
    call.answer(&served())
}

/// The answer to a version that is not served: in the layout of version 0, which every client can
/// read, with those of this one API, which is to be asked again.
pub(crate) fn unsupported(head: FixedHead) -> Result<Reply, Refusal> {
    let mut response = served();
    response.api_keys.retain(|api| api.api_key == KEY);
    response.error_code = ErrorCode::UNSUPPORTED_VERSION.0;
    let head = Head { version: 0, correlation_id: head.correlation_id, client_id: None };
    Ok(codec::encode(&head, &response)?)
}

fn served() -> ApiVersionsResponse {
    let mut response = ApiVersionsResponse::default();
    response.api_keys = APIS
        .iter()
        .map(|api| {
            let mut entry = ApiVersion::default();
            entry.api_key = api.key;
            entry.min_version = api.listed_min;
            entry.max_version = api.max;
            entry
        })
        .collect();
    response
}

/// Kafka's rule: letters, digits, dots and dashes, with a letter or digit at both ends.
fn is_software_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    is_end(bytes.first()) && is_end(bytes.last()) && bytes.iter().all(|&byte| is_inner(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names() {
        for good in ["librdkafka", "2.0.2", "a", "apache-kafka-java", "4.3.0-SNAPSHOT"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".", "a b", "a/b", "é", "a\n"] {
            assert!(!is_software_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn produce_is_listed_from_zero_and_every_other_api_as_served() {
        for api in APIS {
            let expect = if api.key == crate::kafka::dispatch::PRODUCE_KEY { 0 } else { api.min };
            assert_eq!(api.listed_min, expect, "{}", api.name);
        }
    }
}
