//! The Fetch response, written by hand so that records are shared with the journal's buffers rather
//! than copied.

use bytes::{BufMut, BytesMut};

use crate::{
    broker::EpochEnd,
    kafka::{
        budget::Charge,
        error_code::ErrorCode,
        output::{FrameWriter, Reply},
    },
};

use super::{TOPIC_IDS_FROM, Topic, collect::Partition};

/// First versions with: log start offsets, sessions, preferred replicas, compact encoding.
const LOG_START_FROM: i16 = 5;
const SESSIONS_FROM: i16 = 7;
const PREFERRED_REPLICA_FROM: i16 = 11;
const FLEXIBLE_FROM: i16 = 12;

/// Offsets of a partition that failed, and "no replica is preferred".
const UNKNOWN: i64 = -1;
const NONE_PREFERRED: i32 = -1;

const DIVERGING_EPOCH_TAG: u8 = 0;
/// Epoch, offset, and the end of its own tagged fields.
const DIVERGING_EPOCH_BYTES: u8 = 4 + 8 + 1;

/// Writes the response; `charge` is held until it has been sent.
pub(super) fn encode(
    frame: FrameWriter,
    version: i16,
    code: ErrorCode,
    session: i32,
    topics: &[Topic],
    charge: Charge,
) -> Reply {
    let mut out = Encoder { frame, version };
    out.fields().put_i32(0); // throttle time
    if version >= SESSIONS_FROM {
        out.fields().put_i16(code.0);
        out.fields().put_i32(session);
    }
    out.count(topics.len());
    for topic in topics {
        out.topic(topic);
    }
    out.tags();
    out.frame.finish().charged(charge)
}

struct Encoder {
    frame: FrameWriter,
    version: i16,
}

impl Encoder {
    fn topic(&mut self, topic: &Topic) {
        if self.version >= TOPIC_IDS_FROM {
            self.fields().put_slice(topic.key.id.as_bytes());
        } else {
            self.string(&topic.key.name);
        }
        self.count(topic.partitions.len());
        for partition in &topic.partitions {
            self.partition(partition);
        }
        self.tags();
    }

    fn partition(&mut self, partition: &Partition) {
        let version = self.version;
        let ends = partition.ends.filter(|_| !partition.code.is_error());
        let fields = self.fields();
        fields.put_i32(partition.index);
        fields.put_i16(partition.code.0);
        fields.put_i64(ends.map_or(UNKNOWN, |ends| ends.durable.0));
        fields.put_i64(ends.map_or(UNKNOWN, |ends| ends.stable.0));
        if version >= LOG_START_FROM {
            fields.put_i64(ends.map_or(UNKNOWN, |ends| ends.start.0));
        }
        match &partition.aborted {
            Some(aborted) => self.count(aborted.len()),
            None => self.no_array(),
        }
        for range in partition.aborted.iter().flatten() {
            self.fields().put_i64(range.producer_id);
            self.fields().put_i64(range.first.0);
            self.tags();
        }
        if version >= PREFERRED_REPLICA_FROM {
            self.fields().put_i32(NONE_PREFERRED);
        }
        // Where a partition failed nothing was read, or what was read before stays valid.
        self.count(partition.bytes);
        for batch in &partition.batches {
            self.frame.share(batch);
        }
        match partition.diverging.filter(|_| self.is_flexible() && !partition.code.is_error()) {
            Some(end) => self.diverging(end),
            None => self.tags(),
        }
    }

    /// The only tagged field: where the log is another one than the consumer's.
    fn diverging(&mut self, end: EpochEnd) {
        let fields = self.fields();
        fields.put_slice(&[1, DIVERGING_EPOCH_TAG, DIVERGING_EPOCH_BYTES]);
        fields.put_i32(end.leader_epoch);
        fields.put_i64(end.end.0);
        self.tags();
    }

    fn fields(&mut self) -> &mut BytesMut {
        self.frame.fields()
    }

    fn is_flexible(&self) -> bool {
        self.version >= FLEXIBLE_FROM
    }

    /// A count of elements or bytes: 32 bits, or one more than itself as a varint.
    fn count(&mut self, count: usize) {
        // Bounded by the request's own counts and by the limit of the response.
        let count = u32::try_from(count).expect("counts of a response are below 2^31");
        if self.is_flexible() {
            self.varint(count + 1);
        } else {
            self.fields().put_u32(count);
        }
    }

    /// An array that is missing, which is not an empty one.
    fn no_array(&mut self) {
        if self.is_flexible() {
            self.varint(0);
        } else {
            self.fields().put_i32(-1);
        }
    }

    fn string(&mut self, text: &str) {
        if self.is_flexible() {
            self.count(text.len());
        } else {
            // The name came in a request, whose strings are bounded below 2^15.
            let length = u16::try_from(text.len()).expect("a name is below 32 KiB");
            self.fields().put_u16(length);
        }
        self.fields().put_slice(text.as_bytes());
    }

    fn tags(&mut self) {
        if self.is_flexible() {
            self.fields().put_u8(0);
        }
    }

    fn varint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.fields().put_u8(0x80 | (value & 0x7f) as u8);
            value >>= 7;
        }
        self.fields().put_u8(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_wire::{FetchRequest, FetchResponse, KafkaMessage};
    use kafka_wire_core::{ApiVersion, KafkaDecode};

    use super::*;
    use crate::{
        broker::LogEnds,
        journal::{AbortedRange, Offset, PartitionId},
        kafka::{
            codec::{self, LENGTH_BYTES, Uuid},
            fetch_sessions::TopicKey,
        },
    };

    /// The hand-written encoder against the generated decoder, for every served version.
    #[test]
    fn every_version_reads_back() {
        for version in 4..=18 {
            let records = [Bytes::from(vec![1; 3000]), Bytes::from(vec![2; 10])];
            let ends = LogEnds {
                start: Offset(3),
                written: Offset(9),
                durable: Offset(8),
                stable: Offset(7),
                leader_epoch: 2,
            };
            let mut partition = Partition::new(5, PartitionId(1), 3, 100, -1);
            partition.ends = Some(ends);
            partition.bytes = 3010;
            partition.batches = records.to_vec();
            let aborted = |producer_id, first| AbortedRange {
                producer_id,
                first: Offset(first),
                last: Offset(7),
                has_marker: true,
            };
            partition.aborted = Some(vec![aborted(77, 4), aborted(1 << 40, 3)]);
            let mut plain = Partition::new(7, PartitionId(2), 0, 0, -1);
            plain.diverging = Some(EpochEnd { leader_epoch: 4, end: Offset(1 << 33) });
            let failed = Partition::failed(6, ErrorCode::OFFSET_OUT_OF_RANGE);
            let topic = Topic {
                key: TopicKey { name: "readings".into(), id: Uuid::from_bytes([9; 16]) },
                partitions: vec![partition, failed, plain],
            };
            let mut start = BytesMut::new();
            codec::start_frame(&mut start, 77, version >= FLEXIBLE_FROM);
            let header_bytes = start.len();
            let reply = encode(
                FrameWriter::new(start),
                version,
                ErrorCode::NONE,
                5,
                &[topic],
                Charge::default(),
            );
            let mut frame = Bytes::from(reply.into_bytes());
            assert_eq!(
                frame.len() - LENGTH_BYTES,
                u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize
            );
            let body = frame.split_off(header_bytes);
            assert!(FetchRequest::SUPPORTED_VERSIONS.contains(ApiVersion::new(version)));
            let response =
                FetchResponse::decode_from_bytes(body, ApiVersion::new(version), codec::limits())
                    .unwrap_or_else(|error| panic!("version {version}: {error}"));
            let session = if version >= SESSIONS_FROM { 5 } else { 0 };
            assert_eq!((response.error_code, response.session_id), (0, session));
            let topic = &response.responses[0];
            if version >= TOPIC_IDS_FROM {
                assert_eq!(topic.topic_id, Uuid::from_bytes([9; 16]));
            } else {
                assert_eq!(topic.topic.as_str(), "readings");
            }
            let [good, bad, plain] = &topic.partitions[..] else { panic!("three partitions") };
            assert_eq!((good.partition_index, good.error_code), (5, 0));
            assert_eq!((good.high_watermark, good.last_stable_offset), (8, 7));
            if version >= LOG_START_FROM {
                assert_eq!(good.log_start_offset, 3);
            }
            let aborted = good.aborted_transactions.iter().flatten();
            let aborted: Vec<_> = aborted.map(|it| (it.producer_id, it.first_offset)).collect();
            assert_eq!(aborted, [(77, 4), (1 << 40, 3)]);
            assert_eq!(bad.aborted_transactions.as_deref(), Some(&[][..]));
            assert_eq!(plain.aborted_transactions, None);
            let told = (plain.diverging_epoch.epoch, plain.diverging_epoch.end_offset);
            let is_told = version >= FLEXIBLE_FROM;
            assert_eq!(told, if is_told { (4, 1 << 33) } else { (-1, -1) });
            assert_eq!(good.diverging_epoch.epoch, -1);
            assert_eq!(good.preferred_read_replica, -1);
            assert_eq!(good.records.as_deref(), Some(&records.concat()[..]));
            assert_eq!((bad.partition_index, bad.error_code), (6, 1));
            assert_eq!((bad.high_watermark, bad.records.as_deref()), (-1, Some(&[][..])));
        }
    }
}
