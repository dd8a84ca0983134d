//! `/api/v1/status`: the JSON that the page and the command line read.
//!
//! These types are the wire format. Fields are added, never renamed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::snapshot::{PartitionSnapshot, Snapshot, TopicSnapshot};
use crate::{
    broker::{KeepingStatus, Uuid},
    device::{DeviceLine, DeviceStatus},
    journal::JournalStatus,
    mqtt::bridge::BridgeStatus,
    uplink::{UplinkPartition, UplinkStatus},
};

/// The whole answer.
#[derive(Serialize)]
pub(super) struct StatusDto<'a> {
    version: &'static str,
    uptime_s: u64,
    now_ms: i64,
    gateway: String,
    journal: JournalDto<'a>,
    keeping: KeepingDto,
    topics: Vec<TopicDto<'a>>,
    devices: Vec<DeviceDto<'a>>,
    bridges: Vec<BridgeDto<'a>>,
    uplink: Option<UplinkDto<'a>>,
}

#[derive(Serialize)]
struct JournalDto<'a> {
    used_bytes: u64,
    max_bytes: u64,
    segments: u64,
    cold_segments: u64,
    cleaned_segments: u64,
    cleaner_copied_bytes: u64,
    retired_segments: u64,
    frames: u64,
    written_bytes: u64,
    sync_p50_us: u64,
    sync_p99_us: u64,
    poisoned: Option<&'a str>,
    open_damage: u64,
    open_damage_bytes: u64,
    damaged_reads: u64,
    skipped_offsets: u64,
    scrubbed_bytes: u64,
    scrub_passes: u64,
}

#[derive(Serialize)]
struct KeepingDto {
    expired_records: u64,
    dropped_records: u64,
    refused_records: u64,
    full_refusals: u64,
    held_back_partitions: u64,
    full: bool,
    blocked: bool,
}

#[derive(Serialize)]
struct TopicDto<'a> {
    name: &'a str,
    partitions: Vec<PartitionDto>,
}

#[derive(Serialize)]
struct PartitionDto {
    partition: usize,
    start: i64,
    written: i64,
    durable: i64,
    stable: i64,
    replicated: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct DeviceDto<'a> {
    device: &'a str,
    name: &'a str,
    labels: &'a BTreeMap<String, String>,
    admission: &'static str,
    held: bool,
    stream: &'a str,
    boot: u64,
    transport: &'a str,
    connected: bool,
    last_seen_ms: i64,
    readings: u64,
    gap_readings: u64,
    frame_errors: u64,
    crc_errors: u64,
    retransmits: u64,
    device_errors: u64,
    device_overruns: u64,
    boots: BTreeMap<&'static str, u64>,
    backlog_ms: Option<i64>,
    skew_ppm: Option<f64>,
    clock_error_ms: Option<f64>,
    lines_lost: u64,
    lines: Vec<LineDto<'a>>,
}

#[derive(Serialize)]
struct LineDto<'a> {
    at_ms: i64,
    severity: u8,
    text: &'a str,
}

#[derive(Serialize)]
struct BridgeDto<'a> {
    broker: &'a str,
    connected: bool,
    received: u64,
    acknowledged: u64,
    last_error: Option<&'a str>,
}

#[derive(Serialize)]
struct UplinkDto<'a> {
    connected: bool,
    transactions: u64,
    records: u64,
    lag_records: u64,
    last_error: Option<&'a str>,
    partitions: Vec<UplinkPartitionDto<'a>>,
}

#[derive(Serialize)]
struct UplinkPartitionDto<'a> {
    topic: &'a str,
    partition: u32,
    next: Option<i64>,
    lag_records: u64,
    error: Option<&'a str>,
}

impl<'a> From<&'a Snapshot> for StatusDto<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: snapshot.uptime.as_secs(),
            now_ms: snapshot.now_ms,
            gateway: Uuid(snapshot.gateway).to_string(),
            journal: (&snapshot.journal).into(),
            keeping: snapshot.keeping.into(),
            topics: snapshot.topics.iter().map(Into::into).collect(),
            devices: snapshot.devices.iter().map(Into::into).collect(),
            bridges: snapshot.bridges.iter().map(Into::into).collect(),
            uplink: snapshot.uplink.as_ref().map(Into::into),
        }
    }
}

impl<'a> From<&'a JournalStatus> for JournalDto<'a> {
    fn from(journal: &'a JournalStatus) -> Self {
        Self {
            used_bytes: journal.used_bytes,
            max_bytes: journal.max_bytes,
            segments: journal.segments,
            cold_segments: journal.cold_segments,
            cleaned_segments: journal.cleaned_segments,
            cleaner_copied_bytes: journal.cleaner_copied_bytes,
            retired_segments: journal.retired_segments,
            frames: journal.frames,
            written_bytes: journal.written_bytes,
            sync_p50_us: journal.sync_p50_us,
            sync_p99_us: journal.sync_p99_us,
            poisoned: journal.poisoned.as_deref(),
            open_damage: journal.open_damage,
            open_damage_bytes: journal.open_damage_bytes,
            damaged_reads: journal.damaged_reads,
            skipped_offsets: journal.skipped_offsets,
            scrubbed_bytes: journal.scrub.bytes,
            scrub_passes: journal.scrub.passes,
        }
    }
}

impl From<KeepingStatus> for KeepingDto {
    fn from(keeping: KeepingStatus) -> Self {
        Self {
            expired_records: keeping.expired_records,
            dropped_records: keeping.dropped_records,
            refused_records: keeping.refused_records,
            full_refusals: keeping.full_refusals,
            held_back_partitions: keeping.held_back_partitions,
            full: keeping.is_full,
            blocked: keeping.is_blocked,
        }
    }
}

impl<'a> From<&'a TopicSnapshot> for TopicDto<'a> {
    fn from(topic: &'a TopicSnapshot) -> Self {
        let partition = |(partition, it): (usize, &PartitionSnapshot)| PartitionDto {
            partition,
            start: it.ends.start.0,
            written: it.ends.written.0,
            durable: it.ends.durable.0,
            stable: it.ends.stable.0,
            replicated: it.replicated,
        };
        Self {
            name: &topic.name,
            partitions: topic.partitions.iter().enumerate().map(partition).collect(),
        }
    }
}

impl<'a> From<&'a DeviceStatus> for DeviceDto<'a> {
    fn from(device: &'a DeviceStatus) -> Self {
        Self {
            device: &device.device,
            name: &device.profile.name,
            labels: &device.profile.labels,
            admission: device.profile.admission.name(),
            held: device.is_held,
            stream: &device.stream,
            boot: device.boot,
            transport: &device.transport,
            connected: device.connected,
            last_seen_ms: device.last_seen_ms,
            readings: device.readings,
            gap_readings: device.gap_readings,
            frame_errors: device.frame_errors,
            crc_errors: device.crc_errors,
            retransmits: device.retransmits,
            device_errors: device.device_errors,
            device_overruns: device.device_overruns,
            boots: device.boots.iter().filter(|(_, count)| *count > 0).collect(),
            backlog_ms: device.backlog_ms,
            skew_ppm: device.skew_ppm,
            clock_error_ms: device.clock_error_ms,
            lines_lost: device.lines_lost,
            lines: device.lines.iter().map(LineDto::from).collect(),
        }
    }
}

impl<'a> From<&'a DeviceLine> for LineDto<'a> {
    fn from(line: &'a DeviceLine) -> Self {
        Self { at_ms: line.at_ms, severity: line.severity, text: &line.text }
    }
}

impl<'a> From<&'a BridgeStatus> for BridgeDto<'a> {
    fn from(bridge: &'a BridgeStatus) -> Self {
        Self {
            broker: &bridge.broker,
            connected: bridge.connected,
            received: bridge.received,
            acknowledged: bridge.acknowledged,
            last_error: bridge.last_error.as_deref(),
        }
    }
}

impl<'a> From<&'a UplinkStatus> for UplinkDto<'a> {
    fn from(uplink: &'a UplinkStatus) -> Self {
        Self {
            connected: uplink.connected,
            transactions: uplink.transactions,
            records: uplink.records,
            lag_records: uplink.lag_records,
            last_error: uplink.last_error.as_deref(),
            partitions: uplink.partitions.iter().map(Into::into).collect(),
        }
    }
}

impl<'a> From<&'a UplinkPartition> for UplinkPartitionDto<'a> {
    fn from(partition: &'a UplinkPartition) -> Self {
        Self {
            topic: &partition.topic,
            partition: partition.partition,
            next: partition.next,
            lag_records: partition.lag_records,
            error: partition.error.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::{broker::LogEnds, journal::Offset};

    fn snapshot() -> Snapshot {
        Snapshot {
            gateway: *b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef",
            uptime: Duration::from_millis(61_999),
            now_ms: 1_700_000_000_000,
            journal: JournalStatus { used_bytes: 5, max_bytes: 9, ..JournalStatus::default() },
            keeping: KeepingStatus::default(),
            topics: vec![TopicSnapshot {
                name: "</script>\u{1f}\"".into(),
                partitions: vec![PartitionSnapshot {
                    ends: LogEnds {
                        start: Offset(1),
                        written: Offset(9),
                        durable: Offset(8),
                        stable: Offset(7),
                        leader_epoch: 3,
                    },
                    replicated: Some(6),
                }],
            }],
            devices: vec![DeviceStatus {
                device: "sim-000001".into(),
                skew_ppm: Some(-12.345),
                clock_error_ms: Some(1.75),
                boot: 2,
                ..Default::default()
            }],
            bridges: vec![BridgeStatus { broker: "b:1883".into(), ..Default::default() }],
            uplink: Some(UplinkStatus {
                connected: true,
                transactions: 4,
                records: 5,
                lag_records: 2,
                last_error: Some("why".into()),
                partitions: vec![UplinkPartition {
                    topic: "t".into(),
                    partition: 1,
                    next: None,
                    lag_records: 2,
                    error: None,
                }],
            }),
        }
    }

    #[test]
    fn the_shape_is_fixed() {
        let snapshot = snapshot();
        let status = serde_json::to_value(StatusDto::from(&snapshot)).unwrap();
        assert_eq!(
            status,
            json!({
                "version": env!("CARGO_PKG_VERSION"),
                "uptime_s": 61,
                "now_ms": 1_700_000_000_000_i64,
                "gateway": "01234567-89ab-cdef-0123-456789abcdef",
                "journal": {
                    "used_bytes": 5, "max_bytes": 9, "segments": 0, "cold_segments": 0,
                    "cleaned_segments": 0, "cleaner_copied_bytes": 0, "retired_segments": 0,
                    "frames": 0, "written_bytes": 0,
                    "sync_p50_us": 0, "sync_p99_us": 0, "poisoned": null, "open_damage": 0,
                    "open_damage_bytes": 0, "damaged_reads": 0, "skipped_offsets": 0,
                    "scrubbed_bytes": 0, "scrub_passes": 0
                },
                "keeping": {
                    "expired_records": 0, "dropped_records": 0, "refused_records": 0,
                    "full_refusals": 0, "held_back_partitions": 0, "full": false, "blocked": false
                },
                "topics": [{
                    "name": "</script>\u{1f}\"",
                    "partitions": [{
                        "partition": 0, "start": 1, "written": 9, "durable": 8, "stable": 7,
                        "replicated": 6
                    }]
                }],
                "devices": [{
                    "device": "sim-000001", "name": "", "labels": {}, "admission": "undecided",
                    "held": false, "stream": "", "boot": 2, "transport": "",
                    "connected": false, "last_seen_ms": 0, "readings": 0, "gap_readings": 0,
                    "frame_errors": 0, "crc_errors": 0, "retransmits": 0, "device_errors": 0,
                    "device_overruns": 0, "boots": {}, "backlog_ms": null, "skew_ppm": -12.345,
                    "clock_error_ms": 1.75, "lines_lost": 0, "lines": []
                }],
                "bridges": [{
                    "broker": "b:1883", "connected": false, "received": 0, "acknowledged": 0,
                    "last_error": null
                }],
                "uplink": {
                    "connected": true, "transactions": 4, "records": 5, "lag_records": 2,
                    "last_error": "why",
                    "partitions": [{
                        "topic": "t", "partition": 1, "next": null, "lag_records": 2,
                        "error": null
                    }]
                }
            })
        );
        let text = serde_json::to_string(&StatusDto::from(&snapshot)).unwrap();
        assert!(
            text.contains(r#"</script>\u001f\""#),
            "control characters and quotes are escaped: {text}"
        );
    }

    #[test]
    fn nothing_configured_is_empty_or_null() {
        let snapshot = Snapshot::default();
        let status = serde_json::to_value(StatusDto::from(&snapshot)).unwrap();
        for (key, expect) in [
            ("topics", json!([])),
            ("devices", json!([])),
            ("bridges", json!([])),
            ("uplink", json!(null)),
        ] {
            assert_eq!(status[key], expect, "{key}");
        }
    }
}
