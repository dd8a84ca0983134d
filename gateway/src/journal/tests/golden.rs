//! The frozen sample folder of format version 1: it opens, holds what it held, and would be written the same again.

use std::{fs, path::PathBuf};

use bytes::Bytes;

use super::{
    disk::{Files, MemoryDisk},
    model::read_all,
    support::{FixedClock, admit, append, batch, block_on, fact, next_append, small_options},
};
use crate::{
    journal::{
        Clock, Fact, Offset, PartitionId, RealDisk, Space, State,
        format::{
            ALIGN, Barrier, ENTRY_HEADER_BYTES, EntryHeader, EntryKind, FRAME_HEADER_BYTES,
            FrameHeader, SegmentHeader,
        },
        frame::FrameBuilder,
        open,
    },
    record::{Batch, BatchBuilder, Compression},
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal-v1")
}

/// Two partitions, a producer, facts, a log start, a kill in between, and a roll.
fn write_sample() -> Files {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    for n in 0..4u8 {
        let producer =
            batch(&[&[n; 10], b"second"]).with_producer(77, 1, 2 * i32::from(n)).unwrap();
        let facts = [fact(&[b'f', n], Some(&[n; 3])), fact(b"gone", (n < 3).then_some(b"x"))];
        append(&journal, &mut state, &[(1, producer), (2, batch(&[b"plain"]))], &facts).unwrap();
    }
    append(&journal, &mut state, &[], &[Fact::log_start(PartitionId(1), Offset(3))]).unwrap();
    let mut builder = BatchBuilder::compressed(Compression::Gzip);
    builder.push(1_700_000_000_123, Some(b"key"), Some(&[b'z'; 500]), &[(b"header", b"value")]);
    append(&journal, &mut state, &[(2, builder.finish().unwrap())], &[]).unwrap();
    let killed = disk.files();
    drop(journal);

    let disk = MemoryDisk::new(killed);
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    for n in 0..3u8 {
        let next = next_append(&state, &[(3, batch(&[&vec![n + 1; 25_000]]))], &[]);
        let permit = admit(&journal, next.encoded_len());
        state.apply_append(&next, 0);
        block_on(journal.append(permit, next)).unwrap();
    }
    journal.close().unwrap();
    disk.files()
}

fn check_state(state: &State) {
    let ends = |partition| {
        let found = state.partition(PartitionId(partition));
        (found.log_start.0, found.log_end.0, found.leader_epoch)
    };
    assert_eq!([ends(1), ends(2), ends(3)], [(3, 8, 0), (0, 5, 0), (0, 3, 1)]);
    assert_eq!((state.incarnation(), state.leader_epoch()), (1, 1));
    for n in 0..4u8 {
        assert_eq!(state.fact(Space(1), &[b'f', n]), Some(&Bytes::copy_from_slice(&[n; 3])));
    }
    assert_eq!(state.fact(Space(1), b"gone"), None);
    let again = batch(&[&[3; 10], b"second"]).with_producer(77, 1, 6).unwrap();
    let duplicate = super::super::ProducerCheck::Duplicate { base_offset: Offset(6) };
    assert_eq!(state.check(PartitionId(1), &again.header()), duplicate);
}

fn segment_files() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder().join("journal"))
        .expect("the fixture is checked in")
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn a_folder_of_format_1_opens_and_holds_what_it_held() {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("journal")).unwrap();
    for file in segment_files() {
        fs::copy(&file, copy.path().join("journal").join(file.file_name().unwrap())).unwrap();
    }
    let (journal, state) = open(RealDisk::open(copy.path()).unwrap(), &small_options()).unwrap();
    check_state(&state);
    let report = journal.status().recovery;
    assert!(report.clean);
    assert_eq!((report.damaged_ranges, report.broken_chains, report.missing_segments), (0, 0, 0));
    let counts = [1, 2, 3].map(|partition| read_all(&journal, PartitionId(partition)).len());
    assert_eq!(counts, [3, 5, 3]);
    let compressed = journal.read(PartitionId(2), Offset(4), 1).unwrap().remove(0);
    let records = Batch::parse_stored(compressed).unwrap().records(1 << 20).unwrap();
    assert_eq!(records[0].value.as_deref(), Some(&[b'z'; 500][..]));
    assert_eq!(records[0].headers[0].0, "header");
    let large = journal.read(PartitionId(3), Offset(2), 1).unwrap().remove(0);
    assert_eq!(
        Batch::parse_stored(large).unwrap().records(1 << 20).unwrap()[0].value.as_deref(),
        Some(&[3; 25_000][..])
    );
}

#[test]
fn the_frames_of_the_sample_are_written_the_same_today() {
    let mut frames = 0;
    for file in segment_files() {
        let content = fs::read(file).unwrap();
        let segment = SegmentHeader::decode(&content).unwrap();
        assert_eq!(content[..ALIGN as usize], segment.encode());
        let seed = segment.journal.seed();
        let mut at = ALIGN as usize;
        while let Some(header) = content.get(at..).and_then(<[u8]>::first_chunk) {
            let position = segment.first.plus(at as u64);
            let Some((header, _)) = FrameHeader::decode(header, seed, position) else { break };
            let mut builder = FrameBuilder::new(seed);
            builder.begin(position, None);
            let mut entry_at = at + FRAME_HEADER_BYTES;
            for _ in 0..header.entry_count {
                let encoded = content[entry_at..].first_chunk().unwrap();
                let place = segment.first.plus(entry_at as u64);
                let entry = EntryHeader::decode(encoded, seed, place).unwrap();
                let from = entry_at + ENTRY_HEADER_BYTES;
                let payload = &content[from..from + entry.length as usize];
                match entry.kind {
                    EntryKind::Slice => builder.slice(entry.partition.0, entry.count, payload),
                    EntryKind::Barrier => builder.barrier(Barrier::decode(payload).unwrap()),
                    EntryKind::Close => builder.close(),
                    EntryKind::Batch | EntryKind::Fact => builder.carried(entry, payload),
                }
                entry_at += entry.size();
            }
            let now = FixedClock.now();
            let (bytes, _) = builder.finish(header.kind, header.previous_crc, now, header.open_ms);
            assert_eq!(bytes, &content[at..at + header.length() as usize], "frame at {position:?}");
            at += header.length() as usize;
            frames += 1;
        }
    }
    assert!(frames > 10, "{frames}");
}

#[test]
#[ignore = "writes the fixture anew: only for a new format version, into a new folder"]
fn write_the_sample_folder() {
    let files = write_sample();
    fs::create_dir_all(folder().join("journal")).unwrap();
    for name in files.names() {
        let content = files.content(&name);
        let used = content.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
        if used > 0 {
            // The rest is preallocated space; a file may be shorter than its segment.
            let kept = &content[..used.next_multiple_of(ALIGN as usize)];
            fs::write(folder().join(&name), kept).unwrap();
        }
    }
}
