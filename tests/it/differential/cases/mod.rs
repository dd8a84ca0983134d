//! Requests that are made up, by what they are about; every API that is served, in every version.
//!
//! `{n}` in a text becomes a number of its own in each request, `id of NAME` the id of that topic, and `"last"` what the
//! servers gave last.

mod cluster;
mod fetch_sessions;
mod groups;
mod records;
mod topics;

use std::collections::BTreeMap;

use headwater_tests::schema::{Schemas, topic_id};
use serde_json::{Value, json};

use super::{
    mutants,
    run::Run,
    step::{Answered, Source, Step},
};

/// The versions of each API that are listed, and those that are served.
const APIS: &str = include_str!("../../../../gateway/src/kafka/apis.toml");

/// Before anything is compared: topics that all requests know, and Kafka's own of offsets.
pub(super) fn prepare(run: &mut Run<'_>) {
    let step = |api: &str, version, body| Step {
        label: "preparation".to_owned(),
        connection: 0,
        api: api.to_owned(),
        version,
        body,
        source: Source::Generated,
        answered: Answered::AtOnce,
    };
    let coordinator = json!({ "CoordinatorKeys": ["any"] });
    run.until("Kafka's coordinator", &step("FindCoordinator", 4, coordinator), |answer| {
        answer["Coordinators"][0]["ErrorCode"] == 0
    });
    let producer = json!({ "TransactionalId": null, "TransactionTimeoutMs": 60_000 });
    run.until("Kafka's first producer id", &step("InitProducerId", 4, producer), |answer| {
        answer["ErrorCode"] == 0
    });
    run.give_kafka("readings");
    run.step(&step("CreateTopics", 7, topics::prepared()));
    let known: Vec<_> = topics::KNOWN.map(|name| json!({ "Name": name })).to_vec();
    run.step(&step("Metadata", 12, json!({ "Topics": known })));
}

/// All of them, in their order.
pub(super) fn all(schemas: &Schemas) -> Vec<Step> {
    let mut cases = Cases { schemas, served: served(), steps: Vec::new(), number: 0 };
    cluster::add(&mut cases);
    topics::add(&mut cases);
    records::add(&mut cases);
    fetch_sessions::add(&mut cases);
    groups::add(&mut cases);
    let asked: Vec<&str> = cases.steps.iter().map(|step| step.api.as_str()).collect();
    for api in cases.served.keys() {
        assert!(asked.contains(&api.as_str()), "nobody asks {api}");
    }
    cases.steps
}

/// Which versions of an API are served.
pub(super) fn served_by_name() -> impl Fn(&str, i16) -> bool {
    let served = served();
    move |api, version| {
        served.get(api).is_some_and(|(first, last)| (*first..=*last).contains(&version))
    }
}

/// Whether an API is told to clients.
pub(super) fn is_listed(key: i64) -> bool {
    let table: toml::Table = APIS.parse().expect("apis.toml");
    let mut apis = table["api"].as_array().expect("a list").iter();
    apis.any(|api| api["key"].as_integer() == Some(key) && api.get("ours").is_some())
}

/// By name, the first and the last version.
fn served() -> BTreeMap<String, (i16, i16)> {
    let table: toml::Table = APIS.parse().expect("apis.toml");
    let apis = table["api"].as_array().expect("a list").iter();
    apis.filter_map(|api| {
        let range = api.get("served").or(api.get("ours"))?.as_str()?;
        let (first, last) = range.split_once('-').expect("a range");
        let number = |text: &str| text.parse().expect("a version");
        Some((api["name"].as_str()?.to_owned(), (number(first), number(last))))
    })
    .collect()
}

/// What has been made up so far.
struct Cases<'a> {
    schemas: &'a Schemas,
    served: BTreeMap<String, (i16, i16)>,
    steps: Vec<Step>,
    number: usize,
}

impl Cases<'_> {
    /// The request in every version that is served.
    fn each(&mut self, api: &str, label: &str, body: &Value) {
        let (first, last) = self.versions(api);
        for version in first..=last {
            self.at(api, version, label, body);
        }
    }

    /// In the last version.
    fn last(&mut self, api: &str, label: &str, body: &Value) {
        let (_, last) = self.versions(api);
        self.at(api, last, label, body);
    }

    /// In one version.
    fn at(&mut self, api: &str, version: i16, label: &str, body: &Value) -> &mut Step {
        self.number += 1;
        let mut body = body.clone();
        fill_in(&mut body, self.number);
        self.steps.push(Step {
            label: label.to_owned(),
            connection: 0,
            api: api.to_owned(),
            version,
            body,
            source: Source::Generated,
            answered: Answered::AtOnce,
        });
        self.steps.last_mut().expect("one was pushed")
    }

    /// In every version, and everything that differs from it in one field in the first and in the last version.
    fn mutated(&mut self, api: &str, label: &str, body: &Value) {
        self.each(api, label, body);
        let (first, last) = self.versions(api);
        let schemas = self.schemas;
        let fields = &schemas.named(api).request.fields;
        for version in [first, last] {
            for (change, body) in mutants::of(api, fields, version, body) {
                self.at(api, version, &format!("{label}, {change}"), &body);
            }
        }
    }

    fn versions(&self, api: &str) -> (i16, i16) {
        *self.served.get(api).unwrap_or_else(|| panic!("{api} is not served"))
    }
}

fn fill_in(value: &mut Value, number: usize) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|it| fill_in(it, number)),
        Value::Object(fields) => fields.values_mut().for_each(|it| fill_in(it, number)),
        Value::String(text) => {
            if text.contains("{n}") {
                *text = text.replace("{n}", &number.to_string());
            }
            if let Some(name) = text.strip_prefix("id of ") {
                *text = topic_id(name);
            }
        }
        _ => {}
    }
}
