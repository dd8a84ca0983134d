//! Aborted ranges that are not in memory: found again from whatever is left, and never missing without an error.

use super::{
    disk::{Files, MemoryDisk},
    support::{append, batch, small_options},
    transactions::{data, given_up, marker},
};
use crate::journal::{
    AbortedRange, Disk, Journal, JournalOptions, Offset, PartitionId, ReadError, State,
    handle::open_idle, open,
};
use crate::record::TransactionOutcome::{Abort, Commit};

/// In memory beside those of the segment in use.
const MOST: usize = 8;
/// Of a segment of the tests: a frame of a block has two.
const MOST_IN_SEGMENT: usize = 32;

/// Nothing that was read stays in memory.
fn options() -> JournalOptions {
    JournalOptions { aborted_ranges: MOST, index_cache_bytes: 1, ..small_options() }
}

/// A journal, and the ranges of its two partitions in the order of their ends.
struct Subject {
    disk: MemoryDisk,
    journal: Journal,
    state: State,
    expected: [Vec<AbortedRange>; 2],
    /// The most that were in memory.
    most: usize,
}

impl Subject {
    fn new() -> Self {
        let disk = MemoryDisk::default();
        let (journal, state) = open(disk.clone(), &options()).unwrap();
        Self { disk, journal, state, expected: Default::default(), most: 0 }
    }

    fn end(&self, partition: u32) -> Offset {
        self.state.partition(PartitionId(partition)).log_end
    }

    /// A transaction in one append, so that no segment begins within it.
    fn transaction(&mut self, producer: i64, is_commit: bool) {
        let outcome = if is_commit { Commit } else { Abort };
        let first = [self.end(0), self.end(1)];
        let batches = [
            (0, data(producer, &[7; 600])),
            (1, data(producer, &[8; 200])),
            (0, marker(producer, outcome)),
            (1, marker(producer, outcome)),
        ];
        append(&self.journal, &mut self.state, &batches, &[]).unwrap();
        if !is_commit {
            self.note(producer, first);
        }
    }

    /// Notes an abort whose markers are the last batches.
    fn note(&mut self, producer_id: i64, first: [Offset; 2]) {
        for (partition, first) in (0..).zip(first) {
            let last = Offset(self.end(partition).0 - 1);
            let range = AbortedRange { producer_id, first, last, has_marker: true };
            self.expected[partition as usize].push(range);
        }
        self.most = self.most.max(self.in_memory());
    }

    fn in_memory(&self) -> usize {
        self.journal.status().aborted_ranges as usize
    }

    /// About twenty segments of transactions, most of them aborted; a long one goes over all of them.
    fn filled() -> Self {
        let mut subject = Self::new();
        let long = [subject.end(0), subject.end(1)];
        let begun = [(0, data(99, b"long")), (1, data(99, b"long"))];
        append(&subject.journal, &mut subject.state, &begun, &[]).unwrap();
        for n in 0..300 {
            subject.transaction(n % 5, n % 4 == 3);
            if n == 200 {
                let ended = [(0, marker(99, Abort)), (1, marker(99, Abort))];
                append(&subject.journal, &mut subject.state, &ended, &[]).unwrap();
                subject.note(99, long);
            }
        }
        assert!(subject.journal.status().segments > 15);
        subject
    }

    fn check(&self, what: &str) {
        check(&self.journal, &self.expected, what);
    }

    fn indexes(&self) -> Vec<String> {
        let names = self.disk.files().names().into_iter();
        names.filter(|name| name.ends_with(".idx")).collect()
    }
}

fn check(journal: &Journal, expected: &[Vec<AbortedRange>; 2], what: &str) {
    for (id, expected) in (0..).map(PartitionId).zip(expected) {
        let end = journal.durable_end(id).0;
        for from in (0..end).step_by(97) {
            for to in [from + 1, from + 60, (from + end) / 2, end] {
                let overlaps = |it: &&AbortedRange| it.last.0 >= from && it.first.0 < to;
                let expected: Vec<_> = expected.iter().filter(overlaps).copied().collect();
                let found = journal.aborted(id, Offset(from), Offset(to));
                let found = found.unwrap_or_else(|error| panic!("{what}: {id:?} {from}: {error}"));
                assert_eq!(found, expected, "{what}: {id:?} {from}..{to}");
            }
        }
    }
}

#[test]
fn what_is_not_in_memory_is_read_again() {
    let subject = Subject::filled();
    let all: usize = subject.expected.iter().map(Vec::len).sum();
    assert!(all > 400, "{all}");
    // And the two of the long one, which no segment tells by itself.
    assert!(subject.most <= MOST + MOST_IN_SEGMENT + 2, "{} of {all} in memory", subject.most);
    subject.check("index files or scans");

    // A segment's index file is damaged, and gone.
    for (n, name) in subject.indexes().into_iter().enumerate() {
        if n % 2 == 0 {
            subject.disk.open(&name).unwrap().write_at(&[0xa5; 64], 0).unwrap();
            let end = subject.disk.files().content(&name).len() as u64;
            subject.disk.open(&name).unwrap().write_at(&[0xa5; 64], end - 64).unwrap();
        } else {
            subject.disk.remove(&name).unwrap();
        }
    }
    subject.check("scans");

    let killed = subject.disk.files();
    subject.journal.close().unwrap();
    for (what, files) in [("killed", killed), ("closed", subject.disk.files())] {
        let (journal, _) = open_idle(MemoryDisk::new(files), &options()).unwrap();
        let in_memory = journal.status().aborted_ranges as usize;
        assert!(in_memory <= MOST_IN_SEGMENT + 2, "{what}: {in_memory}");
        check(&journal, &subject.expected, what);
    }
}

#[test]
fn what_is_read_again_stays_within_the_cache() {
    let subject = Subject::filled();
    subject.journal.close().unwrap();
    let roomy = JournalOptions { index_cache_bytes: 1 << 20, ..options() };
    let (journal, _) = open_idle(MemoryDisk::new(subject.disk.files()), &roomy).unwrap();
    let (all, of) = ((Offset(0), Offset(i64::MAX)), PartitionId(0));
    assert_eq!(journal.aborted_in_memory(of, all.0, all.1), None, "nobody has read them");
    let read = journal.aborted(of, all.0, all.1).unwrap();
    assert_eq!(read, subject.expected[0]);
    assert_eq!(journal.aborted_in_memory(of, all.0, all.1), Some(read));
    assert!(journal.status().index_cache_bytes > 0);
    assert_eq!(journal.aborted_without_marker(of, all.0, all.1), []);
}

#[test]
fn a_range_that_cannot_be_told_any_more_is_an_error_and_no_gap() {
    let subject = Subject::filled();
    subject.indexes().iter().for_each(|name| subject.disk.remove(name).unwrap());
    // The marker of one transaction, in its segment.
    let lost = subject.expected[0][40];
    let stored = subject.journal.read(PartitionId(0), lost.last, 1).unwrap().remove(0);
    let files = subject.disk.files();
    let at = files.names().into_iter().find_map(|name| {
        let content = files.content(&name);
        let at = content.windows(stored.len()).position(|bytes| bytes == &stored[..])?;
        Some((name, at))
    });
    let (name, at) = at.unwrap();
    subject.disk.open(&name).unwrap().write_at(&[0xff], at as u64 + 70).unwrap();
    let query = |partition, from: Offset, to: Offset| {
        subject.journal.aborted(PartitionId(partition), from, to)
    };
    let error = query(0, lost.first, lost.last).unwrap_err();
    assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
    assert_eq!(query(0, lost.first, lost.last).unwrap_err().to_string(), error.to_string());
    assert_eq!(subject.journal.status().damaged_reads, 2);
    // The other partition, and what others hold.
    let whole = |partition: usize, from: Offset, to: Offset| {
        let overlaps = |it: &&AbortedRange| it.last >= from && it.first < to;
        subject.expected[partition].iter().filter(overlaps).copied().collect::<Vec<_>>()
    };
    let there = subject.expected[1][40];
    let found = query(1, there.first, there.last).unwrap();
    assert_eq!(found, whole(1, there.first, there.last));
    let later = subject.expected[0][120];
    let found = query(0, later.first, later.last).unwrap();
    assert_eq!(found, whole(0, later.first, later.last));
}

/// Of the entries of a segment alone nobody can tell whether the barrier in its first frame ended what stands before it.
#[test]
fn what_an_opening_gave_up_is_no_part_of_a_later_transaction() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &options()).unwrap();
    append(&journal, &mut state, &[(0, batch(&[b"plain"]))], &[]).unwrap();
    append(&journal, &mut state, &[(0, data(1, b"carried"))], &[]).unwrap();
    append(&journal, &mut state, &[(0, batch(&[b"torn"]))], &[]).unwrap();
    let mut files: Files = disk.files();
    let name = "journal/0000000000000001.seg";
    files.damage(name, |content| {
        let torn = content.windows(4).rposition(|bytes| bytes == b"torn").unwrap();
        content[torn] ^= 1;
        // Nor is there what the journal wrote by itself since then.
        content[torn..].iter_mut().skip_while(|byte| **byte != 0).for_each(|byte| *byte = 0);
    });
    let options = JournalOptions { aborted_ranges: 0, ..options() };
    let disk = MemoryDisk::new(files);
    let (journal, mut state) = open(disk.clone(), &options).unwrap();
    assert_eq!(state.partition(PartitionId(0)).log_end, Offset(3));
    let ended = [(0, data(1, b"again")), (0, marker(1, Abort))];
    append(&journal, &mut state, &ended, &[]).unwrap();
    let again = AbortedRange { has_marker: true, ..given_up(1, 3, 5) };
    let segments = journal.status().segments;
    while journal.status().segments == segments {
        append(&journal, &mut state, &[(1, batch(&[&[1; 9000]]))], &[]).unwrap();
    }
    assert_eq!(journal.status().aborted_ranges, 1, "the one without a marker");
    let all = |journal: &Journal| journal.aborted(PartitionId(0), Offset(0), Offset(9)).unwrap();
    assert_eq!(all(&journal), [given_up(1, 1, 2), again]);
    journal.close().unwrap();
    let (journal, _) = open_idle(MemoryDisk::new(disk.files()), &options).unwrap();
    assert_eq!(all(&journal), [given_up(1, 1, 2), again]);
}
