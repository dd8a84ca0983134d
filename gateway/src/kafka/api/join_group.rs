//! JoinGroup: a member joins a consumer group and learns the new generation.

use std::{sync::Arc, time::Duration};

use kafka_wire::{
    JoinGroupRequest, JoinGroupResponse, join_group_response::JoinGroupResponseMember,
};

use crate::{
    broker::group::{GroupError, JoinRequest, Joined, JoinedMember},
    kafka::{
        codec::StrBytes,
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// First versions: with a rebalance timeout of its own, with the second step for new members
/// (KIP-394), with nullable protocols, with skipped assignments (KIP-814).
const REBALANCE_TIMEOUT_FROM: i16 = 1;
const KNOWN_MEMBER_FROM: i16 = 4;
const NULLABLE_PROTOCOL_FROM: i16 = 7;
const SKIP_ASSIGNMENT_FROM: i16 = 9;

/// Generation of a refused join.
const NO_GENERATION: i32 = -1;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: JoinGroupRequest = call.decode()?;
    let version = call.version();
    let asked_id = request.member_id.clone();
    let join = translate(request, call);
    let context = Arc::clone(context);
    Ok(call.answer_later(async move {
        let joined = tokio::select! {
            joined = context.groups.join(join) => joined,
            () = context.shutdown.requested() => Err(GroupError::Stopped),
        };
        match joined {
            Ok(joined) => accepted(joined),
            Err(error) => refused(asked_id, &error, version),
        }
    }))
}

fn translate(request: JoinGroupRequest, call: &Call) -> JoinRequest {
    let version = call.version();
    let session_timeout = milliseconds(request.session_timeout_ms);
    let rebalance_timeout = match version >= REBALANCE_TIMEOUT_FROM {
        true => milliseconds(request.rebalance_timeout_ms),
        false => session_timeout,
    };
    JoinRequest {
        group: request.group_id.into_string(),
        member_id: request.member_id.into_string(),
        instance_id: request.group_instance_id.map(StrBytes::into_string),
        client_id: call.head.client_id.as_deref().unwrap_or_default().to_owned(),
        // As Java writes an address without a name.
        client_host: format!("/{}", call.peer.ip().to_canonical()),
        session_timeout,
        rebalance_timeout,
        protocol_type: request.protocol_type.into_string(),
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| (protocol.name.into_string(), protocol.metadata))
            .collect(),
        requires_known_member_id: version >= KNOWN_MEMBER_FROM,
        can_skip_assignment: version >= SKIP_ASSIGNMENT_FROM,
    }
}

fn accepted(joined: Joined) -> JoinGroupResponse {
    let mut response = JoinGroupResponse::default();
    response.generation_id = joined.generation;
    response.protocol_type = Some(joined.protocol_type.into());
    response.protocol_name = Some(joined.protocol.into());
    response.leader = joined.leader.into();
    response.skip_assignment = joined.skip_assignment;
    response.member_id = joined.member_id.into();
    response.members = joined.members.into_iter().map(member).collect();
    response
}

fn member(joined: JoinedMember) -> JoinGroupResponseMember {
    let mut member = JoinGroupResponseMember::default();
    member.member_id = joined.member_id.into();
    member.group_instance_id = joined.instance_id.map(Into::into);
    member.metadata = joined.metadata;
    member
}

fn refused(asked_id: StrBytes, error: &GroupError, version: i16) -> JoinGroupResponse {
    let mut response = JoinGroupResponse::default();
    response.error_code = ErrorCode::from(error).0;
    response.generation_id = NO_GENERATION;
    response.protocol_name = (version < NULLABLE_PROTOCOL_FROM).then(StrBytes::default);
    response.member_id = match error {
        GroupError::MemberIdRequired { member_id } => member_id.as_str().into(),
        _ => asked_id,
    };
    response
}

fn milliseconds(count: i32) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or(0))
}
