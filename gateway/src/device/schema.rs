//! Schemas: the channels that turn a block's codes into named engineering values, and the library that all
//! streams share.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use headwater_protocol::item::{self, Channel, MISSING, SchemaHash};

use super::{decimal::Decimal, facts};
use crate::broker::{Broker, space};

/// Schemas kept as facts. Past it a new schema lives only as long as its connections, and its device has
/// to describe it again.
const MAX_SCHEMAS: usize = 1024;

/// A complete schema, checked against its hash.
#[derive(Debug)]
pub(super) struct Schema {
    hash: u64,
    bodies: Vec<Bytes>,
    channels: Vec<OwnedChannel>,
}

#[derive(Debug)]
struct OwnedChannel {
    /// `"name":`, escaped.
    key: String,
    mantissa: i32,
    exponent: i8,
}

/// The SCHEMA bodies of one hash, as they come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts(BTreeMap<u8, Bytes>);

impl Parts {
    /// From a stream's fact.
    pub(super) fn restore(bodies: Vec<Bytes>) -> Self {
        let mut parts = Self::default();
        for body in bodies {
            if let Ok(part) = item::Schema::decode(&body) {
                parts.0.insert(part.index, body.clone());
            }
        }
        parts
    }

    /// For a stream's fact.
    pub(super) fn bodies(&self) -> Vec<Bytes> {
        self.0.values().cloned().collect()
    }

    /// Takes one body; at most one per index is kept, so the number is bounded by the format.
    pub(super) fn insert(&mut self, part: &item::Schema<'_>, body: &[u8]) {
        self.0.insert(part.index, Bytes::copy_from_slice(body));
    }

    /// The schema, once every channel is there and the hash holds.
    pub(super) fn complete(&self, hash: u64) -> Option<Schema> {
        Schema::assemble(hash, self.bodies())
    }
}

impl Schema {
    /// Checks the bodies, in order of their index, against the hash.
    fn assemble(hash: u64, bodies: Vec<Bytes>) -> Option<Self> {
        let parts: Vec<item::Schema<'_>> =
            bodies.iter().map(|body| item::Schema::decode(body).ok()).collect::<Option<_>>()?;
        let in_order = parts.iter().enumerate().all(|(place, part)| {
            usize::from(part.index) == place
                && usize::from(part.count) == parts.len()
                && part.hash.0 == hash
        });
        let channels: Vec<Channel<'_>> = parts.iter().map(|part| part.channel).collect();
        if !in_order || channels.is_empty() || SchemaHash::of(&channels).0 != hash {
            return None;
        }
        let channels = own(&channels);
        Some(Self { hash, bodies, channels })
    }

    /// Number of channels.
    pub(super) fn channels(&self) -> usize {
        self.channels.len()
    }

    /// One row as a flat JSON object; a missing code leaves its channel out.
    pub(super) fn write_row(&self, codes: &[i32], out: &mut String) {
        out.push('{');
        let mut separator = "";
        for (channel, code) in self.channels.iter().zip(codes) {
            if *code == MISSING {
                continue;
            }
            let (code, mantissa) = (i64::from(*code), i64::from(channel.mantissa));
            let value = Decimal::scaled(code, mantissa, i32::from(channel.exponent));
            // Writing to a String does not fail.
            let _ = write!(out, "{separator}{}{value}", channel.key);
            separator = ",";
        }
        out.push('}');
    }
}

/// Copies the channels; of two with one name the later gets a number, so that no value hides another.
fn own(channels: &[Channel<'_>]) -> Vec<OwnedChannel> {
    let mut taken = BTreeSet::new();
    channels
        .iter()
        .map(|channel| {
            let mut name = channel.name.to_owned();
            let mut number = 1u32;
            while !taken.insert(name.clone()) {
                number += 1;
                name = format!("{}_{number}", channel.name);
            }
            OwnedChannel {
                key: format!("{}:", serde_json::Value::from(name)),
                mantissa: channel.mantissa,
                exponent: channel.exponent,
            }
        })
        .collect()
}

/// All schemas by hash, shared by the connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Library {
    schemas: Arc<Mutex<HashMap<u64, Arc<Schema>>>>,
}

impl Library {
    /// Everything that the journal knows and a stream still uses, and the keys of what none uses any more; the
    /// key of a fact that is not readable is the error.
    pub(super) fn load(broker: &Broker, used: &BTreeSet<u64>) -> Result<(Self, Vec<Bytes>), Bytes> {
        let mut schemas = HashMap::new();
        let mut unused = Vec::new();
        for (key, value) in broker.facts(space::SCHEMA) {
            let Some((hash, bodies)) = facts::schema_hash(&key).zip(facts::read_schema(&value))
            else {
                return Err(key);
            };
            match Schema::assemble(hash, bodies) {
                Some(schema) if used.contains(&hash) => {
                    schemas.insert(hash, Arc::new(schema));
                }
                _ => unused.push(key),
            }
        }
        Ok((Self { schemas: Arc::new(Mutex::new(schemas)) }, unused))
    }

    /// A schema by hash.
    pub(super) fn find(&self, hash: u64) -> Option<Arc<Schema>> {
        self.lock().get(&hash).cloned()
    }

    /// Shares a schema whose fact was admitted.
    pub(super) fn add(&self, schema: &Arc<Schema>) {
        self.lock().insert(schema.hash, Arc::clone(schema));
    }

    /// The fact that a new schema needs; none if it is there or there are too many.
    pub(super) fn fact(&self, schema: &Schema) -> Option<crate::journal::Fact> {
        let schemas = self.lock();
        let room = !schemas.contains_key(&schema.hash) && schemas.len() < MAX_SCHEMAS;
        room.then(|| facts::schema_fact(schema.hash, &schema.bodies))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Schema>>> {
        // Whole entries alone: a panic elsewhere leaves nothing half done here.
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// SCHEMA bodies of the channels, and their hash.
    pub(in crate::device) fn bodies(channels: &[Channel<'_>]) -> (u64, Vec<Bytes>) {
        let hash = SchemaHash::of(channels);
        let bodies = channels
            .iter()
            .enumerate()
            .map(|(index, channel)| {
                let part = item::Schema {
                    hash,
                    index: index as u8,
                    count: channels.len() as u8,
                    channel: *channel,
                };
                let mut out = [0; item::Schema::LEN_MAX];
                let len = part.encode(&mut out).expect("fits");
                Bytes::copy_from_slice(&out[..len])
            })
            .collect();
        (hash.0, bodies)
    }

    pub(in crate::device) fn channel(name: &str, mantissa: i32, exponent: i8) -> Channel<'_> {
        Channel { name, unit: "Cel", mantissa, exponent, width_bits: 16, period_us: 100_000 }
    }

    #[test]
    fn rows_become_flat_json() {
        let (hash, bodies) = bodies(&[
            channel("temperature", 625, -4),
            channel("humidity", 1, -1),
            channel("temperature", 1, 0),
        ]);
        let schema = Schema::assemble(hash, bodies).expect("complete");
        for (codes, expect) in [
            ([440, 412, 7], r#"{"temperature":27.5,"humidity":41.2,"temperature_2":7}"#),
            ([MISSING, 412, 7], r#"{"humidity":41.2,"temperature_2":7}"#),
            ([-1, MISSING, MISSING], r#"{"temperature":-0.0625}"#),
            ([MISSING, MISSING, MISSING], "{}"),
        ] {
            let mut out = String::new();
            schema.write_row(&codes, &mut out);
            assert_eq!(out, expect);
        }
    }

    #[test]
    fn a_schema_is_complete_only_with_every_channel_and_its_own_hash() {
        let (hash, all) = bodies(&[channel("a", 1, 0), channel("b", 1, 0)]);
        let (other, others) = bodies(&[channel("a", 1, 0), channel("c", 1, 0)]);
        let collect = |bodies: &[&Bytes]| {
            let mut parts = Parts::default();
            for body in bodies {
                parts.insert(&item::Schema::decode(body).expect("a part"), body);
            }
            parts
        };
        assert!(collect(&[&all[1], &all[0]]).complete(hash).is_some());
        assert!(collect(&[&all[1]]).complete(hash).is_none(), "one is missing");
        assert!(collect(&[&all[0], &others[1]]).complete(hash).is_none(), "mixed");
        assert!(collect(&[&all[0], &all[1]]).complete(other).is_none(), "another hash");
        assert!(collect(&[]).complete(hash).is_none());
        let parts = collect(&[&all[0]]);
        assert_eq!(Parts::restore(parts.bodies()), parts);
    }
}
