//! Segments that leave the log: when, what becomes of their files, and what a crash finds.

use std::time::{Duration, Instant};

use super::{
    disk::{Cut, Event, Files, MemoryDisk, Random},
    model::{Model, random_append, read_all},
    support::{admit, append, batch, block_on, next_append, small_options},
};
use crate::journal::{
    AdmitError, Fact, Journal, JournalOptions, Offset, PartitionId, ReadError, State,
    format::SegmentHeader, handle::open_idle, open,
};

const P: PartitionId = PartitionId(1);
const SEGMENT: u64 = 64 << 10;

/// Eight segments, two of them in reserve, and nothing happens by itself.
fn by_hand() -> JournalOptions {
    JournalOptions { max_bytes: Some(8 * SEGMENT), ..small_options() }
}

/// Four of these fill a segment.
fn large(n: u8) -> crate::record::Batch {
    batch(&[&[n; 12_000]])
}

/// Appends so many large batches to a partition.
fn fill(journal: &Journal, state: &mut State, count: u8) {
    for n in 0..count {
        append(journal, state, &[(P.0, large(n))], &[]).unwrap();
    }
}

fn move_start(journal: &Journal, state: &mut State, to: i64) {
    append(journal, state, &[], &[Fact::log_start(P, Offset(to))]).unwrap();
}

fn spares(disk: &MemoryDisk) -> Vec<String> {
    disk.files().names().into_iter().filter(|name| name.contains("spare")).collect()
}

/// Waits until the thread that prepares segments has got so far.
fn until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !what() {
        assert!(Instant::now() < deadline, "waited for 30 s");
        std::thread::yield_now();
    }
}

/// Waits until no more than so many are still read; the thread that indexes reads them too.
fn until_pinned(journal: &Journal, count: u64) {
    until(|| {
        journal.retire().unwrap();
        journal.status().pinned_segments == count
    });
}

#[test]
fn a_segment_goes_when_nothing_in_it_is_live_and_two_snapshots_are_newer() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &by_hand()).unwrap();
    fill(&journal, &mut state, 9);
    append(&journal, &mut state, &[(2, batch(&[b"in the third"]))], &[]).unwrap();
    assert_eq!(journal.status().segments, 3);
    assert_eq!(journal.retire().unwrap(), 0, "all is live");

    move_start(&journal, &mut state, 3);
    assert_eq!(journal.retire().unwrap(), 0, "one batch of the first is live");
    let end = state.partition(P).log_end.0;
    move_start(&journal, &mut state, end);
    assert_eq!(journal.retire().unwrap(), 1, "two snapshots stay");
    assert_eq!(journal.status().segments, 2);
    assert_eq!(journal.status().retired_segments, 1);
    assert_eq!(journal.durable_end(P), Offset(end));
    let read = journal.read(P, Offset(0), 1);
    assert!(matches!(read, Err(ReadError::OutOfRange { start, .. }) if start.0 == end));

    // Two more snapshots; the batch of the other partition holds the rest.
    fill(&journal, &mut state, 8);
    let end = state.partition(P).log_end.0;
    move_start(&journal, &mut state, end);
    assert_eq!(journal.retire().unwrap(), 1);
    assert_eq!(journal.retire().unwrap(), 0);
    assert_eq!(read_all(&journal, PartitionId(2)).len(), 1);
    append(&journal, &mut state, &[], &[Fact::forget_partition(PartitionId(2))]).unwrap();
    assert!(journal.retire().unwrap() > 0, "a deleted partition holds nothing");
}

#[test]
fn a_file_goes_round_and_the_budget_lasts_for_ever() {
    let mut disk = MemoryDisk::default();
    let options = JournalOptions { retire: true, ..by_hand() };
    let mut model = Model::new();
    let mut random = Random(5);
    let mut sequences = 0;
    for round in 0..6 {
        let (journal, state) = open(disk.clone(), &options).unwrap();
        model.check(&journal, &state, model.len());
        let report = journal.status().recovery;
        assert_eq!((report.missing_segments, report.damaged_ranges), (0, 0), "{round}");
        for _ in 0..120 {
            // All of it goes at once, or next to all.
            let mut facts = Vec::new();
            for partition in 0..4 {
                let end = model.last().partition(PartitionId(partition)).log_end;
                let start = Offset((end.0 - 3).max(0));
                facts.push(Fact::log_start(PartitionId(partition), start));
            }
            let batches: Vec<_> = (0..4).map(|n| (n, batch(&[&[n as u8; 2000]]))).collect();
            for next in [
                random_append(model.last(), &mut random, 1500),
                next_append(model.last(), &batches, &facts),
            ] {
                let next = next_append(
                    model.last(),
                    &next
                        .batches
                        .into_iter()
                        .map(|it| (it.partition.0, it.batch))
                        .collect::<Vec<_>>(),
                    &next.facts,
                );
                let permit = admit(&journal, next.encoded_len());
                model.push(next.clone());
                block_on(journal.append(permit, next)).unwrap();
            }
            assert!(journal.status().used_bytes <= 8 * SEGMENT);
        }
        let files = disk.files();
        let on_disk: usize = files.names().iter().map(|it| files.content(it).len()).sum();
        assert!(on_disk as u64 <= 8 * SEGMENT, "{on_disk}");
        assert!(journal.status().retired_segments > 8, "{:?}", journal.status());
        model.check_records(&journal, model.len());
        let killed = disk.files();
        if round % 3 == 0 {
            journal.close().unwrap();
        } else {
            // The journal behind us works on another disk from now on.
            let cut = if round % 3 == 1 { killed } else { killed.after(Cut::Some(round)) };
            disk = MemoryDisk::new(cut);
        }
        let names = disk.files().names();
        let newest = names.iter().filter_map(|name| name.strip_suffix(".seg")).max().unwrap();
        let newest = u64::from_str_radix(&newest["journal/".len()..], 16).unwrap();
        assert!(newest > sequences);
        sequences = newest;
    }
    assert!(sequences > 100, "{sequences}");
}

#[test]
fn a_reader_keeps_its_segment_and_reads_on() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &by_hand()).unwrap();
    fill(&journal, &mut state, 14);
    let pinned = journal.pin(P, Offset(0));
    let other = journal.pin(P, Offset(5));
    let end = state.partition(P).log_end.0;
    move_start(&journal, &mut state, end);
    assert_eq!(journal.retire().unwrap(), 2);
    assert_eq!(journal.status().pinned_segments, 2);
    assert_eq!(spares(&disk), Vec::<String>::new());
    drop(other);
    until_pinned(&journal, 1);
    // The second file goes round while the first one is still being read.
    fill(&journal, &mut state, 10);
    let end = state.partition(P).log_end.0;
    move_start(&journal, &mut state, end);
    journal.retire().unwrap();
    let source = &pinned[0];
    let mut found = vec![0; source.location.length as usize];
    source.segment.file.read_at(&mut found, source.segment.at(source.location.position)).unwrap();
    assert!(found.ends_with(&[0; 4]) || found.windows(12_000).any(|value| value == [0; 12_000]));
    let stored = SegmentHeader::decode(disk.files().content("journal/0000000000000001.seg"));
    assert_eq!(stored.unwrap(), source.segment.header, "not used again");
    drop(pinned);
    until_pinned(&journal, 0);
    assert!(!disk.files().names().contains(&"journal/0000000000000001.seg".to_owned()));
}

#[test]
fn a_full_journal_is_emptied_from_its_reserve() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &by_hand()).unwrap();
    let bytes = next_append(&state, &[(P.0, large(0))], &[]).encoded_len();
    for round in 0..4 {
        let mut appended = 0;
        // Another file may be on its way: full is what stays so.
        let mut refused_since = Instant::now();
        while refused_since.elapsed() < Duration::from_millis(300) {
            match journal.admit(bytes) {
                Ok(permit) => {
                    let next = next_append(&state, &[(P.0, large(round))], &[]);
                    state.apply_append(&next, 0);
                    block_on(journal.append(permit, next)).unwrap();
                    appended += 1;
                    refused_since = Instant::now();
                }
                // What the thread that indexes still holds is free a moment later.
                Err(_) => assert!(journal.retire().is_ok()),
            }
        }
        assert!(appended > 8, "{round}: {appended}");
        let next = {
            let end = state.partition(P).log_end;
            next_append(&state, &[], &[Fact::log_start(P, end)])
        };
        let permit = journal.admit_freeing(next.encoded_len()).unwrap();
        state.apply_append(&next, 0);
        block_on(journal.append(permit, next)).unwrap();
        assert!(journal.retire().unwrap() > 0, "{round}");
        until(|| {
            journal.retire().unwrap();
            journal.admit(bytes).is_ok()
        });
    }
}

#[test]
fn what_nobody_frees_does_not_use_up_the_reserve() {
    let (journal, mut state) = open(MemoryDisk::default(), &by_hand()).unwrap();
    fill(&journal, &mut state, 1);
    until(|| journal.status().used_bytes >= 7 * SEGMENT);
    let mut moved = 0;
    loop {
        let next = next_append(&state, &[], &[Fact::log_start(P, Offset(0))]);
        let Ok(permit) = journal.admit_freeing(next.encoded_len()) else { break };
        block_on(journal.append(permit, next)).unwrap();
        moved += 1;
        assert!(moved < 1000);
    }
    assert!(matches!(journal.admit(1), Err(AdmitError::Full)));
    move_nothing_but_retire(&journal);
}

/// The cleaner still has room for its own facts.
fn move_nothing_but_retire(journal: &Journal) {
    // All segments but the two newest hold facts alone, and one batch that is live in the first.
    assert_eq!(journal.retire().unwrap(), 0);
    let forget =
        crate::journal::Append { batches: Vec::new(), facts: vec![Fact::log_start(P, Offset(1))] };
    let refused = journal.admit_freeing(forget.encoded_len());
    assert!(refused.is_err());
}

/// A run with files that went round, and the events of the disk.
fn recorded() -> (MemoryDisk, Model) {
    let disk = MemoryDisk::default();
    let mut model = Model::new();
    let (journal, _) = open(disk.clone(), &by_hand()).unwrap();
    for n in 0..60u8 {
        let mut facts = Vec::new();
        if n % 5 == 4 {
            facts.push(Fact::log_start(P, model.last().partition(P).log_end));
        }
        let next = next_append(model.last(), &[(P.0, large(n))], &facts);
        let permit = admit_and_retire(&journal, next.encoded_len());
        model.push(next.clone());
        block_on(journal.append(permit, next)).unwrap();
        disk.note(Event::Acked(model.len()));
        journal.retire().unwrap();
    }
    (disk, model)
}

fn admit_and_retire(journal: &Journal, bytes: usize) -> crate::journal::Permit {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        // What the thread that indexes still holds is free a moment later.
        journal.retire().unwrap();
        match journal.admit(bytes) {
            Ok(permit) => return permit,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

/// Opens an image; the model must hold and nothing counts as damaged or missing.
fn recover(files: Files, model: &Model, acked: usize, what: &str) -> (MemoryDisk, usize) {
    let disk = MemoryDisk::new(files);
    let (journal, state) =
        open_idle(disk.clone(), &by_hand()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        model.check(&journal, &state, acked)
    }));
    let found = found.unwrap_or_else(|_| panic!("{what}: see above"));
    let report = journal.status().recovery;
    let damage = (report.damaged_ranges, report.broken_chains, report.missing_segments);
    assert_eq!(damage, (0, 0, 0), "{what}");
    (disk, found)
}

#[test]
fn a_file_used_again_is_what_it_was_or_what_it_becomes() {
    let (disk, model) = recorded();
    let mut files = Files::default();
    let mut acked = 0;
    let (mut begun, mut renamed) = (0, 0);
    for (number, event) in disk.log().iter().enumerate() {
        files.apply(event);
        let what = format!("operation {number} ({event:?})");
        match event {
            Event::Acked(count) => acked = *count,
            Event::Rename(..) => {
                renamed += 1;
                for cut in [Cut::Nothing, Cut::Everything] {
                    let image = files.after(cut);
                    let (disk, found) = recover(image, &model, acked, &format!("{what}, {cut:?}"));
                    recover(disk.files().after(Cut::Nothing), &model, found, &what);
                }
            }
            // An index file's first write is shorter or of another name.
            Event::Write { at: 0, bytes, .. } if bytes.len() > 4096 => {
                // Its first write got as far as everything but the header, which is now old, or zeros, or garbage.
                let image = files.after(Cut::LostFirstBlock);
                let lost = files.after(Cut::Nothing);
                let differs = |name: &String| {
                    let (begun, before) = (image.content(name), lost.content(name));
                    begun.len() == before.len() && begun.get(4096..) != before.get(4096..)
                };
                let name = lost.names().into_iter().filter(|it| it.ends_with(".seg")).find(differs);
                let Some(name) = name else { continue };
                let old = image.content(&name)[..4096].to_vec();
                begun += usize::from(old != [0; 4096]);
                for (header, kind) in
                    [(old, "old"), (vec![0; 4096], "zeros"), (vec![0xa5; 4096], "garbage")]
                {
                    let mut image = image.clone();
                    image.damage(&name, |content| content[..4096].copy_from_slice(&header));
                    let what = format!("{what}, header {kind}");
                    let (disk, found) = recover(image, &model, acked, &what);
                    recover(disk.files().after(Cut::Nothing), &model, found, &what);
                    // And with nothing of the frame either.
                    let mut image = lost.clone();
                    image.damage(&name, |content| content[..4096].copy_from_slice(&header));
                    recover(image, &model, acked, &format!("{what}, no frame"));
                }
            }
            _ => {}
        }
    }
    assert!(begun >= 2 && renamed >= 6, "{begun} begun, {renamed} renamed");
}

#[test]
fn segments_that_should_be_there_and_are_not_are_missed() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &by_hand()).unwrap();
    fill(&journal, &mut state, 9);
    move_start(&journal, &mut state, 5);
    assert_eq!(journal.retire().unwrap(), 1);
    until_pinned(&journal, 0);
    fill(&journal, &mut state, 4);
    journal.close().unwrap();
    let whole = disk.files();
    let missing = |files: Files| {
        let (journal, _) = open_idle(MemoryDisk::new(files), &by_hand()).unwrap();
        let read = journal.read(P, Offset(5), 1);
        (journal.status().recovery.missing_segments, read.is_ok())
    };
    assert_eq!(missing(whole.clone()), (0, true));
    let oldest = whole
        .names()
        .into_iter()
        .find(|name| name.ends_with(".seg") && SegmentHeader::decode(whole.content(name)).is_ok());
    let mut gone = whole;
    gone.rewire(|names| assert!(names.remove(&oldest.unwrap()).is_some()));
    assert_eq!(missing(gone), (1, false));
}

#[test]
fn a_segment_cut_short_is_given_back_and_not_kept() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &by_hand()).unwrap();
    fill(&journal, &mut state, 1);
    // A kill: the first segment is cut off behind its only batch.
    let disk = MemoryDisk::new(disk.files());
    let (journal, mut state) = {
        drop(journal);
        drop(state);
        open(disk.clone(), &by_hand()).unwrap()
    };
    fill(&journal, &mut state, 9);
    let end = state.partition(P).log_end.0;
    move_start(&journal, &mut state, end);
    assert!(journal.retire().unwrap() > 0);
    until_pinned(&journal, 0);
    let files = disk.files();
    assert!(!files.names().contains(&"journal/0000000000000001.seg".to_owned()));
    let spares = files.names().into_iter().filter(|name| name.contains("spare"));
    assert!(spares.into_iter().all(|name| files.content(&name).len() as u64 == SEGMENT));
}

/// The opening that wrote nothing but its snapshot is gone at the next one, and its snapshot with it.
#[test]
fn starts_without_an_append_keep_nothing_from_leaving() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &by_hand()).unwrap();
    fill(&journal, &mut state, 14);
    let end = state.partition(P).log_end.0;
    move_start(&journal, &mut state, end);
    journal.close().unwrap();
    drop(journal);
    for _ in 0..3 {
        let (journal, _) = open(disk.clone(), &by_hand()).unwrap();
        journal.close().unwrap();
    }
    let (journal, mut state) = open(disk, &by_hand()).unwrap();
    // The first append brings this opening's own snapshot.
    move_start(&journal, &mut state, end);
    assert!(journal.retire().unwrap() > 0);
}
