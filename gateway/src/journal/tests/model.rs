//! The plain model that the journal is compared with: a list of appends.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    super::{AbortedRange, Append, BatchEntry, Change, Fact, Journal, Offset, PartitionId, State},
    disk::Random,
    support::{batch, fact, next_append},
};
use crate::record::{Batch, BatchBuilder, TransactionMarker, TransactionOutcome};

/// What was appended, and the state after each append.
#[derive(Debug, Default)]
pub(super) struct Model {
    appends: Vec<Append>,
    states: Vec<State>,
    /// Transactions that were aborted, with the number of appends by then.
    aborted: Vec<(usize, PartitionId, AbortedRange)>,
}

impl Model {
    pub(super) fn new() -> Self {
        let mut state = State::default();
        state.apply(Change::Barrier { incarnation: 1, leader_epoch: 0 }, 0);
        Self { appends: Vec::new(), states: vec![state], aborted: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.appends.len()
    }

    /// The model after its first so many appends.
    pub(super) fn prefix(&self, count: usize) -> Self {
        let aborted = self.aborted.iter().filter(|(by, ..)| *by <= count).copied().collect();
        let (appends, states) = (self.appends[..count].to_vec(), self.states[..=count].to_vec());
        Self { appends, states, aborted }
    }

    /// Notes an append; offsets are those of the state so far.
    pub(super) fn push(&mut self, append: Append) {
        self.push_at(append, 0);
    }

    /// Notes an append at an age of the journal.
    pub(super) fn push_at(&mut self, append: Append, open_ms: u64) {
        let mut state = self.last().clone();
        let aborted = state.apply_append(&append, open_ms);
        self.appends.push(append);
        self.abort(aborted);
        self.states.push(state);
    }

    /// The journal goes on from what recovery found after all appends.
    pub(super) fn reopened(&mut self, found: &State) {
        let (state, aborted) = self.state(self.len(), found.incarnation());
        self.abort(aborted);
        *self.states.last_mut().unwrap() = state;
    }

    /// The state after so many appends, as recovery finds it in an incarnation: a new one gives up what is open.
    fn state(&self, count: usize, incarnation: u64) -> (State, Vec<(PartitionId, AbortedRange)>) {
        let mut state = self.states[count].clone();
        let aborted = state.apply(Change::Barrier { incarnation, leader_epoch: 0 }, 0);
        (state, aborted)
    }

    fn abort(&mut self, ranges: Vec<(PartitionId, AbortedRange)>) {
        let by = self.appends.len();
        self.aborted.extend(ranges.into_iter().map(|(partition, range)| (by, partition, range)));
    }

    /// Whether cleaning may have dropped a batch: data of an aborted transaction, or a marker.
    fn may_be_gone(&self, entry: &BatchEntry) -> bool {
        entry.batch.header().is_control() || self.is_aborted(entry)
    }

    fn is_aborted(&self, entry: &BatchEntry) -> bool {
        let header = entry.batch.header();
        let of_it = |range: &AbortedRange| {
            range.producer_id == header.producer_id
                && (range.first..=range.last).contains(&entry.base_offset)
        };
        header.is_transactional()
            && !header.is_control()
            && self.aborted.iter().any(|(_, id, range)| *id == entry.partition && of_it(range))
    }

    pub(super) fn last(&self) -> &State {
        self.states.last().unwrap()
    }

    /// The given batches are the ones from this offset on, whole.
    pub(super) fn check_batches(&self, partition: PartitionId, from: Offset, found: &[Bytes]) {
        let mut known = self.batches(partition).skip_while(|entry| last_offset(entry) < from.0);
        for bytes in found {
            let base_offset = i64::from_be_bytes(*bytes.first_chunk().unwrap());
            let gone = |entry: &&BatchEntry| entry.base_offset.0 < base_offset;
            let entry = known
                .find(|entry| !(gone(entry) && self.may_be_gone(entry)))
                .expect("no more than was appended");
            assert_eq!(bytes[..8], entry.base_offset.0.to_be_bytes());
            assert_eq!(bytes[16..], entry.batch.bytes()[16..]);
        }
    }

    /// Base offset of the first batch with a timestamp this late: before it those that may be gone.
    pub(super) fn at_time(&self, partition: PartitionId, timestamp: i64) -> Vec<Option<Offset>> {
        let start = self.last().partition(partition).log_start.0;
        let mut late = self
            .batches(partition)
            .filter(|entry| last_offset(entry) >= start)
            .filter(|entry| entry.batch.header().max_timestamp >= timestamp);
        let mut found = Vec::new();
        loop {
            let entry = late.next();
            found.push(entry.map(|entry| entry.base_offset));
            if !entry.is_some_and(|entry| self.may_be_gone(entry)) {
                return found;
            }
        }
    }

    fn batches(&self, partition: PartitionId) -> impl Iterator<Item = &BatchEntry> {
        let all = self.appends.iter().flat_map(|append| &append.batches);
        all.filter(move |entry| entry.partition == partition)
    }

    /// How many appends the recovered journal holds: it must be exactly the first so many of them,
    /// no fewer than were acknowledged. Panics with what differs.
    pub(super) fn check(&self, journal: &Journal, state: &State, acked: usize) -> usize {
        // Producers may be forgotten once they have expired, and need not be.
        let now = |state: &State| {
            let mut state = state.content();
            state.expire_producers(journal.open_ms());
            state
        };
        let (found, incarnation) = (now(state), state.incarnation());
        let is_after = |&n: &usize| {
            let (state, _) = self.state(n, incarnation);
            state.content() == found || now(&state) == found
        };
        let found = (acked..=self.appends.len()).rev().find(is_after);
        let Some(count) = found else {
            panic!(
                "the state is not that after {acked}..={} appends: {state:?}, acknowledged {:?}",
                self.appends.len(),
                self.states[acked]
            );
        };
        self.check_records(journal, count);
        count
    }

    /// The records of the first so many appends, and no others, can be read; but for those that cleaning drops. What is
    /// left of aborted transactions is known to be.
    pub(super) fn check_records(&self, journal: &Journal, count: usize) {
        let mut expected: BTreeMap<PartitionId, Vec<&BatchEntry>> = BTreeMap::new();
        let forgotten = |partition| {
            let facts = self.appends[..count].iter().flat_map(|append| &append.facts);
            facts.filter_map(Fact::as_forgotten).any(|it| it == partition)
        };
        for entry in self.appends[..count].iter().flat_map(|append| &append.batches) {
            if forgotten(entry.partition) {
                continue;
            }
            let end = entry.base_offset.0 + i64::from(entry.batch.header().record_count);
            if end <= journal.log_start(entry.partition).0 {
                continue;
            }
            expected.entry(entry.partition).or_default().push(entry);
        }
        // Aborted later than that, it may or may not be.
        let ranges: Vec<_> = self.aborted.iter().filter(|(by, ..)| *by <= count).collect();
        for (partition, batches) in expected {
            let mut stored = read_all(journal, partition).into_iter().peekable();
            for entry in batches {
                let (offset, batch) = (entry.base_offset, &entry.batch);
                let is_here =
                    stored.peek().is_some_and(|bytes| bytes[..8] == offset.0.to_be_bytes());
                if !is_here {
                    assert!(self.may_be_gone(entry), "{partition:?} {offset:?} is missing");
                    continue;
                }
                let bytes = stored.next().expect("it is here");
                assert_eq!(bytes[16..], batch.bytes()[16..], "{partition:?} {offset:?}");
                let producer = batch.header().producer_id;
                let known = journal.aborted(partition, offset, Offset(offset.0 + 1)).unwrap();
                let known = known.iter().any(|range| range.producer_id == producer);
                let aborted = ranges.iter().any(|(_, id, range)| {
                    *id == partition
                        && range.producer_id == producer
                        && (range.first..=range.last).contains(&offset)
                });
                let is_data = batch.header().is_transactional() && !batch.header().is_control();
                assert!(!is_data || !aborted || known, "{partition:?} {offset:?} was aborted");
                let may_be = self.is_aborted(entry) || !is_data || self.is_open_at(count, entry);
                assert!(may_be || !known, "{partition:?} {offset:?} was not aborted");
            }
            assert!(stored.next().is_none(), "more than was appended");
        }
    }

    /// Whether a batch is of a transaction that is open after so many appends: recovery may give it up.
    fn is_open_at(&self, count: usize, entry: &BatchEntry) -> bool {
        let producer = entry.batch.header().producer_id;
        let open = self.states[count].open_transaction(entry.partition, producer);
        open.is_some_and(|first| first <= entry.base_offset)
    }
}

fn last_offset(entry: &BatchEntry) -> i64 {
    entry.base_offset.0 + i64::from(entry.batch.header().last_offset_delta)
}

/// All batches of a partition, a few at a time.
pub(super) fn read_all(journal: &Journal, partition: PartitionId) -> Vec<Bytes> {
    let mut from = journal.log_start(partition);
    let mut all = Vec::new();
    while from < journal.durable_end(partition) {
        let batches = journal.read(partition, from, 3000).unwrap();
        assert!(!batches.is_empty(), "{partition:?} {from:?}");
        for bytes in batches {
            let batch = Batch::parse_stored(bytes.clone()).unwrap();
            let header = batch.header();
            // Where it was cleaned, offsets may be missing: the list of what was appended tells.
            assert!(header.last_offset() >= from.0, "{from:?}");
            from = Offset(batch.header().last_offset() + 1);
            all.push(bytes);
        }
    }
    all
}

/// As [`random_append`], with what idempotent producers write in transactions, and their ends among it.
pub(super) fn random_transactional_append(
    state: &State,
    random: &mut Random,
    largest: usize,
) -> Append {
    let drawn = random_append(state, random, largest);
    let mut batches = Vec::new();
    for BatchEntry { partition, batch, .. } in drawn.batches {
        let in_transaction = batch.in_transaction().unwrap_or_else(|_| batch.clone());
        batches.push((partition.0, if random.coin() { in_transaction } else { batch }));
    }
    let open: Vec<_> = state.open_transactions().collect();
    if !open.is_empty() && random.coin() {
        // A marker for each partition that the producer wrote to, in one append.
        let (_, producer, _) = open[random.below(open.len() as u64) as usize];
        let outcome = match random.coin() {
            true => TransactionOutcome::Abort,
            false => TransactionOutcome::Commit,
        };
        let marker = TransactionMarker { outcome, coordinator_epoch: 1 };
        for (partition, ..) in open.iter().filter(|(_, of, _)| *of == producer) {
            batches.push((partition.0, marker.batch(producer, 0, 5).unwrap()));
        }
    }
    next_append(state, &batches, &drawn.facts)
}

/// An append drawn at random: a few batches, some of idempotent producers, and a few facts.
pub(super) fn random_append(state: &State, random: &mut Random, largest: usize) -> Append {
    let mut batches = Vec::new();
    for _ in 0..random.below(4) {
        let partition = random.below(4) as u32;
        let mut builder = BatchBuilder::default();
        for n in 0..=random.below(3) {
            let value = vec![random.next() as u8; random.below(largest as u64) as usize];
            builder.push(random.below(1 << 40) as i64, None, Some(&value), &[(b"n", &[n as u8])]);
        }
        let batch = builder.finish().unwrap();
        let batch = if random.coin() {
            // A fresh id each time: sequences are the broker's business.
            let producer = random.below(6) as i64;
            batch.with_producer(producer, 0, random.below(1000) as i32).unwrap()
        } else {
            batch
        };
        batches.push((partition, batch));
    }
    let mut facts = Vec::new();
    for _ in 0..random.below(4) {
        let key = [b'k', random.below(8) as u8];
        let value = random.next().to_be_bytes().repeat(1 + random.below(8) as usize);
        facts.push(fact(&key, (random.below(4) > 0).then_some(&value)));
    }
    if random.below(16) == 0 {
        let (partition, known) = (PartitionId(random.below(4) as u32), state);
        let end = known.partition(partition).log_end.0;
        facts.push(Fact::log_start(partition, Offset(random.below(end as u64 + 1) as i64)));
    }
    if batches.is_empty() && facts.is_empty() {
        batches.push((0, batch(&[b"not nothing"])));
    }
    next_append(state, &batches, &facts)
}
