//! DescribeGroups: state and members of groups.

use std::{collections::HashSet, sync::Arc};

use kafka_wire::{
    DescribeGroupsRequest, DescribeGroupsResponse,
    describe_groups_response::{DescribedGroup, DescribedGroupMember},
};

use crate::{
    broker::group::{GroupDescription, MemberDescription},
    kafka::{
        codec::StrBytes,
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// What everybody may do to a group, as bits by Kafka's operation codes: read, delete, describe.
const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8;

/// First version that says of a group that it is not there.
const NOT_FOUND_FROM: i16 = 6;

/// Kafka's name for the state of a group that is not there.
const DEAD: &str = "Dead";

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: DescribeGroupsRequest = call.decode()?;
    let mut response = DescribeGroupsResponse::default();
    let mut seen = HashSet::new();
    for name in request.groups.into_iter().filter(|name| seen.insert(name.clone())) {
        let mut group = match context.groups.describe(&name) {
            Some(description) => describe(name, description),
            None if call.version() >= NOT_FOUND_FROM => {
                response.groups.push(not_found(name));
                continue;
            }
            None => dead(name),
        };
        if request.include_authorized_operations {
            group.authorized_operations = GROUP_OPERATIONS;
        }
        response.groups.push(group);
    }
    call.answer(&response)
}

fn describe(name: StrBytes, description: GroupDescription) -> DescribedGroup {
    let mut group = DescribedGroup::default();
    group.group_id = name;
    group.group_state = description.phase.as_str().into();
    group.protocol_type = description.protocol_type.into();
    group.protocol_data = description.protocol.into();
    group.members = description.members.into_iter().map(member).collect();
    group
}

fn member(description: MemberDescription) -> DescribedGroupMember {
    let mut member = DescribedGroupMember::default();
    member.member_id = description.member_id.into();
    member.group_instance_id = description.instance_id.map(Into::into);
    member.client_id = description.client_id.into();
    member.client_host = description.client_host.into();
    member.member_metadata = description.metadata;
    member.member_assignment = description.assignment;
    member
}

fn not_found(name: StrBytes) -> DescribedGroup {
    let mut group = dead(name);
    group.error_code = ErrorCode::GROUP_ID_NOT_FOUND.0;
    group.error_message = Some(format!("Group {} not found.", group.group_id.as_str()).into());
    group
}

fn dead(name: StrBytes) -> DescribedGroup {
    let mut group = DescribedGroup::default();
    group.group_id = name;
    group.group_state = DEAD.into();
    group
}
