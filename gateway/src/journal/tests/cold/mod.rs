//! Cold segments: what is copied and what is not, who reads it meanwhile, and what errors and damage do.

mod clock;
mod compaction;
mod damage;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    disk::{Cut, Files, MemoryDisk, Random},
    model::{Model, random_transactional_append, read_all},
    support::{admit, append, batch, block_on, next_append, small_options},
};
use crate::{
    journal::{
        AdmitError, CleanError, Fact, Journal, JournalOptions, Offset, PartitionId, Position,
        ReadError, Retain, Scanned, State,
        format::{ALIGN, ColdHeader},
        handle::open_idle,
        open,
        sim::{Call, Fault},
    },
    record::{Batch, BatchBuilder, Compression, TransactionMarker, TransactionOutcome},
};

/// Dies soon.
const SHORT: u32 = 1;
/// Lives on.
pub(super) const LONG: u32 = 2;
const SEGMENT: u64 = 64 << 10;

/// A journal with what the tests know of it.
pub(super) struct Subject {
    pub(super) disk: MemoryDisk,
    options: JournalOptions,
    pub(super) journal: Journal,
    state: State,
    /// Values of the partition that lives on.
    values: Vec<Bytes>,
}

impl Subject {
    fn new() -> Self {
        Self::with(small_options())
    }

    fn with(options: JournalOptions) -> Self {
        let disk = MemoryDisk::default();
        let (journal, state) = open(disk.clone(), &options).unwrap();
        Self { disk, options, journal, state, values: Vec::new() }
    }

    /// So many segments with a little that lives on and much that dies.
    fn fill(&mut self, segments: u64) {
        let until = self.journal.status().segments + segments;
        let mut n = 0;
        while self.journal.status().segments < until {
            let value = vec![self.values.len() as u8; 500 + n % 400];
            let batches = [(LONG, batch(&[&value])), (SHORT, batch(&[&[7; 5000]]))];
            append(&self.journal, &mut self.state, &batches, &[]).unwrap();
            self.values.push(value.into());
            n += 37;
        }
    }

    fn drop_short(&mut self) {
        let end = self.state.partition(PartitionId(SHORT)).log_end;
        let fact = Fact::log_start(PartitionId(SHORT), end);
        append(&self.journal, &mut self.state, &[], &[fact]).unwrap();
    }

    /// Four segments of which the two oldest are cleaned.
    pub(super) fn cleaned() -> Self {
        let mut subject = Self::new();
        subject.fill(4);
        subject.drop_short();
        let cleaned = subject.journal.clean_oldest().unwrap().unwrap();
        assert!(cleaned.segments >= 2 && cleaned.live_bytes > 0, "{cleaned:?}");
        subject.free();
        subject
    }

    /// Waits for the readers of what left the log.
    fn free(&self) {
        until(|| {
            self.journal.retire().unwrap();
            self.journal.status().pinned_segments == 0
        });
    }

    fn reopen(&mut self, files: Files) {
        self.disk = MemoryDisk::new(files);
        let (journal, state) = open(self.disk.clone(), &self.options).unwrap();
        (self.journal, self.state) = (journal, state);
    }

    /// All that lives on is served, by offset, by time and in a pass.
    fn check(&self) {
        check_values(&self.journal, &self.values);
        let mut scan = self.journal.scan(Position(0), [PartitionId(LONG)]);
        let mut count = 0;
        loop {
            let found = scan.next(&self.journal, 3000).unwrap();
            if found.is_empty() {
                break;
            }
            for item in found {
                let Scanned::Batch { bytes, base_offset, .. } = item else { panic!("{item:?}") };
                assert_eq!(base_offset, Offset(count));
                assert_eq!(value(&bytes), self.values[count as usize]);
                count += 1;
            }
        }
        assert_eq!(count as usize, self.values.len());
        let found = self.journal.batch_at_time(PartitionId(LONG), 0).unwrap().unwrap();
        assert_eq!(value(&found), self.values[0]);
    }

    pub(super) fn cold_files(&self) -> Vec<String> {
        let names = self.disk.files().names().into_iter();
        names.filter(|name| name.starts_with("cold/")).collect()
    }
}

fn check_values(journal: &Journal, values: &[Bytes]) {
    let stored = read_all(journal, PartitionId(LONG));
    assert_eq!(stored.iter().map(value).collect::<Vec<_>>(), values);
}

fn value(bytes: &Bytes) -> Bytes {
    let batch = Batch::parse_stored(bytes.clone()).unwrap();
    batch.records(1 << 20).unwrap().remove(0).value.unwrap()
}

pub(super) fn until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !what() {
        assert!(Instant::now() < deadline, "waited for 30 s");
        std::thread::yield_now();
    }
}

#[test]
fn what_lives_on_is_served_from_a_cold_segment_and_its_sources_go() {
    let mut subject = Subject::cleaned();
    let status = subject.journal.status();
    assert_eq!(status.cold_segments, 1);
    assert!(status.segments <= 3, "{}", status.segments);
    assert!(status.retired_segments >= 2);
    subject.check();
    // After a kill, after a power cut, and when it is cleaned on.
    subject.reopen(subject.disk.files());
    subject.check();
    subject.fill(3);
    subject.drop_short();
    subject.journal.clean_oldest().unwrap().unwrap();
    assert_eq!(subject.journal.status().cold_segments, 2);
    subject.check();
    subject.reopen(subject.disk.files().after(Cut::Nothing));
    subject.check();
    let merged = subject.journal.merge_cold().unwrap().unwrap();
    assert_eq!(merged.segments, 2);
    subject.check();
    subject.free();
    assert_eq!(subject.cold_files().len(), 1);
    subject.reopen(subject.disk.files());
    assert_eq!(subject.journal.status().recovery.cold_leftover, 0);
    subject.check();
    // It goes when nothing in it is live.
    let end = subject.state.partition(PartitionId(LONG)).log_end;
    let fact = Fact::log_start(PartitionId(LONG), end);
    append(&subject.journal, &mut subject.state, &[], &[fact]).unwrap();
    subject.free();
    assert_eq!(subject.journal.status().cold_segments, 0);
    assert!(subject.cold_files().is_empty());
    subject.reopen(subject.disk.files().after(Cut::Nothing));
    assert_eq!(subject.journal.status().cold_segments, 0);
}

#[test]
fn bytes_in_use_are_those_of_the_files() {
    let mut subject = Subject::cleaned();
    let measure = |subject: &Subject| {
        let files = subject.disk.files();
        let names = files.names().into_iter().filter(|name| name != "lock");
        names.map(|name| files.content(&name).len() as u64).sum::<u64>()
    };
    until(|| subject.journal.status().unindexed_bytes < 20_000);
    until(|| subject.journal.status().used_bytes == measure(&subject));
    subject.fill(3);
    subject.drop_short();
    subject.journal.clean_oldest().unwrap().unwrap();
    subject.journal.merge_cold().unwrap().unwrap();
    subject.free();
    until(|| subject.journal.status().used_bytes == measure(&subject));
}

#[test]
fn a_reader_keeps_what_it_reads_and_a_pass_goes_on_in_the_cold_segment() {
    let mut subject = Subject::new();
    subject.fill(4);
    let pinned = subject.journal.pin(PartitionId(LONG), Offset(0));
    // Passes that stand in what is cleaned: at the start, in the middle, and one that was kept.
    let mut scan = subject.journal.scan(Position(0), [PartitionId(LONG)]);
    let mut seen = scan.next(&subject.journal, 1).unwrap();
    let kept = scan.position();
    subject.drop_short();
    subject.journal.clean_oldest().unwrap().unwrap();
    subject.journal.retire().unwrap();
    assert!(subject.journal.status().pinned_segments >= 1);
    drop(pinned);
    let rest = |scan: &mut crate::journal::Scan| {
        let mut rest = Vec::new();
        loop {
            let found = scan.next(&subject.journal, 2000).unwrap();
            if found.is_empty() {
                return rest;
            }
            rest.extend(found);
        }
    };
    seen.extend(rest(&mut scan));
    let offsets = |seen: &[Scanned]| {
        let offset = |item: &Scanned| match item {
            Scanned::Batch { base_offset, .. } => base_offset.0,
            Scanned::Damaged { .. } => panic!("{item:?}"),
        };
        seen.iter().map(offset).collect::<Vec<_>>()
    };
    let all: Vec<i64> = (0..subject.values.len() as i64).collect();
    assert_eq!(offsets(&seen), all, "each once");
    // A place that was kept meets the cold segment from its beginning on.
    let mut again = subject.journal.scan(kept, [PartitionId(LONG)]);
    assert_eq!(offsets(&rest(&mut again)), all);
    drop((scan, again));
    subject.free();
    // In a cold segment that is merged with the next one.
    subject.fill(3);
    subject.drop_short();
    subject.journal.clean_oldest().unwrap().unwrap();
    let mut scan = subject.journal.scan(Position(0), [PartitionId(LONG)]);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(scan.next(&subject.journal, 1).unwrap());
    }
    subject.journal.merge_cold().unwrap().unwrap();
    let rest = |scan: &mut crate::journal::Scan| {
        let mut rest = Vec::new();
        loop {
            let found = scan.next(&subject.journal, 2000).unwrap();
            if found.is_empty() {
                return rest;
            }
            rest.extend(found);
        }
    };
    seen.extend(rest(&mut scan));
    assert_eq!(offsets(&seen), (0..subject.values.len() as i64).collect::<Vec<_>>());
}

#[test]
fn the_writer_goes_on_while_the_cleaner_waits_for_its_budget() {
    let options = JournalOptions { clean_bytes_per_second: Some(1), ..small_options() };
    let mut subject = Subject::with(options);
    // More than fits into one buffer, so that the pass pauses.
    let large = batch(&[&[1; 30_000]]);
    for _ in 0..16 {
        append(&subject.journal, &mut subject.state, &[(3, large.clone())], &[]).unwrap();
    }
    subject
        .journal
        .retain(PartitionId(3), Retain { compact: true, deletions_ms: 0, ..Retain::default() });
    let journal = subject.journal.clone();
    let cleaning = std::thread::spawn(move || journal.clean_oldest());
    until(|| subject.cold_files().len() == 1);
    subject.fill(2);
    assert!(!cleaning.is_finished());
    assert_eq!(subject.journal.status().cold_segments, 0);
    subject.check();
    // Closing does not wait for it.
    subject.journal.close().unwrap();
    assert!(matches!(cleaning.join().unwrap(), Err(CleanError::Stopped)));
    assert!(subject.cold_files().is_empty());
}

#[test]
fn a_full_journal_is_cleaned_by_a_file_of_the_reserve_which_is_filled_up_first() {
    let options = JournalOptions { max_bytes: Some(8 * SEGMENT), ..small_options() };
    let mut subject = Subject::with(options);
    let batches = |n: usize| [(LONG, batch(&[&[n as u8; 300]])), (SHORT, batch(&[&[7; 9000]]))];
    for round in 0..5 {
        let bytes = next_append(&subject.state, &batches(0), &[]).encoded_len();
        let mut refused_since = Instant::now();
        let mut appended = 0;
        while refused_since.elapsed() < Duration::from_millis(200) {
            let Ok(permit) = subject.journal.admit(bytes) else {
                std::thread::yield_now();
                continue;
            };
            let n = subject.values.len();
            let next = next_append(&subject.state, &batches(n), &[]);
            subject.state.apply_append(&next, 0);
            block_on(subject.journal.append(permit, next)).unwrap();
            subject.values.push(vec![n as u8; 300].into());
            refused_since = Instant::now();
            appended += 1;
        }
        assert!(appended > 4, "{round}: {appended}");
        assert!(matches!(subject.journal.admit(bytes), Err(AdmitError::Full)));
        let end = subject.state.partition(PartitionId(SHORT)).log_end;
        let next = next_append(&subject.state, &[], &[Fact::log_start(PartitionId(SHORT), end)]);
        let permit = subject.journal.admit_freeing(next.encoded_len()).unwrap();
        subject.state.apply_append(&next, 0);
        block_on(subject.journal.append(permit, next)).unwrap();
        let used = subject.journal.status().used_bytes;
        assert!(used > 7 * SEGMENT, "{used}");
        // Another file may just be on its way.
        until(|| match subject.journal.clean_oldest() {
            Ok(cleaned) => cleaned.is_some(),
            Err(CleanError::NoSpace) => false,
            Err(error) => panic!("{error}"),
        });
        subject.free();
        subject.check();
        until(|| {
            subject.journal.retire().unwrap();
            subject.journal.admit(bytes).is_ok()
        });
        assert!(subject.journal.status().used_bytes <= 8 * SEGMENT);
    }
    subject.reopen(subject.disk.files());
    subject.check();
}

#[test]
fn the_journal_cleans_itself_and_never_gets_full() {
    let options = JournalOptions {
        max_bytes: Some(24 * SEGMENT),
        clean: true,
        retire: true,
        ..small_options()
    };
    let mut subject = Subject::with(options);
    // Six times what there is space for, of which little lives on.
    for n in 0..1200usize {
        let value = vec![n as u8; 100];
        let batches = [(LONG, batch(&[&value])), (SHORT, batch(&[&[7; 6000]]))];
        let end = subject.state.partition(PartitionId(SHORT)).log_end;
        let start = Fact::log_start(PartitionId(SHORT), Offset((end.0 - 20).max(0)));
        let next = next_append(&subject.state, &batches, &[start]);
        let began = Instant::now();
        let permit = loop {
            match subject.journal.admit(next.encoded_len()) {
                Ok(permit) => break permit,
                Err(_) if began.elapsed() < Duration::from_secs(20) => std::thread::yield_now(),
                Err(error) => panic!("{error} at {n}: {:#?}", subject.journal.status()),
            }
        };
        subject.state.apply_append(&next, 0);
        block_on(subject.journal.append(permit, next)).unwrap();
        subject.values.push(value.into());
    }
    let status = subject.journal.status();
    assert!(status.cleaned_segments > 10, "{status:?}");
    assert!(status.used_bytes <= 24 * SEGMENT);
    // Merging comes last: what else there is to clean is cheaper.
    until(|| subject.journal.status().cold_segments < 50);
    subject.check();
    let status = subject.journal.status();
    // Copies are at most twice what they freed.
    assert!(status.cleaner_copied_bytes <= 2 * status.cleaned_segments * SEGMENT);
    subject.reopen(subject.disk.files().after(Cut::Nothing));
    subject.check();
}

#[test]
fn nothing_is_cleaned_that_would_cost_more_than_it_frees() {
    let mut subject = Subject::new();
    let batch = batch(&[&[1; 12_000]]);
    for _ in 0..20 {
        append(&subject.journal, &mut subject.state, &[(LONG, batch.clone())], &[]).unwrap();
    }
    assert_eq!(subject.journal.clean(1.0).unwrap(), None);
    assert_eq!(subject.journal.status().cold_segments, 0);
    let mut subject = Subject::new();
    subject.fill(4);
    assert_eq!(subject.journal.clean(1.0).unwrap(), None);
    subject.drop_short();
    assert_eq!(subject.journal.clean(0.001).unwrap(), None);
    assert!(subject.journal.clean(2.0).unwrap().is_some());
    subject.check();
}

#[test]
fn an_error_while_cleaning_costs_nothing_but_the_copy() {
    let mut base = Subject::new();
    base.fill(4);
    base.drop_short();
    base.journal.close().unwrap();
    let files = base.disk.files();
    let mut hits = 0;
    for call in Call::KINDS {
        for at in 0..400 {
            let disk = MemoryDisk::new(files.clone());
            let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
            // Its snapshot is the second one.
            append(&journal, &mut state, &[(SHORT, batch(&[b"one more"]))], &[]).unwrap();
            let before = disk.calls(call);
            let faulty = disk.clone().with_fault(Fault::once(call, before + at));
            let cleaned = journal.clean_oldest();
            if !faulty.was_hit() && at > 3 {
                break;
            }
            hits += usize::from(cleaned.is_err());
            assert!(!matches!(cleaned, Ok(None)), "there is something to clean");
            if cleaned.is_err() && journal.status().poisoned.is_none() {
                assert_eq!(journal.status().cold_segments, 0);
                // And the next try does it.
                assert!(journal.clean_oldest().unwrap().is_some(), "{call:?} {at}");
            }
            if journal.status().poisoned.is_none() {
                check_values(&journal, &base.values);
            }
            drop(journal);
            for files in [disk.files(), disk.files().after(Cut::Nothing)] {
                let (journal, _) = open_idle(MemoryDisk::new(files), &small_options()).unwrap();
                check_values(&journal, &base.values);
                let report = journal.status().recovery;
                assert_eq!((report.cold_lost, report.cold_damaged), (0, 0), "{call:?} {at}");
            }
        }
    }
    println!("{hits} errors while cleaning");
    assert!(hits > 8, "{hits}");
}

#[test]
fn many_partitions_and_transactions_survive_many_cleanings() {
    let disk = MemoryDisk::default();
    let (journal, _) = open(disk.clone(), &small_options()).unwrap();
    let mut model = Model::new();
    let mut random = Random(77);
    for round in 0..12 {
        for _ in 0..25 {
            let next = random_transactional_append(model.last(), &mut random, 2000);
            let permit = admit(&journal, next.encoded_len());
            model.push(next.clone());
            block_on(journal.append(permit, next)).unwrap();
        }
        journal.clean_oldest().unwrap();
        if round % 3 == 2 {
            journal.merge_cold().unwrap();
        }
        model.check_records(&journal, model.len());
        journal.retire().unwrap();
    }
    assert!(journal.status().cleaned_segments > 10);
    let (journal, state) = open_idle(MemoryDisk::new(disk.files()), &small_options()).unwrap();
    model.check(&journal, &state, model.len());
}
