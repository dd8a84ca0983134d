//! SyncGroup: the leader brings the assignment, every member fetches its own.

use std::sync::Arc;

use kafka_wire::{SyncGroupRequest, SyncGroupResponse};

use crate::{
    broker::group::{GroupError, MemberRef, SyncRequest, Synced},
    kafka::{
        codec::StrBytes,
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// First version that has to name the protocol.
const NAMED_FROM: i16 = 5;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: SyncGroupRequest = call.decode()?;
    let is_named = request.protocol_type.is_some() && request.protocol_name.is_some();
    if call.version() >= NAMED_FROM && !is_named {
        return call.answer(&respond(Err(GroupError::InconsistentProtocol)));
    }
    let sync = SyncRequest {
        member: MemberRef {
            group: request.group_id.into_string(),
            member_id: request.member_id.into_string(),
            instance_id: request.group_instance_id.map(StrBytes::into_string),
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type.map(StrBytes::into_string),
        protocol: request.protocol_name.map(StrBytes::into_string),
        assignments: request
            .assignments
            .into_iter()
            .map(|one| (one.member_id.into_string(), one.assignment))
            .collect(),
    };
    let context = Arc::clone(context);
    Ok(call.answer_later(async move {
        let synced = tokio::select! {
            synced = context.groups.sync(sync) => synced,
            () = context.shutdown.requested() => Err(GroupError::Stopped),
        };
        respond(synced)
    }))
}

fn respond(synced: Result<Synced, GroupError>) -> SyncGroupResponse {
    let mut response = SyncGroupResponse::default();
    match synced {
        Ok(synced) => {
            response.protocol_type = Some(synced.protocol_type.into());
            response.protocol_name = Some(synced.protocol.into());
            response.assignment = synced.assignment;
        }
        Err(error) => response.error_code = ErrorCode::from(&error).0,
    }
    response
}
