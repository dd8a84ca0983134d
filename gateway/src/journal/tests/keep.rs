//! What is how old and how large, also after restarts and with clocks that step.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use super::{
    disk::MemoryDisk,
    support::{append, batch, small_options},
};
use crate::journal::{
    Clock, ClockQuality, Fact, Held, Journal, JournalOptions, Moment, Offset, PartitionId, State,
    open,
};

const P: PartitionId = PartitionId(1);
const Q: PartitionId = PartitionId(2);
const HOUR_MS: u64 = 3_600_000;

/// Clocks that go where the test wants.
#[derive(Debug, Default)]
struct Hands {
    monotonic_ms: AtomicU64,
    unix_ms: AtomicI64,
}

impl Clock for Hands {
    fn now(&self) -> Moment {
        Moment {
            unix_ms: self.unix_ms.load(Ordering::Relaxed),
            quality: ClockQuality::Synchronised,
            monotonic_ms: self.monotonic_ms.load(Ordering::Relaxed),
        }
    }
}

fn options(hands: &Arc<Hands>) -> JournalOptions {
    JournalOptions { clock: Arc::clone(hands) as Arc<dyn Clock>, ..small_options() }
}

fn aged(journal: &Journal, partition: PartitionId, open_ms: u64) -> i64 {
    journal.appended_by(partition, open_ms).expect("readable").0
}

/// One batch of 12,000 bytes an hour; four fill a segment.
fn hourly(journal: &Journal, state: &mut State, hands: &Hands, hours: u64) {
    for _ in 0..hours {
        append(journal, state, &[(P.0, batch(&[&[7; 12_000]]))], &[]).unwrap();
        hands.monotonic_ms.fetch_add(HOUR_MS, Ordering::Relaxed);
    }
}

#[test]
fn data_ages_by_the_time_that_passed_and_by_nothing_else() {
    let (disk, hands) = (MemoryDisk::default(), Arc::new(Hands::default()));
    let (journal, mut state) = open(disk.clone(), &options(&hands)).unwrap();
    hourly(&journal, &mut state, &hands, 10);
    let check = |journal: &Journal| {
        for hours in 0..10 {
            assert_eq!(aged(journal, P, hours * HOUR_MS), hours as i64 + 1, "{hours}");
            // Nothing was appended in between.
            assert_eq!(aged(journal, P, hours * HOUR_MS + HOUR_MS / 2), hours as i64 + 1);
        }
        assert_eq!(aged(journal, P, u64::MAX), 10);
        assert_eq!(aged(journal, Q, u64::MAX), 0);
    };
    check(&journal);
    // The wall clock steps by ten years, there and back: nobody is older.
    for step in [315_360_000_000, -630_720_000_000] {
        hands.unix_ms.fetch_add(step, Ordering::Relaxed);
        check(&journal);
    }
    append(&journal, &mut state, &[], &[Fact::log_start(P, Offset(4))]).unwrap();
    assert_eq!(aged(&journal, P, HOUR_MS), 4, "not before the log start");
    journal.close().unwrap();
    drop(journal);

    // The machine was off for a year, and its monotonic clock begins anew.
    hands.monotonic_ms.store(5, Ordering::Relaxed);
    hands.unix_ms.fetch_add(31_536_000_000, Ordering::Relaxed);
    let (journal, _) = open(disk, &options(&hands)).unwrap();
    assert!(journal.open_ms() < 11 * HOUR_MS, "time that it was off does not count");
    for hours in 0..10 {
        let found = aged(&journal, P, hours * HOUR_MS);
        // Marks are as close as the chunks of the index files: here four batches.
        assert!(found <= (hours as i64 + 1).max(4), "{found} after {hours} h are too young");
        assert!(found >= hours as i64 + 1 - 4, "{found} after {hours} h: too coarse");
    }
    assert_eq!(aged(&journal, P, 10 * HOUR_MS), 10);
}

/// Copies tell how old they are, also copies of copies, and after a restart.
#[test]
fn what_was_cleaned_comes_of_age_too() {
    let (disk, hands) = (MemoryDisk::default(), Arc::new(Hands::default()));
    let (mut journal, mut state) = open(disk.clone(), &options(&hands)).unwrap();
    for _ in 0..48 {
        let batches = [(P.0, batch(&[&[7; 12_000]])), (Q.0, batch(&[&[1; 100]]))];
        append(&journal, &mut state, &batches, &[]).unwrap();
        hands.monotonic_ms.fetch_add(HOUR_MS, Ordering::Relaxed);
    }
    let check = |journal: &Journal, from: i64| {
        for hours in 0..48 {
            let found = aged(journal, Q, hours as u64 * HOUR_MS);
            assert!(found <= (hours + 1).max(from), "{found} after {hours} h are too young");
            // Marks are as close as segments end, or as an eighth of what was copied.
            assert!(found >= (hours + 1 - 8).max(from), "{found} after {hours} h: too coarse");
        }
        let bytes = batch(&[&[1; 100]]).len() as u64;
        assert_eq!(journal.newest_bytes(Q, 40 * bytes).expect("readable"), Offset(8));
    };
    for (step, end) in [(1, 12), (2, 24), (3, 36), (4, 40)] {
        append(&journal, &mut state, &[], &[Fact::log_start(P, Offset(end))]).unwrap();
        journal.clean_oldest().unwrap().unwrap();
        check(&journal, 0);
        if step == 3 {
            journal.merge_cold().unwrap().unwrap();
            check(&journal, 0);
            assert_eq!(journal.status().cold_segments, 1);
        }
        journal.close().unwrap();
        drop(journal);
        hands.monotonic_ms.store(step, Ordering::Relaxed);
        (journal, state) = open(disk.clone(), &options(&hands)).unwrap();
        check(&journal, 0);
    }
    append(&journal, &mut state, &[], &[Fact::log_start(Q, Offset(7))]).unwrap();
    check(&journal, 7);
}

#[test]
fn the_newest_bytes_begin_at_a_batch() {
    let (disk, hands) = (MemoryDisk::default(), Arc::new(Hands::default()));
    let (journal, mut state) = open(disk.clone(), &options(&hands)).unwrap();
    let one = batch(&[&[7; 12_000]]).len() as u64;
    for n in 0..10 {
        let batches = [(P.0, batch(&[&[7; 12_000]])), (Q.0, batch(&[&[n]]))];
        append(&journal, &mut state, &batches, &[]).unwrap();
    }
    let check = |journal: &Journal| {
        let from = |bytes| journal.newest_bytes(P, bytes).expect("readable").0;
        for batches in 0..10u64 {
            let expect = 10 - batches as i64;
            assert_eq!(from(one * batches), expect, "{batches}");
            // At least so many bytes stay: one more needs one more batch.
            assert_eq!(from(one * batches + 1), expect - 1, "{batches}");
        }
        assert_eq!((from(one * 10), from(u64::MAX)), (0, 0));
        assert_eq!(journal.newest_bytes(PartitionId(77), 0).expect("readable"), Offset(0));
    };
    check(&journal);
    journal.close().unwrap();
    drop(journal);
    let (journal, mut state) = open(disk, &options(&hands)).unwrap();
    check(&journal);
    append(&journal, &mut state, &[], &[Fact::log_start(P, Offset(5))]).unwrap();
    assert_eq!(journal.newest_bytes(P, u64::MAX).expect("readable"), Offset(5));
    assert_eq!(journal.newest_bytes(P, one).expect("readable"), Offset(9));
}

#[test]
fn who_holds_the_oldest_segments_is_told() {
    let hands = Arc::new(Hands::default());
    let (journal, mut state) = open(MemoryDisk::default(), &options(&hands)).unwrap();
    append(&journal, &mut state, &[(Q.0, batch(&[b"x"]))], &[]).unwrap();
    hourly(&journal, &mut state, &hands, 18);
    let held = |partition, end| (partition, Offset(end));
    let found = |journal: &Journal, most| -> Vec<Vec<(PartitionId, Offset)>> {
        let holdings = journal.holdings(most);
        let live = |live: Vec<Held>| {
            let mut live: Vec<_> = live.iter().map(|it| (it.partition, it.end)).collect();
            live.sort();
            live
        };
        holdings.into_iter().map(|holding| live(holding.live)).collect()
    };
    let all = found(&journal, 99);
    assert!(all.len() >= 2, "{all:?}");
    assert_eq!(all[0][1], held(Q, 1));
    let end = all[0][0].1;
    assert!(found(&journal, 1) == all[..1]);
    append(&journal, &mut state, &[], &[Fact::log_start(P, end)]).unwrap();
    assert_eq!(found(&journal, 1), [[held(Q, 1)]]);
    append(&journal, &mut state, &[], &[Fact::log_start(Q, Offset(1))]).unwrap();
    assert_eq!(found(&journal, 1), [[]]);
    assert_eq!(journal.retire().unwrap(), 1);
    assert_eq!(found(&journal, 99), all[1..]);
}

/// Index files may be written although segments took all that they may.
#[test]
fn a_full_journal_has_its_index_files() {
    const SEGMENT: u64 = 256 << 10;
    let options = JournalOptions {
        max_bytes: Some(64 * SEGMENT),
        segment_bytes: Some(SEGMENT),
        index_interval_bytes: SEGMENT,
        ..small_options()
    };
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &options).unwrap();
    let batches = [(P.0, batch(&[&[7; 50_000]]))];
    let next = super::support::next_append(&state, &batches, &[]).encoded_len();
    let mut refused_since = std::time::Instant::now();
    while refused_since.elapsed() < std::time::Duration::from_millis(300) {
        if let Ok(permit) = journal.admit(next) {
            drop(permit);
            append(&journal, &mut state, &batches, &[]).unwrap();
            refused_since = std::time::Instant::now();
        }
        std::thread::yield_now();
    }
    assert!(journal.status().segments > 50, "{:?}", journal.status());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    // All but the one in use.
    while journal.status().unindexed_bytes > SEGMENT {
        assert!(std::time::Instant::now() < deadline, "{:?}", journal.status());
        std::thread::yield_now();
    }
    journal.close().unwrap();
    assert_eq!(journal.status().index_errors, 0);
    drop(journal);
    let (journal, _) = open(disk, &options).unwrap();
    let report = journal.status().recovery;
    assert!(report.index_missing <= 1, "{report:?}");
}
