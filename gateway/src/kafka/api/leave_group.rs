//! LeaveGroup: members leave at once, instead of by their session's end.

use std::sync::Arc;

use kafka_wire::{
    LeaveGroupRequest, LeaveGroupResponse, leave_group_request::MemberIdentity,
    leave_group_response::MemberResponse,
};

use crate::{
    broker::group::Leaving,
    kafka::{
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// First version with many members, of which each has its own result.
const BATCHED_FROM: i16 = 3;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: LeaveGroupRequest = call.decode()?;
    let is_batched = call.version() >= BATCHED_FROM;
    let members = match is_batched {
        true => request.members,
        false => {
            let mut only = MemberIdentity::default();
            only.member_id = request.member_id;
            vec![only]
        }
    };
    let leaving: Vec<Leaving> = members
        .iter()
        .map(|member| Leaving {
            member_id: member.member_id.as_str().to_owned(),
            instance_id: member.group_instance_id.as_deref().map(str::to_owned),
        })
        .collect();
    let mut response = LeaveGroupResponse::default();
    match context.groups.leave(&request.group_id, &leaving) {
        Err(error) => response.error_code = ErrorCode::from(&error).0,
        Ok(results) if is_batched => {
            response.members = members
                .into_iter()
                .zip(results)
                .map(|(member, result)| {
                    let mut left = MemberResponse::default();
                    left.member_id = member.member_id;
                    left.group_instance_id = member.group_instance_id;
                    left.error_code = ErrorCode::of(&result).0;
                    left
                })
                .collect();
        }
        Ok(results) => response.error_code = results.first().map_or(0, |it| ErrorCode::of(it).0),
    }
    call.answer(&response)
}
