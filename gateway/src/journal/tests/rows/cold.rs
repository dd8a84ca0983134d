//! The table of cold segments.

use super::{
    super::cold::{LONG, Subject},
    After, Files, Image, MemoryDisk, ROW, Row, check, small_options,
};
use crate::journal::{ReadError, format::ColdHeader, handle::open_idle};

const COLD: &str = "cold/0000000000000001.cold";

/// Two segments that were cleaned into one cold segment, and two more.
pub(super) fn cleaned() -> Files {
    let subject = Subject::cleaned();
    assert_eq!(subject.cold_files(), [COLD]);
    subject.journal.close().unwrap();
    subject.disk.files()
}

/// How many offsets answer with an error.
fn lost(after: &After) -> usize {
    let end = after.journal.durable_end(super::PartitionId(LONG)).0;
    let lost = (0..end).filter(|&offset| match after.read(LONG, offset) {
        Ok(count) => {
            assert_eq!(count, 1, "{offset} is passed over");
            false
        }
        Err(ReadError::Damaged { .. }) => true,
        Err(error) => panic!("{offset}: {error}"),
    });
    lost.count()
}

fn is_whole(after: &After) {
    assert_eq!(lost(after), 0);
}

fn is_lost(after: &After) {
    assert!(lost(after) > 10);
    assert!(after.journal.status().open_damage > 0);
}

/// The frame with the cold segment's fact, and its file.
fn fact_frame(image: &Image) -> (String, usize) {
    // Space 255, a value, the lengths of the key, and the key.
    let fact = [255, 1, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1];
    let frame = image.segments.iter().find_map(|(name, frames)| {
        let content = image.files.content(name);
        let at = content.windows(fact.len()).position(|bytes| bytes == fact)?;
        let frame = frames.iter().rev().find(|&&frame| frame < at)?;
        Some((name.clone(), *frame))
    });
    frame.expect("the fact is in the log")
}

const ROWS: &[Row] = &[
    Row { name: "nothing", after: is_whole, from: |origins| &origins.cleaned, ..ROW },
    Row {
        name: "a file without a fact",
        change: |image| image.files.add("cold/00000000000000ff.cold", b"nothing"),
        counted: &["cold_leftover"],
        logged: &["file=", "length=", "removed"],
        after: |after| {
            is_whole(after);
            assert!(!after.has("cold/00000000000000ff.cold"));
        },
        from: |origins| &origins.cleaned,
        ..ROW
    },
    Row {
        name: "the same, the replayed range is damaged: it is live",
        change: |image| {
            let (name, frame) = fact_frame(image);
            image.damage(&name, |all| all[frame + 64..frame + 4096].fill(0));
        },
        // The hot start came with the fact: it is moved again.
        counted: &["damaged_ranges", "missing_segments", "cold_adopted"],
        logged: &["file=", "its fact was lost to damage"],
        bumps: true,
        after: |after| {
            is_whole(after);
            let files = after.disk.files();
            let again = open_idle(MemoryDisk::new(files), &small_options()).unwrap().0.status();
            let missed = again.recovery.missing_segments + again.recovery.cold_adopted;
            assert_eq!((again.cold_segments, missed), (1, 0), "{:?}", again.recovery);
        },
        from: |origins| &origins.cleaned,
        ..ROW
    },
    Row {
        name: "the same, the replayed range is damaged: it is something else",
        change: |image| {
            let (name, frames) = image.newest();
            image.damage(&name, |all| all[frames[0] + 64..frames[0] + 4096].fill(0));
            image.files.add("cold/00000000000000ff.cold", b"nothing");
        },
        counted: &["damaged_ranges", "cold_leftover"],
        logged: &["file=", "position=", "length=", "damaged range"],
        bumps: true,
        after: |after| assert!(after.has("cold/00000000000000ff.cold"), "it stays"),
        from: |origins| &origins.cleaned,
        ..ROW
    },
    Row {
        name: "a fact without its file",
        change: |image| image.remove(COLD),
        counted: &["cold_lost"],
        logged: &["file=", "from=", "to=", "a cold segment is lost"],
        after: is_lost,
        from: |origins| &origins.cleaned,
        ..ROW
    },
    Row {
        name: "both chunks damaged",
        change: |image| {
            let end = ColdHeader::decode(image.files.content(COLD)).unwrap().end as usize;
            image.damage(COLD, |all| all[end..].fill(0));
        },
        counted: &["cold_lost"],
        logged: &["file=", "from=", "to=", "a cold segment is lost"],
        after: |after| {
            is_lost(after);
            assert!(after.has(COLD), "the file stays");
        },
        from: |origins| &origins.cleaned,
        ..ROW
    },
    Row {
        name: "file and fact tell of different places",
        change: |image| {
            let mut header = ColdHeader::decode(image.files.content(COLD)).unwrap();
            header.to = header.to.plus(4096);
            image.damage(COLD, |all| all[..4096].copy_from_slice(&header.encode()));
        },
        counted: &["cold_lost"],
        logged: &["file=", "from=", "to=", "a cold segment is lost"],
        after: |after| {
            is_lost(after);
            assert!(after.has(COLD), "the file stays");
        },
        from: |origins| &origins.cleaned,
        ..ROW
    },
    Row {
        name: "header damaged",
        change: |image| image.damage(COLD, |all| all[..4096].fill(0)),
        counted: &["cold_damaged"],
        logged: &["file=", "a part is damaged that can be done without"],
        after: is_whole,
        from: |origins| &origins.cleaned,
        ..ROW
    },
    Row {
        name: "the index chunk damaged",
        change: |image| {
            let end = ColdHeader::decode(image.files.content(COLD)).unwrap().end as usize;
            image.damage(COLD, |all| all[end.next_multiple_of(4096) + 100] ^= 1);
        },
        counted: &["cold_damaged"],
        logged: &["file=", "a part is damaged that can be done without"],
        after: is_whole,
        from: |origins| &origins.cleaned,
        ..ROW
    },
    Row {
        name: "an entry is damaged",
        change: |image| image.damage(COLD, |all| all[4096 + 300] ^= 1),
        after: |after| assert_eq!(lost(after), 1),
        from: |origins| &origins.cleaned,
        ..ROW
    },
];

#[test]
fn rows_about_cold_segments() {
    // What was cleaned is space under the next names.
    check(ROWS, Image::without_indexes, &["index_missing", "reused_files"]);
}
