//! Messages of a broker as records: key = MQTT topic name, value = payload.

use std::collections::BTreeMap;

use super::intake::Message;
use crate::{
    broker::{AppendRequest, Topic, partition_for_key},
    journal::PartitionId,
    record::BatchBuilder,
};

/// Topic of the records that stand for messages which could not be stored.
pub(super) const REJECTED_TOPIC: &str = "mqtt-rejected";

/// One append with one batch per partition.
pub(super) fn request<'a>(
    topic: &Topic,
    messages: impl Iterator<Item = &'a Message>,
) -> AppendRequest {
    let mut batches: BTreeMap<PartitionId, BatchBuilder> = BTreeMap::new();
    for message in messages {
        let Some(partition) = partition(topic, message) else { continue };
        let headers: &[(&[u8], &[u8])] = if message.retained { &[(b"retain", b"1")] } else { &[] };
        batches.entry(partition).or_default().push(
            message.received_ms,
            Some(message.topic.as_bytes()),
            Some(&message.payload),
            headers,
        );
    }
    finish(batches)
}

/// One append with a record of headers alone, in place of a message that no append can hold.
pub(super) fn rejection(
    topic: &Topic,
    message: &Message,
    source: &str,
    reason: &str,
) -> AppendRequest {
    let mut batches: BTreeMap<PartitionId, BatchBuilder> = BTreeMap::new();
    if let Some(partition) = partition(topic, message) {
        let bytes = message.payload.len().to_string();
        let crc = format!("{:08x}", crc32c::crc32c(&message.payload));
        batches.entry(partition).or_default().push(
            message.received_ms,
            Some(message.topic.as_bytes()),
            None,
            &[
                (b"reason", reason.as_bytes()),
                (b"source", source.as_bytes()),
                (b"bytes", bytes.as_bytes()),
                (b"crc32c", crc.as_bytes()),
            ],
        );
    }
    finish(batches)
}

fn partition(topic: &Topic, message: &Message) -> Option<PartitionId> {
    topic
        .partitions
        .get(partition_for_key(message.topic.as_bytes(), topic.partitions.len()))
        .copied()
}

fn finish(batches: BTreeMap<PartitionId, BatchBuilder>) -> AppendRequest {
    AppendRequest {
        batches: batches
            .into_iter()
            .filter_map(|(partition, batch)| Some((partition, batch.finish()?)))
            .collect(),
        facts: Vec::new(),
    }
}
