//! Produce: appends one batch per partition and answers when they are durable.
//!
//! The request is decoded here rather than by the generated code: records stay slices of the frame,
//! and the number of partitions is bounded over the whole request. Batches are checked, given
//! offsets and queued before the handler returns, so that requests of one connection keep their
//! order; only the wait for the disk comes later.

use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::{
    ProduceResponse,
    produce_response::{BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse},
};
use kafka_wire_core::{BoundedCount, DecodeError, Decoder};

use crate::{
    broker::{AppendRequest, Commit},
    journal::Offset,
    kafka::{
        codec::{self, StrBytes, Uuid},
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        output::Reply,
        refusal::Refusal,
        topic_rules::{self, Broken, Shaped},
    },
    record::{Batch, BatchError, Compression},
};

/// First version with compact encoding.
const FLEXIBLE_FROM: i16 = 9;

/// First version in which batches may be compressed with zstd (KIP-110).
const ZSTD_FROM: i16 = 7;

/// First version that names topics by id (KIP-516).
const TOPIC_IDS_FROM: i16 = 13;

/// Partitions in one request; each costs memory beside its records.
const MAX_PARTITIONS: usize = 4096;

/// "No acknowledgement wanted": there is no response, not even for an error.
const ACKS_NONE: i16 = 0;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let version = call.version();
    let body = call.body();
    let request = decode(body, version).map_err(|error| error.into_refusal(call))?;
    let is_legal = matches!(request.acks, -1..=1);
    let topics: Vec<TopicOutcome> = request
        .topics
        .into_iter()
        .map(|topic| {
            let broker = &context.broker;
            let (known, unknown) = match version >= TOPIC_IDS_FROM {
                true => (broker.topic_by_id(topic.id.as_bytes()), ErrorCode::UNKNOWN_TOPIC_ID),
                false => (broker.topic(&topic.name), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            };
            let append = |partition: PartitionData| {
                let appended = match &known {
                    _ if !is_legal => Err(Rejected::plain(ErrorCode::INVALID_REQUIRED_ACKS)),
                    _ if request.is_transactional => Err(Rejected::transactional()),
                    None => Err(Rejected::plain(unknown)),
                    Some(topic) => append(context, topic, &partition, version),
                };
                PartitionOutcome { index: partition.index, appended }
            };
            TopicOutcome {
                name: topic.name,
                id: topic.id,
                partitions: topic.partitions.into_iter().map(append).collect(),
            }
        })
        .collect();
    if request.acks == ACKS_NONE {
        return unacknowledged(topics);
    }
    Ok(call.answer_later(respond(topics)))
}

/// A decoded request.
struct Request {
    is_transactional: bool,
    acks: i16,
    topics: Vec<TopicData>,
}

struct TopicData {
    /// Empty where the id says which one it is, which is zero elsewhere.
    name: StrBytes,
    id: Uuid,
    partitions: Vec<PartitionData>,
}

struct PartitionData {
    index: i32,
    records: Option<Bytes>,
}

/// Why a request is not decoded.
enum Undecodable {
    Malformed(DecodeError),
    Partitions(usize),
}

/// What became of the partitions of a topic.
struct TopicOutcome {
    name: StrBytes,
    id: Uuid,
    partitions: Vec<PartitionOutcome>,
}

struct PartitionOutcome {
    index: i32,
    appended: Result<Appended, Rejected>,
}

/// A batch that has its offset and waits for the disk.
struct Appended {
    commit: Commit,
    base_offset: Offset,
    log_start: Offset,
    append_time_ms: Option<i64>,
}

/// Why a batch was not taken.
struct Rejected {
    code: ErrorCode,
    message: Option<String>,
    /// Indexes of records with what is wrong with each.
    records: Vec<(i32, String)>,
    /// Where the log starts, which is told when it was looked at.
    log_start: Option<Offset>,
}

fn decode(body: Bytes, version: i16) -> Result<Request, Undecodable> {
    let is_flexible = version >= FLEXIBLE_FROM;
    let mut reader = codec::reader(body)?;
    let transactional_id = match is_flexible {
        true => reader.read_compact_nullable_string()?,
        false => reader.read_nullable_string()?,
    };
    let acks = reader.read_i16()?;
    let _timeout_ms = reader.read_i32()?;
    let mut left = MAX_PARTITIONS;
    let mut topics = Vec::new();
    for _ in 0..count(&mut reader, is_flexible)?.get() {
        let (name, id) = match is_flexible {
            true if version >= TOPIC_IDS_FROM => (StrBytes::default(), reader.read_uuid()?),
            true => (reader.read_compact_string()?, Uuid::ZERO),
            false => (reader.read_string()?, Uuid::ZERO),
        };
        let partition_count = count(&mut reader, is_flexible)?.get();
        // A topic counts as well: a list of empty topics would cost memory too.
        left = left
            .checked_sub(partition_count.max(1))
            .ok_or(Undecodable::Partitions(MAX_PARTITIONS - left + partition_count))?;
        let mut partitions = Vec::new();
        for _ in 0..partition_count {
            partitions.push(decode_partition(&mut reader, is_flexible)?);
        }
        if is_flexible {
            reader.read_tagged_fields()?;
        }
        topics.push(TopicData { name, id, partitions });
    }
    if is_flexible {
        reader.read_tagged_fields()?;
    }
    Ok(Request { is_transactional: transactional_id.is_some(), acks, topics })
}

fn decode_partition(reader: &mut Decoder, is_flexible: bool) -> Result<PartitionData, DecodeError> {
    let index = reader.read_i32()?;
    let records = match is_flexible {
        true => reader.read_compact_nullable_bytes()?,
        false => reader.read_nullable_bytes()?,
    };
    if is_flexible {
        reader.read_tagged_fields()?;
    }
    Ok(PartitionData { index, records })
}

fn count(reader: &mut Decoder, is_flexible: bool) -> Result<BoundedCount, DecodeError> {
    match is_flexible {
        true => reader.read_compact_array_len(),
        false => reader.read_array_len(),
    }
}

fn append(
    context: &Context,
    topic: &crate::broker::Topic,
    data: &PartitionData,
    version: i16,
) -> Result<Appended, Rejected> {
    let partition = Context::partition(topic, data.index)
        .ok_or(Rejected::plain(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))?;
    let batch = check(data.records.as_ref(), version)?;
    let defaults = &context.broker.options().topic_defaults;
    let log_start = context.broker.journal().log_start(partition);
    let Shaped { batch, append_time_ms } = topic_rules::apply(batch, topic, data.index, defaults)
        .map_err(|broken| Rejected::broken(broken, log_start))?;
    let request = AppendRequest { batches: vec![(partition, batch)], facts: Vec::new() };
    let commit = context
        .broker
        .append(request)
        .map_err(|error| Rejected::because((&error).into(), &error))?;
    let base_offset = commit.base_offsets().first().copied().unwrap_or(Offset(-1));
    Ok(Appended { commit, base_offset, log_start, append_time_ms })
}

/// Kafka's rules for what a client may send.
fn check(records: Option<&Bytes>, version: i16) -> Result<Batch, Rejected> {
    let invalid = |what: &str| Rejected::because(ErrorCode::INVALID_RECORD, what);
    let records = records
        .filter(|records| !records.is_empty())
        .ok_or_else(|| invalid("exactly one batch per partition is taken, and there is none"))?;
    let batch = Batch::parse(records.clone())
        .map_err(|error| Rejected::because(batch_code(&error), &error))?;
    let header = batch.header();
    if header.is_control() {
        return Err(invalid("clients do not write control batches"));
    }
    if header.is_transactional() {
        return Err(Rejected::transactional());
    }
    if version < ZSTD_FROM && matches!(header.compression(), Ok(Compression::Zstd)) {
        return Err(Rejected::because(
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            "zstd needs version 7 of Produce",
        ));
    }
    if header.base_offset != 0 {
        return Err(invalid("the offsets of a batch count from 0"));
    }
    Ok(batch)
}

/// Answers once every batch is durable.
async fn respond(topics: Vec<TopicOutcome>) -> ProduceResponse {
    let mut response = ProduceResponse::default();
    for topic in topics {
        let mut answered = TopicProduceResponse::default();
        answered.name = topic.name;
        answered.topic_id = topic.id;
        for outcome in topic.partitions {
            answered.partition_responses.push(conclude(outcome).await);
        }
        if !answered.partition_responses.is_empty() {
            response.responses.push(answered);
        }
    }
    response
}

async fn conclude(outcome: PartitionOutcome) -> PartitionProduceResponse {
    let mut response = PartitionProduceResponse::default();
    response.index = outcome.index;
    response.base_offset = -1;
    response.log_append_time_ms = -1;
    response.log_start_offset = -1;
    let durable = match outcome.appended {
        Ok(Appended { commit, base_offset, log_start, append_time_ms }) => {
            match commit.durable().await {
                Ok(()) => Ok((base_offset, log_start, append_time_ms)),
                Err(poisoned) => Err(Rejected::because(ErrorCode::KAFKA_STORAGE_ERROR, &poisoned)),
            }
        }
        Err(rejected) => Err(rejected),
    };
    match durable {
        Ok((base_offset, log_start, append_time_ms)) => {
            response.log_append_time_ms = append_time_ms.unwrap_or(-1);
            response.base_offset = base_offset.0;
            response.log_start_offset = log_start.0;
        }
        Err(Rejected { code, message, records, log_start }) => {
            tracing::debug!(partition = outcome.index, code = code.0, message, "batch refused");
            response.error_code = code.0;
            response.log_start_offset = log_start.map_or(-1, |start| start.0);
            response.record_errors = records.into_iter().map(record_error).collect();
            response.error_message = message.map(Into::into);
        }
    }
    response
}

fn record_error((index, what): (i32, String)) -> BatchIndexAndErrorMessage {
    let mut error = BatchIndexAndErrorMessage::default();
    error.batch_index = index;
    error.batch_index_error_message = Some(what.into());
    error
}

/// Without acknowledgements there is no way to tell an error but to close the connection.
fn unacknowledged(topics: Vec<TopicOutcome>) -> Result<Pending, Refusal> {
    let mut commits = Vec::new();
    for topic in topics {
        for outcome in topic.partitions {
            match outcome.appended {
                Ok(appended) => commits.push(appended.commit),
                Err(Rejected { code, message, .. }) => {
                    let message = message.unwrap_or_default();
                    return Err(Refusal::Unacknowledged(format!(
                        "partition {} of {:?}: error {} {message}",
                        outcome.index,
                        topic.name.as_str(),
                        code.0
                    )));
                }
            }
        }
    }
    // Nobody waits for the answer, but the request's memory is held until the disk has it.
    Ok(Pending::Later(Box::pin(async move {
        for commit in commits {
            let durable = commit.durable().await;
            durable.map_err(|poisoned| Refusal::Unacknowledged(poisoned.to_string()))?;
        }
        Ok(Reply::Silence)
    })))
}

/// Damage on the way is told apart from batches that no correct client sends.
fn batch_code(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::Short(_) | BatchError::Length { .. } | BatchError::Crc { .. } => {
            ErrorCode::CORRUPT_MESSAGE
        }
        BatchError::Compression(_) => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        _ => ErrorCode::INVALID_RECORD,
    }
}

impl Rejected {
    fn plain(code: ErrorCode) -> Self {
        Self { code, message: None, records: Vec::new(), log_start: None }
    }

    fn because(code: ErrorCode, why: &(impl ToString + ?Sized)) -> Self {
        Self { code, message: Some(why.to_string()), records: Vec::new(), log_start: None }
    }

    fn transactional() -> Self {
        Self::because(ErrorCode::INVALID_TXN_STATE, "this gateway serves no transactions")
    }
}

impl Rejected {
    /// Because of single records.
    fn broken(broken: Broken, log_start: Offset) -> Self {
        let Broken { code, message, records } = broken;
        Self { code, message: Some(message), records, log_start: Some(log_start) }
    }
}

impl Undecodable {
    fn into_refusal(self, call: &Call) -> Refusal {
        match self {
            Self::Malformed(error) => call.malformed(error),
            Self::Partitions(count) => Refusal::TooMany {
                what: "partitions in a Produce request",
                count,
                limit: MAX_PARTITIONS,
            },
        }
    }
}

impl From<DecodeError> for Undecodable {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}
