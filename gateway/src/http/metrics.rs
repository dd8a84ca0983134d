//! `/metrics`: OpenMetrics text, made from a snapshot at each scrape.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use super::snapshot::{PartitionSnapshot, Snapshot};
use crate::{device::DeviceStatus, mqtt::bridge::BridgeStatus, uplink::UplinkPartition};

/// Content type of the answer.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The labels of one sample.
type Labels = Vec<(&'static str, String)>;

/// Encodes everything that the snapshot holds.
pub(super) fn render(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("headwater");
    registry.register_collector(Box::new(Scrape(snapshot)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Scrape(Snapshot);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut page = Page { encoder: &mut encoder };
        self.process(&mut page)?;
        self.journal(&mut page)?;
        self.keeping(&mut page)?;
        self.partitions(&mut page)?;
        self.devices(&mut page)?;
        self.bridges(&mut page)?;
        self.uplink(&mut page)
    }
}

impl Scrape {
    fn process(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        page.info("build", "Version of the gateway", &[("version", env!("CARGO_PKG_VERSION"))])?;
        page.gauge(
            "uptime",
            "Time since the start",
            Some(&Unit::Seconds),
            self.0.uptime.as_secs_f64(),
        )
    }

    fn journal(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let journal = &self.0.journal;
        let bytes = Some(&Unit::Bytes);
        page.gauge("journal_used", "Data folder in use", bytes, journal.used_bytes as f64)?;
        page.gauge("journal_max", "storage.max_bytes", bytes, journal.max_bytes as f64)?;
        page.gauge("journal_segments", "Segment files", None, journal.segments as f64)?;
        page.gauge(
            "journal_cold_segments",
            "Files that hold what lives on of old segments",
            None,
            journal.cold_segments as f64,
        )?;
        page.counter(
            "journal_cleaned_segments",
            "Segments that were copied, cold ones included",
            None,
            journal.cleaned_segments,
        )?;
        page.counter(
            "journal_cleaner_copied",
            "Bytes of batches copied by that",
            bytes,
            journal.cleaner_copied_bytes,
        )?;
        page.counter(
            "journal_retired_segments",
            "Segments that left the log",
            None,
            journal.retired_segments,
        )?;
        page.counter("journal_frames", "Frames made durable", None, journal.frames)?;
        page.counter(
            "journal_written",
            "Bytes written to the journal, padding included",
            bytes,
            journal.written_bytes,
        )?;
        let quantile = |quantile: &str, micros: u64| {
            (vec![("quantile", quantile.to_owned())], micros as f64 / 1e6)
        };
        page.gauges(
            "journal_sync",
            "Time of the recent fdatasync calls",
            Some(&Unit::Seconds),
            [quantile("0.5", journal.sync_p50_us), quantile("0.99", journal.sync_p99_us)],
        )?;
        self.damage(page)?;
        let poisoned = f64::from(u8::from(journal.poisoned.is_some()));
        page.gauge(
            "journal_poisoned",
            "1 after an I/O error: nothing is accepted until a restart",
            None,
            poisoned,
        )
    }

    /// One sample for each row of recovery's decision table that was met at the start, and what was found since.
    fn damage(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let journal = &self.0.journal;
        let found = &journal.recovery;
        let bytes = Some(&Unit::Bytes);
        let rows = [
            ("torn_tail", found.torn_tails),
            ("damaged_range", found.damaged_ranges),
            ("damaged_header", found.damaged_headers),
            ("doubled_offsets", found.doubled_offsets),
            ("damaged_snapshot", found.damaged_snapshots),
            ("lost_state", found.lost_states),
            ("broken_chain", found.broken_chains),
            ("missing_segment", found.missing_segments),
            ("cold_lost", found.cold_lost),
            ("cold_damaged", found.cold_damaged),
            ("cold_adopted", found.cold_adopted),
            ("cold_leftover", found.cold_leftover),
            ("quarantined_file", found.quarantined_files),
            ("void_file", found.void_files),
            ("reused_file", found.reused_files),
            ("misfit_spare", found.misfit_spares),
            ("index_missing", found.index_missing),
            ("index_damaged", found.index_damaged),
            ("index_stale", found.index_stale),
            ("index_leftover", found.index_leftover),
        ];
        page.gauges(
            "journal_recovery_found",
            "What the last start found",
            None,
            rows.map(|(row, count)| (vec![("what", row.to_owned())], count as f64)),
        )?;
        let clean = f64::from(u8::from(found.clean));
        page.gauge("journal_recovery_clean", "1 after an orderly stop", None, clean)?;
        let rows = [
            ("carried", found.carried_bytes),
            ("torn", found.torn_bytes),
            ("damaged", found.damaged_bytes),
            ("scanned", found.scanned_bytes),
            ("indexed", found.indexed_bytes),
        ];
        page.gauges(
            "journal_recovery",
            "Bytes that the last start had to do with",
            bytes,
            rows.map(|(row, count)| (vec![("what", row.to_owned())], count as f64)),
        )?;
        let open = journal.open_damage as f64;
        page.gauge("journal_open_damage", "Damaged ranges that nobody accepted", None, open)?;
        page.counter(
            "journal_damaged_reads",
            "Reads answered with an error because of damage",
            None,
            journal.damaged_reads,
        )?;
        page.counter(
            "journal_skipped_offsets",
            "Offsets that readers were taken past because of damage",
            None,
            journal.skipped_offsets,
        )?;
        page.counter(
            "journal_scrubbed",
            "Bytes that the scrub read and verified",
            bytes,
            journal.scrub.bytes,
        )?;
        page.counter("journal_scrub_passes", "Passes of the scrub", None, journal.scrub.passes)?;
        page.counter(
            "journal_scrub_damaged_ranges",
            "Damaged ranges that the scrub found",
            None,
            journal.scrub.damaged_ranges,
        )?;
        page.counter(
            "journal_scrub_damaged_indexes",
            "Index files found damaged by the scrub",
            None,
            journal.scrub.damaged_indexes,
        )
    }

    fn keeping(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let keeping = &self.0.keeping;
        for (name, help, value) in [
            ("expired_records", "Records that retention deleted", keeping.expired_records),
            (
                "dropped_records",
                "Records that made room in full storage; gap records tell which",
                keeping.dropped_records,
            ),
            (
                "refused_records",
                "Records refused for good in full storage; gap records tell where",
                keeping.refused_records,
            ),
            ("full_refusals", "Appends that found no space", keeping.full_refusals),
        ] {
            page.counter(name, help, None, value)?;
        }
        for (name, help, value) in [
            (
                "held_back_partitions",
                "Partitions of which retention would delete more if the centre held it",
                keeping.held_back_partitions,
            ),
            ("storage_full", "1 while appends find no space", u64::from(keeping.is_full)),
            (
                "storage_blocked",
                "1 while topics that would make room cannot",
                u64::from(keeping.is_blocked),
            ),
        ] {
            page.gauge(name, help, None, value as f64)?;
        }
        Ok(())
    }

    fn partitions(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        type Field = fn(&PartitionSnapshot) -> Option<i64>;
        let fields: [(&str, &str, Field); 5] = [
            ("partition_log_start_offset", "First offset that is still there", |it| {
                Some(it.ends.start.0)
            }),
            ("partition_written_offset", "One past the last offset handed to the journal", |it| {
                Some(it.ends.written.0)
            }),
            ("partition_durable_offset", "One past the last durable offset", |it| {
                Some(it.ends.durable.0)
            }),
            ("partition_stable_offset", "One past the last offset that is replicated next", |it| {
                Some(it.ends.stable.0)
            }),
            (
                "partition_replicated_offset",
                "One past the last offset that the centre holds",
                |it| it.replicated,
            ),
        ];
        for (name, help, field) in fields {
            let samples = self.0.topics.iter().flat_map(|topic| {
                topic.partitions.iter().enumerate().filter_map(move |(index, partition)| {
                    let labels =
                        vec![("topic", topic.name.clone()), ("partition", index.to_string())];
                    Some((labels, field(partition)? as f64))
                })
            });
            page.gauges(name, help, None, samples)?;
        }
        Ok(())
    }

    fn devices(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let devices = &self.0.devices;
        let label = |device: &DeviceStatus| vec![("device", device.device.clone())];
        page.gauges(
            "device_connected",
            "1 while a link to the device is up",
            None,
            devices.iter().map(|it| (label(it), f64::from(u8::from(it.connected)))),
        )?;
        page.gauges(
            "device_last_seen_timestamp",
            "When the last valid frame came",
            Some(&Unit::Seconds),
            devices.iter().map(|it| (label(it), it.last_seen_ms as f64 / 1e3)),
        )?;
        page.gauges(
            "device_boot",
            "Boot counter of the device",
            None,
            devices.iter().map(|it| (label(it), it.boot as f64)),
        )?;
        page.gauges(
            "device_backlog",
            "How old the newest durable reading was when it became durable",
            Some(&Unit::Seconds),
            devices.iter().filter_map(|it| Some((label(it), it.backlog_ms? as f64 / 1e3))),
        )?;
        page.gauges(
            "device_clock_skew",
            "Drift of the device's clock by its last fit; above 0 it is slow",
            Some(&Unit::Ratios),
            devices.iter().filter_map(|it| Some((label(it), it.skew_ppm? / 1e6))),
        )?;
        page.gauges(
            "device_clock_error",
            "How far the time of that fit's last sample may be off",
            Some(&Unit::Seconds),
            devices.iter().filter_map(|it| Some((label(it), it.clock_error_ms? / 1e3))),
        )?;
        page.gauges(
            "device_overruns",
            "Losses of received bytes that the device told of in its running boot",
            None,
            devices.iter().map(|it| (label(it), it.device_overruns as f64)),
        )?;
        page.counters(
            "device_boots",
            "Boots by cause",
            devices.iter().flat_map(|it| {
                let met = it.boots.iter().filter(|(_, count)| *count > 0);
                met.map(|(cause, count)| {
                    ([label(it), vec![("cause", cause.to_owned())]].concat(), count)
                })
            }),
        )?;
        type Field = fn(&DeviceStatus) -> u64;
        let counters: [(&str, &str, Field); 6] = [
            ("device_readings", "Readings made durable", |it| it.readings),
            ("device_gap_readings", "Readings that the device reported as lost", |it| {
                it.gap_readings
            }),
            ("device_frame_errors", "Frames with a bad CRC, length or COBS code", |it| {
                it.frame_errors
            }),
            ("device_crc_errors", "Of those, frames whose CRC alone disagreed", |it| it.crc_errors),
            ("device_retransmits", "Items that came more than once", |it| it.retransmits),
            ("device_log_lines_lost", "Lines of the device's log that were lost", |it| {
                it.lines_lost
            }),
        ];
        for (name, help, field) in counters {
            page.counters(name, help, devices.iter().map(|it| (label(it), field(it))))?;
        }
        Ok(())
    }

    fn bridges(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        // Two bridges may share a broker, so the place in the configuration is part of the name.
        let label = |(index, bridge): (usize, &BridgeStatus)| {
            vec![("bridge", index.to_string()), ("broker", bridge.broker.clone())]
        };
        let bridges = || self.0.bridges.iter().enumerate();
        page.gauges(
            "bridge_connected",
            "1 while the session with the MQTT broker is up",
            None,
            bridges().map(|it| (label(it), f64::from(u8::from(it.1.connected)))),
        )?;
        page.counters(
            "bridge_received_messages",
            "Messages received",
            bridges().map(|it| (label(it), it.1.received)),
        )?;
        page.counters(
            "bridge_acknowledged_messages",
            "Messages durable and acknowledged",
            bridges().map(|it| (label(it), it.1.acknowledged)),
        )
    }

    fn uplink(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let Some(uplink) = &self.0.uplink else { return Ok(()) };
        let connected = f64::from(u8::from(uplink.connected));
        page.gauge(
            "uplink_connected",
            "1 while the last attempt reached the centre",
            None,
            connected,
        )?;
        page.counter("uplink_transactions", "Transactions committed", None, uplink.transactions)?;
        page.counter("uplink_records", "Records replicated", None, uplink.records)?;
        page.gauge(
            "uplink_lag_records",
            "Records that are durable here and not yet at the centre",
            None,
            uplink.lag_records as f64,
        )?;
        let label = |it: &UplinkPartition| {
            vec![("topic", it.topic.clone()), ("partition", it.partition.to_string())]
        };
        page.gauges(
            "uplink_partition_lag_records",
            "Records of the partition that are not yet at the centre",
            None,
            uplink.partitions.iter().map(|it| (label(it), it.lag_records as f64)),
        )?;
        page.gauges(
            "uplink_partition_stuck",
            "1 while the partition is left out because of an error",
            None,
            uplink.partitions.iter().map(|it| (label(it), f64::from(u8::from(it.error.is_some())))),
        )
    }
}

/// Writes families.
struct Page<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
}

impl Page<'_, '_> {
    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        let encoder = self.encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let mut encoder = self.encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in samples {
            ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> fmt::Result {
        self.encoder.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&labels)
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        let encoder = self.encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            ConstCounter::new(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::LogEnds,
        http::snapshot::TopicSnapshot,
        journal::{JournalStatus, Offset, RecoveryReport},
        uplink::UplinkStatus,
    };

    #[test]
    fn names_units_and_labels() {
        let ends = LogEnds {
            start: Offset(1),
            written: Offset(9),
            durable: Offset(8),
            stable: Offset(7),
            leader_epoch: 0,
        };
        let text = render(Snapshot {
            journal: JournalStatus {
                sync_p50_us: 1_500,
                sync_p99_us: 20_000,
                frames: 3,
                open_damage: 2,
                recovery: RecoveryReport { torn_tails: 1, ..RecoveryReport::default() },
                poisoned: Some("EIO".into()),
                ..JournalStatus::default()
            },
            topics: vec![TopicSnapshot {
                name: "readings".into(),
                partitions: vec![
                    PartitionSnapshot { ends, replicated: Some(6) },
                    PartitionSnapshot { ends, replicated: None },
                ],
            }],
            devices: vec![DeviceStatus {
                device: "a\"b\\c\nd".into(),
                frame_errors: 2,
                skew_ppm: Some(-12.5),
                clock_error_ms: Some(1.75),
                ..DeviceStatus::default()
            }],
            bridges: vec![BridgeStatus {
                broker: "b:1883".into(),
                received: 5,
                ..Default::default()
            }],
            uplink: Some(UplinkStatus { lag_records: 4, ..UplinkStatus::default() }),
            ..Snapshot::default()
        })
        .unwrap();
        for line in [
            "# TYPE headwater_journal_sync_seconds gauge",
            "# UNIT headwater_journal_sync_seconds seconds",
            "headwater_journal_sync_seconds{quantile=\"0.5\"} 0.0015",
            "headwater_journal_sync_seconds{quantile=\"0.99\"} 0.02",
            "headwater_journal_frames_total 3",
            "headwater_journal_open_damage 2.0",
            "headwater_journal_recovery_found{what=\"torn_tail\"} 1.0",
            "headwater_journal_recovery_found{what=\"missing_segment\"} 0.0",
            "headwater_journal_scrubbed_bytes_total 0",
            "headwater_journal_poisoned 1.0",
            "headwater_partition_durable_offset{topic=\"readings\",partition=\"0\"} 8.0",
            "headwater_partition_replicated_offset{topic=\"readings\",partition=\"0\"} 6.0",
            r#"headwater_device_frame_errors_total{device="a\"b\\c\nd"} 2"#,
            r#"headwater_device_clock_skew_ratios{device="a\"b\\c\nd"} -0.0000125"#,
            r#"headwater_device_clock_error_seconds{device="a\"b\\c\nd"} 0.00175"#,
            "headwater_bridge_received_messages_total{bridge=\"0\",broker=\"b:1883\"} 5",
            "headwater_uplink_lag_records 4.0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("replicated_offset{topic=\"readings\",partition=\"1\"}"));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn an_empty_gateway_scrapes() {
        let text = render(Snapshot::default()).unwrap();
        assert!(text.contains("headwater_uptime_seconds 0.0\n"), "{text}");
        assert!(text.contains("headwater_build_info{version=\""), "{text}");
        assert!(!text.contains("uplink"));
    }
}
