//! Transactions in the journal against a plain list: what is stable and what was aborted, over
//! rolls, kills and openings.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    disk::{Cut, Files, MemoryDisk},
    support::{admit, append, batch, block_on, fact, next_append, small_options},
};
use crate::{
    journal::{
        AbortedRange, Fact, Journal, Offset, PartitionId, ProducerCheck, State,
        format::{ALIGN, EntryKind, FRAME_HEADER_BYTES},
        handle::open_idle,
        open,
    },
    record::{
        Batch, TransactionMarker,
        TransactionOutcome::{self, Abort, Commit},
    },
};

const PARTITIONS: u32 = 3;
const PRODUCERS: i64 = 3;

pub(super) fn data(producer: i64, value: &[u8]) -> Batch {
    let batch = batch(&[value, b"second"]).with_producer(producer, 0, 0).unwrap();
    batch.in_transaction().unwrap()
}

pub(super) fn marker(producer: i64, outcome: TransactionOutcome) -> Batch {
    TransactionMarker { outcome, coordinator_epoch: 0 }.batch(producer, 0, 0).unwrap()
}

/// What a partition holds, in order.
#[derive(Clone, Copy, Debug)]
enum Held {
    Plain,
    Data(i64),
    Marker(i64, TransactionOutcome),
    /// Recovery gave up what was open.
    GivenUp,
}

/// A partition as a list; everything else is worked out from it anew each time.
#[derive(Debug, Default)]
struct List {
    held: Vec<(i64, Held)>,
    start: i64,
    end: i64,
}

impl List {
    fn push(&mut self, held: Held) {
        self.held.push((self.end, held));
        self.end += match held {
            Held::Plain | Held::Data(_) => 2,
            Held::Marker(..) => 1,
            Held::GivenUp => 0,
        };
    }

    /// The stable end, and all aborted ranges by their ends.
    fn outcome(&self) -> (i64, Vec<AbortedRange>) {
        let mut open = BTreeMap::new();
        let mut aborted = Vec::new();
        let range = |producer_id, first, last, has_marker| AbortedRange {
            producer_id,
            first: Offset(first),
            last: Offset(last),
            has_marker,
        };
        for &(at, held) in &self.held {
            match held {
                Held::Plain => {}
                Held::Data(producer) => {
                    open.entry(producer).or_insert(at);
                }
                Held::Marker(producer, outcome) => {
                    let first = open.remove(&producer);
                    if let (Some(first), Abort) = (first, outcome) {
                        aborted.push(range(producer, first, at, true));
                    }
                }
                Held::GivenUp => {
                    for (producer, first) in std::mem::take(&mut open) {
                        aborted.push(range(producer, first, at - 1, false));
                    }
                }
            }
        }
        let stable = open.values().copied().min().unwrap_or(self.end);
        (stable.max(self.start), aborted)
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// One append: a producer's data in some of the partitions.
    Data {
        producer: i64,
        partitions: u8,
        bytes: usize,
    },
    /// Data of nobody.
    Plain {
        partition: u32,
        bytes: usize,
    },
    /// One append: the markers, and a fact with them.
    End {
        producer: i64,
        partitions: u8,
        is_commit: bool,
    },
    LogStart {
        partition: u32,
        share: u8,
    },
    Reopen,
    Kill,
    PowerCut(u64),
    /// Open what is there with the last frame of an orderly end torn: another incarnation begins.
    Tear,
}

struct Subject {
    disk: MemoryDisk,
    journal: Journal,
    state: State,
    lists: Vec<List>,
    ended: u64,
}

impl Subject {
    fn new() -> Self {
        let disk = MemoryDisk::default();
        let (journal, state) = open(disk.clone(), &small_options()).unwrap();
        let lists = (0..PARTITIONS).map(|_| List::default()).collect();
        Self { disk, journal, state, lists, ended: 0 }
    }

    fn append(&mut self, batches: &[(u32, Batch, Held)], facts: &[Fact]) {
        let plain: Vec<_> = batches.iter().map(|(id, batch, _)| (*id, batch.clone())).collect();
        append(&self.journal, &mut self.state, &plain, facts).unwrap();
        for (partition, _, held) in batches {
            self.lists[*partition as usize].push(*held);
        }
    }

    fn reopen(&mut self, files: Files) {
        self.disk = MemoryDisk::new(files);
        let before = self.state.incarnation();
        let (journal, state) = open(self.disk.clone(), &small_options()).unwrap();
        if state.incarnation() > before {
            self.lists.iter_mut().for_each(|list| list.push(Held::GivenUp));
        }
        assert!(journal.status().recovery.damaged_ranges == 0);
        // What the fact says landed with all the markers, or none of it did.
        let stored = state.fact(fact(b"", None).space, b"ended").cloned();
        assert_eq!(stored.as_deref(), (self.ended > 0).then_some(&self.ended.to_be_bytes()[..]));
        (self.journal, self.state) = (journal, state);
    }

    fn take(&mut self, step: Step) {
        let chosen = |partitions: u8| (0..PARTITIONS).filter(move |id| partitions >> id & 1 == 1);
        match step {
            Step::Data { producer, partitions, bytes } => {
                let value = vec![7; bytes];
                let all =
                    chosen(partitions).map(|id| (id, data(producer, &value), Held::Data(producer)));
                self.append(&all.collect::<Vec<_>>(), &[fact(b"with", Some(&[1]))]);
            }
            Step::Plain { partition, bytes } => {
                let value = vec![7; bytes];
                self.append(&[(partition, batch(&[&value, b"second"]), Held::Plain)], &[]);
            }
            Step::End { producer, partitions, is_commit } => {
                let outcome = if is_commit { Commit } else { Abort };
                let all = chosen(partitions)
                    .map(|id| (id, marker(producer, outcome), Held::Marker(producer, outcome)));
                self.ended += 1;
                let ended = fact(b"ended", Some(&self.ended.to_be_bytes()));
                self.append(&all.collect::<Vec<_>>(), &[ended]);
            }
            Step::LogStart { partition, share } => {
                let list = &mut self.lists[partition as usize];
                list.start = list.start.max(list.end * i64::from(share) / 255);
                let fact = Fact::log_start(PartitionId(partition), Offset(list.start));
                self.append(&[], &[fact]);
            }
            Step::Reopen => {
                self.journal.close().unwrap();
                self.reopen(self.disk.files());
            }
            Step::Kill => self.reopen(self.disk.files()),
            Step::PowerCut(seed) => self.reopen(self.disk.files().after(Cut::Some(seed))),
            Step::Tear => {
                self.journal.close().unwrap();
                let mut files = self.disk.files();
                tear_close(&mut files);
                self.reopen(files);
            }
        }
    }

    /// Journal and state agree with the list.
    fn check(&self) {
        check(&self.journal, &self.lists);
        for (id, list) in (0..).map(PartitionId).zip(&self.lists) {
            assert_eq!(self.state.stable_end(id), Offset(list.outcome().0));
        }
    }
}

fn check(journal: &Journal, lists: &[List]) {
    for (id, list) in (0..).map(PartitionId).zip(lists) {
        let (stable, aborted) = list.outcome();
        let ends = journal.ends(id);
        assert_eq!(ends.log_start.0, list.start);
        assert_eq!((ends.stable.0, ends.durable.0), (stable, list.end), "{id:?}");
        assert_eq!(journal.stable_end(id).0, stable);
        for from in [list.start, (list.start + list.end) / 2, stable - 1] {
            for to in [from + 1, (from + list.end) / 2, stable, list.end] {
                let expected: Vec<_> = aborted
                    .iter()
                    .filter(|it| it.last.0 >= from && it.first.0 < to)
                    .filter(|_| from >= list.start)
                    .copied()
                    .collect();
                if from >= list.start {
                    assert_eq!(
                        journal.aborted(id, Offset(from), Offset(to)).unwrap(),
                        expected,
                        "{id:?}"
                    );
                }
            }
        }
    }
}

/// Tears the frame that says that the end is an orderly one.
fn tear_close(files: &mut Files) {
    for name in files.names().into_iter().rev() {
        let block = ALIGN as usize;
        let content = files.content(&name);
        let mut frames = (0..content.len()).step_by(block);
        let last = frames.rfind(|&at| content[at..].starts_with(b"HWfr"));
        if let Some(at) = last {
            // Without room for the close frame it is one with data.
            if content[at + FRAME_HEADER_BYTES] == EntryKind::Close as u8 {
                files.damage(&name, |content| content[at + FRAME_HEADER_BYTES] ^= 1);
            }
            return;
        }
    }
    panic!("no frame");
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let producer = 0..PRODUCERS;
    // Some appends are large, so that there are many segments.
    let bytes = || prop_oneof![3 => 1..200usize, 1 => 5_000..9_000usize];
    let step = prop_oneof![
        8 => (producer.clone(), 1..8u8, bytes())
            .prop_map(|(producer, partitions, bytes)| Step::Data { producer, partitions, bytes }),
        3 => (0..PARTITIONS, bytes())
            .prop_map(|(partition, bytes)| Step::Plain { partition, bytes }),
        5 => (producer, 1..8u8, any::<bool>()).prop_map(|(producer, partitions, is_commit)| {
            Step::End { producer, partitions, is_commit }
        }),
        1 => (0..PARTITIONS, any::<u8>())
            .prop_map(|(partition, share)| Step::LogStart { partition, share }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerCut),
        1 => Just(Step::Tear),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn stable_ends_and_aborted_ranges_equal_the_model(steps in steps()) {
        let mut subject = Subject::new();
        for step in steps {
            subject.take(step);
            subject.check();
        }
        for _ in 0..2 {
            subject.take(Step::Kill);
            subject.check();
        }
    }
}

/// Appends until the journal is in another segment.
fn roll(subject: &mut Subject) {
    let segments = subject.journal.status().segments;
    while subject.journal.status().segments == segments {
        subject.take(Step::Plain { partition: 2, bytes: 9_000 });
    }
}

#[test]
fn a_transaction_goes_on_over_a_roll() {
    for (outcome, is_commit) in [(Commit, true), (Abort, false)] {
        let mut subject = Subject::new();
        let data = Step::Data { producer: 1, partitions: 3, bytes: 10 };
        let other = Step::Data { producer: 2, partitions: 1, bytes: 10 };
        subject.take(Step::Plain { partition: 0, bytes: 1 });
        subject.take(data);
        subject.take(other);
        roll(&mut subject);
        subject.check();
        subject.take(Step::End { producer: 2, partitions: 1, is_commit: false });
        // Its begin is two segments and two snapshots before its end.
        roll(&mut subject);
        subject.take(Step::Kill);
        subject.check();
        assert_eq!(subject.state.open_transaction(PartitionId(0), 1), Some(Offset(2)));
        subject.take(data);
        subject.take(Step::End { producer: 1, partitions: 7, is_commit });
        roll(&mut subject);
        for step in [Step::Reopen, Step::Kill, Step::PowerCut(3)] {
            subject.check();
            subject.take(step);
        }
        subject.check();
        let ranges = subject.journal.aborted(PartitionId(0), Offset(0), Offset(99)).unwrap();
        assert_eq!(ranges.len(), if outcome == Abort { 2 } else { 1 });
    }
}

/// A kill at any operation of the append that ends a transaction, and at any of the opening behind
/// it.
#[test]
fn the_end_of_a_transaction_is_whole_or_not_there() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    append(&journal, &mut state, &[(0, data(1, b"a")), (1, data(1, b"a"))], &[]).unwrap();
    let before = disk.operations();
    let ended = [(0, marker(1, Abort)), (1, marker(1, Abort))];
    let next = next_append(&state, &ended, &[fact(b"ended", Some(b"x"))]);
    let permit = admit(&journal, next.encoded_len());
    block_on(journal.append(permit, next)).unwrap();
    journal.close().unwrap();
    let log = disk.log();
    let mut outcomes = BTreeMap::<usize, usize>::new();
    let mut files = Files::default();
    for (index, event) in log.iter().enumerate() {
        files.apply(event);
        if index < before {
            continue;
        }
        let cuts = (0..6).map(Cut::Some).map(|cut| files.after(cut));
        for image in cuts.chain([files.clone()]) {
            let (journal, state) = open_idle(MemoryDisk::new(image), &small_options()).unwrap();
            let count = |partition| {
                let (id, zero) = (PartitionId(partition), Offset(0));
                let ends = journal.ends(id);
                let aborted = journal.aborted(id, zero, ends.durable).unwrap().len();
                // Given up as well, if the frame was torn.
                let open = state.open_transaction(id, 1).is_some();
                assert_eq!(aborted == 0, open);
                assert_eq!(ends.stable == zero, open);
                ends.durable.0
            };
            let landed = state.fact(fact(b"", None).space, b"ended").is_some();
            let expected = if landed { 3 } else { 2 };
            assert_eq!((count(0), count(1)), (expected, expected));
            *outcomes.entry(usize::from(landed)).or_default() += 1;
        }
    }
    assert!(outcomes.len() == 2, "{outcomes:?}");
}

/// Flips a bit in the stored copy of a batch.
fn damage_stored(files: &mut Files, batch: &Batch) {
    let body = &batch.bytes()[16..];
    for name in files.names() {
        let found = files.content(&name).windows(body.len()).position(|window| window == body);
        if let Some(at) = found {
            return files.damage(&name, |content| content[at + 40] ^= 1);
        }
    }
    panic!("not stored");
}

pub(super) fn given_up(producer_id: i64, first: i64, last: i64) -> AbortedRange {
    let (first, last) = (Offset(first), Offset(last));
    AbortedRange { producer_id, first, last, has_marker: false }
}

/// Whatever a lost marker said: nobody can tell whether the transaction was committed, and it
/// counts as aborted.
#[test]
fn a_transaction_whose_marker_is_lost_is_given_up() {
    let all = |journal: &Journal| journal.aborted(PartitionId(0), Offset(0), Offset(99)).unwrap();
    for rolls in [0, 2] {
        let mut subject = Subject::new();
        subject.take(Step::Plain { partition: 0, bytes: 1 });
        for producer in [1, 2] {
            subject.take(Step::Data { producer, partitions: 1, bytes: 10 });
        }
        subject.take(Step::End { producer: 1, partitions: 1, is_commit: true });
        subject.take(Step::Plain { partition: 0, bytes: 1 });
        (0..rolls).for_each(|_| roll(&mut subject));
        subject.take(Step::Plain { partition: 0, bytes: 1 });
        subject.journal.close().unwrap();
        let mut files = subject.disk.files();
        // An index file would still know how it ended.
        files.rewire(|names| names.retain(|name, _| !name.ends_with(".idx")));
        damage_stored(&mut files, &marker(1, Commit));
        let incarnation = subject.state.incarnation();
        let (journal, mut state) = open(MemoryDisk::new(files), &small_options()).unwrap();
        assert_eq!(journal.status().recovery.damaged_ranges, 1);
        if rolls == 0 {
            // What was open cannot be trusted to be whole: all of it is given up, and fenced.
            assert!(state.incarnation() > incarnation);
            assert_eq!(all(&journal), [given_up(1, 2, 10), given_up(2, 4, 10)]);
            assert_eq!(journal.stable_end(PartitionId(0)), Offset(11));
            let rest = data(2, b"rest").with_producer(2, 0, 2).unwrap().header();
            let fenced = ProducerCheck::Fenced { current: 1 };
            assert_eq!(state.check(PartitionId(0), &rest), fenced);
        } else {
            // The snapshot behind it knows that it had ended, but not how; the other one goes on.
            assert_eq!(state.incarnation(), incarnation);
            assert_eq!(all(&journal), [given_up(1, 2, 8)]);
            assert_eq!(journal.stable_end(PartitionId(0)), Offset(4));
            append(&journal, &mut state, &[(0, marker(2, Abort))], &[]).unwrap();
            let ended = AbortedRange { has_marker: true, ..given_up(2, 4, 11) };
            assert_eq!(all(&journal), [given_up(1, 2, 8), ended]);
        }
    }
}
