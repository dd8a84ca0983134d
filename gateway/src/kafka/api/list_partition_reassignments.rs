//! ListPartitionReassignments: there are none, as there is no second node to move a partition to.

use std::sync::Arc;

use kafka_wire::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use crate::kafka::{
    context::Context,
    dispatch::{Call, Pending},
    refusal::Refusal,
};

pub(crate) fn handle(_: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let _: ListPartitionReassignmentsRequest = call.decode()?;
    let mut response = ListPartitionReassignmentsResponse::default();
    response.error_message = None;
    call.answer(&response)
}
