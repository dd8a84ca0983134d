//! The plain model that the journal is compared with: a list of appends.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    super::{Append, BatchEntry, Change, Fact, Journal, Offset, PartitionId, State},
    disk::Random,
    support::{batch, fact, next_append},
};
use crate::record::{Batch, BatchBuilder, TransactionMarker, TransactionOutcome};

/// What was appended, and the state after each append.
#[derive(Debug, Default)]
pub(super) struct Model {
    appends: Vec<Append>,
    states: Vec<State>,
}

impl Model {
    pub(super) fn new() -> Self {
        let mut state = State::default();
        state.apply(Change::Barrier { incarnation: 1, leader_epoch: 0 }, 0);
        Self { appends: Vec::new(), states: vec![state] }
    }

    pub(super) fn len(&self) -> usize {
        self.appends.len()
    }

    /// The model after its first so many appends.
    pub(super) fn prefix(&self, count: usize) -> Self {
        Self { appends: self.appends[..count].to_vec(), states: self.states[..=count].to_vec() }
    }

    /// Notes an append; offsets are those of the state so far.
    pub(super) fn push(&mut self, append: Append) {
        self.push_at(append, 0);
    }

    /// Notes an append at an age of the journal.
    pub(super) fn push_at(&mut self, append: Append, open_ms: u64) {
        let mut state = self.last().clone();
        state.apply_append(&append, open_ms);
        self.appends.push(append);
        self.states.push(state);
    }

    /// The journal goes on from what recovery found after all appends.
    pub(super) fn reopened(&mut self, found: &State) {
        let state = self.state(self.len(), found.incarnation());
        *self.states.last_mut().unwrap() = state;
    }

    /// The state after so many appends, as recovery finds it in an incarnation: a new one gives up what is open.
    fn state(&self, count: usize, incarnation: u64) -> State {
        let mut state = self.states[count].clone();
        state.apply(Change::Barrier { incarnation, leader_epoch: 0 }, 0);
        state
    }

    pub(super) fn last(&self) -> &State {
        self.states.last().unwrap()
    }

    /// The given batches are the ones from this offset on, whole.
    pub(super) fn check_batches(&self, partition: PartitionId, from: Offset, found: &[Bytes]) {
        let mut known = self.batches(partition).skip_while(|entry| last_offset(entry) < from.0);
        for bytes in found {
            let entry = known.next().expect("no more than was appended");
            assert_eq!(bytes[..8], entry.base_offset.0.to_be_bytes());
            assert_eq!(bytes[16..], entry.batch.bytes()[16..]);
        }
    }

    /// Base offset of the first batch with a timestamp this late.
    pub(super) fn at_time(&self, partition: PartitionId, timestamp: i64) -> Option<Offset> {
        let start = self.last().partition(partition).log_start.0;
        self.batches(partition)
            .filter(|entry| last_offset(entry) >= start)
            .find(|entry| entry.batch.header().max_timestamp >= timestamp)
            .map(|entry| entry.base_offset)
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
            let state = self.state(n, incarnation);
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

    /// The records of the first so many appends, and no others, can be read.
    pub(super) fn check_records(&self, journal: &Journal, count: usize) {
        let mut expected: BTreeMap<PartitionId, Vec<(Offset, &Batch)>> = BTreeMap::new();
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
            expected.entry(entry.partition).or_default().push((entry.base_offset, &entry.batch));
        }
        for (partition, batches) in expected {
            let mut stored = read_all(journal, partition).into_iter();
            for (offset, batch) in batches {
                let bytes = stored.next().expect("a batch is missing");
                assert_eq!(bytes[..8], offset.0.to_be_bytes());
                assert_eq!(bytes[16..], batch.bytes()[16..], "{partition:?} {offset:?}");
            }
            assert!(stored.next().is_none(), "more than was appended");
        }
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
            assert!((header.base_offset..=header.last_offset()).contains(&from.0), "{from:?}");
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
