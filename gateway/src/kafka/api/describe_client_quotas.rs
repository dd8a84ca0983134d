//! DescribeClientQuotas: there are none; what asks for them is judged as by Kafka (KIP-546).

use std::{collections::HashSet, sync::Arc};

use kafka_wire::{
    DescribeClientQuotasRequest, DescribeClientQuotasResponse,
    describe_client_quotas_request::ComponentData,
};

use crate::kafka::{
    codec::StrBytes,
    context::Context,
    dispatch::{Call, Pending},
    error_code::ErrorCode,
    refusal::Refusal,
};

/// What quotas can be for.
const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

/// How a component of the filter matches.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

pub(crate) fn handle(_: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: DescribeClientQuotasRequest = call.decode()?;
    let mut response = DescribeClientQuotasResponse::default();
    match check(&request.components) {
        Ok(()) => {
            response.error_message = Some(StrBytes::default());
            response.entries = Some(Vec::new());
        }
        Err((code, message)) => {
            response.error_code = code.0;
            response.error_message = Some(message.into());
            response.entries = None;
        }
    }
    call.answer(&response)
}

fn check(components: &[ComponentData]) -> Result<(), (ErrorCode, String)> {
    let invalid = |message: &str| Err((ErrorCode::INVALID_REQUEST, message.to_owned()));
    let mut seen = HashSet::new();
    for component in components {
        let entity = component.entity_type.as_str();
        if entity.is_empty() {
            return invalid("Invalid empty entity type.");
        }
        if !seen.insert(entity) {
            return invalid("An entity type cannot appear more than once in the filter.");
        }
        match (component.match_type, &component.match_) {
            (EXACT, None) => {
                return invalid(
                    "Request specified MATCH_TYPE_EXACT, but set match string to null.",
                );
            }
            (EXACT, Some(_)) | (DEFAULT | ANY, None) => {}
            (DEFAULT | ANY, Some(_)) => {
                return invalid("A match string is only for MATCH_TYPE_EXACT.");
            }
            _ => return invalid("Unknown match type"),
        }
        if ![USER, CLIENT_ID, IP].contains(&entity) {
            let message = format!("Unsupported entity type {entity}");
            return Err((ErrorCode::UNSUPPORTED_VERSION, message));
        }
    }
    if seen.contains(IP) && seen.len() > 1 {
        return invalid("Invalid entity filter component combination.");
    }
    Ok(())
}
