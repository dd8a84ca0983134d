//! From items to durable records for one connection: items wait here for their append, appends wait here
//! for the disk. What storage refuses for now stays and is tried again; nothing is dropped or doubled.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
    time::Duration,
};

use headwater_protocol::{Position, StreamId};
use tokio::time::Instant;

use super::{
    clock::Clocks,
    facts::{self, StreamFact},
    hub::{Claim, Hub},
    records::{Counts, Records},
    stream::{HeldItem, Stream},
};
use crate::{
    broker::{AppendError, AppendRequest, Commit, TopicError, space},
    journal::{AdmitError, PartitionId, Poisoned},
};

/// Streams remembered per device.
const STREAMS_PER_DEVICE: usize = 8;
/// Bytes of records at which an append takes no further item.
const APPEND_BYTES: usize = 256 * 1024;
/// Bytes at which a batch closes, unless the topic's limit is smaller.
const BATCH_BYTES: usize = 256 * 1024;
/// Appends on their way to the disk; more items wait and gather into one.
const MAX_APPENDS: usize = 16;
/// Pause after an append that was refused for now.
const RETRY: Duration = Duration::from_millis(100);

/// See the module's documentation.
pub(super) struct Intake {
    /// The stream as of the last admitted append.
    stream: Stream,
    held: VecDeque<HeldItem>,
    appends: VecDeque<Appended>,
    /// Items of the next append; shrinks when an append is too large.
    most_items: usize,
    batch_bytes: usize,
    retry_at: Option<Instant>,
}

struct Appended {
    position: Position,
    counts: Counts,
    commit: Pin<Box<dyn Future<Output = Result<(), Poisoned>> + Send>>,
}

/// An append became durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Durable {
    /// Up to and including this item.
    pub(super) position: Position,
    /// What it held.
    pub(super) counts: Counts,
}

/// How an attempt to append ended.
#[derive(Debug)]
pub(super) enum Attempt {
    /// Nothing waits any more, or only behind appends that are on their way.
    Done,
    /// Storage takes nothing now; tried again by itself.
    Blocked(String),
    /// The journal stopped for good.
    Poisoned,
}

impl Intake {
    /// Nothing arrived yet.
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            held: VecDeque::new(),
            appends: VecDeque::new(),
            most_items: usize::MAX,
            batch_bytes: BATCH_BYTES,
            retry_at: None,
        }
    }

    /// The stream as of the last admitted append.
    pub(super) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Takes an item as it arrived.
    pub(super) fn push(&mut self, item: HeldItem) {
        self.held.push_back(item);
    }

    /// Whether nothing waits and nothing is on its way: the stream's position is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.held.is_empty() && self.appends.is_empty()
    }

    /// Whether an item waits for an append.
    pub(super) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Lets go of what waits for an append; the device still has it.
    pub(super) fn drop_held(&mut self) {
        self.held.clear();
    }

    /// When [`Self::append`] is due: at once (`None` inside), later, or not before an append settles.
    pub(super) fn due(&self) -> Option<Option<Instant>> {
        (self.has_held() && self.appends.len() < MAX_APPENDS).then_some(self.retry_at)
    }

    /// Waits for the oldest append; for ever if there is none. Cancel-safe.
    pub(super) async fn durable(&mut self) -> Result<Durable, Poisoned> {
        let Some(front) = self.appends.front_mut() else { return pending().await };
        let result = front.commit.as_mut().await;
        let durable = Durable { position: front.position, counts: front.counts };
        self.appends.pop_front();
        result.map(|()| durable)
    }

    /// Appends what waits, as far as storage takes it.
    pub(super) async fn append(
        &mut self,
        hub: &Hub,
        claim: &mut Claim,
        clocks: &mut Clocks,
    ) -> Attempt {
        self.retry_at = None;
        let partition = match hub.partition(claim.device).await {
            Ok(partition) => partition,
            Err(TopicError::Append(error)) => return self.refused(&error),
            Err(error) => return self.blocked(error.to_string()),
        };
        while self.has_held() && self.appends.len() < MAX_APPENDS {
            let mut plan = self.plan(hub, claim, clocks, partition);
            let error = match hub.broker().append_kept(std::mem::take(&mut plan.request)) {
                Ok(commit) => {
                    self.admitted(plan, commit, hub, claim);
                    continue;
                }
                Err(error) => error,
            };
            if !is_too_large(&error) {
                return self.refused(&error);
            }
            if plan.items > 1 {
                self.most_items = plan.items / 2;
            } else if let (AppendError::BatchTooLarge { .. }, 2..) = (&error, self.batch_bytes) {
                self.batch_bytes /= 2;
            } else {
                let mut plan = self.plan_oversized(hub, claim, partition);
                match hub.broker().append_kept(std::mem::take(&mut plan.request)) {
                    Ok(commit) => {
                        tracing::warn!(device = %claim.device, %error, "readings replaced by a gap");
                        self.admitted(plan, commit, hub, claim);
                    }
                    Err(error) => return self.refused(&error),
                }
            }
        }
        Attempt::Done
    }

    fn plan(&self, hub: &Hub, claim: &Claim, clocks: &mut Clocks, partition: PartitionId) -> Plan {
        let now = hub.now();
        let mut stream = self.stream.clone();
        let mut records = Records::new(claim.device, stream.id, self.batch_bytes)
            .with_headers(hub.headers(claim.device));
        let mut items = 0;
        for item in self.held.iter().take(self.most_items) {
            stream.take(item, clocks, hub.library(), now, &mut records);
            items += 1;
            if records.bytes() >= APPEND_BYTES {
                break;
            }
        }
        Plan::new(stream, records, items, claim, hub, partition)
    }

    fn plan_oversized(&self, hub: &Hub, claim: &Claim, partition: PartitionId) -> Plan {
        let mut stream = self.stream.clone();
        let mut records = Records::new(claim.device, stream.id, BATCH_BYTES)
            .with_headers(hub.headers(claim.device));
        if let Some(item) = self.held.front() {
            stream.take_oversized(item, hub.now(), &mut records);
        }
        Plan::new(stream, records, 1, claim, hub, partition)
    }

    fn admitted(&mut self, plan: Plan, commit: Commit, hub: &Hub, claim: &mut Claim) {
        let Plan { mut stream, counts, items, streams, .. } = plan;
        self.held.drain(..items);
        self.most_items = self.most_items.saturating_mul(2);
        self.batch_bytes = self.batch_bytes.saturating_mul(2).min(BATCH_BYTES);
        if let Some(schema) = stream.take_new_schema() {
            hub.library().add(&schema);
        }
        if let Some(streams) = streams {
            claim.streams = streams;
            claim.set_durable();
        }
        let commit = Box::pin(commit.durable());
        self.appends.push_back(Appended { position: stream.position, counts, commit });
        self.stream = stream;
    }

    fn refused(&mut self, error: &AppendError) -> Attempt {
        match error {
            AppendError::Poisoned(_) | AppendError::Journal(AdmitError::Poisoned(_)) => {
                Attempt::Poisoned
            }
            error => self.blocked(error.to_string()),
        }
    }

    fn blocked(&mut self, why: String) -> Attempt {
        self.retry_at = Some(Instant::now() + RETRY);
        Attempt::Blocked(why)
    }
}

/// One append, and what holds once it is admitted.
struct Plan {
    stream: Stream,
    items: usize,
    counts: Counts,
    /// The device's streams, if they change.
    streams: Option<Vec<StreamId>>,
    request: AppendRequest,
}

impl Plan {
    fn new(
        stream: Stream,
        records: Records,
        items: usize,
        claim: &Claim,
        hub: &Hub,
        partition: PartitionId,
    ) -> Self {
        let mut facts = vec![stream.fact().fact(stream.id)];
        facts.extend(stream.new_schema().and_then(|schema| hub.library().fact(schema)));
        let streams = (claim.streams.last() != Some(&stream.id))
            .then(|| with_newest(&claim.streams, stream.id));
        if let Some((streams, evicted)) = &streams {
            facts.push(facts::device_fact(claim.device, streams));
            let key = |stream: &StreamId| StreamFact::key(*stream);
            facts.extend(evicted.iter().map(|old| facts::deleted(space::DEVICE_STREAM, key(old))));
        }
        let counts = records.counts();
        let batches = records.finish().into_iter().map(|batch| (partition, batch)).collect();
        Self {
            stream,
            items,
            counts,
            streams: streams.map(|(streams, _)| streams),
            request: AppendRequest { batches, facts },
        }
    }
}

/// The streams with `newest` at the end, and those that are too many.
fn with_newest(streams: &[StreamId], newest: StreamId) -> (Vec<StreamId>, Vec<StreamId>) {
    let mut kept: Vec<StreamId> =
        streams.iter().copied().filter(|stream| *stream != newest).collect();
    kept.push(newest);
    let evicted = kept.drain(..kept.len().saturating_sub(STREAMS_PER_DEVICE)).collect();
    (kept, evicted)
}

fn is_too_large(error: &AppendError) -> bool {
    matches!(
        error,
        AppendError::BatchTooLarge { .. } | AppendError::Journal(AdmitError::TooLarge { .. })
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_eight_streams_stay() {
        let stream = |bits| StreamId::new(bits).expect("not 0");
        let of = |bits: &[u64]| bits.iter().map(|bits| stream(*bits)).collect::<Vec<_>>();
        for (known, newest, kept, evicted) in [
            (&[][..], 1, &[1][..], &[][..]),
            (&[1, 2], 1, &[2, 1], &[]),
            (&[1, 2, 3, 4, 5, 6, 7], 8, &[1, 2, 3, 4, 5, 6, 7, 8], &[]),
            (&[1, 2, 3, 4, 5, 6, 7, 8], 9, &[2, 3, 4, 5, 6, 7, 8, 9], &[1]),
            (&[1, 2, 3, 4, 5, 6, 7, 8], 3, &[1, 2, 4, 5, 6, 7, 8, 3], &[]),
        ] {
            assert_eq!(with_newest(&of(known), stream(newest)), (of(kept), of(evicted)));
        }
    }
}
