//! DeleteGroups: forgets the offsets of groups without members.

use std::{collections::HashSet, sync::Arc};

use kafka_wire::{
    DeleteGroupsRequest, DeleteGroupsResponse, delete_groups_response::DeletableGroupResult,
};

use crate::kafka::{
    context::Context,
    dispatch::{Call, Pending},
    error_code::ErrorCode,
    refusal::Refusal,
};

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: DeleteGroupsRequest = call.decode()?;
    let context = Arc::clone(context);
    Ok(call.answer_later(async move {
        let mut response = DeleteGroupsResponse::default();
        let mut seen = HashSet::new();
        for name in request.groups_names.into_iter().filter(|name| seen.insert(name.clone())) {
            let mut result = DeletableGroupResult::default();
            result.error_code = ErrorCode::of(&context.groups.delete(&name).await).0;
            result.group_id = name;
            response.results.push(result);
        }
        response
    }))
}
