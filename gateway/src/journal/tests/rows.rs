//! FORMAT.md's decision table, a case per row: what the opening counts, logs and copies.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing_subscriber::fmt::MakeWriter;

use super::{
    disk::{Files, MemoryDisk},
    support::{append, batch, fact, small_options},
};
use crate::journal::{
    Disk, JournalOptions, RecoveryReport,
    format::{ALIGN, FRAME_HEADER_BYTES, FrameHeader, SegmentHeader},
    handle::open_idle,
    open,
};

/// Lines of the log.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// A row: how to get there from a journal of three segments or more, what is counted, and words of one line.
struct Row {
    name: &'static str,
    close: bool,
    damage: fn(&mut Files, &Sample),
    /// Counters above 0; all others of damage are 0.
    counted: &'static [&'static str],
    logged: &'static [&'static str],
    quarantine: bool,
}

/// Files of the sample, oldest first, with the places of their frames.
struct Sample {
    segments: Vec<(String, Vec<usize>)>,
}

impl Sample {
    fn last(&self) -> (&str, usize) {
        let (name, frames) = self.segments.last().unwrap();
        (name, *frames.last().unwrap())
    }

    /// A frame in the middle of a segment.
    fn middle(&self, segment: usize) -> (&str, usize) {
        let (name, frames) = &self.segments[segment];
        (name, frames[frames.len() / 2])
    }
}

fn files(close: bool) -> Files {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    for round in 0_u32.. {
        let values = [vec![round as u8; 1500], vec![3; 700]];
        let batches = [(0, batch(&[&values[0]])), (1, batch(&[&values[1]]))];
        append(&journal, &mut state, &batches, &[fact(b"key", Some(&[round as u8]))]).unwrap();
        if journal.status().segments > 3 && round % 6 == 0 {
            break;
        }
    }
    if close {
        journal.close().unwrap();
    }
    disk.files()
}

fn sample(files: &Files) -> Sample {
    let mut segments = Vec::new();
    for name in files.names().into_iter().filter(|name| name.ends_with(".seg")) {
        let content = files.content(&name);
        let Ok(header) = SegmentHeader::decode(content) else { continue };
        let seed = header.journal.seed();
        let blocks = (ALIGN as usize..content.len()).step_by(ALIGN as usize);
        let frames = blocks.filter(|&at| {
            let block = content.get(at..).and_then(<[u8]>::first_chunk::<FRAME_HEADER_BYTES>);
            let position = header.first.plus(at as u64);
            block.is_some_and(|block| FrameHeader::decode(block, seed, position).is_some())
        });
        segments.push((name.clone(), frames.collect()));
    }
    Sample { segments }
}

fn counters(report: &RecoveryReport) -> [(&'static str, u64); 10] {
    [
        ("torn_tails", report.torn_tails),
        ("damaged_ranges", report.damaged_ranges),
        ("damaged_headers", report.damaged_headers),
        ("doubled_offsets", report.doubled_offsets),
        ("damaged_snapshots", report.damaged_snapshots),
        ("lost_states", report.lost_states),
        ("broken_chains", report.broken_chains),
        ("missing_segments", report.missing_segments),
        ("quarantined_files", report.quarantined_files),
        ("misfit_spares", report.misfit_spares),
    ]
}

const ROWS: &[Row] = &[
    Row {
        name: "last frame is a close",
        close: true,
        damage: |_, _| {},
        counted: &[],
        logged: &[],
        quarantine: false,
    },
    Row {
        name: "last frame valid, nothing behind it, no close",
        close: false,
        damage: |_, _| {},
        counted: &[],
        logged: &["file=", "position=", "length=", "written again"],
        quarantine: false,
    },
    Row {
        name: "here: no valid header",
        close: false,
        damage: |files, sample| {
            let (name, at) = sample.last();
            files.damage(name, |it| it[at..at + 64].fill(0));
        },
        counted: &[],
        logged: &["written again"],
        quarantine: false,
    },
    Row {
        name: "here: valid header, bad body",
        close: false,
        damage: |files, sample| {
            let (name, at) = sample.last();
            files.damage(name, |it| it[at + 200] ^= 1);
        },
        counted: &["torn_tails"],
        logged: &["file=", "position=", "length=", "torn tail"],
        quarantine: true,
    },
    Row {
        name: "newest segment: header, but no whole first frame",
        close: true,
        damage: |files, sample| {
            // A file that got no further than its header and half of its first frame.
            let (name, frames) = &sample.segments[sample.segments.len() - 1];
            let first = frames[0];
            files.damage(name, |it| it[first + 100] ^= 1);
            let behind = frames.get(1).copied();
            files.damage(name, |it| behind.into_iter().for_each(|at| it[at..].fill(0)));
        },
        counted: &["torn_tails"],
        logged: &["file=", "position=", "length=", "torn tail"],
        quarantine: true,
    },
    Row {
        name: "bad body, and valid frames further on",
        close: true,
        damage: |files, sample| {
            let (name, at) = sample.middle(sample.segments.len() - 1);
            files.damage(name, |it| it[at + 200] ^= 1);
        },
        counted: &["damaged_ranges"],
        logged: &["file=", "position=", "length=", "damaged range"],
        quarantine: false,
    },
    Row {
        name: "a slice is damaged",
        close: true,
        damage: |files, sample| {
            let (name, frames) = &sample.segments[sample.segments.len() - 1];
            let first = frames[0];
            files.damage(name, |it| {
                let slice =
                    it[first + 64..first + 4096].windows(4).position(|it| it[2..] == *b"he");
                let slice = first + 64 + slice.unwrap();
                // The first entry is the slice: its payload.
                it[slice + 40] ^= 1;
            });
        },
        counted: &["damaged_ranges", "damaged_snapshots"],
        logged: &["file=", "position=", "length=", "a slice of the state is damaged"],
        quarantine: false,
    },
    Row {
        name: "both header copies bad, frames good",
        close: true,
        damage: |files, sample| {
            files.damage(&sample.segments[1].0, |it| it[..4096].fill(0xee));
        },
        counted: &["damaged_ranges", "damaged_headers"],
        logged: &["file=", "position=", "length=", "segment header put together"],
        quarantine: false,
    },
    Row {
        name: "a frame names another CRC than its predecessor's",
        close: true,
        damage: |files, sample| {
            // A later segment that names another frame as the last one before it.
            let name = &sample.segments[2].0;
            let header = SegmentHeader::decode(files.content(name)).unwrap();
            let wrong = SegmentHeader { previous_crc: header.previous_crc ^ 1, ..header };
            files.damage(name, |it| it[..4096].copy_from_slice(&wrong.encode()));
        },
        counted: &["broken_chains"],
        logged: &["file=", "position=", "frames before this are missing"],
        quarantine: false,
    },
    Row {
        name: "the chain passes a gap in the positions",
        close: true,
        damage: |files, sample| {
            let name = &sample.segments[1].0;
            files.rewire(|it| assert!(it.remove(name).is_some()));
        },
        // What the next segment names as its predecessor is gone, too.
        counted: &["missing_segments", "broken_chains"],
        logged: &["file=", "position=", "segments before this one are missing"],
        quarantine: false,
    },
    Row {
        name: "the oldest segment begins behind 0",
        close: true,
        damage: |files, sample| {
            let name = &sample.segments[0].0;
            files.rewire(|it| assert!(it.remove(name).is_some()));
        },
        counted: &["missing_segments"],
        logged: &["file=", "position=", "segments before this one are missing"],
        quarantine: false,
    },
    Row {
        name: "a spare of another length",
        close: true,
        damage: |files, _| files.add("journal/spare-0000000000000009", &[0; 8192]),
        counted: &["misfit_spares"],
        logged: &["file=", "length=", "removed"],
        quarantine: false,
    },
    Row {
        name: "two files with one sequence",
        close: true,
        damage: |files, sample| {
            let content = files.content(&sample.segments[1].0).to_vec();
            files.add("journal/00000000000000ff.seg", &content);
        },
        counted: &["quarantined_files"],
        logged: &["kept=", "double=", "two files hold one segment"],
        quarantine: true,
    },
    Row {
        name: "no complete snapshot, and the oldest segment is not the first",
        close: true,
        damage: |files, sample| {
            // Only the newest segment is left, and its snapshot is damaged.
            for (name, _) in &sample.segments[..sample.segments.len() - 1] {
                files.rewire(|it| assert!(it.remove(name).is_some()));
            }
            let (name, frames) = &sample.segments[sample.segments.len() - 1];
            let first = frames[0];
            files.damage(name, |it| it[first + 64 + 40] ^= 1);
        },
        counted: &["damaged_ranges", "damaged_snapshots", "missing_segments", "lost_states"],
        logged: &["file=", "position=", "what was before this segment is lost"],
        quarantine: false,
    },
];

#[test]
fn each_row_of_the_decision_table_is_counted_logged_and_copied() {
    let closed = files(true);
    let killed = files(false);
    // With only one subscriber alive, a line that another test's thread reaches first is switched off for good.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    for row in ROWS {
        let mut files = if row.close { closed.clone() } else { killed.clone() };
        // What index files cover is not looked at.
        let indexes = files.names().into_iter().filter(|name| name.ends_with(".idx"));
        for name in indexes.collect::<Vec<_>>() {
            files.rewire(|it| assert!(it.remove(&name).is_some()));
        }
        let sample = sample(&files);
        (row.damage)(&mut files, &sample);
        let disk = MemoryDisk::new(files);
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(false);
        let report = tracing::subscriber::with_default(subscriber.finish(), || {
            let (journal, _) = open_idle(disk.clone(), &small_options()).unwrap();
            journal.status().recovery
        });
        let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        for (counter, count) in counters(&report) {
            assert_eq!(
                count > 0,
                row.counted.contains(&counter),
                "{}: {counter}\n{report:?}\n{log}",
                row.name
            );
        }
        let told = row.logged.is_empty()
            || log.lines().any(|line| row.logged.iter().all(|word| line.contains(word)));
        assert!(told, "{}: {:?} in no line of\n{log}", row.name, row.logged);
        let copies = disk.list("quarantine").unwrap().len();
        assert_eq!(copies > 0, row.quarantine, "{}: {copies} copies", row.name);
        assert_eq!(report.clean, row.close && report.torn_tails == 0, "{}", row.name);
    }
}

/// Rows that need a disk which refuses.
#[test]
fn blocks_that_cannot_be_read_are_counted() {
    let killed = files(false);
    let (name, at) = {
        let sample = sample(&killed);
        let (name, at) = sample.last();
        (name.to_owned(), at)
    };
    let disk = MemoryDisk::new(killed);
    disk.make_unreadable(&name, at);
    let (journal, _) = open_idle(disk.clone(), &small_options()).unwrap();
    let report = journal.status().recovery;
    assert_eq!((report.torn_tails, report.damaged_ranges), (1, 0), "{report:?}");
    assert_eq!(disk.list("quarantine").unwrap().len(), 0, "there is nothing to copy");
}

/// Segments below the hot start become spares, and are counted.
#[test]
fn retired_segments_whose_renaming_was_lost_are_counted() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    while journal.status().segments < 5 {
        append(&journal, &mut state, &[(0, batch(&[&[1; 2000]]))], &[]).unwrap();
    }
    let end = state.partition(crate::journal::PartitionId(0)).log_end;
    let start = crate::journal::Fact::log_start(crate::journal::PartitionId(0), end);
    append(&journal, &mut state, &[], &[start]).unwrap();
    let before = disk.files();
    assert!(journal.retire().unwrap() > 0);
    journal.close().unwrap();
    // The names are as before, the fact is durable.
    let mut files = disk.files();
    let lost: Vec<_> =
        before.names().into_iter().filter(|name| !files.names().contains(name)).collect();
    for name in lost.iter().filter(|name| name.ends_with(".seg")) {
        let content = before.content(name).to_vec();
        files.add(name, &content);
    }
    let options = JournalOptions { retire: false, ..small_options() };
    let (journal, _) = open_idle(MemoryDisk::new(files), &options).unwrap();
    let report = journal.status().recovery;
    assert!(report.reused_files > 0, "{report:?}");
    assert_eq!((report.damaged_ranges, report.missing_segments), (0, 0));
}
