//! The damage matrix: whatever is changed in the files, no wrong byte is served, and what was not hit is.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use super::{
    disk::{Files, MemoryDisk, Random},
    effort::Effort,
    many,
    model::{Model, random_append, read_all},
    support::{admit, append, batch, block_on, fact, small_options},
};
use crate::journal::{
    Journal, JournalId, Offset, PartitionId, Position, ReadError, Space, Want,
    format::{
        ALIGN, ENTRY_HEADER_BYTES, EntryHeader, EntryKind, FRAME_HEADER_BYTES, FactRef,
        FrameHeader, Seed, SegmentHeader,
    },
    handle::open_idle,
    open,
};

/// A journal of a few segments, and where each batch and fact lies in it.
struct Sample {
    files: Files,
    batches: BTreeMap<(PartitionId, Offset), StoredAt>,
    /// Per key, in the order of the log.
    facts: BTreeMap<Bytes, Vec<StoredAt>>,
    /// What hits the last frame of a journal that was not closed takes all of it.
    last_frame: Option<StoredAt>,
    checks: AtomicUsize,
}

/// A batch with its file and the bytes that its entry takes there.
#[derive(Clone, Debug)]
struct StoredAt {
    file: String,
    from: usize,
    to: usize,
    bytes: Bytes,
    /// The frame that it came with.
    frame: Range<usize>,
}

impl Sample {
    /// About 64 KiB in two segments, closed in order.
    fn new() -> Self {
        let (journal, disk) = Self::write();
        journal.close().unwrap();
        Self::of(&disk.files())
    }

    /// The same, killed: nothing proves its last frame.
    fn killed() -> Self {
        let (_journal, disk) = Self::write();
        let mut sample = Self::of(&disk.files());
        let all = sample.batches.values().chain(sample.facts.values().flatten());
        let last = all.max_by(|a, b| (&a.file, a.from).cmp(&(&b.file, b.from))).unwrap().clone();
        let Range { start: from, end: to } = last.frame.clone();
        sample.last_frame = Some(StoredAt { from, to, ..last });
        sample
    }

    fn write() -> (Journal, MemoryDisk) {
        let disk = MemoryDisk::default();
        let (journal, _) = open(disk.clone(), &small_options()).unwrap();
        let mut model = Model::new();
        let mut random = Random(11);
        let mut behind_the_roll = 0;
        while behind_the_roll < 4 {
            let append = random_append(model.last(), &mut random, 1200);
            let permit = admit(&journal, append.encoded_len());
            model.push(append.clone());
            block_on(journal.append(permit, append)).unwrap();
            behind_the_roll += usize::from(journal.status().segments > 1);
        }
        (journal, disk)
    }

    fn of(files: &Files) -> Self {
        let seed = small_options().new_id.map(JournalId::seed).unwrap();
        let mut sample = Self {
            files: files.clone(),
            batches: BTreeMap::new(),
            facts: BTreeMap::new(),
            last_frame: None,
            checks: AtomicUsize::new(0),
        };
        for file in files.names() {
            walk(files, &file, seed, &mut sample);
        }
        assert!(sample.batches.len() > 15, "{}", sample.batches.len());
        let used = sample.batches.values().map(|at| &at.file).collect::<BTreeSet<_>>();
        assert!(used.len() > 1);
        sample
    }

    /// Damages a copy, opens it, and compares all reads. `hit` tells which stored bytes were changed.
    fn check(
        &self,
        what: &dyn Fn() -> String,
        damage: impl FnOnce(&mut Files),
        hit: impl Fn(&StoredAt) -> bool,
    ) {
        let mut files = self.files.clone();
        damage(&mut files);
        let disk = MemoryDisk::new(files);
        let (journal, state) =
            open_idle(disk, &small_options()).unwrap_or_else(|error| panic!("{}: {error}", what()));
        let excepted = self.last_frame.as_ref().is_some_and(&hit);
        let hit = |stored: &StoredAt| {
            let within = |last: &StoredAt| last.file == stored.file && last.from < stored.from;
            hit(stored) || (excepted && self.last_frame.as_ref().is_some_and(within))
        };
        let places = self.batches.keys();
        let wants: Vec<_> =
            places.map(|&(partition, from)| Want { partition, from, max_bytes: 1 }).collect();
        let answers = journal.read_many(&wants, usize::MAX);
        // One of them alone, another one each time: reads are the greater part of this test already.
        let turn = self.checks.fetch_add(1, Ordering::Relaxed) % wants.len();
        let Want { partition, from, max_bytes } = wants[turn];
        many::same(&answers[turn], &journal.read(partition, from, max_bytes), what);
        for ((&(partition, offset), stored), answer) in self.batches.iter().zip(answers) {
            match answer {
                Ok(batches) => match batches.first() {
                    Some(bytes) => {
                        assert_eq!(bytes, &stored.bytes, "{}: wrong bytes served", what());
                    }
                    None => assert!(hit(stored), "{}: {partition:?} {offset:?} is gone", what()),
                },
                Err(ReadError::Damaged { .. } | ReadError::OutOfRange { .. }) => {
                    assert!(
                        hit(stored),
                        "{}: {partition:?} {offset:?} was not hit: {stored:?}",
                        what()
                    );
                }
                Err(error) => panic!("{}: {error}", what()),
            }
        }
        for (key, values) in &self.facts {
            // The last one that was not hit, or a later one; before all of them, none at all.
            let from = values.iter().rposition(|stored| !hit(stored));
            let found = state.fact(Space(1), key).map_or(&[][..], |value| value);
            let known = from.map_or(&values[..], |from| &values[from..]);
            let right = known.iter().any(|stored| stored.bytes == found);
            assert!(
                right || (from.is_none() && found.is_empty()),
                "{}: {key:?} is {found:?}",
                what()
            );
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

/// Notes the batches and facts of a file: a walk of its own, by the frames' headers.
fn walk(files: &Files, name: &str, seed: Seed, sample: &mut Sample) {
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
        let range = at..at + frame.length() as usize;
        let mut entry_at = at + FRAME_HEADER_BYTES;
        for _ in 0..frame.entry_count {
            let header = content[entry_at..].first_chunk().unwrap();
            let entry = EntryHeader::decode(header, seed, position(entry_at)).unwrap();
            let to = entry_at + ENTRY_HEADER_BYTES + entry.length as usize;
            if entry.kind == EntryKind::Batch {
                let bytes = Bytes::copy_from_slice(&content[entry_at + ENTRY_HEADER_BYTES..to]);
                let stored = StoredAt {
                    file: name.to_owned(),
                    from: entry_at,
                    to,
                    bytes,
                    frame: range.clone(),
                };
                sample.batches.insert((entry.partition, entry.base_offset), stored);
            } else if entry.kind == EntryKind::Fact {
                let payload = &content[entry_at + ENTRY_HEADER_BYTES..to];
                let fact = FactRef::decode(payload).unwrap();
                // A deleted one is as good as one of no bytes: none of the sample's is empty.
                let bytes = Bytes::copy_from_slice(fact.value.unwrap_or_default());
                let stored = StoredAt {
                    file: name.to_owned(),
                    from: entry_at,
                    to,
                    bytes,
                    frame: range.clone(),
                };
                if fact.space == Space(1) {
                    let key = Bytes::copy_from_slice(fact.key);
                    sample.facts.entry(key).or_default().push(stored);
                }
            }
            entry_at += entry.size();
        }
        at += frame.length() as usize;
    }
}

/// The longest enumerations are done in so many parts, each a test, so that they share what cores there are.
const PARTS: usize = 4;

/// What all parts of an enumeration are about.
fn shared_sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        // An allocator that never freed anything this large gives all memory of an opening back to the system, and
        // the next opening gets it page by page: a fifth of all time.
        drop(std::hint::black_box(vec![1_u8; 8 << 20]));
        Sample::new()
    })
}

/// A test for each part; the first of them has every fourth of everything, as the others do.
macro_rules! in_parts {
    ($check:ident: $($name:ident $part:literal,)+) => {
        $(
            #[test]
            fn $name() {
                $check($part);
            }
        )+
    };
}

in_parts! {
    flip_bits:
    a_flipped_bit_hits_only_its_own_entry 0,
    a_flipped_bit_hits_only_its_own_entry_second_part 1,
    a_flipped_bit_hits_only_its_own_entry_third_part 2,
    a_flipped_bit_hits_only_its_own_entry_last_part 3,
}

fn flip_bits(part: usize) {
    let effort = Effort::of_this_run();
    let sample = shared_sample();
    let stride = PARTS * if effort.is_whole() { 1 } else { 397 };
    let mut flips = 0;
    for (file, _) in sample.lengths() {
        for bit in (part..sample.used(&file) * 8).step_by(stride) {
            let at = bit / 8;
            sample.check(
                &|| format!("{file}, byte {at}, bit {}", bit % 8),
                |files| files.damage(&file, |content| content[at] ^= 1 << (bit % 8)),
                |stored| stored.file == file && (stored.from..stored.to).contains(&at),
            );
            flips += 1;
        }
    }
    println!("{flips} bits flipped one by one, part {part} of {PARTS}");
    assert!(flips * stride > 64 * 1024 * 8, "{flips}");
}

const SECTOR: usize = 512;

#[test]
fn a_zeroed_sector_hits_only_the_entries_in_it() {
    let mut excepted = 0;
    for sample in [Sample::new(), Sample::killed()] {
        for (file, _) in sample.lengths() {
            for at in (0..sample.used(&file)).step_by(SECTOR) {
                let hit = |stored: &StoredAt| {
                    stored.file == file && stored.from < at + SECTOR && at < stored.to
                };
                let zero = |files: &mut Files| {
                    files.damage(&file, |content| content[at..at + SECTOR].fill(0));
                };
                sample.check(&|| format!("{file}, sector at {at} zeroed"), zero, hit);
                excepted += usize::from(sample.last_frame.as_ref().is_some_and(hit));
            }
        }
    }
    println!("{excepted} sectors of last frames that nothing proves: those may be lost as a whole");
    assert!((1..100).contains(&excepted), "{excepted}");
}

#[test]
fn swapped_sectors_are_never_taken_for_each_other() {
    let effort = Effort::of_this_run();
    let sample = Sample::new();
    let mut random = Random(17);
    for (file, _) in sample.lengths() {
        let sectors = (sample.used(&file) / SECTOR) as u64;
        for first in 0..sectors {
            for second in [first + 1, random.below(sectors), random.below(sectors)] {
                if second >= sectors
                    || second == first
                    || (second > first + 1 && !effort.is_whole())
                {
                    continue;
                }
                let (low, high) = (first.min(second) as usize, first.max(second) as usize);
                let within = |stored: &StoredAt, sector: usize| {
                    stored.from < (sector + 1) * SECTOR && sector * SECTOR < stored.to
                };
                sample.check(
                    &|| format!("{file}, sectors {low} and {high} swapped"),
                    |files| {
                        files.damage(&file, |content| {
                            let (left, right) = content.split_at_mut(high * SECTOR);
                            let left = &mut left[low * SECTOR..(low + 1) * SECTOR];
                            left.swap_with_slice(&mut right[..SECTOR]);
                        });
                    },
                    |stored| stored.file == file && (within(stored, low) || within(stored, high)),
                );
            }
        }
    }
}

/// Two continuations of one journal, restored as a mixture of both.
#[test]
fn files_of_two_histories_are_told_apart() {
    let name = "journal/0000000000000001.seg";
    let history = |text: u8| {
        let disk = MemoryDisk::default();
        let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
        for n in 0..10 {
            let value = vec![if n < 2 { 0 } else { text }; 5000];
            append(&journal, &mut state, &[(1, batch(&[&value]))], &[]).unwrap();
        }
        assert!(journal.status().segments > 1);
        journal.close().unwrap();
        disk.files()
    };
    // The snapshot may ride on the first append or go before it: only with the same layout does one
    // history end where the other one begins.
    let second = |files: &Files| {
        SegmentHeader::decode(files.content("journal/0000000000000002.seg")).unwrap()
    };
    let (mut mixed, other) = (0..200)
        .map(|_| (history(1), history(2)))
        .find(|(one, other)| second(one).previous_end == second(other).previous_end)
        .expect("two histories of the same layout");
    mixed.damage(name, |content| content.copy_from_slice(other.content(name)));
    let (journal, state) = open_idle(MemoryDisk::new(mixed), &small_options()).unwrap();
    assert_eq!(journal.status().recovery.broken_chains, 1, "frames that do not follow are told");
    assert!(state.incarnation() > 1, "offsets may mean something else now");
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
                &|| format!("{file}, blocks {first} and {second} swapped"),
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
    assert!(state.incarnation() > 1);
}

in_parts! {
    cut_short:
    a_file_cut_short_loses_only_what_was_behind 0,
    a_file_cut_short_loses_only_what_was_behind_second_part 1,
    a_file_cut_short_loses_only_what_was_behind_third_part 2,
    a_file_cut_short_loses_only_what_was_behind_last_part 3,
}

fn cut_short(part: usize) {
    let effort = Effort::of_this_run();
    let sample = shared_sample();
    let step = PARTS * if effort.is_whole() { 1 } else { 401 };
    let newest = sample.batches.values().map(|stored| &stored.file).max().unwrap().clone();
    let mut excepted = 0;
    for (file, length) in sample.lengths() {
        for at in (part..length).step_by(step) {
            sample.check(
                &|| format!("{file} cut off at {at}"),
                |files| files.damage(&file, |content| content.truncate(at)),
                // Of a file without a whole header, nothing tells that it ever held anything. The frame that
                // is cut at the end of the log is a torn tail, and goes as a whole.
                |stored| {
                    let torn = file == newest && stored.frame.end > at;
                    stored.file == file && (stored.to > at || at < 2 * ALIGN as usize || torn)
                },
            );
            let within = |stored: &&StoredAt| stored.file == newest && stored.to <= at;
            let torn = sample.batches.values().filter(within).any(|stored| stored.frame.end > at);
            excepted += usize::from(file == newest && torn);
        }
    }
    println!(
        "part {part} of {PARTS}: {excepted} cuts within the last frame of the log, which goes as a whole"
    );
}

#[test]
fn files_deleted_doubled_and_renamed() {
    let sample = Sample::new();
    let names: Vec<String> = sample.batches.values().map(|stored| stored.file.clone()).collect();
    for file in BTreeSet::from_iter(names) {
        sample.check(
            &|| format!("{file} deleted"),
            |files| files.rewire(|names| assert!(names.remove(&file).is_some())),
            |stored| stored.file == file,
        );
        sample.check(
            &|| format!("{file} renamed"),
            |files| {
                files.rewire(|names| {
                    let inode = names.remove(&file).unwrap();
                    names.insert("journal/00000000000000ff.seg".into(), inode);
                });
            },
            |_| false,
        );
        sample.check(
            &|| format!("{file} doubled"),
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
