//! What the page and the metrics show of the uplink.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{core::LaneReport, hint::Hints};
use crate::{
    broker::Broker,
    journal::{Offset, PartitionId},
};

/// What the page and the metrics show of the uplink.
#[derive(Clone, Debug, Default)]
pub struct UplinkStatus {
    /// Whether the last attempt reached the centre.
    pub connected: bool,
    /// Transactions committed since start.
    pub transactions: u64,
    /// Records replicated since start.
    pub records: u64,
    /// Records that are durable here and not yet there.
    pub lag_records: u64,
    /// The last error, until the next success; else why a partition does not move.
    pub last_error: Option<String>,
    /// Every forwarded partition.
    pub partitions: Vec<UplinkPartition>,
}

/// One forwarded partition.
#[derive(Clone, Debug, Default)]
pub struct UplinkPartition {
    /// Local topic.
    pub topic: String,
    /// Partition index.
    pub partition: u32,
    /// Next offset to be committed at the centre; none while that is unknown.
    pub next: Option<i64>,
    /// Records that are durable here and not yet there.
    pub lag_records: u64,
    /// Why it does not move, if so; the others go on.
    pub error: Option<String>,
}

/// Reads the state of the uplink.
#[derive(Clone, Debug)]
pub struct UplinkWatch {
    shared: Arc<Shared>,
}

impl UplinkWatch {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// This moment.
    #[must_use]
    pub fn status(&self) -> UplinkStatus {
        self.shared.status()
    }
}

/// Written by the shell, read by watches.
#[derive(Debug)]
pub(super) struct Shared {
    broker: Arc<Broker>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connected: bool,
    transactions: u64,
    records: u64,
    last_error: Option<String>,
    lanes: Vec<LaneLine>,
}

#[derive(Debug)]
struct LaneLine {
    topic: Arc<str>,
    index: u32,
    partition: PartitionId,
    next: Option<Offset>,
    trouble: Option<String>,
}

impl Shared {
    /// Nothing known yet.
    pub(super) fn new(broker: Arc<Broker>) -> Self {
        Self { broker, state: Mutex::default() }
    }

    /// The centre answered.
    pub(super) fn connected(&self) {
        let mut state = self.state();
        state.connected = true;
        state.last_error = None;
    }

    /// The session is over.
    pub(super) fn disconnected(&self) {
        self.state().connected = false;
    }

    /// A transaction with so many records was committed.
    pub(super) fn committed(&self, records: u64) {
        let mut state = self.state();
        state.transactions += 1;
        state.records += records;
        state.last_error = None;
    }

    /// Something failed.
    pub(super) fn failed(&self, error: String) {
        self.state().last_error = Some(error);
    }

    /// Where the lanes stand; what the centre has not told yet is filled in from the hints.
    pub(super) fn set_lanes(&self, lanes: Vec<LaneReport>, hints: &Hints) {
        let lanes = lanes
            .into_iter()
            .map(|lane| LaneLine {
                next: lane.next.or_else(|| hints.get(lane.partition)),
                topic: lane.topic,
                index: lane.index,
                partition: lane.partition,
                trouble: lane.trouble,
            })
            .collect();
        self.state().lanes = lanes;
    }

    fn status(&self) -> UplinkStatus {
        let state = self.state();
        let partitions: Vec<_> = state.lanes.iter().map(|lane| self.partition(lane)).collect();
        let stuck = partitions.iter().find_map(|lane| {
            let why = lane.error.as_ref()?;
            Some(format!("{} partition {}: {why}", lane.topic, lane.partition))
        });
        UplinkStatus {
            connected: state.connected,
            transactions: state.transactions,
            records: state.records,
            lag_records: partitions.iter().map(|lane| lane.lag_records).sum(),
            last_error: state.last_error.clone().or(stuck),
            partitions,
        }
    }

    fn partition(&self, lane: &LaneLine) -> UplinkPartition {
        let ends = self.broker.ends(lane.partition);
        let from = lane.next.map_or(ends.start.0, |next| next.0.max(ends.start.0));
        UplinkPartition {
            topic: lane.topic.to_string(),
            partition: lane.index,
            next: lane.next.map(|next| next.0),
            lag_records: u64::try_from(ends.durable.0.saturating_sub(from)).unwrap_or(0),
            error: lane.trouble.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every update leaves the numbers whole, so a panic elsewhere does not spoil them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
