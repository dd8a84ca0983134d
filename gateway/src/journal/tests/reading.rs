//! The read path: fresh data from memory, files on threads of the journal's own, passes in journal order.

use std::{pin::pin, thread};

use super::{
    disk::MemoryDisk,
    model::read_all,
    support::{admit, append, batch, block_on, next_append, small_options},
};
use crate::journal::{
    Journal, JournalOptions, Offset, PartitionId, Position, ReadError, Scanned, State, open,
};

const P: PartitionId = PartitionId(1);

fn filled(options: &JournalOptions, batches: u8) -> (MemoryDisk, Journal, State) {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), options).unwrap();
    for n in 0..batches {
        append(&journal, &mut state, &[(1, batch(&[&[n; 3000]]))], &[]).unwrap();
    }
    (disk, journal, state)
}

/// From now on no block of any segment can be read.
fn make_unreadable(disk: &MemoryDisk) {
    let files = disk.files();
    for name in files.names() {
        for at in (0..files.content(&name).len()).step_by(4096) {
            disk.make_unreadable(&name, at);
        }
    }
}

#[test]
fn fresh_data_is_read_without_any_file() {
    let (disk, journal, _) = filled(&small_options(), 40);
    make_unreadable(&disk);
    assert_eq!(read_all(&journal, P).len(), 40);
    assert!(journal.read_memory(P, Offset(3), 1).is_some());
    assert!(journal.batch_at_time(P, i64::MIN).unwrap().is_some());
    let status = journal.status();
    assert!(status.tail_bytes > 100_000, "{status:?}");
}

#[test]
fn the_tail_stays_within_its_budget_and_the_rest_comes_from_files() {
    let options = JournalOptions { tail_bytes: 10_000, ..small_options() };
    let (disk, journal, _) = filled(&options, 40);
    assert!(journal.status().tail_bytes <= 10_000);
    assert!(journal.read_memory(P, Offset(39), 1).is_some());
    assert!(journal.read_memory(P, Offset(3), 1).is_none());
    assert_eq!(block_on(journal.read_async(P, Offset(3), 10_000)).unwrap().len(), 3);
    assert_eq!(read_all(&journal, P).len(), 40);
    make_unreadable(&disk);
    assert!(matches!(journal.read(P, Offset(3), 1), Err(ReadError::Io(_))));
    assert_eq!(journal.read(P, Offset(39), 1).unwrap().len(), 1);
}

#[test]
fn files_are_read_on_threads_of_the_journal() {
    let options = JournalOptions { tail_bytes: 0, ..small_options() };
    let (_, journal, _) = filled(&options, 5);
    let name = block_on(journal.off_worker(|_| Ok(thread::current().name().map(str::to_owned))));
    assert!(name.unwrap().unwrap().starts_with("journal-read-"));
    assert_eq!(block_on(journal.read_async(P, Offset(0), 1 << 20)).unwrap().len(), 5);
    // Also when nothing is written any more.
    journal.close().unwrap();
    assert_eq!(block_on(journal.read_async(P, Offset(0), 1 << 20)).unwrap().len(), 5);
}

#[test]
fn the_last_handle_may_be_dropped_by_a_read() {
    let (disk, journal, _) = filled(&small_options(), 3);
    let (asked, let_go) = std::sync::mpsc::channel::<()>();
    let other = journal.clone();
    let reading = thread::spawn(move || {
        let mut read = Box::pin(other.off_worker(move |_| {
            let_go.recv().ok();
            Ok(())
        }));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(read.as_mut().poll(&mut context).is_pending());
        // Given up; the journal goes with the read that is still under way.
        drop(read);
    });
    reading.join().unwrap();
    drop(journal);
    drop(asked);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while disk.handles() > 1 {
        assert!(std::time::Instant::now() < deadline, "the journal was not let go");
        thread::yield_now();
    }
}

#[test]
fn a_pass_meets_every_wanted_batch_in_order_and_nothing_undurable() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    for n in 0..60u8 {
        append(&journal, &mut state, &[(u32::from(n % 3), batch(&[&[n; 2000]]))], &[]).unwrap();
    }
    disk.hold_syncs();
    let next = next_append(&state, &[(1, batch(&[b"not durable"]))], &[]);
    let permit = admit(&journal, next.encoded_len());
    let ticket = pin!(journal.append(permit, next));
    disk.until_a_sync_waits();

    let mut scan = journal.scan(Position(0), [PartitionId(0), P]);
    let mut values = Vec::new();
    loop {
        let (goes_on, found) = block_on(journal.scan_next(scan, 5000)).unwrap();
        scan = goes_on;
        if found.is_empty() {
            break;
        }
        for item in found {
            let Scanned::Batch { partition, bytes, .. } = item else { panic!("{item:?}") };
            values.push((partition, bytes[bytes.len() - 2]));
        }
    }
    let expected: Vec<_> =
        (0..60u8).filter(|n| n % 3 < 2).map(|n| (PartitionId(u32::from(n % 3)), n)).collect();
    assert_eq!(values, expected);
    disk.let_syncs_go();
    block_on(ticket).unwrap();
    let more = scan.next(&journal, 1).unwrap();
    assert!(matches!(&more[..], [Scanned::Batch { base_offset: Offset(20), .. }]), "{more:?}");
    assert!(scan.next(&journal, 1).unwrap().is_empty());

    // From where an offset's segment begins, not from the start of everything.
    let position = journal.position_of(P, Offset(19)).unwrap();
    assert!(position > journal.position_of(P, Offset(0)).unwrap());
    let mut later = journal.scan(position, [P]);
    let found = later.next(&journal, usize::MAX).unwrap();
    assert!(found.len() < 20 && found.len() >= 2, "{}", found.len());
}

#[test]
fn a_pass_tells_of_damage_and_goes_on_behind_it() {
    let (disk, journal, _) = filled(&small_options(), 10);
    journal.close().unwrap();
    let stored = journal.read(P, Offset(4), 1).unwrap().remove(0);
    drop(journal);
    let mut files = disk.files();
    files.damage("journal/0000000000000001.seg", |all| {
        let at = all.windows(stored.len()).position(|bytes| bytes == &stored[..]).unwrap();
        all[at + 100] ^= 1;
    });
    let (journal, _) = open(MemoryDisk::new(files), &small_options()).unwrap();
    let found = journal.scan(Position(0), []).next(&journal, usize::MAX).unwrap();
    let damaged = found.iter().filter(|item| matches!(item, Scanned::Damaged { .. })).count();
    assert_eq!((damaged, found.len()), (1, 10));
}
