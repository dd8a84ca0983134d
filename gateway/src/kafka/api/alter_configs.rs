//! AlterConfigs: settings of topics, all of them at once: what is not named has its default afterwards.

use std::{collections::BTreeMap, sync::Arc};

use kafka_wire::{
    AlterConfigsRequest, AlterConfigsResponse,
    alter_configs_request::{AlterConfigsResource, AlterableConfig},
    alter_configs_response::AlterConfigsResourceResponse,
};

use crate::{
    broker::SettingsEdit,
    kafka::{
        codec::StrBytes,
        config_resource::{Alteration, Refused, Resource, alter, check_resources},
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: AlterConfigsRequest = call.decode()?;
    let mut alterations: Vec<_> = request.resources.into_iter().map(alteration).collect();
    check_resources(&mut alterations);
    let (context, is_dry) = (Arc::clone(context), request.validate_only);
    Ok(call.answer_later(async move {
        let mut response = AlterConfigsResponse::default();
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
    let invalid = |message: String| Refused::because(ErrorCode::INVALID_REQUEST, message);
    let mut settings = BTreeMap::new();
    for config in configs {
        let name = config.name.into_string();
        let value = config.value.map(StrBytes::into_string);
        let value =
            value.ok_or_else(|| invalid(format!("Null value not supported for : {name}")))?;
        if settings.insert(name, value).is_some() {
            return Err(invalid("Error due to duplicate config keys".into()));
        }
    }
    Ok(SettingsEdit::Replace(settings))
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
