//! ListConfigResources: what has settings (KIP-1142).

use std::sync::Arc;

use kafka_wire::{
    ListConfigResourcesRequest, ListConfigResourcesResponse,
    list_config_resources_response::ConfigResource,
};

use crate::kafka::{
    config_resource::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC},
    context::{Context, NODE_ID},
    dispatch::{Call, Pending},
    error_code::ErrorCode,
    refusal::Refusal,
};

/// Version 0 is for the settings of client metrics alone, which there are none of.
const TYPES_FROM: i16 = 1;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: ListConfigResourcesRequest = call.decode()?;
    let mut response = ListConfigResourcesResponse::default();
    if call.version() < TYPES_FROM {
        return call.answer(&response);
    }
    let known = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
    if request.resource_types.iter().any(|kind| !known.contains(kind)) {
        response.error_code = ErrorCode::UNSUPPORTED_VERSION.0;
        return call.answer(&response);
    }
    let wants =
        |kind: i8| request.resource_types.is_empty() || request.resource_types.contains(&kind);
    let mut add = |kind: i8, name: &str| {
        let mut resource = ConfigResource::default();
        resource.resource_type = kind;
        resource.resource_name = name.into();
        response.config_resources.push(resource);
    };
    if wants(BROKER) {
        add(BROKER, &NODE_ID.to_string());
    }
    if wants(TOPIC) {
        context.broker.topics().iter().for_each(|topic| add(TOPIC, &topic.name));
    }
    call.answer(&response)
}
