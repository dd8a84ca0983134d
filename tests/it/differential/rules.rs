//! The reviewed list of what may differ between two right answers, and of what differs here for a reason.
//!
//! A rule is as narrow as what it is for. One that nothing needed fails the test, so the list stays true.

use serde_json::Value;

/// One reason why two answers need not be equal.
#[derive(Debug)]
pub(super) struct Rule {
    /// Name of the API, or `*`.
    pub(super) api: &'static str,
    /// Field, with `[]` behind arrays; `*.` and a field for wherever it is; empty for the whole answer.
    pub(super) path: &'static str,
    /// What the label of the request contains.
    pub(super) within: &'static str,
    pub(super) is: Is,
    /// Why.
    pub(super) why: Why,
}

/// What a rule allows.
#[derive(Debug)]
pub(super) enum Is {
    /// Kafka's value and the own one differ in this way.
    Value(fn(&Value, &Value) -> bool),
    /// The elements may have any order: they are compared by these fields, or by all of them.
    Order(&'static [&'static str]),
    /// Elements that Kafka alone has.
    OnlyInKafka(fn(&Value) -> bool),
    /// Elements that Headwater alone has.
    OnlyHere(fn(&Value) -> bool),
}

/// Whether a difference means anything.
#[derive(Debug)]
pub(super) enum Why {
    /// It would between two servers of Kafka too.
    Kafka(&'static str),
    /// It does; this is how its row of DIFFERENCES.md begins.
    Listed(&'static str),
}

use Why::{Kafka, Listed};

const fn rule(
    api: &'static str,
    path: &'static str,
    within: &'static str,
    is: Is,
    why: Why,
) -> Rule {
    Rule { api, path, within, is, why }
}

pub(super) static RULES: &[Rule] = &[
    rule("*", "*.ErrorMessage", "", Is::Value(texts), Listed("texts of errors")),
    rule("*", "*.ClusterId", "", Is::Value(texts), Kafka("every cluster has its own id")),
    rule("*", "*.Port", "", Is::Value(numbers), Kafka("two servers, two ports")),
];

fn texts(kafka: &Value, ours: &Value) -> bool {
    kafka.is_string() && ours.is_string()
}

fn numbers(kafka: &Value, ours: &Value) -> bool {
    kafka.is_i64() && ours.is_i64()
}
