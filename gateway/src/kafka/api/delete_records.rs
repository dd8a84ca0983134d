//! DeleteRecords: everything before an offset, or everything there is.

use std::{collections::BTreeMap, sync::Arc};

use kafka_wire::{
    DeleteRecordsRequest, DeleteRecordsResponse,
    delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
};

use crate::{
    broker::{DeleteRecordsError, Topic},
    journal::Offset,
    kafka::{
        context::Context,
        dispatch::{Call, Pending},
        error_code::ErrorCode,
        refusal::Refusal,
    },
};

/// "Up to the high watermark."
const ALL: i64 = -1;

/// There is none to tell.
const NO_WATERMARK: i64 = -1;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: DeleteRecordsRequest = call.decode()?;
    let context = Arc::clone(context);
    Ok(call.answer_later(async move {
        let mut response = DeleteRecordsResponse::default();
        // Of a partition that is named more than once the last offset counts, as in Kafka.
        let mut asked: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for topic in request.topics {
            for wanted in topic.partitions {
                let of_topic = asked.entry(topic.name.clone()).or_default();
                of_topic.insert(wanted.partition_index, wanted.offset);
            }
        }
        for (name, offsets) in asked {
            let topic = context.broker.topic(&name);
            let mut result = DeleteRecordsTopicResult::default();
            result.name = name;
            for (index, offset) in offsets {
                let deleted = delete(&context, topic.as_deref(), index, offset).await;
                let mut partition = DeleteRecordsPartitionResult::default();
                partition.partition_index = index;
                partition.low_watermark = deleted.map_or(NO_WATERMARK, |start| start.0);
                partition.error_code = deleted.err().unwrap_or(ErrorCode::NONE).0;
                result.partitions.push(partition);
            }
            response.topics.push(result);
        }
        response
    }))
}

async fn delete(
    context: &Context,
    topic: Option<&Topic>,
    index: i32,
    offset: i64,
) -> Result<Offset, ErrorCode> {
    let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let partition =
        Context::partition(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let cleanup = context.broker.settings_of(topic).cleanup;
    if cleanup.compact && !cleanup.delete {
        // The latest record of a key is there as long as its topic is.
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let before = (offset != ALL).then_some(Offset(offset));
    context.broker.delete_records(partition, before).await.map_err(|error| match error {
        DeleteRecordsError::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        DeleteRecordsError::Append(error) => (&error).into(),
    })
}
