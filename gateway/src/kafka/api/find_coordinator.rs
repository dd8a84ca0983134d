//! FindCoordinator: the one node coordinates every group.

use std::sync::Arc;

use kafka_wire::{
    FindCoordinatorRequest, FindCoordinatorResponse, find_coordinator_response::Coordinator,
};

use crate::kafka::{
    codec::StrBytes,
    context::{Context, Endpoint, NODE_ID},
    dispatch::{Call, Pending},
    error_code::ErrorCode,
    refusal::Refusal,
};

/// Key types on the wire.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// What Kafka tells as the message of no error where one key is asked for.
const NO_ERROR: &str = "NONE";

/// First version that asks for many keys at once.
const BATCHED_FROM: i16 = 4;

pub(crate) fn handle(_: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: FindCoordinatorRequest = call.decode()?;
    let outcome = outcome(request.key_type);
    let mut response = FindCoordinatorResponse::default();
    if call.version() >= BATCHED_FROM {
        response.coordinators = request
            .coordinator_keys
            .into_iter()
            .map(|key| coordinator(key, &call.endpoint, outcome))
            .collect();
    } else {
        let one = coordinator(request.key, &call.endpoint, outcome);
        response.error_code = one.error_code;
        response.error_message = match outcome {
            Ok(()) => Some(NO_ERROR.into()),
            Err(_) => one.error_message,
        };
        response.node_id = one.node_id;
        response.host = one.host;
        response.port = one.port;
    }
    call.answer(&response)
}

fn outcome(key_type: i8) -> Result<(), (ErrorCode, &'static str)> {
    match key_type {
        GROUP => Ok(()),
        // The one refusal that every client takes as final, rather than to ask again.
        TRANSACTION => Err((
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "this gateway serves no transactions",
        )),
        _ => Err((ErrorCode::INVALID_REQUEST, "this gateway coordinates consumer groups only")),
    }
}

fn coordinator(
    key: StrBytes,
    endpoint: &Endpoint,
    outcome: Result<(), (ErrorCode, &'static str)>,
) -> Coordinator {
    let mut coordinator = Coordinator::default();
    coordinator.key = key;
    match outcome {
        Ok(()) => {
            coordinator.error_message = Some(StrBytes::default());
            coordinator.node_id = NODE_ID;
            coordinator.host = endpoint.host.clone();
            coordinator.port = endpoint.port;
        }
        Err((code, message)) => {
            coordinator.error_code = code.0;
            coordinator.error_message = Some(message.into());
            coordinator.node_id = -1;
            coordinator.port = -1;
        }
    }
    coordinator
}
