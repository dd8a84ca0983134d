//! ListOffsets: the first, the next, the latest by timestamp, and the first offset at or after a
//! time.

use std::{collections::BTreeMap, sync::Arc};

use kafka_wire::{
    ListOffsetsRequest, ListOffsetsResponse,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
};

use crate::{
    broker::{Broker, Located, LogEnds},
    journal::{Offset, PartitionId, ReadError},
    kafka::{
        codec::StrBytes,
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// Timestamps with a meaning of their own.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// Of logs with a remote tier, which there is none of here: the first local offset is the first,
/// and nothing is tiered or waits for it.
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// First version that tells epochs.
const EPOCH_FROM: i16 = 4;

/// First versions that know the last four of these times.
const MAX_TIMESTAMP_FROM: i16 = 7;
const EARLIEST_LOCAL_FROM: i16 = 8;
const LATEST_TIERED_FROM: i16 = 9;
const EARLIEST_PENDING_UPLOAD_FROM: i16 = 11;

const READ_COMMITTED: i8 = 1;

/// Answers whose offset, timestamp or epoch is not known carry this.
const UNKNOWN: i64 = -1;
const UNKNOWN_EPOCH: i32 = -1;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: ListOffsetsRequest = call.decode()?;
    let version = call.version();
    let is_committed = request.isolation_level == READ_COMMITTED;
    let mut questions = Vec::new();
    for (name, partitions) in merged(request.topics) {
        let known = context.broker.topic(&name);
        let lookups = partitions.into_iter().map(|(index, wanted)| {
            let id = known.as_deref().and_then(|topic| Context::partition(topic, index));
            let lookup = match (wanted, id) {
                (None, _) => Lookup::Known(Err(ErrorCode::INVALID_REQUEST)),
                (Some(wanted), Some(id)) => {
                    lookup(id, context.broker.ends(id), &wanted, version, is_committed)
                }
                (_, None) => Lookup::Known(Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)),
            };
            (index, lookup)
        });
        let lookups = lookups.collect();
        questions.push((name, lookups));
    }
    let context = Arc::clone(context);
    Ok(call.answer_later(async move { answer(&context.broker, questions, version).await }))
}

/// Each topic that partitions are asked of, once; a partition that is named more than once has no question.
fn merged(
    topics: Vec<ListOffsetsTopic>,
) -> BTreeMap<StrBytes, BTreeMap<i32, Option<ListOffsetsPartition>>> {
    let mut merged: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for topic in topics {
        for wanted in topic.partitions {
            let of_topic = merged.entry(topic.name.clone()).or_default();
            let known = of_topic.entry(wanted.partition_index);
            known.and_modify(|question| *question = None).or_insert(Some(wanted));
        }
    }
    merged
}

/// Partitions of each topic, with what is known before the log is read.
type Questions = Vec<(StrBytes, Vec<(i32, Lookup)>)>;

/// How one partition's question is answered.
enum Lookup {
    Known(Result<Found, ErrorCode>),
    /// The partition and its first offset, whose epoch the log tells.
    Earliest(PartitionId, Offset),
    /// The partition, the time, and the end of what the client may see.
    AtOrAfter(PartitionId, i64, Offset),
    MaxTimestamp(PartitionId, Offset),
}

struct Found {
    offset: i64,
    timestamp: i64,
    leader_epoch: i32,
}

fn lookup(
    id: PartitionId,
    ends: LogEnds,
    wanted: &ListOffsetsPartition,
    version: i16,
    is_committed: bool,
) -> Lookup {
    if let Err(code) = ErrorCode::of_epoch(wanted.current_leader_epoch, ends.leader_epoch) {
        return Lookup::Known(Err(code));
    }
    let end = if is_committed { ends.stable } else { ends.durable };
    let known = |offset, leader_epoch| {
        Lookup::Known(Ok(Found { offset, timestamp: UNKNOWN, leader_epoch }))
    };
    // Whoever sees everything also sees what becomes durable in the meantime.
    let visible = if is_committed { ends.stable } else { Offset(i64::MAX) };
    match wanted.timestamp {
        LATEST => known(end.0, ends.leader_epoch),
        EARLIEST => Lookup::Earliest(id, ends.start),
        EARLIEST_LOCAL if version >= EARLIEST_LOCAL_FROM => Lookup::Earliest(id, ends.start),
        LATEST_TIERED if version >= LATEST_TIERED_FROM => known(UNKNOWN, UNKNOWN_EPOCH),
        EARLIEST_PENDING_UPLOAD if version >= EARLIEST_PENDING_UPLOAD_FROM => {
            known(UNKNOWN, UNKNOWN_EPOCH)
        }
        MAX_TIMESTAMP if version >= MAX_TIMESTAMP_FROM => Lookup::MaxTimestamp(id, visible),
        time if time >= 0 => Lookup::AtOrAfter(id, time, visible),
        _ => Lookup::Known(Err(ErrorCode::UNSUPPORTED_VERSION)),
    }
}

async fn answer(broker: &Broker, questions: Questions, version: i16) -> ListOffsetsResponse {
    let mut response = ListOffsetsResponse::default();
    for (name, lookups) in questions {
        let mut topic = ListOffsetsTopicResponse::default();
        topic.name = name;
        for (index, lookup) in lookups {
            let found = match lookup {
                Lookup::Known(found) => found,
                Lookup::Earliest(id, offset) => Ok(Found {
                    offset: offset.0,
                    timestamp: UNKNOWN,
                    // Where the beginning is damaged, it still has its offset.
                    leader_epoch: broker.first_epoch(id).await.unwrap_or(UNKNOWN_EPOCH),
                }),
                Lookup::AtOrAfter(id, time, end) => {
                    found(broker.offset_for_timestamp(id, time).await, end)
                }
                Lookup::MaxTimestamp(id, end) => {
                    found(broker.offset_of_max_timestamp(id).await, end)
                }
            };
            let mut answered = partition(index, found);
            if version < EPOCH_FROM {
                answered.leader_epoch = UNKNOWN_EPOCH;
            }
            topic.partitions.push(answered);
        }
        response.topics.push(topic);
    }
    response
}

/// What a search of the log gave; nothing is an answer too, as is what the client may not see yet.
fn found(searched: Result<Option<Located>, ReadError>, end: Offset) -> Result<Found, ErrorCode> {
    match searched {
        Ok(Some(it)) if it.offset < end => Ok(Found {
            offset: it.offset.0,
            timestamp: it.timestamp_ms,
            leader_epoch: it.leader_epoch,
        }),
        Ok(_) => Ok(Found { offset: UNKNOWN, timestamp: UNKNOWN, leader_epoch: UNKNOWN_EPOCH }),
        Err(error) => Err((&error).into()),
    }
}

fn partition(index: i32, found: Result<Found, ErrorCode>) -> ListOffsetsPartitionResponse {
    let mut partition = ListOffsetsPartitionResponse::default();
    partition.partition_index = index;
    partition.offset = UNKNOWN;
    partition.timestamp = UNKNOWN;
    partition.leader_epoch = UNKNOWN_EPOCH;
    match found {
        Ok(found) => {
            partition.offset = found.offset;
            partition.timestamp = found.timestamp;
            partition.leader_epoch = found.leader_epoch;
        }
        Err(code) => partition.error_code = code.0,
    }
    partition
}
