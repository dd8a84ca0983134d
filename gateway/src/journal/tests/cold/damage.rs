//! Damage of cold segments and of what they are copied from.

use super::*;

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
fn a_cold_segment_with_a_damaged_entry_is_not_merged_and_goes_on() {
    let mut subject = Subject::cleaned();
    subject.fill(3);
    subject.drop_short();
    subject.journal.clean_oldest().unwrap().unwrap();
    subject.journal.close().unwrap();
    let mut files = subject.disk.files();
    let [damaged, _] = &subject.cold_files()[..] else { panic!("{:?}", subject.cold_files()) };
    files.damage(damaged, |content| content[ALIGN as usize + 300] ^= 1);
    let damaged = damaged.clone();
    subject.reopen(files);
    let error = subject.journal.merge_cold().unwrap_err();
    assert!(matches!(error, CleanError::Damaged { .. }), "{error}");
    // The other one alone, and the damaged one not again.
    for _ in 0..3 {
        let merged = subject.journal.merge_cold().unwrap();
        assert!(merged.is_none_or(|merged| merged.segments == 1), "{merged:?}");
    }
    subject.free();
    assert!(subject.cold_files().contains(&damaged));
    let lost = (0..subject.values.len()).filter(|&offset| {
        match subject.journal.read(PartitionId(LONG), Offset(offset as i64), 1) {
            Ok(batches) => {
                assert_eq!(value(&batches[0]), subject.values[offset]);
                false
            }
            Err(error) => {
                assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
                true
            }
        }
    });
    assert_eq!(lost.count(), 1);
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
