//! DescribeCluster: the one node.

use std::sync::Arc;

use kafka_wire::{
    DescribeClusterRequest, DescribeClusterResponse,
    describe_cluster_response::DescribeClusterBroker,
};

use crate::kafka::{
    context::{CLUSTER_OPERATIONS, Context, NODE_ID},
    dispatch::{Call, Pending},
    error_code::ErrorCode,
    refusal::Refusal,
};

/// What kind of nodes is asked for; a gateway has no controllers of their own.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: DescribeClusterRequest = call.decode()?;
    let mut response = DescribeClusterResponse::default();
    response.endpoint_type = BROKERS;
    let refused = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((
            ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            "this listener is of type BROKER, not CONTROLLER".to_owned(),
        )),
        unknown => Some((
            ErrorCode::UNSUPPORTED_ENDPOINT_TYPE,
            format!("Unsupported endpoint type {unknown}"),
        )),
    };
    if let Some((code, message)) = refused {
        response.error_code = code.0;
        response.error_message = Some(message.into());
        return call.answer(&response);
    }
    let mut broker = DescribeClusterBroker::default();
    broker.broker_id = NODE_ID;
    broker.host = call.endpoint.host.clone();
    broker.port = call.endpoint.port;
    response.cluster_id = context.cluster_id.clone();
    response.controller_id = NODE_ID;
    response.brokers = vec![broker];
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    call.answer(&response)
}
