//! Heartbeat: a member is alive, and learns whether it has to join again.

use std::sync::Arc;

use kafka_wire::{HeartbeatRequest, HeartbeatResponse};

use crate::{
    broker::group::MemberRef,
    kafka::{
        codec::StrBytes,
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: HeartbeatRequest = call.decode()?;
    let member = MemberRef {
        group: request.group_id.into_string(),
        member_id: request.member_id.into_string(),
        instance_id: request.group_instance_id.map(StrBytes::into_string),
        generation: request.generation_id,
    };
    let mut response = HeartbeatResponse::default();
    response.error_code = ErrorCode::of(&context.groups.heartbeat(&member)).0;
    call.answer(&response)
}
