//! The journal against the model, with openings at any point: orderly, after kills and after power cuts.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    disk::{Cut, MemoryDisk, Random},
    many,
    model::{Model, random_transactional_append, read_all},
    support::{admit, block_on, small_options},
};
use crate::journal::{
    Journal, JournalOptions, Offset, PartitionId, Position, ReadError, Scanned, open,
};

/// One step.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Append and wait.
    Append { seed: u64, largest: usize },
    /// Several appends before the first one is waited for.
    Burst { seed: u64, count: usize },
    /// Read at any offset, with any limit.
    Read { partition: u32, offset: i64, max_bytes: usize },
    /// Read many partitions at once.
    ReadMany { seed: u64 },
    /// Look a time up.
    AtTime { partition: u32, timestamp: i64 },
    /// Close and open.
    Reopen,
    /// Open what a kill leaves.
    Kill,
    /// Open what a power cut leaves.
    PowerCut(u64),
    /// Appends that fill a segment.
    Fill(u64),
    /// The oldest segments are cleaned.
    Clean,
    /// Cold segments are merged.
    Merge,
    /// What is not live leaves the log.
    Retire,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (any::<u64>(), 1..3000usize).prop_map(|(seed, largest)| Step::Append { seed, largest }),
        3 => (any::<u64>(), 2..8usize).prop_map(|(seed, count)| Step::Burst { seed, count }),
        3 => (0..5u32, -1..60i64, 1..20_000usize).prop_map(|(partition, offset, max_bytes)| {
            Step::Read { partition, offset, max_bytes }
        }),
        2 => any::<u64>().prop_map(|seed| Step::ReadMany { seed }),
        2 => (0..5u32, 0..1i64 << 40)
            .prop_map(|(partition, timestamp)| Step::AtTime { partition, timestamp }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerCut),
        3 => any::<u64>().prop_map(Step::Fill),
        2 => Just(Step::Clean),
        1 => Just(Step::Merge),
        1 => Just(Step::Retire),
    ];
    prop::collection::vec(step, 1..40)
}

/// The journal under test and what it should hold.
struct Subject {
    disk: MemoryDisk,
    journal: Journal,
    model: Model,
    options: JournalOptions,
}

impl Subject {
    fn new(options: JournalOptions) -> Self {
        let disk = MemoryDisk::default();
        let (journal, _) = open(disk.clone(), &options).unwrap();
        Self { disk, journal, model: Model::new(), options }
    }

    fn burst(&mut self, seed: u64, count: usize, largest: usize) {
        let mut random = Random(seed);
        let mut tickets = Vec::new();
        for _ in 0..count {
            let append = random_transactional_append(self.model.last(), &mut random, largest);
            let permit = admit(&self.journal, append.encoded_len());
            self.model.push(append.clone());
            tickets.push(self.journal.append(permit, append));
        }
        for ticket in tickets {
            block_on(ticket).unwrap();
        }
    }

    fn reopen(&mut self, files: Option<super::disk::Files>) {
        if let Some(files) = files {
            self.disk = MemoryDisk::new(files);
        }
        let (journal, state) = open(self.disk.clone(), &self.options).unwrap();
        let report = journal.status().recovery;
        assert_eq!((report.damaged_ranges, report.broken_chains), (0, 0));
        assert_eq!((report.cold_lost, report.cold_damaged, report.cold_adopted), (0, 0, 0));
        let acked = self.model.len();
        self.model.check(&journal, &state, acked);
        self.model.reopened(&state);
        self.journal = journal;
        self.stable();
    }

    fn read(&self, partition: u32, offset: i64, max_bytes: usize) {
        let partition = PartitionId(partition);
        let expected = self.model.last().partition(partition);
        match self.journal.read(partition, Offset(offset), max_bytes) {
            Ok(batches) => {
                assert!(offset >= expected.log_start.0 && offset <= expected.log_end.0);
                assert_eq!(batches.is_empty(), offset == expected.log_end.0);
                let bytes: usize = batches.iter().map(Bytes::len).sum();
                assert!(batches.len() <= 1 || bytes <= max_bytes);
                self.model.check_batches(partition, Offset(offset), &batches);
                // What is in memory is the same.
                if let Some(Ok(held)) =
                    self.journal.read_memory(partition, Offset(offset), max_bytes)
                {
                    assert_eq!(held, batches);
                }
            }
            Err(ReadError::OutOfRange { start, end, .. }) => {
                assert_eq!((start, end), (expected.log_start, expected.log_end));
                assert!(offset < start.0 || offset > end.0);
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// One pass finds the batches of each partition that reads of it find.
    fn scan(&self, max_bytes: usize) {
        for wanted in [vec![], vec![PartitionId(1), PartitionId(3)]] {
            let mut scan = self.journal.scan(Position(0), wanted.iter().copied());
            let mut found: BTreeMap<PartitionId, Vec<Bytes>> = BTreeMap::new();
            loop {
                let next = scan.next(&self.journal, max_bytes).unwrap();
                if next.is_empty() {
                    break;
                }
                for item in next {
                    let Scanned::Batch { partition, bytes, .. } = item else { panic!("{item:?}") };
                    found.entry(partition).or_default().push(bytes);
                }
                // A place that was kept is as good.
                scan = self.journal.scan(scan.position(), wanted.iter().copied());
            }
            for partition in (0..4).map(PartitionId) {
                let is_wanted = wanted.is_empty() || wanted.contains(&partition);
                let expected =
                    if is_wanted { read_all(&self.journal, partition) } else { Vec::new() };
                assert_eq!(found.remove(&partition).unwrap_or_default(), expected);
            }
        }
    }

    /// All that is to be there is there.
    fn all(&self) {
        self.model.check_records(&self.journal, self.model.len());
        self.scan(1500);
        many::check(&self.journal, &mut Random(self.model.len() as u64 + 1));
    }

    /// What is stable in the state is stable in the log.
    fn stable(&self) {
        for partition in (0..5).map(PartitionId) {
            let expected = self.model.last().stable_end(partition);
            assert_eq!(self.journal.stable_end(partition), expected, "{partition:?}");
        }
    }

    fn at_time(&self, partition: u32, timestamp: i64) {
        let partition = PartitionId(partition);
        let found = self.journal.batch_at_time(partition, timestamp).unwrap();
        let found = found.map(|bytes| i64::from_be_bytes(*bytes.first_chunk().unwrap()));
        let expected = self.model.at_time(partition, timestamp);
        assert!(expected.contains(&found.map(Offset)), "{found:?}: {expected:?}");
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append { seed, largest } => {
                self.burst(seed, 1, largest);
                self.stable();
            }
            Step::Burst { seed, count } => {
                self.burst(seed, count, 1500);
                self.stable();
            }
            Step::Read { partition, offset, max_bytes } => self.read(partition, offset, max_bytes),
            Step::ReadMany { seed } => many::check(&self.journal, &mut Random(seed)),
            Step::AtTime { partition, timestamp } => self.at_time(partition, timestamp),
            Step::Fill(seed) => self.burst(seed, 10, 2500),
            Step::Clean => {
                self.journal.clean_oldest().unwrap();
                self.all();
            }
            Step::Merge => {
                self.journal.merge_cold().unwrap();
                self.all();
            }
            Step::Retire => {
                self.journal.retire().unwrap();
                self.all();
            }
            Step::Reopen => {
                self.journal.close().unwrap();
                self.reopen(None);
            }
            Step::Kill => self.reopen(Some(self.disk.files())),
            Step::PowerCut(seed) => self.reopen(Some(self.disk.files().after(Cut::Some(seed)))),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_equals_the_model(
        steps in steps(),
        index_cache_bytes in prop_oneof![Just(1usize), Just(3000), Just(1 << 20)],
        tail_bytes in prop_oneof![Just(0usize), Just(20_000), Just(1 << 20)],
        index_interval_bytes in prop_oneof![Just(4096u64), Just(20_000)],
    ) {
        let small = small_options();
        let mut subject = Subject::new(JournalOptions {
            index_cache_bytes,
            index_interval_bytes,
            tail_bytes,
            ..small
        });
        for step in steps {
            subject.take(step);
        }
        subject.scan(2000);
        subject.reopen(Some(subject.disk.files()));
        subject.scan(1);
    }
}
