//! The journal as a service: group commit, order, limits, closing, one process per folder.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Waker},
};

use super::{
    disk::MemoryDisk,
    model::read_all,
    support::{admit, append, batch, block_on, fact, next_append, small_options},
};
use crate::{
    journal::{
        AdmitError, Append, Disk, JournalId, JournalOptions, LockError, Offset, OpenError,
        PartitionId, RealDisk, State, format::SegmentHeader, open, recovery, segment::Segment,
    },
    record::Batch,
};

const P: PartitionId = PartitionId(1);

#[test]
fn appends_gather_while_the_disk_works() {
    const THREADS: usize = 100;
    const APPENDS: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let options = JournalOptions { max_bytes: Some(64 << 20), ..JournalOptions::default() };
    let (journal, state) = open(RealDisk::open(folder.path()).unwrap(), &options).unwrap();
    let state = Arc::new(Mutex::new(state));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (journal, state) = (&journal, &state);
            scope.spawn(move || {
                for n in 0..APPENDS {
                    let value = format!("{thread} {n}");
                    let ticket = {
                        let mut state = state.lock().unwrap();
                        let next = next_append(&state, &[(1, batch(&[value.as_bytes()]))], &[]);
                        let permit = admit(journal, next.encoded_len());
                        state.apply_append(&next, 0);
                        journal.append(permit, next)
                    };
                    block_on(ticket).unwrap();
                }
            });
        }
    });
    let total = THREADS * APPENDS;
    let frames = journal.status().frames as usize;
    assert!(frames * 4 < total, "{frames} frames for {total} appends");
    let mut next = vec![0; THREADS];
    for bytes in read_all(&journal, P) {
        let batch = Batch::parse_stored(bytes).unwrap();
        let value = batch.records(1 << 20).unwrap()[0].value.clone().unwrap();
        let text = String::from_utf8(value.to_vec()).unwrap();
        let (thread, n) = text.split_once(' ').unwrap();
        let thread: usize = thread.parse().unwrap();
        assert_eq!(n.parse::<usize>().unwrap(), next[thread], "in order per appender");
        next[thread] += 1;
    }
    assert!(next.iter().all(|&count| count == APPENDS));
}

#[test]
fn nothing_is_seen_before_its_sync_returned() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    append(&journal, &mut state, &[(1, batch(&[b"before"]))], &[]).unwrap();
    disk.hold_syncs();
    let next = next_append(&state, &[(1, batch(&[b"during"]))], &[]);
    let permit = admit(&journal, next.encoded_len());
    let mut ticket = pin!(journal.append(permit, next));
    disk.until_a_sync_waits();
    let wants = [(P, Offset(1))];
    let mut waiting = pin!(journal.wait_durable(&wants));
    let context = &mut Context::from_waker(Waker::noop());
    assert!(ticket.as_mut().poll(context).is_pending());
    assert!(waiting.as_mut().poll(context).is_pending());
    assert_eq!(journal.durable_end(P), Offset(1));
    assert_eq!(read_all(&journal, P).len(), 1);
    assert_eq!(journal.batch_at_time(P, i64::MIN).unwrap().map(|bytes| bytes[7]), Some(0));
    disk.let_syncs_go();
    block_on(ticket).unwrap();
    block_on(waiting);
    assert_eq!(read_all(&journal, P).len(), 2);
}

#[test]
fn an_append_is_atomic_whatever_is_in_it() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    let batches: Vec<_> = (0..5).map(|n| (n % 2, batch(&[&[n as u8; 100]]))).collect();
    append(&journal, &mut state, &batches, &[fact(b"a", Some(b"1")), fact(b"a", None)]).unwrap();
    assert_eq!(journal.durable_end(PartitionId(0)), Offset(3));
    assert_eq!(journal.durable_end(PartitionId(1)), Offset(2));
    assert_eq!(journal.status().written_bytes % 4096, 0);
    let journal_is_closed = journal.close();
    assert!(journal_is_closed.is_ok());
    let (_, reopened) = open(disk, &small_options()).unwrap();
    assert_eq!(reopened.content(), state.content());
}

#[test]
fn the_largest_append_fits_and_a_larger_one_is_refused() {
    let (journal, mut state) = open(MemoryDisk::default(), &small_options()).unwrap();
    let limit = journal.max_append_bytes();
    let overhead = Append::batch_len(batch(&[&[0; 20_000]]).len()) - 20_000;
    let largest = batch(&[&vec![7; limit - overhead - 8]]);
    let bytes = Append::batch_len(largest.len());
    assert!((limit - 16..=limit).contains(&bytes), "{bytes} of {limit}");
    for _ in 0..20 {
        append(&journal, &mut state, &[(1, largest.clone())], &[]).unwrap();
    }
    assert_eq!(read_all(&journal, P).len(), 20);
    let refused = journal.admit(limit + 1);
    assert!(matches!(refused, Err(AdmitError::TooLarge { .. })));
}

#[test]
fn a_segment_that_is_left_holds_its_whole_snapshot() {
    let disk = MemoryDisk::default();
    let options = JournalOptions {
        slice_bytes: 2000,
        state_max_bytes: Some(16 << 10),
        segment_bytes: Some(128 << 10),
        ..small_options()
    };
    let (journal, mut state) = open(disk.clone(), &options).unwrap();
    for n in 0..10u8 {
        append(&journal, &mut state, &[], &[fact(&[n], Some(&[n; 900]))]).unwrap();
    }
    // Two appends fill a segment: before the third, all slices have to be written at once.
    for _ in 0..12 {
        append(&journal, &mut state, &[(1, batch(&[&[7; 45_000]]))], &[]).unwrap();
    }
    journal.close().unwrap();
    let files = disk.files();
    let mut complete = 0;
    for name in files.names() {
        let content = files.content(&name);
        let Ok(header) = SegmentHeader::decode(content) else { continue };
        let file = disk.open(&name).unwrap();
        let segment = Segment { file, header };
        complete += usize::from(recovery::has_snapshot(&segment, header.journal.seed()));
    }
    assert_eq!(complete as u64, journal.status().segments);
    assert!(complete > 4, "{complete}");
}

#[test]
fn the_budget_is_kept_and_full_is_back_pressure() {
    let folder = tempfile::tempdir().unwrap();
    let options = JournalOptions { max_bytes: Some(512 << 10), ..small_options() };
    let (journal, mut state) = open(RealDisk::open(folder.path()).unwrap(), &options).unwrap();
    let value = batch(&[&[1; 10_000]]);
    let mut appended = 0;
    // With index files there is room for seven segments, two of them in reserve; then Full is final.
    let full = loop {
        match journal.admit(Append::batch_len(value.len())) {
            Ok(permit) => drop(permit),
            Err(AdmitError::Full) if journal.status().used_bytes + (64 << 10) <= 512 << 10 => {
                std::thread::yield_now();
                continue;
            }
            Err(error) => break error,
        }
        append(&journal, &mut state, &[(1, value.clone())], &[]).unwrap();
        appended += 1;
    };
    assert!(matches!(full, AdmitError::Full), "{full}");
    assert!(appended >= 16, "{appended}");
    assert_eq!(journal.status().poisoned, None);
    assert_eq!(read_all(&journal, P).len(), appended);
    let on_disk: u64 = std::fs::read_dir(folder.path().join("journal"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert_eq!(on_disk, journal.status().used_bytes);
    assert!(on_disk <= 512 << 10);
}

#[test]
fn closing_writes_what_is_queued_and_refuses_what_comes_after() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    let tickets: Vec<_> = (0..10)
        .map(|n| {
            let next = next_append(&state, &[(1, batch(&[&[n; 500]]))], &[]);
            let permit = admit(&journal, next.encoded_len());
            state.apply_append(&next, 0);
            journal.append(permit, next)
        })
        .collect();
    let late = journal.admit(100).unwrap();
    journal.close().unwrap();
    for ticket in tickets {
        block_on(ticket).unwrap();
    }
    assert!(matches!(journal.admit(1), Err(AdmitError::Poisoned(_))));
    assert!(block_on(journal.append(late, Append::default())).is_err());
    assert_eq!(journal.status().poisoned, None, "closed is not broken");
    assert_eq!(read_all(&journal, P).len(), 10, "reads go on");
    assert!(journal.close().is_ok(), "twice is once");

    let (journal, reopened) = open(disk, &small_options()).unwrap();
    assert!(journal.status().recovery.clean);
    assert_eq!(reopened, state);
}

#[test]
fn epochs_tell_how_the_journal_ended() {
    let disk = MemoryDisk::default();
    let identity = |state: &State| (state.incarnation(), state.leader_epoch());
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    assert_eq!(identity(&state), (1, 0));
    append(&journal, &mut state, &[(1, batch(&[b"x"]))], &[]).unwrap();
    let killed = disk.files();
    journal.close().unwrap();
    drop(journal);

    let (journal, state) = open(disk, &small_options()).unwrap();
    assert_eq!(identity(&state), (1, 0), "an orderly end changes nothing");
    drop(journal);

    // A kill: nothing that anyone saw is lost, but whoever compares epochs is told.
    let (journal, state) = open(MemoryDisk::new(killed.clone()), &small_options()).unwrap();
    assert_eq!(identity(&state), (1, 1));
    let report = journal.status().recovery;
    assert_eq!((report.clean, report.carried_bytes), (false, 4096));
    drop(journal);

    // A torn tail: offsets may be used again.
    let mut torn = killed;
    let name = "journal/0000000000000001.seg";
    let used = torn.content(name).iter().rposition(|&byte| byte != 0).unwrap();
    torn.damage(name, |content| content[used] ^= 1);
    let disk = MemoryDisk::new(torn);
    let (journal, state) = open(disk.clone(), &small_options()).unwrap();
    assert_eq!(identity(&state), (2, 1));
    let report = journal.status().recovery;
    assert_eq!((report.torn_tails, report.torn_bytes), (1, 4096));
    assert_eq!(journal.durable_end(P), Offset(0));
    let copies: Vec<_> =
        disk.files().names().into_iter().filter(|name| name.ends_with(".torn")).collect();
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_eq!(disk.files().content(&copies[0]).len(), 4096);
}

#[test]
fn restarts_leave_nothing_behind() {
    let mut disk = MemoryDisk::default();
    let mut names = Vec::new();
    for round in 0..20 {
        let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
        if round == 0 {
            append(&journal, &mut state, &[(1, batch(&[b"x"]))], &[]).unwrap();
        }
        // Every other one is killed.
        let killed = disk.files();
        journal.close().unwrap();
        drop(journal);
        if round % 2 == 0 {
            disk = MemoryDisk::new(killed);
        }
        names = disk.files().names();
        let segments = names.iter().filter(|name| name.ends_with(".seg")).count();
        assert!(segments <= 10 && names.len() <= 2 * segments, "round {round}: {names:?}");
    }
    let (journal, state) = open(disk, &small_options()).unwrap();
    assert_eq!(state.partition(P).log_end, Offset(1), "{names:?}");
    assert_eq!(read_all(&journal, P).len(), 1);
}

#[test]
fn a_folder_has_one_user() {
    let folder = tempfile::tempdir().unwrap();
    let first = RealDisk::open(folder.path()).unwrap();
    let error = RealDisk::open(folder.path()).unwrap_err();
    let LockError::InUse { holder, .. } = &error else { panic!("{error}") };
    assert_eq!(holder, &format!("process {}", std::process::id()));
    assert!(error.to_string().contains("storage.path"), "{error}");
    drop(first);
    RealDisk::open(folder.path()).unwrap();
}

#[test]
fn what_cannot_be_opened_is_named_and_left_alone() {
    let sample = |id: &[u8; 16]| {
        let disk = MemoryDisk::default();
        let options = JournalOptions { new_id: Some(JournalId(*id)), ..small_options() };
        let (journal, mut state) = open(disk.clone(), &options).unwrap();
        append(&journal, &mut state, &[(1, batch(&[b"x"]))], &[]).unwrap();
        journal.close().unwrap();
        disk.files()
    };
    let name = "journal/0000000000000001.seg";
    let (files, other) = (sample(b"the first of two"), sample(b"and another one!"));
    let check = |files: super::disk::Files, expected: fn(&OpenError) -> bool| {
        let disk = MemoryDisk::new(files);
        let error = open(disk.clone(), &small_options()).unwrap_err();
        assert!(expected(&error), "{error}");
        assert_eq!(disk.operations(), 0, "{error}");
    };

    let mut headless = files.clone();
    headless.damage(name, |content| content[..4096].fill(0xff));
    check(headless, |error| matches!(error, OpenError::NoIdentity { .. }));

    let mut foreign = files.clone();
    foreign.add("journal/00000000000000aa.seg", other.content(name));
    check(foreign, |error| matches!(error, OpenError::Foreign { .. }));

    let mut later = files;
    later.damage(name, |content| {
        for at in [0, 2048] {
            content[at + 8] = 9;
            let seed = JournalId(*b"the first of two").seed();
            let crc = seed.crc(&content[at..at + 76]);
            content[at + 76..at + 80].copy_from_slice(&crc.to_le_bytes());
        }
    });
    check(later, |error| matches!(error, OpenError::Version { found: 9, known: 1, .. }));
}
