//! InitProducerId: a producer id that was never given before, for idempotent producers.

use std::sync::Arc;

use kafka_wire::{InitProducerIdRequest, InitProducerIdResponse};

use crate::kafka::{
    context::Context,
    dispatch::{Call, Pending},
    error_code::ErrorCode,
    refusal::Refusal,
};

/// No id, and no epoch.
const NONE: i64 = -1;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: InitProducerIdRequest = call.decode()?;
    if request.transactional_id.is_some() {
        return call.answer(&failed(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED));
    }
    // Both are known, or neither.
    if (request.producer_id == NONE) != (i64::from(request.producer_epoch) == NONE) {
        return call.answer(&failed(ErrorCode::INVALID_REQUEST));
    }
    let context = Arc::clone(context);
    // A non-transactional producer that asks again, with an id or without, gets a new one (as in
    // Kafka): its epoch lives nowhere but in the partitions it wrote to.
    Ok(call.answer_later(async move {
        match context.broker.allocate_producer_id().await {
            Ok(id) => {
                let mut response = InitProducerIdResponse::default();
                response.producer_id = id;
                response.producer_epoch = 0;
                response
            }
            Err(error) => {
                tracing::debug!("no producer id: {error}");
                failed(ErrorCode::COORDINATOR_NOT_AVAILABLE)
            }
        }
    }))
}

fn failed(code: ErrorCode) -> InitProducerIdResponse {
    let mut response = InitProducerIdResponse::default();
    response.error_code = code.0;
    response.producer_id = -1;
    response.producer_epoch = -1;
    response
}
