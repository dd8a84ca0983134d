//! Cold segments: what is copied and what is not, who reads it meanwhile, and what errors and damage do.

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
const LONG: u32 = 2;
const SEGMENT: u64 = 64 << 10;

/// A journal with what the tests know of it.
struct Subject {
    disk: MemoryDisk,
    options: JournalOptions,
    journal: Journal,
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
    fn cleaned() -> Self {
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

    fn cold_files(&self) -> Vec<String> {
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

fn until(what: impl Fn() -> bool) {
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
    until(|| subject.journal.status().cold_segments < 20);
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

fn data(producer: i64, n: u8) -> Batch {
    let batch = batch(&[&[n; 700]]).with_producer(producer, 0, 0).unwrap();
    batch.in_transaction().unwrap()
}

fn abort(producer: i64) -> Batch {
    let outcome = TransactionOutcome::Abort;
    TransactionMarker { outcome, coordinator_epoch: 0 }.batch(producer, 0, 0).unwrap()
}

#[test]
fn an_aborted_range_lives_as_long_as_data_of_it() {
    let mut subject = Subject::new();
    let long = PartitionId(LONG);
    let one = |subject: &mut Subject, batch: Batch| {
        append(&subject.journal, &mut subject.state, &[(LONG, batch)], &[]).unwrap();
    };
    one(&mut subject, data(5, 1)); // 0: aborted when it is in a cold segment already.
    one(&mut subject, data(6, 2)); // 1
    one(&mut subject, abort(6)); // 2: gone with its data.
    one(&mut subject, batch(&[b"plain"])); // 3
    let from = subject.state.partition(long).log_end;
    subject.fill(3);
    subject.drop_short();
    subject.journal.clean_oldest().unwrap().unwrap();
    let aborted = |subject: &Subject| {
        let ranges = subject.journal.aborted(long, Offset(0), Offset(i64::MAX));
        ranges.iter().map(|range| (range.producer_id, range.first.0)).collect::<Vec<_>>()
    };
    assert_eq!(aborted(&subject), []);
    let offset = |bytes: &Bytes| i64::from_be_bytes(*bytes.first_chunk().unwrap());
    let first: Vec<_> = read_all(&subject.journal, long).iter().map(offset).take(3).collect();
    assert_eq!(first, [0, 3, from.0]);
    // In the hole the next batch is read.
    for from in 1..=3 {
        let found = subject.journal.read(long, Offset(from), 1).unwrap();
        assert_eq!(found.iter().map(offset).collect::<Vec<_>>(), [3]);
    }
    one(&mut subject, abort(5));
    assert_eq!(aborted(&subject), [(5, 0)]);
    subject.fill(3);
    subject.drop_short();
    subject.journal.clean_oldest().unwrap().unwrap();
    subject.free();
    assert_eq!(aborted(&subject), [(5, 0)], "its data is in the older one");
    subject.reopen(subject.disk.files());
    assert_eq!(aborted(&subject), [(5, 0)]);
    subject.journal.merge_cold().unwrap().unwrap();
    assert_eq!(aborted(&subject), [], "both were in one pass");
    let first: Vec<_> = read_all(&subject.journal, long).iter().map(offset).take(2).collect();
    assert_eq!(first, [3, from.0]);
    subject.reopen(subject.disk.files().after(Cut::Nothing));
    assert_eq!(aborted(&subject), []);
}

/// What a compacted partition has to hold.
#[derive(Default)]
struct Keys {
    /// Value of each key with the offset of its record; None: deleted.
    latest: BTreeMap<u8, (i64, Option<Bytes>)>,
    end: i64,
}

impl Keys {
    fn batch(&mut self, random: &mut Random) -> Batch {
        let codecs = [Compression::None, Compression::Zstd, Compression::Lz4];
        let mut builder = BatchBuilder::compressed(codecs[random.below(3) as usize]);
        for _ in 0..=random.below(4) {
            let key = random.below(24) as u8;
            let value = (random.below(4) > 0).then(|| {
                let noise: Vec<u8> = (0..400).map(|_| random.next() as u8).collect();
                Bytes::from(noise)
            });
            builder.push(self.end, Some(&[key]), value.as_deref(), &[]);
            self.latest.insert(key, (self.end, value));
            self.end += 1;
        }
        builder.finish().unwrap()
    }

    /// Every key has its latest value, deletions that are still due are there, and nothing is twice as late.
    fn check(&self, journal: &Journal, partition: PartitionId, deletions_stay: bool) -> usize {
        let mut found: BTreeMap<u8, (i64, Option<Bytes>)> = BTreeMap::new();
        let mut count = 0;
        for bytes in read_all(journal, partition) {
            for record in Batch::parse_stored(bytes).unwrap().records(1 << 20).unwrap() {
                assert_eq!(record.timestamp, record.offset, "times stay with their records");
                found.insert(record.key.unwrap()[0], (record.offset, record.value));
                count += 1;
            }
        }
        for (key, latest) in &self.latest {
            match found.get(key) {
                Some(record) => assert_eq!(record, latest, "{key}"),
                None => assert!(latest.1.is_none() && !deletions_stay, "{key} is gone"),
            }
        }
        assert!(found.keys().all(|key| self.latest.contains_key(key)));
        count
    }
}

#[test]
fn compaction_keeps_the_latest_of_each_key_and_deletions_for_their_time() {
    const P: PartitionId = PartitionId(LONG);
    for seed in 0..6 {
        let mut subject = Subject::new();
        let clock = std::sync::Arc::new(super::cold_clock::Clock::default());
        subject.options.clock = clock.clone();
        subject.reopen(subject.disk.files());
        let retain = Retain { compact: true, deletions_ms: 1000, ..Retain::default() };
        let mut random = Random(seed);
        let mut keys = Keys::default();
        let mut smallest = usize::MAX;
        for round in 0..5 {
            subject.journal.retain(P, retain);
            let until = subject.journal.status().segments + 3;
            while subject.journal.status().segments < until {
                let batch = keys.batch(&mut random);
                append(&subject.journal, &mut subject.state, &[(P.0, batch)], &[]).unwrap();
            }
            let before = keys.check(&subject.journal, P, true);
            subject.journal.clean_oldest().unwrap().unwrap();
            let after = keys.check(&subject.journal, P, true);
            assert!(after < before, "{round}: {before} to {after}");
            if round % 2 == 1 {
                subject.journal.merge_cold().unwrap().unwrap();
                keys.check(&subject.journal, P, true);
                // Their time is over, and the whole partition below is in the pass.
                clock.pass(1000);
                subject.journal.merge_cold().unwrap().unwrap();
                smallest = smallest.min(keys.check(&subject.journal, P, false));
            }
            subject.free();
            subject.reopen(subject.disk.files());
            keys.check(&subject.journal, P, false);
            // From here on the deletions of before may be gone: their keys are free of them.
            keys.latest.retain(|_, (_, value)| value.is_some());
            let held: Vec<_> = keys.latest.keys().copied().collect();
            for key in 0..24 {
                if !held.contains(&key) {
                    let mut builder = BatchBuilder::default();
                    builder.push(keys.end, Some(&[key]), Some(b"again"), &[]);
                    keys.latest.insert(key, (keys.end, Some(Bytes::from_static(b"again"))));
                    keys.end += 1;
                    let batch = builder.finish().unwrap();
                    append(&subject.journal, &mut subject.state, &[(P.0, batch)], &[]).unwrap();
                }
            }
        }
        assert!(smallest < usize::MAX);
    }
}

#[test]
fn a_deletion_stays_as_long_as_something_older_is_not_in_the_pass() {
    const P: PartitionId = PartitionId(LONG);
    let mut subject = Subject::new();
    let record = |value: Option<&[u8]>| {
        let mut builder = BatchBuilder::default();
        builder.push(1, Some(b"key"), value, &[]);
        builder.finish().unwrap()
    };
    let roll = |subject: &mut Subject, segments: u64| {
        let until = subject.journal.status().segments + segments;
        while subject.journal.status().segments < until {
            let batch = batch(&[&[7; 9000]]);
            append(&subject.journal, &mut subject.state, &[(SHORT, batch)], &[]).unwrap();
        }
        subject.drop_short();
    };
    // The first time it is not compacted: the value is in a cold segment of its own.
    append(&subject.journal, &mut subject.state, &[(P.0, record(Some(b"old")))], &[]).unwrap();
    roll(&mut subject, 3);
    subject.journal.clean_oldest().unwrap().unwrap();
    append(&subject.journal, &mut subject.state, &[(P.0, record(None))], &[]).unwrap();
    append(&subject.journal, &mut subject.state, &[(P.0, batch(&[b"no key"]))], &[]).unwrap();
    roll(&mut subject, 3);
    let retain = Retain { compact: true, deletions_ms: 0, ..Retain::default() };
    subject.journal.retain(P, retain);
    subject.journal.clean_oldest().unwrap().unwrap();
    let offsets = |subject: &Subject| {
        let offset = |bytes: &Bytes| i64::from_be_bytes(*bytes.first_chunk().unwrap());
        read_all(&subject.journal, P).iter().map(offset).collect::<Vec<_>>()
    };
    assert_eq!(offsets(&subject), [0, 1, 2]);
    subject.journal.merge_cold().unwrap().unwrap();
    assert_eq!(offsets(&subject), [2], "both are in the pass");
}

#[test]
fn compaction_stops_at_the_first_open_transaction() {
    const P: PartitionId = PartitionId(LONG);
    let mut subject = Subject::new();
    let keyed = |n: u8| {
        let mut builder = BatchBuilder::default();
        builder.push(1, Some(b"key"), Some(&[n; 3000]), &[]);
        builder.finish().unwrap()
    };
    subject.journal.retain(P, Retain { compact: true, deletions_ms: 0, ..Retain::default() });
    let one = |subject: &mut Subject, batch: Batch| {
        append(&subject.journal, &mut subject.state, &[(P.0, batch)], &[]).unwrap();
    };
    one(&mut subject, keyed(0));
    one(&mut subject, keyed(1));
    let open = keyed(2).with_producer(9, 0, 0).unwrap().in_transaction().unwrap();
    one(&mut subject, open);
    let until = subject.journal.status().segments + 3;
    while subject.journal.status().segments < until {
        one(&mut subject, keyed(3));
    }
    let end = subject.state.partition(P).log_end.0;
    subject.journal.clean_oldest().unwrap().unwrap();
    assert_eq!(read_all(&subject.journal, P).len() as i64, end - 1, "all from the open one on");
    one(&mut subject, abort(9));
    subject.journal.merge_cold().unwrap().unwrap();
    assert!((read_all(&subject.journal, P).len() as i64) < end - 1);
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

/// Reads everything of an image: what is served is right, what is not answers with an error.
fn damaged(files: Files, values: &[Bytes], what: &str) -> (usize, crate::journal::RecoveryReport) {
    let opened = open_idle(MemoryDisk::new(files), &small_options());
    let (journal, state) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(state.partition(PartitionId(LONG)).log_end.0 as usize, values.len(), "{what}");
    let mut lost = 0;
    for (offset, expected) in (0i64..).zip(values) {
        match journal.read(PartitionId(LONG), Offset(offset), 1) {
            Ok(batches) => {
                let bytes = batches.first().unwrap_or_else(|| panic!("{what}: {offset} is passed"));
                assert_eq!(bytes[..8], offset.to_be_bytes(), "{what}");
                assert_eq!(&value(bytes), expected, "{what}");
            }
            Err(ReadError::Damaged { .. } | ReadError::Io(_)) => lost += 1,
            Err(error) => panic!("{what}: {offset}: {error}"),
        }
    }
    (lost, journal.status().recovery)
}

#[test]
fn damage_to_a_cold_segment_hits_only_its_own_entry() {
    let subject = Subject::cleaned();
    subject.journal.close().unwrap();
    let files = subject.disk.files();
    let [name] = &subject.cold_files()[..] else { panic!("{:?}", subject.cold_files()) };
    let content = files.content(name).to_vec();
    let header = ColdHeader::decode(&content).unwrap();
    let entries = ALIGN as usize..header.end as usize;
    let mut parts = 0;
    // Of the entries fewer bits than of what is around them.
    let bits = (0..content.len() * 8).step_by(233);
    let bits = bits.filter(|bit| !entries.contains(&(bit / 8)) || bit % 4 == 0);
    for bit in bits {
        let at = bit / 8;
        let mut image = files.clone();
        image.damage(name, |content| content[at] ^= 1 << (bit % 8));
        let (lost, report) = damaged(image, &subject.values, &format!("byte {at}"));
        assert!(lost <= usize::from(entries.contains(&at)), "byte {at}: {lost}");
        assert_eq!(report.cold_lost, 0, "byte {at}");
        parts += report.cold_damaged;
    }
    assert!(parts > 3, "{parts}");
    for at in (0..content.len()).step_by(512) {
        let mut image = files.clone();
        image.damage(name, |content| content[at..at + 512].fill(0));
        let (lost, report) = damaged(image, &subject.values, &format!("sector at {at}"));
        // A batch has at least 500 bytes.
        assert!(lost <= if entries.contains(&at) { 3 } else { 0 }, "sector at {at}: {lost}");
        assert_eq!(report.cold_lost, 0, "sector at {at}");
    }
    // Blocks, as a disk loses them.
    for at in (0..content.len()).step_by(4096) {
        let mut image = files.clone();
        image.damage(name, |content| content[at..at + 4096].fill(0xa5));
        let (lost, _) = damaged(image, &subject.values, &format!("block at {at}"));
        assert!(lost < 12, "block at {at}: {lost}");
    }
}

#[test]
fn a_cold_segment_that_is_not_what_its_fact_says_is_lost_and_nothing_else() {
    let subject = Subject::cleaned();
    subject.journal.close().unwrap();
    let files = subject.disk.files();
    let [name] = &subject.cold_files()[..] else { panic!("{:?}", subject.cold_files()) };
    let content = files.content(name).to_vec();
    let check = |image: Files, what: &str, whole: bool| {
        let (lost, report) = damaged(image, &subject.values, what);
        assert_eq!((report.cold_lost > 0, lost > 0), (!whole, !whole), "{what}: {report:?}");
        assert!(lost < subject.values.len(), "{what}");
    };
    check(files.clone(), "nothing", true);
    let mut image = files.clone();
    image.rewire(|names| names.retain(|known, _| known != name));
    check(image, "deleted", false);
    for length in (0..content.len()).step_by(1000) {
        let mut image = files.clone();
        image.damage(name, |content| content.truncate(length));
        let (lost, _) = damaged(image, &subject.values, &format!("cut at {length}"));
        assert!(lost < subject.values.len());
    }
    // Another's: an older one of the same journal under this name.
    let mut other = Subject::cleaned();
    other.fill(3);
    other.drop_short();
    other.journal.clean_oldest().unwrap().unwrap();
    let names = other.cold_files();
    let foreign = other.disk.files().content(names.last().unwrap()).to_vec();
    let mut image = files.clone();
    image.damage(name, |content| *content = foreign);
    check(image, "of another place", false);
    // Both chunks.
    let end = ColdHeader::decode(&content).unwrap().end as usize;
    let mut image = files.clone();
    image.damage(name, |content| content[end..].fill(0));
    check(image, "no chunk", false);
    // A file that nobody knows goes, with an open journal's next one not under its name.
    let mut image = files.clone();
    image.add("cold/00000000000000ff.cold", b"nothing");
    image.add("cold/note.txt", b"left alone");
    let disk = MemoryDisk::new(image);
    let (journal, _) = open(disk.clone(), &small_options()).unwrap();
    assert_eq!(journal.status().recovery.cold_leftover, 1);
    let names = disk.files().names();
    assert!(!names.contains(&"cold/00000000000000ff.cold".to_owned()));
    assert!(names.contains(&"cold/note.txt".to_owned()) && names.contains(name));
}

#[test]
fn a_fact_lost_to_damage_does_not_take_its_cold_segment_along() {
    // The fact in the range that is replayed: every frame behind the newest snapshot is damaged in turn.
    let subject = Subject::cleaned();
    subject.journal.close().unwrap();
    let files = subject.disk.files();
    let segments: Vec<_> =
        files.names().into_iter().filter(|name| name.ends_with(".seg")).collect();
    let mut adopted = 0;
    for name in &segments {
        for at in (4096..files.content(name).len()).step_by(4096) {
            let mut image = files.clone();
            image.rewire(|names| names.retain(|name, _| !name.ends_with(".idx")));
            if image.content(name)[at..at + 4096].iter().all(|&byte| byte == 0) {
                continue;
            }
            image.damage(name, |content| content[at + 64..at + 4096].fill(0));
            let disk = MemoryDisk::new(image);
            let (journal, _) = open(disk.clone(), &small_options()).unwrap();
            let report = journal.status().recovery;
            assert_eq!(report.cold_lost, 0);
            let first = journal.read(PartitionId(LONG), Offset(0), 1);
            assert_eq!(value(&first.unwrap()[0]), subject.values[0], "{name} {at} {report:?}");
            if report.cold_adopted > 0 {
                adopted += 1;
                // From now on the fact is there again.
                drop(journal);
                let files = disk.files().after(Cut::Nothing);
                let again = MemoryDisk::new(files);
                let (journal, state) = open(again, &small_options()).unwrap();
                assert_eq!(journal.status().cold_segments, 1);
                let facts = state.facts(crate::journal::Space::JOURNAL);
                assert!(facts.into_iter().any(|(key, _)| key[0] == 2));
            }
        }
    }
    assert!(adopted > 0, "no damage hit the fact");
}

#[test]
fn what_is_damaged_is_not_cleaned_and_holds_up_nothing_before_it() {
    let mut subject = Subject::new();
    subject.fill(5);
    subject.drop_short();
    subject.journal.close().unwrap();
    let mut files = subject.disk.files();
    let names = files.names();
    let mut segments = names.iter().filter(|name| name.ends_with(".seg"));
    // A batch of the second segment that lives on.
    let second = segments.nth(1).unwrap();
    files.damage(second, |content| {
        let at = content
            .windows(300)
            .position(|bytes| bytes[0] > 7 && bytes.iter().all(|&byte| byte == bytes[0]));
        content[at.unwrap()] ^= 1;
    });
    subject.reopen(files);
    // Its snapshot is the second one.
    subject.drop_short();
    // Together they fail; the first alone goes.
    let error = subject.journal.clean_oldest().unwrap_err();
    assert!(matches!(error, CleanError::Damaged { .. }), "{error}");
    assert!(subject.cold_files().is_empty());
    let cleaned = subject.journal.clean_oldest().unwrap().unwrap();
    assert_eq!(cleaned.segments, 1);
    assert_eq!(subject.journal.clean_oldest().unwrap(), None);
    let mut lost = 0;
    for offset in 0..subject.values.len() as i64 {
        match subject.journal.read(PartitionId(LONG), Offset(offset), 1) {
            Ok(batches) => assert_eq!(value(&batches[0]), subject.values[offset as usize]),
            Err(ReadError::Damaged { .. }) => lost += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(lost, 1);
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
