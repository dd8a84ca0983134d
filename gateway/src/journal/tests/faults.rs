//! Errors of the disk: at every operation, and no space.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use super::{
    disk::{Call, Cut, Event, Fault, Files, MemoryDisk, Random},
    model::{Model, random_append, read_all},
    support::{admit, append, batch, block_on, next_append, small_options},
};
use crate::journal::{
    AdmitError, Append, Journal, JournalOptions, Offset, PartitionId, State, handle::open_idle,
    open,
};

/// Appends until done or until the journal says that it stopped; then nothing may be accepted any
/// more. How many were acknowledged, and whether it stopped.
fn append_until_stopped(journal: &Journal, model: &mut Model, count: usize) -> (usize, bool) {
    let mut random = Random(7);
    let mut acked = 0;
    for _ in 0..count {
        let append = random_append(model.last(), &mut random, 2000);
        let permit = loop {
            match journal.admit(append.encoded_len()) {
                Ok(permit) => break permit,
                Err(AdmitError::Full) => std::thread::yield_now(),
                Err(AdmitError::Poisoned(_)) => return (acked, true),
                Err(error) => panic!("{error}"),
            }
        };
        model.push(append.clone());
        if block_on(journal.append(permit, append)).is_err() {
            assert!(matches!(journal.admit(1), Err(AdmitError::Poisoned(_))));
            return (acked, true);
        }
        acked = model.len();
    }
    (acked, false)
}

fn reopens(files: Files, model: &Model, acked: usize, what: &str) {
    let disk = MemoryDisk::new(files);
    let (journal, state) =
        open_idle(disk.clone(), &small_options()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = model.check(&journal, &state, acked);
    assert_eq!(journal.status().recovery.damaged_ranges, 0, "{what}");
    drop(journal);
    let (journal, state) =
        open(MemoryDisk::new(disk.files().after(Cut::Nothing)), &small_options())
            .unwrap_or_else(|error| panic!("{what}, then power cut: {error}"));
    assert_eq!(model.check(&journal, &state, found), found, "{what}, then power cut");
}

#[test]
fn an_error_of_any_call_stops_acknowledgements_and_loses_none() {
    const APPENDS: usize = 25;
    let clean = MemoryDisk::default();
    let (journal, _) = open(clean.clone(), &small_options()).unwrap();
    let done = append_until_stopped(&journal, &mut Model::new(), APPENDS);
    assert_eq!(done, (APPENDS, false));
    journal.close().unwrap();
    let mut stops = 0;
    let mut hits = 0;
    let kinds = Call::KINDS.into_iter().filter(|call| call.changes());
    for (call, at) in kinds.flat_map(|call| (0..clean.calls(call)).map(move |at| (call, at))) {
        for (sticky, kind) in
            [(false, ErrorKind::Other), (true, ErrorKind::Other), (false, ErrorKind::StorageFull)]
        {
            let fault = Fault { call, at, kind, sticky };
            let what = format!("{fault:?}");
            let disk = MemoryDisk::default().with_fault(fault);
            let mut model = Model::new();
            let mut acked = 0;
            if let Ok((journal, _)) = open(disk.clone(), &small_options()) {
                if sticky {
                    // The threads that prepare space fail too: without space nothing is admitted,
                    // which is back-pressure and not an end. Only what was prepared can be used.
                    acked = append_while_there_is_space(&journal, &mut model, APPENDS);
                } else {
                    let stopped;
                    (acked, stopped) = append_until_stopped(&journal, &mut model, APPENDS);
                    stops += usize::from(stopped);
                    if !stopped {
                        assert_eq!(acked, APPENDS, "{what}");
                    }
                    assert_eq!(journal.status().poisoned.is_some(), stopped, "{what}");
                    // Whatever fails of the file in use ends it; an index file is nothing that anyone needs.
                    let in_use = matches!(call, Call::Write | Call::Sync)
                        && disk.hit_name().is_some_and(|name| name.ends_with(".seg"));
                    assert_eq!(stopped, in_use, "{what}");
                }
                // Reads go on: everything acknowledged is there, and nothing else.
                model.check_records(&journal, acked);
                hits += usize::from(disk.was_hit());
                drop(journal);
            }
            let files = disk.files();
            reopens(files.clone(), &model, acked, &format!("{what}, killed"));
            reopens(files.after(Cut::Nothing), &model, acked, &format!("{what}, power cut"));
            reopens(files.after(Cut::Some(at as u64)), &model, acked, &format!("{what}, torn"));
        }
    }
    println!("{hits} errors met, {stops} of them in the file in use");
    assert!(stops > 40, "only {stops} faults met the file in use");
}

#[test]
fn an_error_of_any_look_at_the_disk_loses_nothing_that_was_acknowledged() {
    let disk = MemoryDisk::default();
    let (journal, _) = open(disk.clone(), &small_options()).unwrap();
    let mut model = Model::new();
    let mut random = Random(7);
    let mut moments = Vec::new();
    // Moments with one frame in the newest segment are the delicate ones.
    for _ in 0..20 {
        let append = random_append(model.last(), &mut random, 2000);
        let permit = admit(&journal, append.encoded_len());
        model.push(append.clone());
        let segments = journal.status().segments;
        block_on(journal.append(permit, append)).unwrap();
        if journal.status().segments > segments || model.len() == 3 {
            moments.push((disk.files(), model.len()));
        }
    }
    drop(journal);
    assert!(moments.len() > 1);
    let mut refused = 0;
    for (files, acked) in moments {
        let looked = MemoryDisk::new(files.clone());
        drop(open_idle(looked.clone(), &small_options()).unwrap());
        for call in [Call::Look, Call::Read] {
            for at in 0..looked.calls(call) {
                let fault = Fault::once(call, at);
                println!("{acked} appends, {fault:?}");
                let disk = MemoryDisk::new(files.clone()).with_fault(fault);
                match open_idle(disk.clone(), &small_options()) {
                    Ok((journal, state)) => {
                        model.check(&journal, &state, acked);
                    }
                    Err(_) => refused += 1,
                }
                let after = MemoryDisk::new(disk.files());
                let (journal, state) = open_idle(after, &small_options()).unwrap();
                let found = model.check(&journal, &state, acked);
                assert!(found >= acked, "{fault:?}");
            }
        }
    }
    println!("{refused} openings refused: the next one finds everything");
}

#[test]
fn an_unreadable_header_before_a_single_frame_loses_no_append() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    while journal.status().segments < 2 {
        append(&journal, &mut state, &[(0, batch(&[&[1; 9000]]))], &[]).unwrap();
    }
    let killed = disk.restarted(None);
    drop(journal);
    killed.make_unreadable("journal/0000000000000002.seg", 0);
    let (journal, reopened) = open(killed, &small_options()).unwrap();
    assert_eq!(reopened.content(), state.content());
    assert_eq!(
        read_all(&journal, PartitionId(0)).len() as i64,
        state.partition(PartitionId(0)).log_end.0
    );
    assert_eq!(journal.status().recovery.damaged_ranges, 1, "the header is damage, and told");
}

#[test]
fn a_block_that_cannot_be_written_ends_the_file_and_not_the_journal() {
    let name = "journal/0000000000000001.seg";
    // Where the frames of the appends go, one block each: the one before may be written before there is any.
    for block in 3..13 {
        let disk = MemoryDisk::default();
        let (journal, _) = open(disk.clone(), &small_options()).unwrap();
        disk.make_unwritable(name, block * 4096);
        let mut model = Model::new();
        let (acked, stopped) = append_until_stopped(&journal, &mut model, 25);
        assert!(stopped, "block {block}");
        model.check_records(&journal, acked);
        for (cut, readable) in [(None, true), (None, false), (Some(Cut::Nothing), false)] {
            // The same bad block is still there.
            let again = disk.restarted(cut);
            if !readable {
                again.make_unreadable(name, block * 4096);
            }
            let (journal, state) = open(again.clone(), &small_options()).unwrap();
            let found = model.check(&journal, &state, acked);
            assert_eq!(journal.status().recovery.damaged_ranges, 0);
            let mut goes_on = model.prefix(found);
            assert!(!append_until_stopped(&journal, &mut goes_on, 25).1);
            journal.close().unwrap();
            let (journal, state) =
                open_idle(again.restarted(Some(Cut::Nothing)), &small_options()).unwrap();
            assert_eq!(goes_on.check(&journal, &state, goes_on.len()), goes_on.len());
        }
    }
}

fn append_while_there_is_space(journal: &Journal, model: &mut Model, count: usize) -> usize {
    let mut random = Random(7);
    let mut acked = 0;
    for _ in 0..count {
        let append = random_append(model.last(), &mut random, 2000);
        let Ok(permit) = journal.admit(append.encoded_len()) else {
            break;
        };
        model.push(append.clone());
        if block_on(journal.append(permit, append)).is_err() {
            break;
        }
        acked = model.len();
    }
    acked
}

#[test]
fn after_an_error_nothing_is_written_and_the_frame_is_not_served() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    append(&journal, &mut state, &[(0, batch(&[b"durable"]))], &[]).unwrap();
    drop(journal);

    // The preparer's operations are counted too, so which of the frame's the fault hits differs from run to run.
    let (mut failed_writes, mut failed_syncs) = (0, 0);
    for at in (0..40).cycle().take(40 * 50) {
        if failed_writes > 0 && failed_syncs > 0 && at == 0 {
            break;
        }
        let fault = Fault::once(Call::Change, at);
        let disk = MemoryDisk::new(disk.files()).with_fault(fault);
        let Ok((journal, state)) = open(disk.clone(), &small_options()) else {
            continue;
        };
        let perhaps = next_append(&state, &[(0, batch(&[b"perhaps"]))], &[]);
        let acknowledged = loop {
            match journal.admit(perhaps.encoded_len()) {
                Ok(permit) => break block_on(journal.append(permit, perhaps)).is_ok(),
                Err(AdmitError::Full) => std::thread::yield_now(),
                Err(_) => break false,
            }
        };
        let end = Offset(1 + i64::from(acknowledged));
        assert_eq!(journal.durable_end(PartitionId(0)), end, "{fault:?}");
        assert_eq!(read_all(&journal, PartitionId(0)).len(), end.0 as usize);
        if acknowledged {
            continue;
        }
        assert!(matches!(journal.admit(1), Err(AdmitError::Poisoned(_))));
        assert!(journal.close().is_err());
        let log = disk.log();
        // An index file may be under way, but to the segment nothing more is written.
        let failed = log.iter().find_map(|event| match event {
            Event::FailedSync(inode) => Some(*inode),
            _ => None,
        });
        let last_write = log.iter().rposition(
            |event| matches!(event, Event::Write { inode, .. } if failed == Some(*inode)),
        );
        let failure = log.iter().position(|event| matches!(event, Event::FailedSync(_)));
        *(if failure.is_some() { &mut failed_syncs } else { &mut failed_writes }) += 1;
        assert!(failure.is_none_or(|failure| last_write < Some(failure)), "{fault:?}: {log:?}");
    }
    assert!(failed_writes > 0 && failed_syncs > 0, "{failed_writes} writes, {failed_syncs} syncs");
}

fn on_a_disk_of(bytes: u64) -> (MemoryDisk, JournalOptions) {
    let disk = MemoryDisk::default();
    disk.set_capacity(Some(bytes));
    (disk, small_options())
}

/// Appends until the disk is full; how many fitted.
fn fill(disk: &MemoryDisk, journal: &Journal, state: &mut State) -> i64 {
    let deadline = Instant::now() + Duration::from_secs(30);
    let value = [0x55; 3000];
    let bytes = Append::batch_len(batch(&[&value]).len());
    let mut appended = 0;
    let mut refused = None;
    loop {
        assert!(Instant::now() < deadline);
        match journal.admit(bytes) {
            Ok(permit) => {
                drop(permit);
                append(journal, state, &[(0, batch(&[&value]))], &[]).unwrap();
                appended += 1;
                refused = None;
            }
            // Two more refusals from now on: the next segment is not just on its way.
            Err(AdmitError::Full)
                if disk.refused() < *refused.get_or_insert(disk.refused() + 2) =>
            {
                std::thread::yield_now();
            }
            Err(AdmitError::Full) => return appended,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_full_disk_is_back_pressure_and_ends_when_there_is_space() {
    let (disk, options) = on_a_disk_of(300 * 1024);
    let (journal, mut state) = open(disk.clone(), &options).unwrap();
    let appended = fill(&disk, &journal, &mut state);
    assert!(appended > 20, "{appended}");
    assert_eq!(journal.status().poisoned, None);
    assert_eq!(journal.durable_end(PartitionId(0)), Offset(appended));

    disk.set_capacity(None);
    let permit = admit(&journal, 20_000);
    drop(permit);
    append(&journal, &mut state, &[(0, batch(&[b"after"]))], &[]).unwrap();
    journal.close().unwrap();
}

#[test]
fn a_journal_opens_on_a_full_disk() {
    // There is room for two segments, and for index files on the way. What is left beside them decides how: nothing at all, enough for a short
    // segment, or as much again as the last one did not use.
    for (capacity, unused) in [(136, 0), (136 + 24, 0), (136, 40_000)] {
        let (disk, options) = on_a_disk_of(capacity * 1024);
        // A budget so small that there is no reserve.
        let options = JournalOptions { max_bytes: Some(255 << 10), ..options };
        let (journal, mut state) = open(disk.clone(), &options).unwrap();
        let appended = if unused == 0 {
            fill(&disk, &journal, &mut state)
        } else {
            for _ in 0..18 {
                append(&journal, &mut state, &[(0, batch(&[&[1; 3000]]))], &[]).unwrap();
            }
            18
        };
        let killed = disk.files();
        drop(journal);

        let disk = MemoryDisk::new(killed);
        disk.set_capacity(Some(capacity * 1024));
        let (journal, reopened) = open(disk.clone(), &options).unwrap();
        assert_eq!(reopened.content(), state.content(), "{capacity} {unused}");
        let end = journal.durable_end(PartitionId(0));
        if (capacity, unused) == (136, 0) {
            // The last frame waits for space to be written again, unless an index file proves it durable.
            assert!((appended - 1..=appended).contains(&end.0), "{end:?}");
            disk.set_capacity(None);
        } else {
            assert_eq!(end, Offset(appended), "{capacity} {unused}");
        }
        block_on(journal.wait_durable(&[(PartitionId(0), Offset(appended - 1))]));
        assert_eq!(read_all(&journal, PartitionId(0)).len() as i64, appended);
    }
}

#[test]
fn with_its_reserve_a_journal_opens_on_a_full_disk_and_serves_everything() {
    let (mut disk, options) = on_a_disk_of(384 * 1024);
    let (journal, mut state) = open(disk.clone(), &options).unwrap();
    let appended = fill(&disk, &journal, &mut state);
    // As often as there are segments in reserve.
    for round in 0..2 {
        let killed = disk.files();
        let used: usize = killed.names().iter().map(|name| killed.content(name).len()).sum();
        disk = MemoryDisk::new(killed);
        disk.set_capacity(Some(used as u64));
        let (journal, reopened) = open(disk.clone(), &options).unwrap();
        assert_eq!(reopened.content(), state.content(), "{round}");
        assert_eq!(read_all(&journal, PartitionId(0)).len() as i64, appended, "{round}");
    }
}
