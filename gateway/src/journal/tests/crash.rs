//! A kill and a power cut at every operation of the disk, for a few workloads, and again during recovery.

use super::{
    disk::{Cut, Event, Files, MemoryDisk, Random},
    model::{Model, random_append},
    support::{admit, batch, block_on, fact, next_append, small_options},
};
use crate::journal::{
    Fact, Journal, JournalOptions, PartitionId, State, format::SegmentHeader, handle::open_idle,
    open,
};

/// What is done to the journal, with the model kept alongside.
struct Run {
    disk: MemoryDisk,
    options: JournalOptions,
    model: Model,
}

impl Run {
    fn on(disk: MemoryDisk, model: Model) -> Self {
        Self { disk, options: small_options(), model }
    }

    fn record(workload: Workload) -> Self {
        let mut run = Self::on(MemoryDisk::default(), Model::new());
        workload(&mut run);
        run
    }

    fn open(&mut self) -> Journal {
        let (journal, state) = open(self.disk.clone(), &self.options).unwrap();
        self.model.check(&journal, &state, self.model.len());
        journal
    }

    fn append(&mut self, journal: &Journal, append: super::super::Append) {
        let permit = admit(journal, append.encoded_len());
        self.model.push(append.clone());
        block_on(journal.append(permit, append)).unwrap();
        self.disk.note(Event::Acked(self.model.len()));
    }

    fn random(&mut self, journal: &Journal, random: &mut Random, count: usize, largest: usize) {
        for _ in 0..count {
            let append = random_append(self.model.last(), random, largest);
            self.append(journal, append);
        }
    }
}

fn one_append(run: &mut Run) {
    let journal = run.open();
    let append = next_append(run.model.last(), &[(0, batch(&[b"x"]))], &[fact(b"k", Some(b"v"))]);
    run.append(&journal, append);
}

fn small_appends(run: &mut Run) {
    let journal = run.open();
    run.random(&journal, &mut Random(1), 20, 100);
}

fn rolls(run: &mut Run) {
    let journal = run.open();
    run.random(&journal, &mut Random(2), 12, 2500);
}

fn reopened_in_order(run: &mut Run) {
    for seed in 0..4 {
        let journal = run.open();
        run.random(&journal, &mut Random(seed), 3, 2000);
        journal.close().unwrap();
    }
}

fn appended_in_flight(run: &mut Run) {
    let journal = run.open();
    let mut random = Random(3);
    for _ in 0..5 {
        let mut tickets = Vec::new();
        for _ in 0..6 {
            let append = random_append(run.model.last(), &mut random, 2500);
            let permit = admit(&journal, append.encoded_len());
            run.model.push(append.clone());
            tickets.push(journal.append(permit, append));
        }
        for ticket in tickets {
            block_on(ticket).unwrap();
        }
        run.disk.note(Event::Acked(run.model.len()));
    }
}

fn large_state(run: &mut Run) {
    run.options.slice_bytes = 2000;
    run.options.state_max_bytes = Some(16 << 10);
    run.options.segment_bytes = Some(128 << 10);
    let journal = run.open();
    for n in 0..40u32 {
        let facts = [fact(&n.to_be_bytes(), Some(&[n as u8; 200]))];
        let value = vec![n as u8; 9000];
        let append = next_append(run.model.last(), &[(n % 2, batch(&[&value]))], &facts);
        run.append(&journal, append);
    }
}

fn retires(run: &mut Run) {
    run.options.max_bytes = Some(1 << 20);
    let journal = run.open();
    for n in 0..36u8 {
        let end = run.model.last().partition(PartitionId(1)).log_end;
        let facts = if n % 4 == 3 { vec![Fact::log_start(PartitionId(1), end)] } else { vec![] };
        let next = next_append(run.model.last(), &[(1, batch(&[&[n; 12_000]]))], &facts);
        run.append(&journal, next);
        journal.retire().unwrap();
    }
    assert!(journal.status().retired_segments > 2);
}

type Workload = fn(&mut Run);

const WORKLOADS: [(&str, Workload); 7] = [
    ("retires", retires),
    ("one append", one_append),
    ("small appends", small_appends),
    ("rolls", rolls),
    ("reopened in order", reopened_in_order),
    ("appended in flight", appended_in_flight),
    ("large state", large_state),
];

/// Images of one moment: what a kill leaves (the cache stays), and what power cuts leave.
fn images(files: &Files, seed: u64) -> Vec<(String, Files)> {
    let cuts = [
        Cut::Nothing,
        Cut::Everything,
        Cut::FirstBlock,
        Cut::LostFirstBlock,
        Cut::Some(seed),
        Cut::Some(seed ^ 0xffff),
        Cut::Garbled(seed),
    ];
    let mut images = vec![("kill".to_owned(), files.clone())];
    images.extend(cuts.map(|cut| (format!("{cut:?}"), files.after(cut))));
    images
}

/// Opens an image and compares; gives the disk with what recovery did to it, and how many appends it found.
fn recover(image: Files, model: &Model, acked: usize, what: &str) -> (MemoryDisk, usize) {
    let disk = MemoryDisk::new(image);
    let (journal, state): (Journal, State) =
        open_idle(disk.clone(), &small_options()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        model.check(&journal, &state, acked)
    }));
    let found = found.unwrap_or_else(|_| panic!("{what}: see above"));
    let report = journal.status().recovery;
    assert_eq!(report.damaged_ranges, 0, "{what}: a crash is not damage");
    assert_eq!(report.broken_chains, 0, "{what}: a crash breaks no chain");
    assert_eq!(report.missing_segments, 0, "{what}: a crash loses no segment");
    drop(journal);
    check_positions(&disk.files(), what);
    (disk, found)
}

/// No two segments share a position, whether or not they are part of the log.
fn check_positions(files: &Files, what: &str) {
    let headers = files.names().into_iter().map(|name| SegmentHeader::decode(files.content(&name)));
    let mut ranges: Vec<_> = headers.flatten().map(|header| (header.first, header.end())).collect();
    ranges.sort();
    for pair in ranges.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "{what}: positions used twice: {pair:?}");
    }
}

#[test]
fn a_prepared_segment_of_an_earlier_run_is_used_once_its_name_is_durable() {
    // Long enough to need the second file, whenever that is prepared.
    let run = Run::record(rolls);
    let mut files = Files::default();
    let mut acked = 0;
    let mut created = 0;
    // Up to where the second file has its space, but not yet a durable name.
    for event in run.disk.log() {
        files.apply(&event);
        match event {
            Event::Acked(count) => acked = count,
            Event::Create(name) if name.ends_with(".seg") => created += 1,
            Event::Resize { .. } if created == 2 => break,
            _ => {}
        }
    }
    assert_eq!(created, 2);
    let disk = MemoryDisk::new(files);
    // No space for another file, whose creation would make this one's name durable too.
    disk.set_capacity(Some(2 * (64 << 10)));
    // Nor for a reserve.
    let options = JournalOptions { max_bytes: Some(255 << 10), ..small_options() };
    let (journal, state) = open(disk.clone(), &options).unwrap();
    let found = run.model.check(&journal, &state, acked);
    let mut again = Run::on(disk, run.model.prefix(found));
    again.random(&journal, &mut Random(1), 2, 500);
    let lost = again.disk.files().after(Cut::Nothing);
    recover(lost, &again.model, again.model.len(), "power cut");
}

#[test]
fn every_crash_recovers_a_prefix_with_all_that_was_acknowledged() {
    let mut opened = 0;
    for (name, workload) in WORKLOADS {
        let run = Run::record(workload);
        let mut files = Files::default();
        let mut acked = 0;
        for (number, event) in run.disk.log().iter().enumerate() {
            files.apply(event);
            if let Event::Acked(count) = event {
                acked = *count;
                continue;
            }
            for (cut, image) in images(&files, number as u64) {
                let what = format!("{name}, operation {number} ({event:?}), {cut}");
                let (disk, found) = recover(image, &run.model, acked, &what);
                opened += 1;
                // What was served is there after the next power cut, too.
                let second = disk.files().after(Cut::Nothing);
                let what = format!("{what}, then everything unsynced lost");
                let (_, again) = recover(second, &run.model, found, &what);
                assert_eq!(again, found, "{what}: a second recovery changes nothing");
            }
        }
    }
    println!("{opened} images");
    assert!(opened > 2000, "only {opened} images");
}

#[test]
fn what_is_appended_after_a_crash_survives_the_next_one() {
    let mut opened = 0;
    for (name, workload) in WORKLOADS {
        let run = Run::record(workload);
        let mut files = Files::default();
        let mut acked = 0;
        for (number, event) in run.disk.log().iter().enumerate() {
            files.apply(event);
            if let Event::Acked(count) = event {
                acked = *count;
                continue;
            }
            let images = [files.clone(), files.after(Cut::Some(number as u64))];
            for (image, cut) in images.into_iter().zip(["kill", "power cut"]) {
                let what = format!("{name}, operation {number} ({event:?}), {cut}");
                let disk = MemoryDisk::new(image);
                let (journal, state) = open(disk.clone(), &small_options()).unwrap();
                let found = run.model.check(&journal, &state, acked);
                let mut again = Run::on(disk, run.model.prefix(found));
                again.random(&journal, &mut Random(number as u64), 2, 500);
                let lost = again.disk.files().after(Cut::Nothing);
                recover(lost, &again.model, again.model.len(), &what);
                opened += 1;
            }
        }
    }
    assert!(opened > 500, "only {opened} images");
}

#[test]
fn every_crash_during_recovery_recovers_too() {
    let mut opened = 0;
    let workloads =
        [("rolls", rolls as Workload), ("in flight", appended_in_flight), ("retires", retires)];
    for (name, workload) in workloads {
        let run = Run::record(workload);
        let mut files = Files::default();
        let mut acked = 0;
        for (number, event) in run.disk.log().iter().enumerate() {
            files.apply(event);
            if let Event::Acked(count) = event {
                acked = *count;
                continue;
            }
            if number % 5 > 0 {
                continue;
            }
            let seed = number as u64;
            for cut in [None, Some(Cut::Some(seed)), Some(Cut::LostFirstBlock)] {
                let image = cut.map_or_else(|| files.clone(), |cut| files.after(cut));
                let what = format!("{name}, operation {number}, {cut:?}");
                let (disk, _) = recover(image.clone(), &run.model, acked, &what);
                let mut nested = image;
                for (step, event) in disk.log().iter().enumerate() {
                    nested.apply(event);
                    for (cut, image) in images(&nested, seed.wrapping_mul(31) + step as u64) {
                        let what = format!("{what}, recovery's operation {step}, {cut}");
                        recover(image, &run.model, acked, &what);
                        opened += 1;
                    }
                }
            }
        }
    }
    println!("{opened} nested images");
    assert!(opened > 2000, "only {opened} nested images");
}
