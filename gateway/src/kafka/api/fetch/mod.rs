//! Fetch: whole durable batches of many partitions, waiting for data if the client wants to.
//!
//! `divergence` compares what was read before, `collect` reads under the limits of the request, `encode` writes the
//! response around shared records. Which partitions are read and told is the business of `kafka::fetch_sessions`.

mod collect;
mod divergence;
mod encode;

use std::{sync::Arc, time::Duration};

use kafka_wire::FetchRequest;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::broker::Isolation;
use crate::kafka::{
    budget::Charge,
    context::Context,
    dispatch::{Call, Pending},
    error_code::ErrorCode,
    fetch_sessions::{NO_SESSION, Request, Told, TopicKey, Turn, Wanted},
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

/// A client that compares no epochs.
const ANY_EPOCH: i32 = -1;

/// Partitions of a topic, which is named as the client names it.
#[derive(Debug)]
struct Topic {
    key: TopicKey,
    partitions: Vec<Partition>,
}

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: FetchRequest = call.decode()?;
    let version = call.version();
    let frame = call.frame_start();
    let isolation = match request.isolation_level {
        READ_COMMITTED => Isolation::Committed,
        _ => Isolation::Uncommitted,
    };
    let limits = Limits {
        max_bytes: positive(request.max_bytes).min(MAX_RESPONSE_BYTES),
        min_bytes: positive(request.min_bytes).min(MAX_RESPONSE_BYTES),
    };
    let wait = Duration::from_millis(request.max_wait_ms.max(0).unsigned_abs().into());
    let begun = context.fetch_sessions.begin(session_request(request, version), now());
    let (turn, wanted) = match begun {
        Ok(begun) => begun,
        Err(code) => {
            let reply = encode(frame, version, code, NO_SESSION, &[], Charge::default());
            return Ok(Pending::Ready(reply));
        }
    };
    // With nothing to read there is nothing to wait for.
    let wait = if wanted.is_empty() { Duration::ZERO } else { wait.min(MAX_WAIT) };
    let deadline = Instant::now() + wait;
    let collector = Collector::new(plan(context, wanted, version), limits, isolation);
    let context = Arc::clone(context);
    Ok(Pending::Later(Box::pin(async move {
        let (collector, charge) = collect(&context, collector, deadline).await;
        Ok(answer(&context, turn, collector.into_topics(), frame, version, charge))
    })))
}

/// What the request says of its session; before there were sessions it was always alone.
fn session_request(request: FetchRequest, version: i16) -> Request {
    let mut wanted = Vec::new();
    for topic in request.topics {
        let key = TopicKey { name: topic.topic, id: topic.topic_id };
        wanted.extend(topic.partitions.into_iter().map(|partition| Wanted {
            topic: key.clone(),
            index: partition.partition,
            offset: partition.fetch_offset,
            max_bytes: partition.partition_max_bytes,
            // Any negative one is none, here alone.
            leader_epoch: partition.current_leader_epoch.max(ANY_EPOCH),
            last_fetched_epoch: partition.last_fetched_epoch.max(ANY_EPOCH),
        }));
    }
    let forgotten = request.forgotten_topics_data.into_iter().flat_map(|topic| {
        let key = TopicKey { name: topic.topic, id: topic.topic_id };
        topic.partitions.into_iter().map(move |index| (key.clone(), index))
    });
    Request {
        session_id: request.session_id,
        epoch: request.session_epoch,
        by_id: version >= TOPIC_IDS_FROM,
        wanted,
        forgotten: forgotten.collect(),
    }
}

/// Writes what the session has to tell.
fn answer(
    context: &Context,
    turn: Turn,
    mut topics: Vec<Topic>,
    frame: FrameWriter,
    version: i16,
    charge: Charge,
) -> Reply {
    let told: Vec<Told> =
        topics.iter().flat_map(|topic| &topic.partitions).map(Partition::told).collect();
    let (session, is_told) = match context.fetch_sessions.end(turn, &told, now()) {
        Ok(ended) => ended,
        Err(code) => return encode(frame, version, code, NO_SESSION, &[], charge),
    };
    let mut is_told = is_told.into_iter();
    for topic in &mut topics {
        topic.partitions.retain(|_| is_told.next().unwrap_or(true));
    }
    topics.retain(|topic| !topic.partitions.is_empty());
    encode(frame, version, ErrorCode::NONE, session, &topics, charge)
}

/// Sessions count in the standard clock.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Collects until there is enough, or no time left.
async fn collect(
    context: &Context,
    mut collector: Collector,
    deadline: Instant,
) -> (Collector, Charge) {
    let mut charge = Charge::default();
    collector.compare_epochs(&context.broker).await;
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
    (collector, charge)
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

/// Looks the topics up, each once where its partitions follow each other.
fn plan(context: &Context, wanted: Vec<Wanted>, version: i16) -> Vec<Topic> {
    let mut topics = Vec::new();
    let mut wanted = wanted.into_iter().peekable();
    while let Some(first) = wanted.next() {
        let key = first.topic.clone();
        let (known, unknown_code) = if version >= TOPIC_IDS_FROM {
            (context.broker.topic_by_id(key.id.as_bytes()), ErrorCode::UNKNOWN_TOPIC_ID)
        } else {
            (context.broker.topic(&key.name), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        };
        let damage = known.as_ref().map(|known| context.broker.settings_of(known).damage);
        let partition = |wanted: Wanted| {
            let index = wanted.index;
            let Some((known, damage)) = known.as_ref().zip(damage) else {
                return Partition::failed(index, unknown_code);
            };
            match Context::partition(known, index) {
                Some(id) => {
                    let max_bytes = positive(wanted.max_bytes);
                    Partition::new(index, id, wanted.offset, max_bytes, wanted.leader_epoch)
                        .with_damage(damage)
                        .after(wanted.last_fetched_epoch)
                }
                None => Partition::failed(index, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            }
        };
        let mut partitions = vec![partition(first)];
        while let Some(next) = wanted.next_if(|next| next.topic == key) {
            partitions.push(partition(next));
        }
        topics.push(Topic { key, partitions });
    }
    topics
}

fn positive(count: i32) -> usize {
    usize::try_from(count).unwrap_or(0)
}
