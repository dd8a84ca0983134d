//! The damage matrix: whatever is changed in the files, no wrong byte is served, and what was not hit is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    disk::{Files, MemoryDisk, Random},
    model::{Model, random_append, read_all},
    support::{admit, append, batch, block_on, fact, small_options},
};
use crate::journal::{
    Journal, JournalId, Offset, PartitionId, Position, ReadError, Space,
    format::{
        ALIGN, ENTRY_HEADER_BYTES, EntryHeader, EntryKind, FRAME_HEADER_BYTES, FrameHeader, Seed,
        SegmentHeader,
    },
    handle::open_idle,
    open,
};

/// A closed journal of a few segments, and where each batch lies in it.
struct Sample {
    files: Files,
    batches: BTreeMap<(PartitionId, Offset), StoredAt>,
}

/// A batch with its file and the bytes that its entry takes there.
#[derive(Clone, Debug)]
struct StoredAt {
    file: String,
    from: usize,
    to: usize,
    bytes: Bytes,
}

impl Sample {
    fn new() -> Self {
        let disk = MemoryDisk::default();
        let (journal, _) = open(disk.clone(), &small_options()).unwrap();
        let mut model = Model::new();
        let mut random = Random(11);
        for _ in 0..25 {
            let append = random_append(model.last(), &mut random, 1500);
            let permit = admit(&journal, append.encoded_len());
            model.push(append.clone());
            block_on(journal.append(permit, append)).unwrap();
        }
        journal.close().unwrap();
        let files = disk.files();
        let seed = small_options().new_id.map(JournalId::seed).unwrap();
        let mut batches = BTreeMap::new();
        for file in files.names() {
            walk(&files, &file, seed, &mut batches);
        }
        assert!(batches.len() > 25);
        assert!(batches.values().map(|at| &at.file).collect::<BTreeSet<_>>().len() > 1);
        Self { files, batches }
    }

    /// Damages a copy, opens it, and compares all reads. `hit` tells which stored bytes were changed.
    fn check(&self, what: &str, damage: impl FnOnce(&mut Files), hit: impl Fn(&StoredAt) -> bool) {
        let mut files = self.files.clone();
        damage(&mut files);
        let disk = MemoryDisk::new(files);
        let (journal, _) =
            open_idle(disk, &small_options()).unwrap_or_else(|error| panic!("{what}: {error}"));
        for (&(partition, offset), stored) in &self.batches {
            match journal.read(partition, offset, 1) {
                Ok(batches) => match batches.first() {
                    Some(bytes) => assert_eq!(bytes, &stored.bytes, "{what}: wrong bytes served"),
                    None => assert!(hit(stored), "{what}: {partition:?} {offset:?} is gone"),
                },
                Err(ReadError::Damaged { .. } | ReadError::OutOfRange { .. }) => {
                    assert!(
                        hit(stored),
                        "{what}: {partition:?} {offset:?} was not hit: {stored:?}"
                    );
                }
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }

    /// Every file of the journal with its length.
    fn lengths(&self) -> Vec<(String, usize)> {
        let names = self.files.names().into_iter();
        names.map(|name| (name.clone(), self.files.content(&name).len())).collect()
    }

    /// One past the last byte of a file that any frame takes.
    fn used(&self, file: &str) -> usize {
        let content = self.files.content(file);
        content.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1)
    }
}

/// Notes the batches of a file: a walk of its own, by the frames' headers.
fn walk(
    files: &Files,
    name: &str,
    seed: Seed,
    batches: &mut BTreeMap<(PartitionId, Offset), StoredAt>,
) {
    let content = files.content(name);
    let Ok(segment) = SegmentHeader::decode(content) else {
        return;
    };
    let mut at = ALIGN as usize;
    let position = |at: usize| segment.first.plus(at as u64);
    while let Some(header) = content.get(at..).and_then(<[u8]>::first_chunk) {
        let Some((frame, _)) = FrameHeader::decode(header, seed, position(at)) else {
            break;
        };
        let mut entry_at = at + FRAME_HEADER_BYTES;
        for _ in 0..frame.entry_count {
            let header = content[entry_at..].first_chunk().unwrap();
            let entry = EntryHeader::decode(header, seed, position(entry_at)).unwrap();
            let to = entry_at + ENTRY_HEADER_BYTES + entry.length as usize;
            if entry.kind == EntryKind::Batch {
                let bytes = Bytes::copy_from_slice(&content[entry_at + ENTRY_HEADER_BYTES..to]);
                let stored = StoredAt { file: name.to_owned(), from: entry_at, to, bytes };
                batches.insert((entry.partition, entry.base_offset), stored);
            }
            entry_at += entry.size();
        }
        at += frame.length() as usize;
    }
}

#[test]
fn a_flipped_bit_hits_only_its_own_entry() {
    let sample = Sample::new();
    let mut random = Random(5);
    let mut flips = 0;
    for (file, _) in sample.lengths() {
        let used = sample.used(&file);
        // Every bit would take hours unoptimised: one bit of every 31st byte, so that each field is
        // met in some frame.
        for at in (random.below(31) as usize..used).step_by(31) {
            let bit = 1 << random.below(8);
            sample.check(
                &format!("{file}, byte {at}, bit {bit:#x}"),
                |files| files.damage(&file, |content| content[at] ^= bit),
                |stored| stored.file == file && (stored.from..stored.to).contains(&at),
            );
            flips += 1;
        }
    }
    assert!(flips > 500, "{flips}");
}

#[test]
fn a_zeroed_sector_hits_only_the_entries_in_it() {
    const SECTOR: usize = 512;
    let sample = Sample::new();
    for (file, _) in sample.lengths() {
        for at in (0..sample.used(&file)).step_by(SECTOR) {
            sample.check(
                &format!("{file}, sector at {at} zeroed"),
                |files| files.damage(&file, |content| content[at..at + SECTOR].fill(0)),
                |stored| stored.file == file && stored.from < at + SECTOR && at < stored.to,
            );
        }
    }
}

#[test]
fn swapped_blocks_are_never_taken_for_each_other() {
    let sample = Sample::new();
    let block = ALIGN as usize;
    for (file, _) in sample.lengths() {
        let blocks = sample.used(&file).div_ceil(block);
        for first in 0..blocks.saturating_sub(1) {
            let second = first + 1;
            sample.check(
                &format!("{file}, blocks {first} and {second} swapped"),
                |files| {
                    files.damage(&file, |content| {
                        let (left, right) = content.split_at_mut(second * block);
                        left[first * block..].swap_with_slice(&mut right[..block]);
                    });
                },
                |stored| {
                    stored.file == file
                        && stored.from < (second + 1) * block
                        && first * block < stored.to
                },
            );
        }
    }
}

#[test]
fn a_write_that_went_to_the_wrong_place_brings_no_old_fact_back() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    let mut blocks = Vec::new();
    for value in [b"v1", b"v2", b"v3", b"v4"] {
        append(&journal, &mut state, &[], &[fact(b"key", Some(value))]).unwrap();
        let content = disk.files().content("journal/0000000000000001.seg").to_vec();
        blocks.push(content.iter().rposition(|&byte| byte != 0).unwrap() / ALIGN as usize);
    }
    journal.close().unwrap();
    let mut files = disk.files();
    files.damage("journal/0000000000000001.seg", |content| {
        let block = ALIGN as usize;
        let first = blocks[0] * block;
        content.copy_within(first..first + block, blocks[3] * block);
    });
    let (journal, state) = open_idle(MemoryDisk::new(files), &small_options()).unwrap();
    assert_eq!(state.fact(Space(1), b"key").map(|value| &value[..]), Some(&b"v3"[..]));
    assert_eq!(journal.status().recovery.damaged_ranges, 1, "the loss of v4 is told");
    assert_eq!(state.incarnation(), 2);
}

#[test]
fn a_file_cut_short_loses_only_what_was_behind() {
    let sample = Sample::new();
    for (file, length) in sample.lengths() {
        for at in (0..length).step_by(4093) {
            sample.check(
                &format!("{file} cut off at {at}"),
                |files| files.damage(&file, |content| content.truncate(at)),
                // Of a file without a whole header, nothing tells that it ever held anything.
                |stored| stored.file == file && (stored.to > at || at < 2 * ALIGN as usize),
            );
        }
    }
}

#[test]
fn files_deleted_doubled_and_renamed() {
    let sample = Sample::new();
    let names: Vec<String> = sample.batches.values().map(|stored| stored.file.clone()).collect();
    for file in BTreeSet::from_iter(names) {
        sample.check(
            &format!("{file} deleted"),
            |files| files.rewire(|names| assert!(names.remove(&file).is_some())),
            |stored| stored.file == file,
        );
        sample.check(
            &format!("{file} renamed"),
            |files| {
                files.rewire(|names| {
                    let inode = names.remove(&file).unwrap();
                    names.insert("journal/00000000000000ff.seg".into(), inode);
                });
            },
            |_| false,
        );
        sample.check(
            &format!("{file} doubled"),
            |files| {
                files.rewire(|names| {
                    let inode = names[&file];
                    names.insert("journal/00000000000000ff.seg".into(), inode);
                });
            },
            |_| false,
        );
    }
}

#[test]
fn a_block_that_cannot_be_read_hits_only_the_entries_in_it() {
    let sample = Sample::new();
    let block = ALIGN as usize;
    for (file, _) in sample.lengths() {
        for at in (0..sample.used(&file)).step_by(block) {
            let what = format!("{file}, block at {at} unreadable");
            let disk = MemoryDisk::new(sample.files.clone());
            disk.make_unreadable(&file, at);
            let (journal, _) =
                open(disk, &small_options()).unwrap_or_else(|error| panic!("{what}: {error}"));
            for (&(partition, offset), stored) in &sample.batches {
                let hit = stored.file == file && stored.from < at + block && at < stored.to;
                match journal.read(partition, offset, 1) {
                    Ok(batches) => match batches.first() {
                        Some(bytes) => assert!(!hit && bytes == &stored.bytes, "{what}"),
                        None => assert!(hit, "{what}: {partition:?} {offset:?} is gone"),
                    },
                    Err(error) => assert!(hit, "{what}: {partition:?} {offset:?}: {error}"),
                }
            }
        }
    }
}

#[test]
fn a_damaged_journal_goes_on() {
    let sample = Sample::new();
    for (file, _) in sample.lengths() {
        for at in (0..sample.used(&file)).step_by(9001) {
            let mut files = sample.files.clone();
            files.damage(&file, |content| content[at] ^= 4);
            let disk = MemoryDisk::new(files);
            for round in 1..4 {
                let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
                append(&journal, &mut state, &[(9, batch(&[b"goes on"]))], &[]).unwrap();
                assert_eq!(read_all(&journal, PartitionId(9)).len(), round, "{file} {at}");
                assert_eq!(journal.status().recovery.torn_tails, 0, "{file} {at}");
            }
        }
    }
}

#[test]
fn an_unreadable_end_is_told_and_not_taken_for_a_clean_one() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    for _ in 0..3 {
        append(&journal, &mut state, &[(1, batch(&[b"x"]))], &[]).unwrap();
    }
    let killed = MemoryDisk::new(disk.files());
    drop(journal);
    let name = "journal/0000000000000001.seg";
    let last = killed.files().content(name).iter().rposition(|&byte| byte != 0).unwrap();
    killed.make_unreadable(name, last);
    let (journal, reopened) = open(killed, &small_options()).unwrap();
    assert_eq!(journal.status().recovery.torn_tails, 1);
    assert_eq!(reopened.partition(PartitionId(1)).log_end, Offset(2));
    assert_eq!(reopened.incarnation(), state.incarnation() + 1);
}

#[test]
fn damage_is_counted_and_the_hole_is_named() {
    let sample = Sample::new();
    let (&(partition, offset), stored) = sample.batches.iter().nth(3).unwrap();
    let mut files = sample.files.clone();
    files.damage(&stored.file, |content| content[stored.to - 1] ^= 1);
    // With an index nobody looks there before somebody reads.
    let (journal, _) = open(MemoryDisk::new(files.clone()), &small_options()).unwrap();
    assert_eq!(journal.status().recovery.damaged_ranges, 0);
    assert!(matches!(journal.read(partition, offset, 1), Err(ReadError::Damaged { .. })));
    drop(journal);
    files.rewire(|names| names.retain(|name, _| !name.ends_with(".idx")));
    let (journal, _): (Journal, _) = open(MemoryDisk::new(files), &small_options()).unwrap();
    let report = journal.status().recovery;
    assert_eq!((report.damaged_ranges, report.torn_tails), (1, 0));
    let error = journal.read(partition, offset, 1).unwrap_err();
    let ReadError::Damaged { position } = error else { panic!("{error}") };
    assert!(position > Position(0));
    // The batches after it are there.
    let next = sample.batches.keys().find(|key| **key > (partition, offset)).unwrap();
    assert_eq!(next.0, partition, "the sample has more batches of this partition");
    assert_eq!(journal.read(partition, next.1, 1).unwrap().len(), 1);
}
