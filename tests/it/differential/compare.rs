//! Where two answers differ, and what the rules make of it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    rules::{Is, RULES, Rule},
    step::Step,
};

/// A place at which two answers differ.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    /// Names of fields, with `[]` behind those of arrays.
    pub(super) path: String,
    pub(super) kafka: Value,
    pub(super) ours: Value,
}

/// Compares answers, and remembers which rules it needed.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    needed: BTreeSet<usize>,
}

impl Comparison {
    /// What differs and no rule has a reason for.
    pub(super) fn of(&mut self, step: &Step, kafka: &Value, ours: &Value) -> Vec<Difference> {
        let (mut kafka, mut ours) = (kafka.clone(), ours.clone());
        let rules: Vec<_> = RULES.iter().enumerate().filter(|(_, it)| it.concerns(step)).collect();
        for (number, rule) in &rules {
            if rule.prepare(&mut kafka, &mut ours) {
                self.needed.insert(*number);
            }
        }
        let answered =
            rules.iter().find(|(_, it)| matches!(it.is, Is::Answer(fits) if fits(&kafka, &ours)));
        if let Some((number, _)) = answered {
            self.needed.insert(*number);
            return Vec::new();
        }
        let mut found = Vec::new();
        differences("", &kafka, &ours, &mut found);
        found.retain(|difference| {
            let excuse = rules.iter().find(|(_, rule)| rule.excuses(difference));
            self.needed.extend(excuse.map(|(number, _)| *number));
            excuse.is_none()
        });
        found
    }

    /// Rules that nothing has needed.
    pub(super) fn idle(&self) -> impl Iterator<Item = &'static Rule> {
        let idle = RULES.iter().enumerate().filter(|(number, _)| !self.needed.contains(number));
        idle.map(|(_, rule)| rule).filter(|rule| !matches!(rule.is, Is::OrderByChance(_)))
    }
}

impl Rule {
    fn concerns(&self, step: &Step) -> bool {
        (self.api == step.api || self.api == "*") && step.label.contains(self.within)
    }

    /// Orders arrays and takes elements away; whether that changed what is compared.
    fn prepare(&self, kafka: &mut Value, ours: &mut Value) -> bool {
        match self.is {
            Is::Value(_) | Is::Answer(_) => false,
            Is::Order(fields) | Is::OrderByChance(fields) => {
                let before = (kafka.clone(), ours.clone());
                for side in [&mut *kafka, &mut *ours] {
                    at(side, self.path, &mut |array| {
                        array.sort_by_cached_key(|it| key(it, fields))
                    });
                }
                // Where both had the same order, none is needed.
                before.0 != before.1 && (before.0 != *kafka || before.1 != *ours)
            }
            Is::Merged(fields, inner) => {
                let mut merged = false;
                for side in [kafka, ours] {
                    at(side, self.path, &mut |array| merged |= merge(array, fields, inner));
                }
                merged
            }
            Is::OnlyInKafka(which) => without(kafka, ours, self.path, which),
            Is::OnlyHere(which) => without(ours, kafka, self.path, which),
        }
    }

    fn excuses(&self, difference: &Difference) -> bool {
        let Is::Value(fits) = self.is else { return false };
        let same = self.path == difference.path
            || self.path.strip_prefix("*.").is_some_and(|field| {
                difference.path.rsplit('.').next().is_some_and(|last| last == field)
            });
        same && fits(&difference.kafka, &difference.ours)
    }
}

/// Takes away elements that the other side does not have.
fn without(side: &mut Value, other: &mut Value, path: &str, which: fn(&Value) -> bool) -> bool {
    let mut others = Vec::new();
    at(other, path, &mut |array| {
        others.push(array.iter().map(identity).collect::<BTreeSet<_>>());
    });
    let mut others = others.into_iter();
    let mut changed = false;
    at(side, path, &mut |array| {
        let others = others.next().unwrap_or_default();
        let before = array.len();
        array.retain(|it| !which(it) || others.contains(&identity(it)));
        changed |= array.len() != before;
    });
    changed
}

/// What tells an element from its neighbours.
fn identity(element: &Value) -> String {
    let names = ["Name", "Topic", "ResourceName", "ResourceType", "GroupId", "ApiKey"];
    names.iter().map(|name| element[*name].to_string()).collect()
}

/// Calls `change` for each array at the path.
fn at(value: &mut Value, path: &str, change: &mut impl FnMut(&mut Vec<Value>)) {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let Some(Value::Array(array)) = value.get_mut(first.trim_end_matches("[]")) else { return };
    if rest.is_empty() {
        change(array);
    } else {
        array.iter_mut().for_each(|element| at(element, rest, change));
    }
}

fn merge(array: &mut Vec<Value>, fields: &[&str], inner: &str) -> bool {
    let before = array.len();
    let mut merged: Vec<Value> = Vec::new();
    for mut element in array.drain(..) {
        match merged.iter_mut().find(|it| key(it, fields) == key(&element, fields)) {
            Some(same) => {
                let more = element[inner].as_array_mut().map(std::mem::take).unwrap_or_default();
                if let Some(all) = same[inner].as_array_mut() {
                    all.extend(more);
                }
            }
            None => merged.push(element),
        }
    }
    *array = merged;
    array.len() != before
}

fn key(element: &Value, fields: &[&str]) -> String {
    match fields {
        [] => element.to_string(),
        fields => fields.iter().map(|field| element[*field].to_string() + "\n").collect(),
    }
}

fn differences(path: &str, kafka: &Value, ours: &Value, found: &mut Vec<Difference>) {
    match (kafka, ours) {
        (Value::Object(theirs), Value::Object(own)) => {
            let names: BTreeSet<&String> = theirs.keys().chain(own.keys()).collect();
            for name in names {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                differences(&below, &kafka[name], &ours[name], found);
            }
        }
        (Value::Array(theirs), Value::Array(own)) if theirs.len() == own.len() => {
            for (kafka, ours) in theirs.iter().zip(own) {
                differences(&format!("{path}[]"), kafka, ours, found);
            }
        }
        _ if kafka != ours => {
            let (kafka, ours) = (kafka.clone(), ours.clone());
            found.push(Difference { path: path.to_owned(), kafka, ours });
        }
        _ => {}
    }
}
