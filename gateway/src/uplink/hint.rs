//! A local note of how far the centre is, so that the page shows it while the centre is away.
//!
//! Only ever a hint: nothing is sent or left out because of it, and it may vanish at any time. Until the centre is heard
//! again it tells what the centre held when last heard, and so what may be deleted here.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    broker::{AppendRequest, Broker, space},
    journal::{Fact, Offset, PartitionId},
};

/// How often changed hints are written. Each write costs a sync of the medium, so they are rare.
const SAVE_EVERY: Duration = Duration::from_secs(30);

/// The latest hints.
#[derive(Debug)]
pub(super) struct Hints {
    next: BTreeMap<PartitionId, Offset>,
    changed: BTreeMap<PartitionId, Offset>,
    saved: Instant,
}

impl Hints {
    /// Reads the facts, and lets the broker know.
    pub(super) fn load(broker: &Broker) -> Self {
        let mut next = BTreeMap::new();
        for (key, value) in broker.facts(space::UPLINK) {
            let (Ok(key), Ok(value)) =
                (<[u8; 4]>::try_from(&key[..]), <[u8; 8]>::try_from(&value[..]))
            else {
                continue;
            };
            let (partition, offset) =
                (PartitionId(u32::from_be_bytes(key)), Offset(i64::from_be_bytes(value)));
            broker.set_replicated(partition, offset);
            next.insert(partition, offset);
        }
        Self { next, changed: BTreeMap::new(), saved: Instant::now() }
    }

    /// What was noted of a partition.
    pub(super) fn get(&self, partition: PartitionId) -> Option<Offset> {
        self.next.get(&partition).copied()
    }

    /// Notes where the centre is by its own account.
    pub(super) fn note(&mut self, partition: PartitionId, next: Offset) {
        let before = self.next.insert(partition, next);
        if before == Some(next) {
            return;
        }
        if let Some(before) = before.filter(|before| before.0 > next.0) {
            tracing::warn!(
                ?partition,
                noted = before.0,
                centre = next.0,
                "uplink: the centre holds less than it did; was its cursor topic replaced?"
            );
        }
        self.changed.insert(partition, next);
    }

    /// Writes changed hints if the last time is long enough ago.
    pub(super) async fn save_if_due(&mut self, broker: &Broker) {
        if !self.changed.is_empty() && self.saved.elapsed() >= SAVE_EVERY {
            self.save(broker).await;
        }
    }

    /// Writes changed hints. A refusal does not matter.
    pub(super) async fn save(&mut self, broker: &Broker) {
        self.saved = Instant::now();
        let facts: Vec<_> = std::mem::take(&mut self.changed)
            .into_iter()
            .map(|(partition, next)| Fact {
                space: space::UPLINK,
                key: Bytes::copy_from_slice(&partition.0.to_be_bytes()),
                value: Some(Bytes::copy_from_slice(&next.0.to_be_bytes())),
            })
            .collect();
        if facts.is_empty() {
            return;
        }
        match broker.append(AppendRequest { batches: Vec::new(), facts }) {
            Ok(commit) => {
                if let Err(error) = commit.durable().await {
                    tracing::debug!(%error, "uplink: hints were not saved");
                }
            }
            Err(error) => tracing::debug!(%error, "uplink: hints were not saved"),
        }
    }
}
