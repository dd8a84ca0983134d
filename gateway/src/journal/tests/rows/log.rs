//! The decision table: what is wrong with the log.

use super::{Image, ROW, Row, check, seed};
use crate::journal::format::{FRAME_HEADER_BYTES, FrameHeader, SegmentHeader};

/// Rows about the end of the log.
const AT_THE_END: &[Row] = &[
    Row { name: "last frame is a close", ..ROW },
    Row {
        name: "last frame valid, nothing behind it, no close",
        from: |origins| &origins.killed,
        logged: &["file=", "position=", "length=", "written again"],
        clean: false,
        ..ROW
    },
    Row {
        name: "here: no valid header",
        from: |origins| &origins.killed,
        change: |image| {
            let (name, frames) = image.newest();
            let at = *frames.last().unwrap();
            image.damage(&name, |it| it[at..at + 64].fill(0));
        },
        logged: &["file=", "position=", "length=", "written again"],
        clean: false,
        ..ROW
    },
    Row {
        name: "here: valid header, bad body",
        from: |origins| &origins.killed,
        change: |image| {
            let (name, frames) = image.newest();
            let at = *frames.last().unwrap();
            image.damage(&name, |it| it[at + 200] ^= 1);
        },
        counted: &["torn_tails"],
        logged: &["file=", "position=", "length=", "torn tail"],
        quarantine: true,
        clean: false,
        bumps: true,
        ..ROW
    },
    Row {
        name: "here: the block cannot be read",
        from: |origins| &origins.killed,
        change: |image| {
            let (name, frames) = image.newest();
            image.unreadable.push((name, *frames.last().unwrap()));
        },
        counted: &["torn_tails"],
        logged: &["file=", "position=", "length=", "Unreadable", "torn tail"],
        clean: false,
        bumps: true,
        ..ROW
    },
    Row {
        name: "newest segment: header, but no whole first frame; that one has a header",
        change: |image| {
            // A file that got no further than its header and half of its first frame.
            let name = image.cut_behind_first_frame();
            let first = image.newest().1[0];
            image.damage(&name, |it| it[first + 100] ^= 1);
        },
        counted: &["torn_tails", "void_files"],
        logged: &["file=", "position=", "length=", "torn tail"],
        quarantine: true,
        clean: false,
        bumps: true,
        ..ROW
    },
    Row {
        name: "newest segment: header, and no first frame",
        change: |image| {
            let name = image.cut_behind_first_frame();
            let first = image.newest().1[0];
            image.damage(&name, |it| it[first..].fill(0));
        },
        counted: &["void_files"],
        logged: &["file=", "position=", "length=", "void"],
        clean: false,
        after: |after| assert!(!after.has("journal/0000000000000004.seg")),
        ..ROW
    },
    Row {
        name: "newest file: no header, only a first frame",
        change: |image| {
            let name = image.cut_behind_first_frame();
            image.damage(&name, |it| it[..4096].fill(0));
        },
        clean: false,
        // The opening's segment is in it.
        after: |after| {
            let files = after.disk.files();
            let header = SegmentHeader::decode(files.content("journal/0000000000000004.seg"));
            assert_eq!(header.unwrap().sequence, 4);
            assert_eq!(after.journal.status().segments, 4);
        },
        ..ROW
    },
    Row {
        name: "newest file: an old header, only a first frame",
        from: |origins| &origins.retired,
        change: |image| {
            let name = image.cut_behind_first_frame();
            let old = image.gone[0].1[..4096].to_vec();
            image.damage(&name, |it| it[..4096].copy_from_slice(&old));
        },
        counted: &["reused_files"],
        logged: &["file=", "position=", "length=", "its space is used again"],
        clean: false,
        ..ROW
    },
    Row {
        name: "newest file: the disk refuses to read the header twice, first frame good",
        change: |image| {
            let name = image.cut_behind_first_frame();
            image.unreadable.push((name, 0));
        },
        // What is in it is written again.
        counted: &["damaged_ranges", "damaged_headers", "void_files"],
        logged: &["file=", "position=", "length=", "segment header put together"],
        clean: false,
        ..ROW
    },
    Row {
        name: "hot start in the last frame, its segments are spares already",
        from: |origins| &origins.retiring,
        logged: &["file=", "position=", "length=", "written again"],
        clean: false,
        after: |after| assert!(after.read(0, 0).is_err(), "below the log's start"),
        ..ROW
    },
    Row {
        name: "hot start in the last frame, its segments are there still",
        from: |origins| &origins.retiring,
        change: put_back,
        counted: &["reused_files"],
        logged: &["file=", "position=", "length=", "its space is used again"],
        clean: false,
        ..ROW
    },
];

/// Rows about damage below the end.
const BELOW: &[Row] = &[
    Row {
        name: "bad body, and valid frames further on",
        change: |image| {
            let (name, at) = image.middle(image.segments.len() - 1);
            image.damage(&name, |it| it[at + 200] ^= 1);
        },
        counted: &["damaged_ranges"],
        logged: &["file=", "position=", "length=", "damaged range"],
        bumps: true,
        ..ROW
    },
    Row {
        name: "bad header, and a later segment tells that the log goes on",
        change: |image| {
            let (name, frames) = image.segments[1].clone();
            let at = *frames.last().unwrap();
            image.damage(&name, |it| it[at] ^= 1);
        },
        counted: &["damaged_ranges"],
        logged: &["file=", "position=", "length=", "damaged range"],
        ..ROW
    },
    Row {
        name: "a slice is damaged",
        change: |image| {
            let (name, frames) = image.newest();
            damage_slice(image, &name, frames[0]);
        },
        counted: &["damaged_ranges", "damaged_snapshots"],
        logged: &["file=", "position=", "length=", "a slice of the state is damaged"],
        bumps: true,
        ..ROW
    },
    Row {
        name: "both header copies bad, frames good",
        change: |image| {
            let name = image.segments[1].0.clone();
            image.damage(&name, |it| it[..4096].fill(0xee));
        },
        counted: &["damaged_ranges", "damaged_headers"],
        logged: &["file=", "position=", "length=", "segment header put together"],
        ..ROW
    },
    Row {
        name: "a segment names another CRC than its predecessor's",
        change: |image| {
            let name = image.segments[2].0.clone();
            let header = SegmentHeader::decode(image.files.content(&name)).unwrap();
            let wrong = SegmentHeader { previous_crc: header.previous_crc ^ 1, ..header };
            image.damage(&name, |it| it[..4096].copy_from_slice(&wrong.encode()));
        },
        counted: &["broken_chains"],
        logged: &["file=", "position=", "frames before this are missing"],
        ..ROW
    },
    Row {
        name: "a frame names another CRC than its predecessor's",
        change: |image| {
            let (name, at) = image.middle(image.segments.len() - 1);
            rename_predecessor(image, &name, at);
        },
        counted: &["broken_chains"],
        logged: &["file=", "position=", "frames before this are missing"],
        bumps: true,
        ..ROW
    },
    Row {
        name: "the chain passes a gap in the positions",
        change: |image| {
            let name = image.segments[1].0.clone();
            image.remove(&name);
        },
        // What the next segment names as its predecessor is gone, too.
        counted: &["missing_segments", "broken_chains"],
        logged: &["file=", "position=", "segments before this one are missing"],
        ..ROW
    },
    Row {
        name: "the oldest segment begins behind 0",
        change: |image| {
            let name = image.segments[0].0.clone();
            image.remove(&name);
        },
        counted: &["missing_segments"],
        logged: &["file=", "position=", "segments before this one are missing"],
        ..ROW
    },
    Row {
        name: "the oldest segment begins behind the hot start",
        from: |origins| &origins.retired,
        change: |image| {
            let name = image.segments[0].0.clone();
            image.remove(&name);
        },
        counted: &["missing_segments"],
        logged: &["file=", "position=", "hot_start=", "segments before this one are missing"],
        ..ROW
    },
    Row {
        name: "no complete snapshot, and the oldest segment is not the first",
        change: |image| {
            // Only the newest segment is left, and its snapshot is damaged.
            let (name, frames) = image.newest();
            for (older, _) in image.segments.clone().iter().filter(|(it, _)| *it != name) {
                image.remove(older);
            }
            image.damage(&name, |it| it[frames[0] + 64 + 40] ^= 1);
        },
        counted: &["damaged_ranges", "damaged_snapshots", "missing_segments", "lost_states"],
        logged: &["file=", "position=", "what was before this segment is lost"],
        bumps: true,
        ..ROW
    },
];

/// Rows about files that are no part of the log, or not any more.
const BESIDE: &[Row] = &[
    Row {
        name: "both header copies bad, frames that a segment with a lower sequence lies behind",
        from: |origins| &origins.retired,
        change: |image| {
            let (spare, next) = (image.spare(), image.next_name());
            image.rename(&spare, &next);
            image.damage(&next, |it| it[..4096].fill(0xee));
        },
        ..ROW
    },
    Row {
        name: "a segment below the hot start: its renaming was lost",
        from: |origins| &origins.retired,
        change: put_back,
        counted: &["reused_files"],
        logged: &["file=", "position=", "length=", "its space is used again"],
        after: |after| {
            assert!(!after.has("journal/0000000000000001.seg"));
            assert!(after.disk.files().names().iter().any(|name| name.contains("spare")));
        },
        ..ROW
    },
    Row {
        name: "a spare with an old header",
        from: |origins| &origins.retired,
        change: |image| assert!(SegmentHeader::decode(image.files.content(&image.spare())).is_ok()),
        ..ROW
    },
    Row {
        name: "a file with the name of the next sequence, with an old header",
        from: |origins| &origins.retired,
        change: |image| {
            let (spare, next) = (image.spare(), image.next_name());
            image.rename(&spare, &next);
        },
        counted: &["reused_files"],
        logged: &["file=", "position=", "length=", "its space is used again"],
        ..ROW
    },
    Row {
        name: "a spare of another length",
        change: |image| image.files.add("journal/spare-0000000000000009", &[0; 8192]),
        counted: &["misfit_spares"],
        logged: &["file=", "length=", "a spare of another length"],
        after: |after| assert!(!after.has("journal/spare-0000000000000009")),
        ..ROW
    },
    Row {
        name: "two files with one sequence",
        change: |image| {
            let content = image.files.content(&image.segments[1].0).to_vec();
            image.files.add("journal/00000000000000ff.seg", &content);
        },
        counted: &["quarantined_files"],
        logged: &["file=", "kept=", "position=", "length=", "two files hold one segment"],
        quarantine: true,
        after: |after| assert!(after.has("quarantine/00000000000000ff.seg")),
        ..ROW
    },
];

/// Segments have their names of before they left the log.
fn put_back(image: &mut Image) {
    image.files.rewire(|names| names.retain(|name, _| !name.contains("spare")));
    for (name, content) in image.gone.clone() {
        image.files.add(&name, &content);
    }
}

/// Lets a frame name another one as the one before.
pub(super) fn rename_predecessor(image: &mut Image, name: &str, at: usize) {
    let first = SegmentHeader::decode(image.files.content(name)).unwrap().first;
    image.damage(name, |all| {
        let header = all[at..].first_chunk::<FRAME_HEADER_BYTES>().unwrap();
        let (frame, _) = FrameHeader::decode(header, seed(), first.plus(at as u64)).unwrap();
        let other = FrameHeader { previous_crc: frame.previous_crc ^ 1, ..frame };
        all[at..at + FRAME_HEADER_BYTES].copy_from_slice(&other.encode(seed()));
    });
}

/// Damages the payload of a segment's first entry, which is a slice.
pub(super) fn damage_slice(image: &mut Image, name: &str, frame: usize) {
    image.damage(name, |all| {
        let entries = frame + FRAME_HEADER_BYTES;
        let mark = all[entries..entries + 4000].windows(4).position(|it| it[2..] == *b"he");
        all[entries + mark.unwrap() + 40] ^= 1;
    });
}

#[test]
fn rows_about_the_end_of_the_log() {
    check(AT_THE_END, Image::without_indexes, &["index_missing"]);
}

#[test]
fn rows_about_damage_below_the_end() {
    check(BELOW, Image::without_indexes, &["index_missing"]);
}

#[test]
fn rows_about_files_that_are_not_part_of_the_log() {
    check(BESIDE, Image::without_indexes, &["index_missing"]);
}
