//! The table of index files: none of what is wrong with them keeps the journal from opening or changes an answer.

use super::{
    After, Image, ROW, Row, check,
    log::{damage_slice, rename_predecessor},
    seed,
};
use crate::journal::{
    ReadError,
    format::{CHUNK_HEADER_BYTES, ChunkHeader, SegmentHeader},
};

const FIRST: &str = "journal/0000000000000001.idx";

/// Headers of the chunks of an index file.
fn chunks(content: &[u8]) -> Vec<ChunkHeader> {
    let mut chunks: Vec<ChunkHeader> = Vec::new();
    loop {
        let at = chunks.last().map_or(0, |last| (last.at + last.length()) as usize);
        let header = content.get(at..).and_then(<[u8]>::first_chunk::<CHUNK_HEADER_BYTES>);
        match header.and_then(|header| ChunkHeader::decode(header, seed(), at as u64)) {
            Some(chunk) => chunks.push(chunk),
            None => return chunks,
        }
    }
}

/// The newest segment's index file.
fn newest(image: &Image) -> String {
    image.newest().0.replace(".seg", ".idx")
}

/// Cuts an index file off behind its first chunk; where in the segment that ends.
fn cut_behind_first_chunk(image: &mut Image, index: &str) -> usize {
    let chunks = chunks(image.files.content(index));
    assert!(chunks.len() > 1, "{index} has one chunk");
    image.damage(index, |all| all.truncate(chunks[1].at as usize));
    (chunks[0].to.0 - chunks[0].first.0) as usize
}

/// Both partitions are there from the first to the last offset.
fn all_is_served(after: &After) {
    for partition in 0..2 {
        let end = after.journal.durable_end(super::PartitionId(partition)).0;
        assert!(end > 20);
        for offset in 0..end {
            assert_eq!(after.read(partition, offset).unwrap(), 1, "{partition} {offset}");
        }
    }
}

const ROWS: &[Row] = &[
    Row {
        name: "no file",
        change: |image| image.remove(FIRST),
        counted: &["index_missing"],
        after: all_is_served,
        ..ROW
    },
    Row {
        name: "an empty file",
        change: |image| image.damage(FIRST, Vec::clear),
        counted: &["index_missing"],
        after: all_is_served,
        ..ROW
    },
    Row {
        name: "chunks up to some place, the last one not sealed",
        change: |image| {
            cut_behind_first_chunk(image, FIRST);
        },
        after: |after| {
            all_is_served(after);
            assert!(after.report.scanned_bytes > 16 << 10, "the rest was scanned");
            assert!(after.journal.status().unindexed_bytes > 16 << 10, "it waits to be covered");
        },
        ..ROW
    },
    Row {
        name: "a place where a chunk is due holds none: a bad header",
        change: |image| {
            let index = newest(image);
            image.damage(&index, |all| all[30] ^= 1);
        },
        counted: &["index_damaged"],
        logged: &["file=", "at=", "length=", "damaged index"],
        after: all_is_served,
        ..ROW
    },
    Row {
        name: "a place where a chunk is due holds none: a bad payload",
        change: |image| {
            let index = newest(image);
            image.damage(&index, |all| all[CHUNK_HEADER_BYTES + 10] ^= 1);
        },
        counted: &["index_damaged"],
        logged: &["file=", "at=", "length=", "damaged index"],
        after: all_is_served,
        ..ROW
    },
    Row {
        name: "a chunk of another segment",
        change: |image| {
            let other = image.files.content(FIRST).to_vec();
            let index = newest(image);
            image.damage(&index, |all| *all = other);
        },
        counted: &["index_stale"],
        logged: &["file=", "at=", "length=", "not of this place"],
        after: all_is_served,
        ..ROW
    },
    Row {
        name: "one that begins elsewhere than the one before ends",
        change: |image| {
            // Without the second one the file has a hole, which holds the third one's bytes.
            let index = image.segments[1].0.replace(".seg", ".idx");
            let chunks = chunks(image.files.content(&index));
            let seed = seed();
            image.damage(&index, |all| {
                let payload = chunks[2].at as usize + CHUNK_HEADER_BYTES;
                let payload = all[payload..payload + chunks[2].payload_bytes as usize].to_vec();
                let moved = ChunkHeader { at: chunks[1].at, ..chunks[2] };
                all.truncate(chunks[1].at as usize);
                all.extend_from_slice(&moved.encode(seed, &payload).1);
            });
        },
        counted: &["index_stale"],
        logged: &["file=", "at=", "length=", "not of this place"],
        after: all_is_served,
        ..ROW
    },
    Row {
        name: "the last frame covered is not at its place",
        change: |image| {
            let (name, frames) = image.newest();
            image.damage(&name, |all| all[frames[frames.len() - 3]..].fill(0));
        },
        counted: &["index_stale"],
        logged: &["file=", "at=", "length=", "the last frame that it covers is not there"],
        clean: false,
        ..ROW
    },
    Row {
        name: "`to` lies behind the end that the next segment tells",
        change: |image| {
            let (name, frames) = image.segments[1].clone();
            let end = SegmentHeader::decode(image.files.content(&name)).unwrap().first;
            let end = end.plus(frames[frames.len() - 2] as u64);
            let next = image.segments[2].0.clone();
            let header = SegmentHeader::decode(image.files.content(&next)).unwrap();
            let earlier = SegmentHeader { previous_end: end, ..header };
            image.damage(&next, |all| all[..4096].copy_from_slice(&earlier.encode()));
        },
        counted: &["index_stale", "broken_chains"],
        logged: &["file=", "at=", "length=", "it covers more than the log holds"],
        ..ROW
    },
    Row {
        name: "the frame at `to` names another CRC",
        change: |image| {
            let name = image.segments[1].0.clone();
            let to = cut_behind_first_chunk(image, &name.replace(".seg", ".idx"));
            rename_predecessor(image, &name, to);
        },
        counted: &["index_stale", "broken_chains"],
        logged: &["file=", "at=", "length=", "the log goes on after another frame"],
        after: all_is_served,
        ..ROW
    },
    Row {
        name: "the next segment names another CRC",
        change: |image| {
            let name = image.segments[2].0.clone();
            let header = SegmentHeader::decode(image.files.content(&name)).unwrap();
            let wrong = SegmentHeader { previous_crc: header.previous_crc ^ 1, ..header };
            image.damage(&name, |all| all[..4096].copy_from_slice(&wrong.encode()));
        },
        counted: &["index_stale", "broken_chains"],
        logged: &["file=", "at=", "length=", "the next segment was begun after another frame"],
        after: all_is_served,
        ..ROW
    },
    Row {
        name: "the log is damaged below what is covered: a batch",
        change: |image| {
            let name = image.segments[0].0.clone();
            image.damage(&name, |all| {
                let value = all.windows(300).position(|bytes| bytes == [5; 300]);
                all[value.unwrap()] ^= 1;
            });
        },
        after: |after| {
            assert!(matches!(after.read(0, 5), Err(ReadError::Damaged { .. })));
            assert_eq!((after.read(0, 4).unwrap(), after.read(1, 5).unwrap()), (1, 1));
        },
        ..ROW
    },
    Row {
        name: "the log is damaged below what is covered: a slice",
        change: |image| {
            let (name, frames) = image.newest();
            damage_slice(image, &name, frames[0]);
        },
        counted: &["damaged_snapshots"],
        logged: &["file=", "position=", "length=", "a slice of the state is damaged"],
        after: all_is_served,
        ..ROW
    },
    Row {
        name: "a file for a segment that is not part of the log",
        change: |image| image.files.add("journal/00000000000000f0.idx", b"left"),
        counted: &["index_leftover"],
        logged: &["file=", "length=", "removed"],
        after: |after| assert!(!after.has("journal/00000000000000f0.idx")),
        ..ROW
    },
    Row {
        name: "a sealed chunk is whole, one before it is not, and it is needed later",
        change: |image| {
            let chunks = chunks(image.files.content(FIRST));
            assert!(chunks.len() > 1 && chunks.last().unwrap().sealed);
            image.damage(FIRST, |all| all[CHUNK_HEADER_BYTES + 10] ^= 1);
        },
        logged: &["file=", "at=", "length=", "damaged index"],
        after: |after| {
            assert_eq!(after.journal.status().index_damaged, 0);
            all_is_served(after);
            assert_eq!(after.journal.status().index_damaged, 1);
        },
        ..ROW
    },
];

#[test]
fn rows_about_index_files() {
    check(ROWS, |image| image, &[]);
}
