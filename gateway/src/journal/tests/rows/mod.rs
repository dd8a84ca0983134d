//! The three tables of FORMAT.md, Recovery, a case per row: what the opening counts, logs and copies.

mod cold;
mod index;
mod log;

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
    Disk, Fact, Journal, JournalId, Offset, PartitionId, ReadError, RecoveryReport, State,
    format::{ALIGN, FRAME_HEADER_BYTES, FrameHeader, Seed, SegmentHeader},
    handle::open_idle,
    open,
    segment::segment_name,
};

/// A row: how to get there, and what the opening says of it.
struct Row {
    name: &'static str,
    from: fn(&Origins) -> &Image,
    change: fn(&mut Image),
    /// Counters above 0; all others are 0.
    counted: &'static [&'static str],
    /// Words of one line of the log; none: nothing is said.
    logged: &'static [&'static str],
    quarantine: bool,
    /// Whether the end counts as an orderly one.
    clean: bool,
    /// Whether offsets may mean something else now.
    bumps: bool,
    /// What else there is to see.
    after: fn(&After),
}

/// A row about which the opening has nothing to say.
const ROW: Row = Row {
    name: "",
    from: |origins| &origins.closed,
    change: |_| {},
    counted: &[],
    logged: &[],
    quarantine: false,
    clean: true,
    bumps: false,
    after: |_| {},
};

/// Journals from which the rows are made.
struct Origins {
    /// Four segments or more, closed.
    closed: Image,
    /// The same, killed.
    killed: Image,
    /// The oldest segments have left the log and are spares; closed.
    retired: Image,
    /// The same, killed when the frame with the hot start was durable.
    retiring: Image,
    /// The two oldest segments were cleaned into a cold one; closed.
    cleaned: Image,
}

impl Origins {
    fn new() -> Self {
        let retired = retired();
        Self {
            closed: Image::of(filled(true)),
            killed: Image::of(filled(false)),
            retired: Image { gone: retired.0.clone(), ..Image::of(retired.1) },
            retiring: Image { gone: retired.0, ..Image::of(retired.2) },
            cleaned: Image::of(cold::cleaned()),
        }
    }
}

/// Files of a journal, oldest first, with the places of their frames.
#[derive(Clone, Debug, Default)]
struct Image {
    files: Files,
    segments: Vec<(String, Vec<usize>)>,
    /// Segments that left the log, as they were.
    gone: Vec<(String, Vec<u8>)>,
    /// Blocks that the disk refuses to read.
    unreadable: Vec<(String, usize)>,
}

impl Image {
    fn of(files: Files) -> Self {
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
            let frames: Vec<_> = frames.collect();
            if !frames.is_empty() {
                segments.push((name.clone(), frames));
            }
        }
        Self { files, segments, ..Self::default() }
    }

    /// The newest segment, and its frames.
    fn newest(&self) -> (String, Vec<usize>) {
        self.segments.last().unwrap().clone()
    }

    /// A frame in the middle of a segment.
    fn middle(&self, segment: usize) -> (String, usize) {
        let (name, frames) = &self.segments[segment];
        (name.clone(), frames[frames.len() / 2])
    }

    fn damage(&mut self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        self.files.damage(name, change);
    }

    fn remove(&mut self, name: &str) {
        self.files.rewire(|names| assert!(names.remove(name).is_some()));
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.files.rewire(|names| {
            let inode = names.remove(from).unwrap();
            names.insert(to.to_owned(), inode);
        });
    }

    /// What of the newest segment was written at once, and nothing behind it.
    fn cut_behind_first_frame(&mut self) -> String {
        let (name, frames) = self.newest();
        self.damage(&name, |all| frames.get(1).into_iter().for_each(|&at| all[at..].fill(0)));
        name
    }

    fn spare(&self) -> String {
        let mut names = self.files.names().into_iter();
        names.find(|name| name.contains("spare")).unwrap()
    }

    /// The name of the segment behind the newest file.
    fn next_name(&self) -> String {
        let mut names = self.files.names().into_iter();
        let last = names.rfind(|name| name.ends_with(".seg")).unwrap();
        let digits = last.trim_start_matches("journal/").trim_end_matches(".seg");
        let sequence = u64::from_str_radix(digits, 16).unwrap();
        format!("journal/{:016x}.seg", sequence + 1)
    }

    fn without_indexes(mut self) -> Self {
        self.files.rewire(|names| names.retain(|name, _| !name.ends_with(".idx")));
        self
    }
}

fn seed() -> Seed {
    small_options().new_id.map(JournalId::seed).unwrap()
}

/// A journal after the opening, with what that said.
struct After {
    journal: Journal,
    report: RecoveryReport,
    incarnation: u64,
    disk: MemoryDisk,
}

impl After {
    fn read(&self, partition: u32, offset: i64) -> Result<usize, ReadError> {
        self.journal.read(PartitionId(partition), Offset(offset), 1).map(|found| found.len())
    }

    fn has(&self, name: &str) -> bool {
        self.disk.files().names().iter().any(|known| known == name)
    }
}

/// Four segments or more of two partitions and a fact.
fn filled(close: bool) -> Files {
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
    let killed = disk.files();
    journal.close().unwrap();
    if close { disk.files() } else { killed }
}

/// Segments that left the log, the files after that, and those at the moment when the hot start was durable and the
/// segments were spares.
fn retired() -> (Vec<(String, Vec<u8>)>, Files, Files) {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    let roll = |state: &mut State, segments: u64| {
        while journal.status().segments < segments {
            append(&journal, state, &[(0, batch(&[&[1; 2000]]))], &[]).unwrap();
        }
    };
    roll(&mut state, 7);
    let end = state.partition(PartitionId(0)).log_end;
    append(&journal, &mut state, &[], &[Fact::log_start(PartitionId(0), end)]).unwrap();
    let before = disk.files();
    assert!(journal.retire().unwrap() > 0);
    super::cold::until(|| {
        journal.retire().unwrap();
        journal.status().pinned_segments == 0
    });
    let killed = disk.files();
    let segments = journal.status().segments;
    roll(&mut state, segments + 1);
    journal.close().unwrap();
    let closed = disk.files();
    let left = before.names().into_iter().filter(|name| !killed.names().contains(name));
    let left = left.filter(|name| name.ends_with(".seg"));
    let gone = left.map(|name| (name.clone(), before.content(&name).to_vec()));
    (gone.collect(), unprepared(closed), unprepared(killed))
}

/// How far the thread that prepares segments has got is chance: what was renamed for it is a spare again.
fn unprepared(mut files: Files) -> Files {
    for name in files.names().into_iter().filter(|name| name.ends_with(".seg")) {
        let Ok(header) = SegmentHeader::decode(files.content(&name)) else { continue };
        if name != segment_name(header.sequence) {
            let spare = name.replace("journal/", "journal/spare-").replace(".seg", "");
            files.rewire(|names| {
                let inode = names.remove(&name).unwrap();
                names.insert(spare, inode);
            });
        }
    }
    files
}

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

fn counters(report: &RecoveryReport) -> [(&'static str, u64); 20] {
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
        ("void_files", report.void_files),
        ("reused_files", report.reused_files),
        ("misfit_spares", report.misfit_spares),
        ("cold_lost", report.cold_lost),
        ("cold_damaged", report.cold_damaged),
        ("cold_adopted", report.cold_adopted),
        ("cold_leftover", report.cold_leftover),
        ("index_missing", report.index_missing),
        ("index_damaged", report.index_damaged),
        ("index_stale", report.index_stale),
        ("index_leftover", report.index_leftover),
    ]
}

/// Opens what each row makes, and compares. `uncounted` counters are not what the table is about.
fn check(rows: &[Row], prepare: fn(Image) -> Image, uncounted: &[&str]) {
    let origins = Origins::new();
    // With only one subscriber alive, a line that another test's thread reaches first is switched off for good.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    for row in rows {
        let mut image = prepare((row.from)(&origins).clone());
        (row.change)(&mut image);
        let disk = MemoryDisk::new(image.files);
        for (name, at) in &image.unreadable {
            disk.make_unreadable(name, *at);
        }
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(false);
        let after = tracing::subscriber::with_default(subscriber.finish(), || {
            let opened = open_idle(disk.clone(), &small_options());
            let (journal, state) = opened.unwrap_or_else(|error| panic!("{}: {error}", row.name));
            let report = journal.status().recovery;
            let after = After { journal, report, incarnation: state.incarnation(), disk };
            (row.after)(&after);
            after
        });
        let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        compare(row, &after, &log, uncounted);
    }
}

fn compare(row: &Row, after: &After, log: &str, uncounted: &[&str]) {
    let (name, report) = (row.name, &after.report);
    for (counter, count) in counters(report) {
        let expected = row.counted.contains(&counter);
        let told = uncounted.contains(&counter) || (count > 0) == expected;
        assert!(told, "{name}: {counter} is {count}\n{report:?}\n{log}");
    }
    let told = row.logged.is_empty()
        || log.lines().any(|line| row.logged.iter().all(|word| line.contains(word)));
    assert!(told, "{name}: {:?} in no line of\n{log}", row.logged);
    let serious = log.lines().filter(|line| line.contains("ERROR") || line.contains("WARN"));
    let (count, harmless) = (serious.count(), row.counted.is_empty() && row.logged.is_empty());
    assert!(!harmless || count == 0, "{name}: nothing is wrong, and yet\n{log}");
    let copies = after.disk.list("quarantine").unwrap().len();
    assert_eq!(copies > 0, row.quarantine, "{name}: {copies} copies");
    assert_eq!(report.clean, row.clean, "{name}: an orderly end");
    assert_eq!(after.incarnation > 1, row.bumps, "{name}: incarnation {}", after.incarnation);
}
