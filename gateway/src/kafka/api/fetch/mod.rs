//! Fetch: whole durable batches of many partitions, waiting for data if the client wants to.
//!
//! There are no fetch sessions: session id 0 tells a client to name all its partitions each time,
//! which is legal (KIP-227). `collect` reads under the limits of the request, `encode` writes the
//! response around shared records.

mod collect;
mod encode;

use std::{sync::Arc, time::Duration};

use kafka_wire::{FetchRequest, fetch_request::FetchTopic};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::broker::Isolation;
use crate::kafka::{
    budget::Charge,
    codec::{StrBytes, Uuid},
    context::Context,
    dispatch::{Call, Pending},
    error_code::ErrorCode,
    output::{FrameWriter, Reply},
    refusal::Refusal,
};

use collect::{Collector, Limits, Partition};
use encode::encode;

/// First version that names topics by id.
const TOPIC_IDS_FROM: i16 = 13;

/// Longest wait for data; clients ask for half a second.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Records in one response, whatever a client asks for: more only occupies memory, as the next
/// request follows at once.
const MAX_RESPONSE_BYTES: usize = 2 * 1024 * 1024;

/// When memory for responses is short, they get smaller down to this.
const MIN_RESPONSE_BYTES: usize = 64 * 1024;

const READ_COMMITTED: i8 = 1;

/// A topic of the request, as named by the client.
#[derive(Debug)]
struct Topic {
    name: StrBytes,
    id: Uuid,
    partitions: Vec<Partition>,
}

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: FetchRequest = call.decode()?;
    let version = call.version();
    let frame = call.frame_start();
    // 0 asks for a session, -1 for an answer without one; anything else continues a session that
    // does not exist.
    if !matches!(request.session_epoch, 0 | -1) {
        let code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
        return Ok(Pending::Ready(encode(frame, version, code, &[], Charge::default())));
    }
    let isolation = match request.isolation_level {
        READ_COMMITTED => Isolation::Committed,
        _ => Isolation::Uncommitted,
    };
    let limits = Limits {
        max_bytes: positive(request.max_bytes).min(MAX_RESPONSE_BYTES),
        min_bytes: positive(request.min_bytes).min(MAX_RESPONSE_BYTES),
    };
    let wait = Duration::from_millis(request.max_wait_ms.max(0).unsigned_abs().into());
    let deadline = Instant::now() + wait.min(MAX_WAIT);
    let topics = request.topics.into_iter().map(|topic| plan(context, topic, version)).collect();
    let collector = Collector::new(topics, limits, isolation);
    let context = Arc::clone(context);
    Ok(Pending::Later(Box::pin(async move {
        Ok(collect(&context, collector, deadline, frame, version).await)
    })))
}

/// Collects until there is enough, or no time left.
async fn collect(
    context: &Context,
    mut collector: Collector,
    deadline: Instant,
    frame: FrameWriter,
    version: i16,
) -> Reply {
    let mut charge = Charge::default();
    loop {
        if collector.look(&context.broker) {
            let Some(room) = reserve(context, &mut charge, &collector, deadline).await else {
                break;
            };
            collector = collector.read(context.broker.journal(), room).await;
            charge.lower(collector.collected_bytes());
        }
        if collector.is_done() || Instant::now() >= deadline {
            break;
        }
        tokio::select! {
            () = collector.wait(&context.broker) => {}
            () = sleep_until(deadline) => break,
            () = context.shutdown.requested() => break,
        }
    }
    encode(frame, version, ErrorCode::NONE, &collector.into_topics(), charge)
}

/// Pays for the records that may be read now; returns how many bytes of them in all. `None`: slow
/// readers hold the memory, and another answer with records would be one more of them.
async fn reserve(
    context: &Context,
    charge: &mut Charge,
    collector: &Collector,
    deadline: Instant,
) -> Option<usize> {
    let held = collector.collected_bytes();
    let mut wanted = collector.wanted_bytes();
    while wanted > MIN_RESPONSE_BYTES {
        if context.responses.try_raise(charge, held + wanted) {
            return Some(wanted);
        }
        wanted /= 2;
    }
    let paid = context.responses.raise(charge, held + wanted);
    timeout_at(deadline, paid).await.ok().map(|()| wanted)
}

/// Looks a topic up and takes its partitions over.
fn plan(context: &Context, topic: FetchTopic, version: i16) -> Topic {
    let (known, unknown_code) = if version >= TOPIC_IDS_FROM {
        (context.broker.topic_by_id(topic.topic_id.as_bytes()), ErrorCode::UNKNOWN_TOPIC_ID)
    } else {
        (context.broker.topic(&topic.topic), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    };
    let partitions = topic.partitions.into_iter().map(|wanted| {
        let index = wanted.partition;
        let Some(known) = &known else { return Partition::failed(index, unknown_code) };
        match Context::partition(known, index) {
            Some(id) => Partition::new(
                index,
                id,
                wanted.fetch_offset,
                positive(wanted.partition_max_bytes),
                wanted.current_leader_epoch,
            )
            .with_damage(context.broker.settings_of(known).damage),
            None => Partition::failed(index, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        }
    });
    Topic { name: topic.topic, id: topic.topic_id, partitions: partitions.collect() }
}

fn positive(count: i32) -> usize {
    usize::try_from(count).unwrap_or(0)
}
