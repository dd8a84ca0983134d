//! IncrementalAlterConfigs: single settings of topics set, unset, added to or taken from (KIP-339).

use std::{collections::HashSet, sync::Arc};

use kafka_wire::{
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
    incremental_alter_configs_response::AlterConfigsResourceResponse,
};

use crate::{
    broker::{SettingEdit, SettingOperation, SettingsEdit},
    kafka::{
        codec::StrBytes,
        config_resource::{Alteration, Refused, Resource, alter, check_resources},
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// Operations on the wire.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: IncrementalAlterConfigsRequest = call.decode()?;
    let mut alterations: Vec<_> = request.resources.into_iter().map(alteration).collect();
    check_resources(&mut alterations);
    let (context, is_dry) = (Arc::clone(context), request.validate_only);
    Ok(call.answer_later(async move {
        let mut response = IncrementalAlterConfigsResponse::default();
        for alteration in alterations {
            let (resource, result) = alter(&context, alteration, is_dry).await;
            response.responses.push(answer(resource, result));
        }
        response
    }))
}

fn alteration(asked: AlterConfigsResource) -> Alteration {
    let resource = Resource { kind: asked.resource_type, name: asked.resource_name };
    Alteration { resource, edit: edit(asked.configs) }
}

fn edit(configs: Vec<AlterableConfig>) -> Result<SettingsEdit, Refused> {
    let mut seen = HashSet::new();
    let mut edits = Vec::new();
    for config in configs {
        if !seen.insert(config.name.clone()) {
            let message = "Error due to duplicate config keys";
            return Err(Refused::because(ErrorCode::INVALID_REQUEST, message));
        }
        edits.push(one(config)?);
    }
    Ok(SettingsEdit::Each(edits))
}

fn one(config: AlterableConfig) -> Result<SettingEdit, Refused> {
    let name = config.name.into_string();
    let null = || {
        let message = format!("Null value not supported for : {name}");
        Refused::because(ErrorCode::INVALID_REQUEST, message)
    };
    let is_missing = config.value.is_none();
    let value = || config.value.map(StrBytes::into_string).ok_or_else(&null);
    let operation = match config.config_operation {
        SET => SettingOperation::Set(value()?),
        DELETE => SettingOperation::Unset,
        APPEND => SettingOperation::Append(value()?),
        SUBTRACT => SettingOperation::Subtract(value()?),
        // Kafka's answer to an operation that nobody knows.
        _ if is_missing => return Err(null()),
        _ => return Err(Refused { code: ErrorCode::UNKNOWN_SERVER_ERROR, message: None }),
    };
    Ok(SettingEdit { name, operation })
}

fn answer(resource: Resource, result: Result<(), Refused>) -> AlterConfigsResourceResponse {
    let mut response = AlterConfigsResourceResponse::default();
    response.resource_type = resource.kind;
    response.resource_name = resource.name;
    response.error_message = None;
    if let Err(refused) = result {
        response.error_code = refused.code.0;
        response.error_message = refused.message.map(Into::into);
    }
    response
}
