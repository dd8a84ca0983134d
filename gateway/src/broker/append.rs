//! Appending: every check, the assignment of offsets, and the promise of durability.

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Broker, FULL_POLICY, FactError, FullPolicy, Gap, GapReason,
    broker::Core,
    keep::{Newest, Step, now_ms},
};
use crate::{
    journal::{
        AdmitError, Append, BatchEntry, Fact, Journal, Offset, PartitionId, Permit, Poisoned,
        ProducerCheck, State, Ticket,
    },
    record::{Batch, BatchHeader},
};

/// One atomic append: batches for partitions and the facts that belong to them.
#[derive(Clone, Debug, Default)]
pub struct AppendRequest {
    /// Batches in order.
    pub batches: Vec<(PartitionId, Batch)>,
    /// Facts that land with them.
    pub facts: Vec<Fact>,
}

/// An append that was given its offsets and waits for the disk. Dropping it does not take it back.
#[derive(Debug)]
#[must_use = "an append is acknowledged only once its commit says durable"]
pub struct Commit {
    base_offsets: Vec<Offset>,
    /// None if everything was there already.
    ticket: Option<Ticket>,
    /// Last offsets of the originals of duplicates.
    originals: Vec<(PartitionId, Offset)>,
    journal: Journal,
}

/// Why an append was refused; each maps to one Kafka error code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// No such partition.
    #[error("partition {0:?} does not exist")]
    UnknownPartition(PartitionId),
    /// Sequence is not the next one.
    #[error("producer {producer_id}: sequence {got} where {expected} was due")]
    OutOfOrderSequence {
        /// Producer id.
        producer_id: i64,
        /// Sequence received.
        got: i32,
        /// Sequence expected.
        expected: i32,
    },
    /// Epoch below the one seen.
    #[error("producer {producer_id} is fenced: epoch {got} after {current}")]
    ProducerFenced {
        /// Producer id.
        producer_id: i64,
        /// Epoch received.
        got: i16,
        /// Epoch known.
        current: i16,
    },
    /// Older than the five batches that are remembered.
    #[error(
        "producer {producer_id}: sequence {got} is a duplicate of a batch that is no longer remembered"
    )]
    DuplicateSequence {
        /// Producer id.
        producer_id: i64,
        /// Sequence received.
        got: i32,
    },
    /// Not part of the transaction that its producer has open in the partition.
    #[error("producer {producer_id} has a transaction open since offset {}, and this is not in it", .first.0)]
    InTransaction {
        /// Producer id.
        producer_id: i64,
        /// Where the transaction began.
        first: Offset,
    },
    /// In a transaction, but of no producer.
    #[error("a transactional batch needs a producer id")]
    NoProducer,
    /// A control batch among data: only [`Broker::end_transaction`] writes them.
    #[error("control batches are the broker's own")]
    ControlBatch,
    /// Batch over `max.message.bytes`.
    #[error("batch of {bytes} bytes is over max.message.bytes = {limit}")]
    BatchTooLarge {
        /// Size.
        bytes: usize,
        /// Limit.
        limit: usize,
    },
    /// The storage is full, and the topic's policy is not to keep anyone waiting.
    #[error("storage is full, and {FULL_POLICY} of the topic is to drop new records")]
    Dropped,
    /// A fact of the broker itself is not readable.
    #[error(transparent)]
    Fact(#[from] FactError),
    /// Full, too large or poisoned.
    #[error(transparent)]
    Journal(#[from] AdmitError),
    /// The journal stopped while this waited.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

/// What becomes of records that are refused for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    /// It gives them up, or does not have them any more.
    Leaves,
    /// It brings them again.
    Keeps,
}

/// How long a wait for somebody else's append goes on before it looks whether the journal stopped:
/// the wait itself ends only with durability.
const POISON_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How often producers that went silent are forgotten, in open time of the journal: they live a day.
const EXPIRE_INTERVAL_MS: u64 = 60_000;

/// What appends agree on, as of the last admitted one.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) state: State,
    /// Which partitions refuse new records for good.
    pub(super) newest: Newest,
    expired_at_ms: u64,
}

impl Commit {
    /// Base offset of each batch of the request, in order (for a duplicate: the original's).
    #[must_use]
    pub fn base_offsets(&self) -> &[Offset] {
        &self.base_offsets
    }

    /// Resolves when everything in the request (or the originals of its duplicates) is durable.
    pub async fn durable(self) -> Result<(), Poisoned> {
        if let Some(ticket) = self.ticket {
            // Appends become durable in order: the originals were queued before.
            return ticket.durable().await;
        }
        for (partition, last) in self.originals {
            durable_past(&self.journal, partition, last).await?;
        }
        Ok(())
    }
}

impl Broker {
    /// Checks producers, assigns offsets and queues; everything refusable is refused here, before an offset exists.
    ///
    /// In full storage the topics' policies decide what the sender is told; see [`Broker::append_kept`].
    pub fn append(&self, request: AppendRequest) -> Result<Commit, AppendError> {
        self.append_of(request, Sender::Leaves)
    }

    /// As [`Broker::append`], for a sender that keeps what is refused and brings it again, whatever it is told: nothing
    /// of it is dropped.
    pub fn append_kept(&self, request: AppendRequest) -> Result<Commit, AppendError> {
        self.append_of(request, Sender::Keeps)
    }

    fn append_of(&self, request: AppendRequest, sender: Sender) -> Result<Commit, AppendError> {
        for (partition, batch) in &request.batches {
            let limit = self.max_message_bytes(*partition)?;
            if batch.len() > limit {
                return Err(AppendError::BatchTooLarge { bytes: batch.len(), limit });
            }
            let header = batch.header();
            if header.is_control() {
                return Err(AppendError::ControlBatch);
            }
            if header.is_transactional() && !header.has_producer() {
                return Err(AppendError::NoProducer);
            }
        }
        let mut admission = self.admission();
        // Once more under the lock: a partition that was deleted in between must not come back to life.
        for (partition, _) in &request.batches {
            if !self.core.exists(*partition) {
                return Err(AppendError::UnknownPartition(*partition));
            }
        }
        self.core.append(&mut admission, request, sender)
    }

    pub(super) fn admission(&self) -> MutexGuard<'_, Admission> {
        self.core.admission()
    }
}

impl Core {
    /// As [`Admission::append`], by the topics' policies for full storage.
    fn append(
        &self,
        admission: &mut Admission,
        mut request: AppendRequest,
        sender: Sender,
    ) -> Result<Commit, AppendError> {
        let records = |(partition, batch): &(PartitionId, Batch)| {
            (*partition, u64::try_from(batch.header().record_count).unwrap_or_default())
        };
        let records: Vec<_> = request.batches.iter().map(records).collect();
        let gaps = admission.due_gaps(&records);
        let count = gaps.len();
        request.batches.splice(0..0, gaps);
        match admission.append(&self.journal, request) {
            Err(AppendError::Journal(AdmitError::Full)) => {
                self.keeping.found_full();
                Err(match sender {
                    Sender::Leaves => self.no_space(admission, &records),
                    Sender::Keeps => AppendError::Journal(AdmitError::Full),
                })
            }
            Ok(mut commit) => {
                commit.base_offsets.drain(..count);
                if !records.is_empty() {
                    self.keeping.found_space();
                    records.iter().for_each(|&(partition, _)| admission.newest.end(partition));
                }
                Ok(commit)
            }
            refused => refused,
        }
    }

    /// What to tell whoever found no space. Records are refused for good only if all their topics want it so.
    fn no_space(&self, admission: &mut Admission, records: &[(PartitionId, u64)]) -> AppendError {
        let retry = AppendError::Journal(AdmitError::Full);
        let drops = |&(partition, _): &(PartitionId, u64)| {
            let topic = self.catalog().of_partition(partition).cloned();
            let settings = topic.map(|topic| topic.settings(&self.options().topic_defaults));
            settings.is_some_and(|settings| settings.full == FullPolicy::DropNewest)
        };
        if records.is_empty() || !records.iter().all(drops) {
            return retry;
        }
        let mut all_begun = true;
        for &(partition, _) in records {
            match admission.newest.step(partition, self.journal.durable_end(partition)) {
                Step::Refuse => {}
                Step::Wait => all_begun = false,
                Step::Begin => {
                    all_begun = false;
                    let from = admission.state.partition(partition).log_end;
                    let reason = GapReason::OverflowNewest;
                    let gap = Gap { from, to: from, count: 0, reason }.to_batch(now_ms());
                    let request =
                        AppendRequest { batches: vec![(partition, gap)], facts: Vec::new() };
                    // Without space even for that nobody is refused, but asked to try again.
                    if let Ok(commit) = admission.append_freeing(&self.journal, request) {
                        let begun_at = commit.base_offsets().first().copied().unwrap_or(from);
                        admission.newest.begin(partition, begun_at);
                    }
                }
            }
        }
        if !all_begun {
            return retry;
        }
        for &(partition, count) in records {
            admission.newest.refuse(partition, count);
        }
        AppendError::Dropped
    }

    /// A panic inside leaves the state as it was or with a whole append applied: it may go on.
    pub(super) fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    pub(super) fn new(state: State) -> Self {
        Self { state, newest: Newest::default(), expired_at_ms: 0 }
    }

    /// The gap records that are due before the next records of these partitions: they count what was refused.
    fn due_gaps(&self, records: &[(PartitionId, u64)]) -> Vec<(PartitionId, Batch)> {
        let mut gaps = BTreeMap::new();
        if !self.newest.is_empty() {
            for &(partition, _) in records {
                let end = self.state.partition(partition).log_end;
                let gap = self.newest.end_of(partition, end).filter(|gap| gap.count > 0);
                gaps.extend(gap.map(|gap| (partition, gap)));
            }
        }
        gaps.into_iter().map(|(partition, gap)| (partition, gap.to_batch(now_ms()))).collect()
    }

    pub(super) fn append(
        &mut self,
        journal: &Journal,
        request: AppendRequest,
    ) -> Result<Commit, AppendError> {
        self.append_with(journal, request, Journal::admit)
    }

    /// As [`Admission::append`], for what lets go of data: it may use the journal's reserve.
    pub(super) fn append_freeing(
        &mut self,
        journal: &Journal,
        request: AppendRequest,
    ) -> Result<Commit, AppendError> {
        self.append_with(journal, request, |journal, bytes| match journal.admit(bytes) {
            Err(AdmitError::Full) => journal.admit_freeing(bytes),
            admitted => admitted,
        })
    }

    fn append_with(
        &mut self,
        journal: &Journal,
        request: AppendRequest,
        admit: impl FnOnce(&Journal, usize) -> Result<Permit, AdmitError>,
    ) -> Result<Commit, AppendError> {
        let open_ms = journal.open_ms();
        if open_ms >= self.expired_at_ms.saturating_add(EXPIRE_INTERVAL_MS) {
            self.state.expire_producers(open_ms);
            self.expired_at_ms = open_ms;
        }
        let plan = Plan::new(&self.state, request)?;
        let mut commit = Commit {
            base_offsets: plan.base_offsets,
            ticket: None,
            originals: plan.originals,
            journal: journal.clone(),
        };
        if plan.append.batches.is_empty() && plan.append.facts.is_empty() {
            return Ok(commit);
        }
        self.state.room_for(&plan.append, journal.state_limits()).map_err(AdmitError::State)?;
        let permit = admit(journal, plan.append.encoded_len())?;
        self.state.apply_append(&plan.append, open_ms);
        commit.ticket = Some(journal.append(permit, plan.append));
        Ok(commit)
    }
}

/// What a request comes to: the batches that are new, at their offsets.
#[derive(Debug, Default)]
struct Plan {
    append: Append,
    base_offsets: Vec<Offset>,
    originals: Vec<(PartitionId, Offset)>,
}

impl Plan {
    fn new(state: &State, request: AppendRequest) -> Result<Self, AppendError> {
        let mut plan = Self::default();
        plan.append.facts = request.facts;
        for (partition, batch) in request.batches {
            let header = batch.header();
            match plan.check(state, partition, &header) {
                ProducerCheck::New => plan.place(state, partition, batch),
                ProducerCheck::Duplicate { base_offset } => {
                    let last = base_offset.0.saturating_add(i64::from(header.last_offset_delta));
                    plan.base_offsets.push(base_offset);
                    plan.originals.push((partition, Offset(last)));
                }
                refused => return Err(refusal(refused, &header)),
            }
        }
        Ok(plan)
    }

    /// The state's check, and for a second batch of one producer in one request: whether it follows the first.
    fn check(&self, state: &State, partition: PartitionId, header: &BatchHeader) -> ProducerCheck {
        let is_before = |entry: &&BatchEntry| {
            let it = entry.batch.header();
            entry.partition == partition
                && it.has_producer()
                && it.producer_id == header.producer_id
        };
        let before = self.append.batches.iter().filter(is_before);
        let Some(last) = before.clone().next_back() else {
            return state.check(partition, header);
        };
        let earlier = last.batch.header();
        let expected = earlier.next_sequence();
        let follows =
            earlier.producer_epoch == header.producer_epoch && expected == header.base_sequence;
        let begun = before.clone().find(|entry| entry.batch.header().is_transactional());
        let open = state
            .open_transaction(partition, header.producer_id)
            .or_else(|| begun.map(|entry| entry.base_offset));
        match open {
            _ if !follows => ProducerCheck::OutOfOrder { expected },
            Some(first) if !header.is_transactional() => ProducerCheck::InTransaction { first },
            _ => ProducerCheck::New,
        }
    }

    fn place(&mut self, state: &State, partition: PartitionId, batch: Batch) {
        let base_offset = self
            .append
            .batches
            .iter()
            .rfind(|entry| entry.partition == partition)
            .map_or(state.partition(partition).log_end, |entry| {
                Offset(entry.base_offset.0 + i64::from(entry.batch.header().record_count))
            });
        self.base_offsets.push(base_offset);
        let leader_epoch = state.leader_epoch();
        self.append.batches.push(BatchEntry { partition, base_offset, leader_epoch, batch });
    }
}

fn refusal(check: ProducerCheck, header: &BatchHeader) -> AppendError {
    let producer_id = header.producer_id;
    match check {
        ProducerCheck::Fenced { current } => {
            AppendError::ProducerFenced { producer_id, got: header.producer_epoch, current }
        }
        ProducerCheck::OutOfOrder { expected } => {
            AppendError::OutOfOrderSequence { producer_id, got: header.base_sequence, expected }
        }
        ProducerCheck::InTransaction { first } => AppendError::InTransaction { producer_id, first },
        ProducerCheck::New | ProducerCheck::Duplicate { .. } | ProducerCheck::Forgotten => {
            AppendError::DuplicateSequence { producer_id, got: header.base_sequence }
        }
    }
}

/// Waits until a partition is durable past an offset that somebody else's append brings.
async fn durable_past(
    journal: &Journal,
    partition: PartitionId,
    offset: Offset,
) -> Result<(), Poisoned> {
    let wants = [(partition, offset)];
    loop {
        let durable = journal.wait_durable(&wants);
        if tokio::time::timeout(POISON_CHECK_INTERVAL, durable).await.is_ok() {
            return Ok(());
        }
        if let Some(reason) = journal.status().poisoned {
            return Err(Poisoned { reason: reason.into() });
        }
    }
}
