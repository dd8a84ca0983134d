//! Whose settings a request is about, and what changing them comes to.

use std::collections::HashMap;

use crate::broker::{SettingsEdit, Topic};

use super::{
    codec::StrBytes,
    context::{Context, NODE_ID},
    error_code::ErrorCode,
};

/// Types of resources on the wire.
pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;
pub(crate) const BROKER_LOGGER: i8 = 8;
pub(crate) const CLIENT_METRICS: i8 = 16;
pub(crate) const GROUP: i8 = 32;

/// Why settings are not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: ErrorCode,
    pub(crate) message: Option<String>,
}

/// A resource as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Resource {
    pub(crate) kind: i8,
    pub(crate) name: StrBytes,
}

/// One resource and what to do with its settings.
pub(crate) struct Alteration {
    pub(crate) resource: Resource,
    pub(crate) edit: Result<SettingsEdit, Refused>,
}

impl Refused {
    pub(crate) fn because(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()) }
    }
}

/// Refuses every resource that is named more than once, and names outside what can be changed.
pub(crate) fn check_resources(alterations: &mut [Alteration]) {
    let mut count: HashMap<Resource, usize> = HashMap::new();
    for alteration in &*alterations {
        *count.entry(alteration.resource.clone()).or_default() += 1;
    }
    for alteration in alterations {
        if count.get(&alteration.resource).is_some_and(|&count| count > 1) {
            let message = "Each resource must appear at most once.";
            alteration.edit = Err(Refused::because(ErrorCode::INVALID_REQUEST, message));
        } else if let Err(refused) = check(&alteration.resource)
            && alteration.edit.is_ok()
        {
            alteration.edit = Err(refused);
        }
    }
}

/// Changes a topic's settings, or says whether that would be possible.
pub(crate) async fn alter(
    context: &Context,
    alteration: Alteration,
    is_dry: bool,
) -> (Resource, Result<(), Refused>) {
    let Alteration { resource, edit } = alteration;
    let edit = match edit {
        Ok(edit) => edit,
        Err(refused) => return (resource, Err(refused)),
    };
    let broker = &context.broker;
    let altered = match is_dry {
        true => broker.check_alteration(&resource.name, edit),
        false => broker.alter_topic(&resource.name, edit).await.map(|_| ()),
    };
    let altered = altered.map_err(|error| Refused::because((&error).into(), error.to_string()));
    (resource, altered)
}

/// The settings of topics can be changed; those of the node are its configuration file's.
fn check(resource: &Resource) -> Result<(), Refused> {
    let name = &resource.name;
    let invalid = |message: String| Err(Refused::because(ErrorCode::INVALID_REQUEST, message));
    match resource.kind {
        TOPIC if name.is_empty() => invalid("Default topic resources are not allowed.".into()),
        TOPIC if !Topic::is_legal_name(name) => {
            Err(Refused::because(ErrorCode::INVALID_TOPIC, format!("illegal topic name {name:?}")))
        }
        TOPIC => Ok(()),
        BROKER | BROKER_LOGGER if !name.is_empty() && name.parse() != Ok(NODE_ID) => {
            invalid(format!("Unexpected broker id, expected {NODE_ID}, but received {name:?}"))
        }
        BROKER => invalid(
            "the node's settings are in its configuration file, which is read when it starts"
                .into(),
        ),
        BROKER_LOGGER => Err(Refused::because(
            ErrorCode::INVALID_CONFIG,
            "there are no loggers that could be set from outside",
        )),
        CLIENT_METRICS | GROUP => invalid("only topics have settings that can be changed".into()),
        other => invalid(format!("Unknown resource type {other}")),
    }
}
