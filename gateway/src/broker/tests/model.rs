//! The broker against a plain list: whatever is appended, refused, repeated, deleted, cleaned and reopened, both agree.
//!
//! Cleaning may take what nobody asks for any more: data of aborted transactions, markers without data, and in a compacted
//! topic records that a later one of their key replaces. Nothing else may be missing, and nothing else may be served.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    T0, open, reopen, settings,
    transactions::{committed, end},
};
use crate::{
    broker::{AppendError, AppendRequest, Broker, EndTransaction, space},
    journal::{AdmitError, Fact, Offset, PartitionId},
    record::{Batch, BatchBuilder, TransactionOutcome},
};

/// The last one is of a compacted topic.
const PARTITIONS: usize = 3;
const COMPACTED: usize = 2;
/// Keys of records are their values modulo this.
const KEYS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Append {
        parts: Vec<Part>,
        fact: Option<(u8, Option<u8>)>,
    },
    /// A producer's transaction ends in some of the partitions; nothing may be open there.
    End {
        producer: i64,
        partitions: u8,
        outcome: TransactionOutcome,
    },
    /// Log starts move by a share of what is there, in hundredths.
    DeleteRecords {
        partition: usize,
        share: usize,
    },
    /// The cleaner does all that it ever would.
    Clean,
    Reopen,
}

/// One batch of a request.
#[derive(Clone, Debug)]
struct Part {
    partition: usize,
    producer: Option<i64>,
    records: usize,
    kind: Kind,
    in_transaction: bool,
}

/// What takes an offset.
#[derive(Clone, Debug)]
enum Slot {
    Record { value: String, transaction: Option<i64> },
    Marker { producer: i64, outcome: TransactionOutcome },
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Next,
    /// One of the producer's last five batches again, counted from the newest.
    Repeat(usize),
    /// A sequence is left out.
    Gap,
}

/// What a producer wrote to a partition.
#[derive(Clone, Debug, Default)]
struct Written {
    next_sequence: i32,
    /// First sequence, values and base offset of the last five batches, newest first.
    last: VecDeque<(i32, Vec<String>, i64)>,
}

#[derive(Clone, Debug, Default)]
struct Model {
    logs: [Vec<Slot>; PARTITIONS],
    starts: [usize; PARTITIONS],
    producers: HashMap<(usize, i64), Written>,
    facts: BTreeMap<u8, u8>,
    serial: u32,
}

impl Model {
    /// Applies a part; the batch to send and the base offset to expect, none if it is to be refused.
    fn part(&mut self, part: &Part) -> (Batch, Option<i64>) {
        let fresh: Vec<String> = (0..part.records)
            .map(|_| {
                self.serial += 1;
                self.serial.to_string()
            })
            .collect();
        let log = &mut self.logs[part.partition];
        let base = log.len() as i64;
        let build = |values: &[String], producer, sequence| {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let batch = keyed(&values).with_producer(producer, 0, sequence).expect("legal");
            if part.in_transaction { batch.in_transaction().expect("it has one") } else { batch }
        };
        let slots = |values: Vec<String>, transaction| {
            values.into_iter().map(move |value| Slot::Record { value, transaction })
        };
        let Some(producer) = part.producer else {
            let values: Vec<&str> = fresh.iter().map(String::as_str).collect();
            let sent = keyed(&values);
            log.extend(slots(fresh, None));
            return (sent, Some(base));
        };
        let is_open = open_transactions(log).0.contains_key(&producer);
        let written = self.producers.entry((part.partition, producer)).or_default();
        match part.kind {
            Kind::Repeat(back) if back < written.last.len() => {
                let (sequence, values, base) = &written.last[back];
                (build(values, producer, *sequence), Some(*base))
            }
            // Of an unknown producer the broker accepts any sequence: then there is no gap.
            Kind::Gap if !written.last.is_empty() => {
                (build(&fresh, producer, written.next_sequence + 1), None)
            }
            Kind::Next | Kind::Repeat(_) | Kind::Gap if is_open && !part.in_transaction => {
                (build(&fresh, producer, written.next_sequence), None)
            }
            Kind::Next | Kind::Repeat(_) | Kind::Gap => {
                let sequence = written.next_sequence;
                written.next_sequence += fresh.len() as i32;
                written.last.push_front((sequence, fresh.clone(), base));
                written.last.truncate(5);
                log.extend(slots(fresh.clone(), part.in_transaction.then_some(producer)));
                (build(&fresh, producer, sequence), Some(base))
            }
        }
    }

    async fn append(
        &mut self,
        broker: &Broker,
        ids: &[PartitionId],
        parts: &[Part],
        fact: Option<(u8, Option<u8>)>,
    ) {
        let mut after = self.clone();
        let mut request = AppendRequest::default();
        let mut expected = Some(Vec::new());
        for part in parts {
            let (batch, base) = after.part(part);
            request.batches.push((ids[part.partition], batch));
            expected = expected.zip(base).map(|(mut all, base)| {
                all.push(Offset(base));
                all
            });
        }
        if let Some((key, value)) = fact {
            let key_bytes = Bytes::copy_from_slice(&[key]);
            let value_bytes = value.map(|value| Bytes::copy_from_slice(&[value]));
            request.facts.push(Fact { space: space::DEVICE, key: key_bytes, value: value_bytes });
            match value {
                Some(value) => after.facts.insert(key, value),
                None => after.facts.remove(&key),
            };
        }
        match (admitted(|| broker.append(request.clone())).await, expected) {
            (Ok(commit), Some(expected)) => {
                assert_eq!(commit.base_offsets(), expected);
                commit.durable().await.expect("durable");
                *self = after;
            }
            (Err(_), None) => self.serial = after.serial,
            (result, expected) => panic!("{result:?} where {expected:?} was due"),
        }
    }

    async fn end(
        &mut self,
        broker: &Broker,
        ids: &[PartitionId],
        producer: i64,
        partitions: u8,
        outcome: TransactionOutcome,
    ) {
        let chosen = (0..PARTITIONS).filter(|index| partitions >> index & 1 == 1);
        let mut expected = Vec::new();
        let mut partitions = Vec::new();
        for index in chosen {
            expected.push(Offset(self.logs[index].len() as i64));
            partitions.push(ids[index]);
            self.logs[index].push(Slot::Marker { producer, outcome });
        }
        self.serial += 1;
        let count = self.serial as u8;
        self.facts.insert(200, count);
        let (key, value) = (Bytes::from_static(&[200]), Bytes::copy_from_slice(&[count]));
        let facts = vec![Fact { space: space::DEVICE, key, value: Some(value) }];
        let request = EndTransaction { facts, ..end(producer, 0, outcome, &partitions) };
        let ended = admitted(|| broker.end_transaction(request.clone())).await;
        let commit = ended.expect("nobody is fenced");
        assert_eq!(commit.base_offsets(), expected);
        commit.durable().await.expect("durable");
    }

    async fn delete_records(
        &mut self,
        broker: &Broker,
        ids: &[PartitionId],
        (partition, share): (usize, usize),
    ) {
        let Some((log, id)) = self.logs.get(partition).zip(ids.get(partition)) else { return };
        let stable = stable_end(log);
        let start = &mut self.starts[partition];
        *start += stable.saturating_sub(*start) * share / 100;
        let before = Offset(*start as i64);
        broker.delete_records(*id, Some(before)).await.expect("below what is stable");
    }

    async fn check(&self, broker: &Broker, ids: &[PartitionId]) {
        for (index, (log, id)) in self.logs.iter().zip(ids).enumerate() {
            let ends = broker.ends(*id);
            assert_eq!((ends.written, ends.durable), (Offset(log.len() as i64), ends.written));
            assert_eq!(ends.start, Offset(self.starts[index] as i64));
            let (served, told) = served_and_told(broker, *id).await;
            self.check_served(index, &served, &told);
            self.check_committed(broker, *id, index).await;
        }
        self.check_stable(broker, ids);
        let facts = broker.facts(space::DEVICE).into_iter().map(|(key, value)| (key[0], value[0]));
        assert_eq!(facts.collect::<BTreeMap<_, _>>(), self.facts);
    }
}

/// Space is prepared on another thread: a moment after an opening there may be none yet.
async fn admitted<T>(attempt: impl Fn() -> Result<T, AppendError>) -> Result<T, AppendError> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match attempt() {
            Err(AppendError::Journal(AdmitError::Full)) if Instant::now() < deadline => {
                tokio::task::yield_now().await;
            }
            done => return done,
        }
    }
}

impl Model {
    fn check_stable(&self, broker: &Broker, ids: &[PartitionId]) {
        for (log, id) in self.logs.iter().zip(ids) {
            assert_eq!(broker.ends(*id).stable, Offset(stable_end(log) as i64));
        }
    }

    /// What somebody gets who reads everything, and what was aborted of it.
    fn check_served(&self, index: usize, served: &BTreeMap<usize, Bytes>, told: &[Aborted]) {
        let log = &self.logs[index];
        let (_, aborted) = open_transactions(log);
        assert!(told.iter().all(|range| aborted.contains(range)), "{told:?} of {aborted:?}");
        for (&at, value) in served {
            let expected = match log.get(at) {
                Some(Slot::Record { value, .. }) => value.clone(),
                // Version and epoch of the coordinator.
                Some(Slot::Marker { .. }) => "\0".repeat(6),
                None => panic!("{value:?} at {at}, where nothing was appended"),
            };
            assert_eq!(*value, expected, "at {at}");
        }
        for &(producer, first, last) in &aborted {
            let data = (first..last).filter(|at| log[*at].is_data_of(producer));
            if data.into_iter().any(|at| served.contains_key(&at)) {
                assert!(told.contains(&(producer, first, last)), "aborted data without its range");
                assert!(served.contains_key(&last), "aborted data without its marker");
            }
        }
        for (at, slot) in log.iter().enumerate().skip(self.starts[index]) {
            let may_go = match slot {
                Slot::Marker { .. } => true,
                Slot::Record { transaction, .. } => {
                    transaction.is_some_and(|of| is_aborted(&aborted, at, of))
                        || self.is_replaced(index, at)
                }
            };
            assert!(may_go || served.contains_key(&at), "offset {at} is missing: {slot:?}");
        }
    }

    /// Whether compaction may take a record.
    fn is_replaced(&self, index: usize, at: usize) -> bool {
        let log = &self.logs[index];
        let (_, aborted) = open_transactions(log);
        let key = log[at].key();
        index == COMPACTED
            && key.is_some()
            && (at + 1..stable_end(log)).any(|later| {
                let aborted =
                    log[later].producer().is_some_and(|of| is_aborted(&aborted, later, of));
                log[later].key() == key && !aborted
            })
    }

    /// What a reader of committed data gets.
    async fn check_committed(&self, broker: &Broker, id: PartitionId, index: usize) {
        let log = &self.logs[index];
        let stable = stable_end(log);
        let (_, aborted) = open_transactions(log);
        let visible = (self.starts[index]..stable).filter_map(|at| match &log[at] {
            Slot::Record { transaction: Some(of), .. } if is_aborted(&aborted, at, *of) => None,
            Slot::Record { value, .. } => Some((at, Bytes::copy_from_slice(value.as_bytes()))),
            Slot::Marker { .. } => None,
        });
        let visible: Vec<_> = visible.collect();
        let (found, end) = committed(broker, id).await;
        // Behind the last batch there may be nothing but what was cleaned away.
        assert!(end <= Offset(stable as i64), "{end:?} of {stable}");
        let mut found = found.into_iter().peekable();
        for (at, value) in visible {
            if found.next_if_eq(&value).is_none() {
                assert!(self.is_replaced(index, at), "{value:?} at {at} is missing");
            }
        }
        assert_eq!(found.next(), None, "committed data that nobody appended");
    }
}

impl Slot {
    fn producer(&self) -> Option<i64> {
        match self {
            Self::Record { transaction, .. } => *transaction,
            Self::Marker { producer, .. } => Some(*producer),
        }
    }

    fn is_data_of(&self, producer: i64) -> bool {
        matches!(self, Self::Record { transaction: Some(of), .. } if *of == producer)
    }

    fn key(&self) -> Option<usize> {
        match self {
            Self::Record { value, .. } => value.parse::<usize>().ok().map(|value| value % KEYS),
            Self::Marker { .. } => None,
        }
    }
}

/// A batch with keys.
fn keyed(values: &[&str]) -> Batch {
    let mut builder = BatchBuilder::default();
    for value in values {
        let key = value.parse::<usize>().expect("a number") % KEYS;
        builder.push(T0, Some(&[key as u8]), Some(value.as_bytes()), &[]);
    }
    builder.finish().expect("not empty")
}

/// What is there and which of it was aborted, at one moment: the journal cleans by itself, too.
async fn served_and_told(
    broker: &Broker,
    id: PartitionId,
) -> (BTreeMap<usize, Bytes>, Vec<Aborted>) {
    let journal = broker.journal();
    loop {
        let before = journal.forgotten(id);
        let served = served(broker, id).await;
        let told = journal.aborted(id, Offset(0), Offset(i64::MAX)).unwrap().into_iter();
        let told = told.map(|it| (it.producer_id, it.first.0 as usize, it.last.0 as usize));
        let told = told.collect();
        if journal.forgotten(id) == before {
            return (served, told);
        }
    }
}

/// Every record that is there, by its offset.
async fn served(broker: &Broker, partition: PartitionId) -> BTreeMap<usize, Bytes> {
    let ends = broker.ends(partition);
    let mut found = BTreeMap::new();
    let mut next = ends.start;
    while next < ends.durable {
        let batches = broker.read(partition, next, 1 << 20).await.expect("readable");
        assert!(!batches.is_empty(), "the newest batch always stays");
        for bytes in batches {
            let batch = Batch::parse_stored(bytes).expect("as it was stored");
            for record in batch.records(1 << 20).expect("readable") {
                let at = Offset(record.offset);
                // Of the batch in which the log begins now, the first ones are no longer anybody's business.
                if at >= ends.start {
                    found.insert(at.0 as usize, record.value.unwrap_or_default());
                }
            }
            next = Offset(batch.header().last_offset() + 1);
        }
    }
    found
}

fn stable_end(log: &[Slot]) -> usize {
    open_transactions(log).0.values().copied().min().unwrap_or(log.len())
}

fn is_aborted(aborted: &[Aborted], at: usize, producer: i64) -> bool {
    aborted.iter().any(|&(of, first, last)| of == producer && (first..last).contains(&at))
}

/// Producer, begin and marker.
type Aborted = (i64, usize, usize);

/// Where the open transactions of a partition begin, and the aborted ones.
fn open_transactions(log: &[Slot]) -> (HashMap<i64, usize>, Vec<Aborted>) {
    let (mut open, mut aborted) = (HashMap::new(), Vec::new());
    for (at, slot) in log.iter().enumerate() {
        match slot {
            Slot::Record { transaction: Some(of), .. } => {
                open.entry(*of).or_insert(at);
            }
            Slot::Record { transaction: None, .. } => {}
            Slot::Marker { producer, outcome } => {
                let first = open.remove(producer);
                let was_aborted = *outcome == TransactionOutcome::Abort;
                aborted.extend(first.filter(|_| was_aborted).map(|first| (*producer, first, at)));
            }
        }
    }
    (open, aborted)
}

async fn run(steps: Vec<Step>) {
    let folder = tempfile::tempdir().expect("folder");
    let mut broker = open(folder.path()).await;
    let created = broker.create_topic("t", Some(COMPACTED as u32), settings(&[])).await;
    let mut ids = created.expect("created").partitions.clone();
    let compacted = settings(&[("cleanup.policy", "compact,delete")]);
    let created = broker.create_topic("c", Some(1), compacted).await;
    ids.extend(&created.expect("created").partitions);
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append { parts, fact } => model.append(&broker, &ids, &parts, fact).await,
            Step::End { producer, partitions, outcome } => {
                model.end(&broker, &ids, producer, partitions, outcome).await;
                model.check_stable(&broker, &ids);
            }
            Step::DeleteRecords { partition, share } => {
                model.delete_records(&broker, &ids, (partition, share)).await;
            }
            Step::Clean => {
                for _ in 0..9 {
                    let _ = broker.journal().clean(2.0).expect("cleaned");
                }
                model.check(&broker, &ids).await;
            }
            Step::Reopen => {
                assert_eq!(Arc::strong_count(&broker), 1);
                broker = reopen(broker, folder.path()).await;
                model.check(&broker, &ids).await;
            }
        }
    }
    let broker = reopen(broker, folder.path()).await;
    model.check(&broker, &ids).await;
}

fn any_part() -> impl Strategy<Value = Part> {
    let kind = prop_oneof![
        6 => Just(Kind::Next),
        3 => (0..5usize).prop_map(Kind::Repeat),
        1 => Just(Kind::Gap),
    ];
    let in_transaction = prop::bool::weighted(0.7);
    (0..PARTITIONS, prop::option::weighted(0.8, 0..3i64), 1..4usize, kind, in_transaction).prop_map(
        |(partition, producer, records, kind, in_transaction)| Part {
            partition,
            producer,
            records,
            kind,
            in_transaction,
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let fact = prop::option::of((0..4u8, prop::option::of(any::<u8>())));
    // One batch per partition and request, as every client sends them.
    let parts = prop::collection::vec(any_part(), 0..4).prop_map(|mut parts| {
        parts.sort_by_key(|part| part.partition);
        parts.dedup_by_key(|part| part.partition);
        parts
    });
    let outcome = any::<bool>().prop_map(|commits| match commits {
        true => TransactionOutcome::Commit,
        false => TransactionOutcome::Abort,
    });
    prop_oneof![
        12 => (parts, fact).prop_map(|(parts, fact)| Step::Append { parts, fact }),
        5 => (0..3i64, 1..8u8, outcome).prop_map(|(producer, partitions, outcome)| {
            Step::End { producer, partitions, outcome }
        }),
        1 => (0..PARTITIONS, 0..101usize)
            .prop_map(|(partition, share)| Step::DeleteRecords { partition, share }),
        2 => Just(Step::Clean),
        3 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_plain_list(steps in prop::collection::vec(any_step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(run(steps));
    }
}
