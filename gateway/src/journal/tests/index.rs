//! Index files: they change no answer, whatever happens to them, and bound what an opening scans.

use std::time::{Duration, Instant};

use super::{
    disk::{Files, MemoryDisk, Random},
    model::{Model, random_append, read_all},
    support::{admit, append, batch, block_on, small_options},
};
use crate::journal::{
    Journal, JournalId, JournalOptions, Offset, PartitionId, RecoveryReport, State,
    handle::open_idle, open,
};

/// A killed journal of some segments with index files, and what it holds.
struct Sample {
    files: Files,
    model: Model,
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !reached() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

impl Sample {
    fn new(seed: u64) -> Self {
        let disk = MemoryDisk::default();
        let mut model = Model::new();
        let mut random = Random(seed);
        for round in 0..2 {
            let (journal, _) = open(disk.clone(), &small_options()).unwrap();
            for _ in 0..30 {
                let append = random_append(model.last(), &mut random, 3000);
                let permit = admit(&journal, append.encoded_len());
                model.push(append.clone());
                block_on(journal.append(permit, append)).unwrap();
            }
            if round == 0 {
                journal.close().unwrap();
            } else {
                until("the segments are indexed", || {
                    journal.status().unindexed_bytes < small_options().index_interval_bytes
                });
                return Self { files: disk.files(), model };
            }
        }
        unreachable!("the second round returns")
    }

    fn indexes(&self) -> Vec<String> {
        self.files.names().into_iter().filter(|name| name.ends_with(".idx")).collect()
    }

    /// Opens a changed copy: state and records are those of the model.
    fn check(&self, what: &str, change: impl FnOnce(&mut Files)) -> RecoveryReport {
        let mut files = self.files.clone();
        change(&mut files);
        let (journal, state) = open_idle(MemoryDisk::new(files), &small_options())
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            assert_eq!(self.model.check(&journal, &state, self.model.len()), self.model.len());
        }));
        assert!(checked.is_ok(), "{what}: see above");
        let report = journal.status().recovery;
        assert_eq!((report.damaged_ranges, report.broken_chains), (0, 0), "{what}");
        report
    }
}

#[test]
fn every_index_file_is_used() {
    let sample = Sample::new(1);
    let indexes = sample.indexes();
    assert!(indexes.len() > 3, "{indexes:?}");
    let with = sample.check("as it is", |_| {});
    assert_eq!((with.index_missing, with.index_damaged, with.index_stale), (0, 0, 0));
    let without = sample.check("without", |files| {
        files.rewire(|names| names.retain(|name, _| !name.ends_with(".idx")));
    });
    assert_eq!(without.index_missing, indexes.len() as u64);
    assert_eq!(without.indexed_bytes, 0);
    let log = without.scanned_bytes;
    assert!(with.indexed_bytes > log / 2, "{with:?}, without {without:?}");
}

#[test]
fn any_damage_of_an_index_file_changes_no_answer() {
    let sample = Sample::new(2);
    let mut random = Random(3);
    let (mut flips, mut noticed) = (0, 0);
    for name in sample.indexes() {
        let length = sample.files.content(&name).len();
        for at in (random.below(97) as usize..length).step_by(97) {
            let bit = 1 << random.below(8);
            let what = format!("{name}, byte {at}, bit {bit:#x}");
            let report = sample.check(&what, |files| files.damage(&name, |all| all[at] ^= bit));
            flips += 1;
            noticed += report.index_damaged + report.index_stale;
        }
        for at in (0..length).step_by(512) {
            let what = format!("{name}, sector at {at} zeroed");
            sample.check(&what, |files| files.damage(&name, |all| all[at..at + 512].fill(0)));
        }
        for at in (0..length).step_by(1500) {
            let what = format!("{name}, cut off at {at}");
            sample.check(&what, |files| files.damage(&name, |all| all.truncate(at)));
        }
        let report = sample.check(&format!("{name} deleted"), |files| {
            files.rewire(|names| assert!(names.remove(&name).is_some()));
        });
        assert_eq!(report.index_missing, 1, "{name}");
    }
    assert!(flips > 150, "{flips}");
    // The rest hit padding, or chunks of segments whose summary is enough.
    assert!(noticed > 5, "{noticed} of {flips}");
}

#[test]
fn an_index_of_another_segment_journal_or_time_is_not_believed() {
    let sample = Sample::new(4);
    let names = sample.indexes();
    for pair in names.windows(2) {
        let report = sample.check(&format!("{pair:?} swapped"), |files| {
            let (one, other) = (files.content(&pair[0]).to_vec(), files.content(&pair[1]).to_vec());
            files.damage(&pair[0], |all| *all = other);
            files.damage(&pair[1], |all| *all = one);
        });
        assert_eq!(report.index_stale, 2, "{pair:?}: {report:?}");
    }

    let other = MemoryDisk::default();
    let options = JournalOptions { new_id: Some(JournalId([7; 16])), ..small_options() };
    let (journal, mut state) = open(other.clone(), &options).unwrap();
    append(&journal, &mut state, &[(1, batch(&[b"of another journal"]))], &[]).unwrap();
    journal.close().unwrap();
    let foreign = other.files().content("journal/0000000000000001.idx").to_vec();
    let first = &names[0];
    let report = sample.check("foreign", |files| files.damage(first, |all| *all = foreign));
    assert_eq!(report.index_damaged, 1);

    let leftover = "journal/00000000000000f0.idx";
    let report = sample.check("leftover", |files| files.add(leftover, b"left"));
    assert_eq!(report.index_leftover, 1);
}

#[test]
fn a_leftover_index_is_removed_and_its_sequence_not_used_again() {
    let sample = Sample::new(5);
    let mut files = sample.files;
    files.add("journal/00000000000000f0.idx", b"left");
    let disk = MemoryDisk::new(files);
    let (journal, _) = open(disk.clone(), &small_options()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !disk.files().names().contains(&"journal/00000000000000f1.seg".to_owned()) {
        assert!(Instant::now() < deadline, "the next file is prepared");
        std::thread::yield_now();
    }
    journal.close().unwrap();
    let names = disk.files().names();
    assert!(!names.contains(&"journal/00000000000000f0.idx".to_owned()), "{names:?}");
    assert!(names.contains(&"journal/00000000000000f1.seg".to_owned()), "{names:?}");
}

#[test]
fn a_log_older_than_its_index_is_scanned() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    append(&journal, &mut state, &[(1, batch(&[b"kept"]))], &[]).unwrap();
    let older = disk.files().content("journal/0000000000000001.seg").to_vec();
    for _ in 0..3 {
        append(&journal, &mut state, &[(1, batch(&[b"gone"]))], &[]).unwrap();
    }
    journal.close().unwrap();
    let mut files = disk.files();
    files.damage("journal/0000000000000001.seg", |all| *all = older);
    let (journal, state) = open(MemoryDisk::new(files), &small_options()).unwrap();
    assert_eq!(journal.status().recovery.index_stale, 1);
    assert_eq!(state.partition(PartitionId(1)).log_end, Offset(1));
    assert_eq!(read_all(&journal, PartitionId(1)).len(), 1);
}

#[test]
fn what_an_index_lacks_is_written_in_the_background() {
    let sample = Sample::new(6);
    let mut files = sample.files.clone();
    files.rewire(|names| names.retain(|name, _| !name.ends_with(".idx")));
    let disk = MemoryDisk::new(files);
    let (journal, _) = open(disk.clone(), &small_options()).unwrap();
    until("covered", || journal.status().unindexed_bytes < 16 << 10);
    let killed = disk.files();
    drop(journal);
    let (journal, state) = open_idle(MemoryDisk::new(killed), &small_options()).unwrap();
    assert_eq!(sample.model.check(&journal, &state, sample.model.len()), sample.model.len());
    // The segment in use is too young for one.
    assert!(journal.status().recovery.index_missing <= 1, "{:?}", journal.status().recovery);
}

#[test]
fn an_opening_after_a_kill_scans_the_same_however_long_the_log_is() {
    const INTERVAL: u64 = 64 << 10;
    let options = JournalOptions {
        max_bytes: Some(256 << 20),
        segment_bytes: Some(4 << 20),
        index_interval_bytes: INTERVAL,
        ..small_options()
    };
    let scanned = [3, 12].map(|segments| {
        let disk = MemoryDisk::default();
        let (journal, mut state) = open(disk.clone(), &options).unwrap();
        while journal.status().written_bytes < segments * (4 << 20) + (2 << 20) {
            let value = vec![7; 30_000];
            append(&journal, &mut state, &[(1, batch(&[&value]))], &[]).unwrap();
        }
        until("covered", || journal.status().unindexed_bytes < INTERVAL);
        let killed = disk.files();
        drop(journal);
        let (journal, reopened): (Journal, State) =
            open_idle(MemoryDisk::new(killed), &options).unwrap();
        assert_eq!(reopened.content(), state.content());
        let report = journal.status().recovery;
        assert_eq!((report.index_missing, report.index_damaged, report.index_stale), (0, 0, 0));
        assert!(report.indexed_bytes > segments * (4 << 20), "{report:?}");
        report.scanned_bytes
    });
    // One read-ahead window each for what follows the last chunk and for the search behind it.
    assert!(scanned[1] <= INTERVAL + (2 << 20), "{scanned:?}");
    assert!(scanned[1] <= scanned[0] + (1 << 20), "{scanned:?}");
}

#[test]
fn a_cache_of_one_byte_answers_right() {
    let sample = Sample::new(8);
    let options = JournalOptions { index_cache_bytes: 1, ..small_options() };
    let (journal, state) = open_idle(MemoryDisk::new(sample.files.clone()), &options).unwrap();
    sample.model.check(&journal, &state, sample.model.len());
    assert_eq!(journal.status().index_cache_bytes, 0);
    let (journal, state) = open_idle(MemoryDisk::new(sample.files), &small_options()).unwrap();
    sample.model.check(&journal, &state, sample.model.len());
    let held = journal.status().index_cache_bytes;
    assert!(held > 0 && held <= 8 << 20, "{held}");
}

#[test]
fn an_error_of_an_index_file_is_counted_and_poisons_nothing() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    let value = vec![1; 3000];
    disk.refuse_to_create(".idx");
    for _ in 0..60 {
        append(&journal, &mut state, &[(1, batch(&[&value]))], &[]).unwrap();
    }
    until("counted", || journal.status().index_errors > 2);
    assert!(journal.status().poisoned.is_none());
    assert_eq!(read_all(&journal, PartitionId(1)).len(), 60);
    journal.close().unwrap();
    let (journal, reopened) = open(MemoryDisk::new(disk.files()), &small_options()).unwrap();
    assert_eq!(reopened.content(), state.content());
    assert_eq!(read_all(&journal, PartitionId(1)).len(), 60);
}
