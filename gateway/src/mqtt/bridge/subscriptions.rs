//! The filters that a session may still hold at the broker, as a fact: what was taken out of the
//! configuration has to be unsubscribed, since a persistent session keeps it and would send it for ever.
//!
//! Fact: space MQTT_BRIDGE, key = client id, 0x00, broker address; value = version u8 = 1, then the filters,
//! each {len u16 little endian, bytes}.

use bytes::Bytes;

use crate::{
    broker::{AppendRequest, Broker, space},
    config::BridgeConfig,
    journal::Fact,
};

const VERSION: u8 = 1;
/// Removed filters that are remembered; the value of a fact is bounded too.
const MAX_REMOVED: usize = 32;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Subscriptions {
    key: Bytes,
    wanted: Vec<String>,
    removed: Vec<String>,
    /// UNSUBACKs that are due.
    unanswered: usize,
}

impl Subscriptions {
    /// What the journal says that the session holds beside what is wanted.
    pub(super) fn load(config: &BridgeConfig, broker: &Broker) -> Self {
        let key =
            Bytes::from([config.client_id.as_bytes(), &[0], config.broker.as_bytes()].concat());
        let held = broker.fact(space::MQTT_BRIDGE, &key);
        let mut removed = held.as_deref().and_then(read).unwrap_or_default();
        removed.retain(|filter| !config.filters.contains(filter));
        removed.truncate(MAX_REMOVED);
        Self { key, wanted: config.filters.clone(), removed, unanswered: 0 }
    }

    /// A session began: the filters to unsubscribe, which are none in a new one.
    pub(super) fn connected(&mut self, session_present: bool) -> &[String] {
        if !session_present {
            self.removed.clear();
        }
        self.unanswered = self.removed.len();
        &self.removed
    }

    /// An UNSUBACK came; true if it was the last one, so that the fact changes.
    pub(super) fn unsubscribed(&mut self) -> bool {
        self.unanswered = self.unanswered.saturating_sub(1);
        let done = self.unanswered == 0 && !self.removed.is_empty();
        if done {
            self.removed.clear();
        }
        done
    }

    /// Stores what the session holds from here on. Should storage not take it, filters that are removed later
    /// may go on until they are stored once; nothing is lost by that.
    pub(super) fn store(&self, broker: &Broker) {
        let value = write(self.wanted.iter().chain(&self.removed));
        if broker.fact(space::MQTT_BRIDGE, &self.key).as_ref() == Some(&value) {
            return;
        }
        let fact = Fact { space: space::MQTT_BRIDGE, key: self.key.clone(), value: Some(value) };
        let request = AppendRequest { batches: Vec::new(), facts: vec![fact] };
        if let Err(error) = broker.append(request) {
            tracing::debug!(%error, "the bridge's filters are not stored yet");
        }
    }
}

fn write<'a>(filters: impl Iterator<Item = &'a String>) -> Bytes {
    let mut out = vec![VERSION];
    for filter in filters {
        // MQTT's own limit of a filter is 65,535 bytes.
        let len = u16::try_from(filter.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(filter.as_bytes());
    }
    out.into()
}

fn read(value: &[u8]) -> Option<Vec<String>> {
    let (version, mut rest) = value.split_first()?;
    let mut filters = Vec::new();
    while *version == VERSION && !rest.is_empty() {
        let (len, tail) = rest.split_first_chunk()?;
        let (filter, tail) = tail.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        filters.push(String::from_utf8(filter.to_vec()).ok()?);
        rest = tail;
    }
    Some(filters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_read_as_written_and_no_cut_of_them_panics() {
        let filters = vec!["a/#".to_owned(), String::new(), "b/+/c".to_owned()];
        let value = write(filters.iter());
        assert_eq!(read(&value), Some(filters));
        for len in 0..value.len() {
            let _ = read(&value[..len]);
        }
        assert_eq!(read(&[]), None);
    }
}
