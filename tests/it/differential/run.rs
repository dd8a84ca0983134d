//! Sends the same requests in the same order to both servers, and collects where they disagree.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use headwater_tests::wait;
use serde_json::{Value, json};

use super::{
    compare::{Comparison, Difference},
    rules::{Rule, Why},
    side::Side,
    step::{Answered, Source, Step},
};

/// Kinds of disagreement that are told.
const SHOWN: usize = 60;
const DEADLINE: Duration = Duration::from_secs(20);
/// What Kafka has committed of a group is readable by then.
const GROUPS_SETTLE: Duration = Duration::from_secs(3);
/// Of the run's own requests to Kafka.
const OWN_CONNECTION: usize = 99;

/// Longest waits that the test has time for, by field; recorded requests may have asked for more.
const LONGEST_WAITS: [(&str, i64); 2] = [("MaxWaitMs", 10), ("RebalanceTimeoutMs", 500)];
/// Nobody leaves a group because the machine was slow.
const SESSION_TIMEOUT_MS: i64 = 300_000;

/// Both servers.
pub(super) struct Run<'a> {
    kafka: Side<'a>,
    ours: Side<'a>,
    comparison: Comparison,
    /// Sent, and not read yet.
    later: Vec<Step>,
    last: Last,
    compared: BTreeMap<String, usize>,
    disagreements: BTreeMap<String, Vec<(Step, Difference)>>,
    barriers: usize,
}

/// What a server gave last, in common names.
#[derive(Debug, Default)]
struct Last {
    session: Value,
    producer: Value,
    members: BTreeMap<String, Value>,
    generations: BTreeMap<String, Value>,
}

impl<'a> Run<'a> {
    pub(super) fn new(kafka: Side<'a>, ours: Side<'a>) -> Self {
        Self {
            kafka,
            ours,
            comparison: Comparison::default(),
            later: Vec::new(),
            last: Last::default(),
            compared: BTreeMap::new(),
            disagreements: BTreeMap::new(),
            barriers: 0,
        }
    }

    /// One request to both.
    pub(super) fn step(&mut self, step: &Step) {
        let mut step = step.clone();
        self.last.fill_in(&mut step.body, step.source);
        self.kafka.send(&step);
        self.ours.send(&step);
        if step.answered == Answered::Later {
            if step.api == "JoinGroup" {
                self.until_rebalancing(&step);
            }
            self.later.push(step);
            return;
        }
        for step in std::mem::take(&mut self.later) {
            self.receive(&step);
        }
        self.receive(&step);
    }

    /// Until both have taken in that somebody joins: requests of two connections have no order of their own.
    fn until_rebalancing(&mut self, join: &Step) {
        let body = json!({ "Groups": [join.body["GroupId"]] });
        let describe = self.own("DescribeGroups", 5, body);
        for side in [&mut self.kafka, &mut self.ours] {
            wait::for_condition("a rebalance", DEADLINE, || {
                side.send(&describe);
                side.receive(&describe)["Groups"][0]["GroupState"] == "PreparingRebalance"
            });
        }
    }

    fn receive(&mut self, step: &Step) {
        let (mut kafka, mut ours) = (self.kafka.receive(step), self.ours.receive(step));
        // Kafka tells of groups what its coordinator has committed, which may be of a moment ago.
        let asked = Instant::now();
        while tells_of_groups(step)
            && !self.comparison.of(step, &kafka, &ours).is_empty()
            && asked.elapsed() < GROUPS_SETTLE
        {
            self.kafka.send(step);
            self.ours.send(step);
            (kafka, ours) = (self.kafka.receive(step), self.ours.receive(step));
        }
        *self.compared.entry(step.api.clone()).or_default() += 1;
        for difference in self.comparison.of(step, &kafka, &ours) {
            let Difference { path, kafka, ours } = &difference;
            let kind = format!("{} {path}: Kafka {kafka}, here {ours}", step.api);
            self.disagreements.entry(kind).or_default().push((step.clone(), difference));
        }
        self.last.remember(step, &kafka);
        if changes_metadata(step, &kafka) {
            self.settle();
        }
    }

    /// Asks both until Kafka's answer is the one that is waited for; neither answer is compared.
    pub(super) fn until(&mut self, what: &str, step: &Step, is_it: impl Fn(&Value) -> bool) {
        wait::for_condition(what, DEADLINE, || {
            self.kafka.send(step);
            self.ours.send(step);
            self.ours.receive(step);
            is_it(&self.kafka.receive(step))
        });
    }

    /// Kafka gets a topic that Headwater has by itself.
    pub(super) fn give_kafka(&mut self, topic: &str) {
        let topics = json!([{ "Name": topic, "NumPartitions": 1, "ReplicationFactor": 1 }]);
        self.ask_kafka("CreateTopics", 7, json!({ "Topics": topics }));
        self.settle();
    }

    /// Waits until Kafka's broker has taken in what its controller has decided: changes reach it in order, so a topic that
    /// has come and gone was the last of them.
    fn settle(&mut self) {
        self.barriers += 1;
        let topic = format!("barrier-{}", self.barriers);
        let created = json!({ "Topics": [
            { "Name": topic, "NumPartitions": 1, "ReplicationFactor": 1 },
        ] });
        self.ask_kafka("CreateTopics", 7, created);
        let offsets = json!({ "ReplicaId": -1, "Topics": [
            { "Name": topic, "Partitions": [{ "PartitionIndex": 0, "Timestamp": -1 }] },
        ] });
        let has = |run: &mut Self, code: i64| {
            let answer = run.ask_kafka("ListOffsets", 7, offsets.clone());
            answer["Topics"][0]["Partitions"][0]["ErrorCode"] == code
        };
        wait::for_condition("a topic that comes", DEADLINE, || has(self, 0));
        self.ask_kafka(
            "DeleteTopics",
            6,
            json!({ "Topics": [{ "Name": topic }], "TimeoutMs": 9_000 }),
        );
        wait::for_condition("a topic that goes", DEADLINE, || has(self, 3));
    }

    fn ask_kafka(&mut self, api: &str, version: i16, body: Value) -> Value {
        let step = self.own(api, version, body);
        self.kafka.send(&step);
        self.kafka.receive(&step)
    }

    /// A request that is not compared.
    fn own(&self, api: &str, version: i16, body: Value) -> Step {
        Step {
            label: "between two requests".to_owned(),
            connection: OWN_CONNECTION,
            api: api.to_owned(),
            version,
            body,
            source: Source::Generated,
            answered: Answered::AtOnce,
        }
    }

    /// Prints how much was compared, and fails if the servers disagreed or a rule was for nothing.
    pub(super) fn finish(self) {
        let all: usize = self.compared.values().sum();
        let by_api: Vec<String> =
            self.compared.iter().map(|(api, count)| format!("{api} {count}")).collect();
        println!("differential: {all} requests compared: {}", by_api.join(", "));
        let mut failures = Vec::new();
        for (kind, found) in self.disagreements.iter().take(SHOWN) {
            let ((step, _), (other, _)) = (&found[0], &found[found.len() - 1]);
            let versions: BTreeSet<i16> = found.iter().map(|(step, _)| step.version).collect();
            let (first, last) = (versions.first(), versions.last());
            failures.push(format!(
                "{kind}\n    {} times in versions {} to {}, first by {}\n    and last by {}",
                found.len(),
                first.unwrap_or(&-1),
                last.unwrap_or(&-1),
                shortened(&step.to_string()),
                shortened(&other.to_string()),
            ));
        }
        let more = self.disagreements.len().saturating_sub(SHOWN);
        if more > 0 {
            failures.push(format!("and {more} kinds more"));
        }
        for rule in self.comparison.idle() {
            let Rule { api, path, within, why, .. } = rule;
            let (Why::Kafka(why) | Why::Listed(why)) = why;
            failures.push(format!("a rule that nothing needs: {api} {path} {within:?}: {why}"));
        }
        assert!(failures.is_empty(), "{} disagreements:\n{}", failures.len(), failures.join("\n"));
    }
}

impl Last {
    /// Puts in what a server gave: where a request says `"last"`, and wherever a recorded one has something of its time.
    fn fill_in(&self, body: &mut Value, source: Source) {
        let group = body["GroupId"].as_str().unwrap_or_default().to_owned();
        self.fill_in_at(body, "", source, &group);
    }

    fn fill_in_at(&self, value: &mut Value, field: &str, source: Source, group: &str) {
        match value {
            Value::Array(elements) => {
                for element in elements {
                    self.fill_in_at(element, field, source, group);
                }
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.fill_in_at(value, name, source, group);
                }
            }
            _ if source == Source::Recorded => self.translate(value, field, group),
            Value::String(text) if text == "last" => match field {
                "SessionId" => *value = self.session.clone(),
                "ProducerId" | "producerId" => *value = self.producer.clone(),
                "MemberId" => {
                    *value = self.members.get(group).cloned().unwrap_or_else(|| json!(""))
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn translate(&self, value: &mut Value, field: &str, group: &str) {
        let is_given = value.as_i64().is_some_and(|it| it >= 0);
        let is_named = value.as_str().is_some_and(|it| !it.is_empty());
        let other = match field {
            "SessionId" if is_given && *value != 0 => Some(&self.session),
            "ProducerId" | "producerId" if is_given => Some(&self.producer),
            "MemberId" if is_named => self.members.get(group),
            "GenerationId" | "GenerationIdOrMemberEpoch" if is_given => self.generations.get(group),
            _ => None,
        };
        if let Some(other) = other.filter(|other| !other.is_null()) {
            *value = other.clone();
        }
        if field == "SessionTimeoutMs" {
            *value = SESSION_TIMEOUT_MS.into();
        }
        if let Some((_, most)) = LONGEST_WAITS.iter().find(|(name, _)| *name == field) {
            *value = value.as_i64().map_or(Value::Null, |asked| asked.min(*most).into());
        }
    }

    fn remember(&mut self, step: &Step, kafka: &Value) {
        let group = || step.body["GroupId"].as_str().unwrap_or_default().to_owned();
        match step.api.as_str() {
            "Fetch" if kafka["SessionId"].as_i64().is_some_and(|id| id > 0) => {
                self.session = kafka["SessionId"].clone();
            }
            "InitProducerId" if kafka["ErrorCode"] == 0 => {
                self.producer = kafka["ProducerId"].clone();
            }
            "JoinGroup" if kafka["MemberId"].as_str().is_some_and(|it| !it.is_empty()) => {
                self.members.insert(group(), kafka["MemberId"].clone());
                if kafka["ErrorCode"] == 0 {
                    self.generations.insert(group(), kafka["GenerationId"].clone());
                }
            }
            _ => {}
        }
    }
}

fn tells_of_groups(step: &Step) -> bool {
    matches!(step.api.as_str(), "DescribeGroups" | "ListGroups")
        && matches!(step.answered, Answered::AtOnce)
}

/// Whether Kafka's controller may have decided something that its broker has still to hear of.
fn changes_metadata(step: &Step, answer: &Value) -> bool {
    let is_only_asked = step.body["validateOnly"] == true || step.body["ValidateOnly"] == true;
    match step.api.as_str() {
        "CreateTopics"
        | "DeleteTopics"
        | "CreatePartitions"
        | "AlterConfigs"
        | "IncrementalAlterConfigs" => !is_only_asked && has_code(answer, 0),
        // Topics that it creates by the way.
        "Metadata" => step.body["AllowAutoTopicCreation"] != false && has_code(answer, 3),
        _ => false,
    }
}

fn has_code(value: &Value, code: i64) -> bool {
    match value {
        Value::Array(elements) => elements.iter().any(|it| has_code(it, code)),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| (name == "ErrorCode" && *value == code) || has_code(value, code)),
        _ => false,
    }
}

fn shortened(text: &str) -> String {
    const MOST: usize = 700;
    text.char_indices()
        .nth(MOST)
        .map_or_else(|| text.to_owned(), |(at, _)| format!("{}...", &text[..at]))
}
