//! One moment of the whole gateway, taken when somebody asks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::HttpState;
use crate::{
    broker::{KeepingStatus, LogEnds},
    device::{DeviceStatus, DevicesWatch},
    journal::JournalStatus,
    mqtt::bridge::{BridgeStatus, BridgeWatch},
    uplink::{UplinkStatus, UplinkWatch},
};

/// What page, metrics and health are made of.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// This gateway.
    pub(super) gateway: [u8; 16],
    /// Since the start.
    pub(super) uptime: Duration,
    /// Unix ms.
    pub(super) now_ms: i64,
    /// The journal.
    pub(super) journal: JournalStatus,
    /// What was deleted, dropped and refused.
    pub(super) keeping: KeepingStatus,
    /// Topics by name.
    pub(super) topics: Vec<TopicSnapshot>,
    /// Devices by id.
    pub(super) devices: Vec<DeviceStatus>,
    /// Bridges as configured.
    pub(super) bridges: Vec<BridgeStatus>,
    /// The uplink, if one is configured.
    pub(super) uplink: Option<UplinkStatus>,
}

/// One topic.
#[derive(Debug)]
pub(super) struct TopicSnapshot {
    /// Its name.
    pub(super) name: String,
    /// Its partitions by index.
    pub(super) partitions: Vec<PartitionSnapshot>,
}

/// One partition.
#[derive(Debug)]
pub(super) struct PartitionSnapshot {
    /// Where its log stands.
    pub(super) ends: LogEnds,
    /// How far the centre holds it, if it is replicated.
    pub(super) replicated: Option<i64>,
}

impl Snapshot {
    /// This moment.
    pub(super) fn take(state: &HttpState, started: Instant) -> Self {
        let broker = &state.broker;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut topics: Vec<_> = broker
            .topics()
            .iter()
            .map(|topic| TopicSnapshot {
                name: topic.name.clone(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|partition| PartitionSnapshot {
                        ends: broker.ends(*partition),
                        replicated: broker.replicated(*partition).map(|offset| offset.0),
                    })
                    .collect(),
            })
            .collect();
        topics.sort_by(|left, right| left.name.cmp(&right.name));
        Self {
            gateway: broker.gateway_id(),
            uptime: started.elapsed(),
            now_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
            journal: broker.journal().status(),
            keeping: broker.keeping(),
            topics,
            devices: state.devices.as_ref().map(DevicesWatch::status).unwrap_or_default(),
            bridges: state.bridges.iter().map(BridgeWatch::status).collect(),
            uplink: state.uplink.as_ref().map(UplinkWatch::status),
        }
    }
}
