//! ListGroups: every group that has members or offsets.

use std::sync::Arc;

use kafka_wire::{ListGroupsRequest, ListGroupsResponse, list_groups_response::ListedGroup};

use crate::kafka::{
    codec::StrBytes,
    context::Context,
    dispatch::{Call, Pending},
    refusal::Refusal,
};

/// The only type of groups there is.
const TYPE: &str = "classic";

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: ListGroupsRequest = call.decode()?;
    let mut response = ListGroupsResponse::default();
    if is_wanted(&request.types_filter, TYPE) {
        response.groups = context
            .groups
            .list()
            .into_iter()
            .filter(|group| is_wanted(&request.states_filter, group.phase.as_str()))
            .map(|group| {
                let mut listed = ListedGroup::default();
                listed.group_id = group.group.into();
                listed.protocol_type = group.protocol_type.into();
                listed.group_state = group.phase.as_str().into();
                listed.group_type = TYPE.into();
                listed
            })
            .collect();
    }
    call.answer(&response)
}

/// An empty filter wants everything.
fn is_wanted(filter: &[StrBytes], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
}
