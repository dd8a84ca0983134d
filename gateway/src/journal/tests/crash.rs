//! A kill and a power cut at every operation of the disk, for every workload.

use super::{
    disk::{Cut, Event, Files, MemoryDisk, Random},
    effort::Effort,
    model::Model,
    recovering::{Counts, Judge, crashes, left_by, moments},
    support::small_options,
    workload::{Run, Step, Workload},
    workloads::{CLEANING, WORKLOADS},
};
use crate::journal::{JournalOptions, open};

/// Crashes that are drawn at each operation, of each kind.
const DRAWN: usize = 10;
/// Images of the normal run.
const IMAGES: usize = 100_000;

fn crash_everywhere(workload: Workload, effort: Effort) -> Counts {
    let run = Run::record(workload);
    let log = run.disk.log();
    let mut judge = Judge::new(workload.0, &run);
    let mut picked = Random(u64::from(crc32c::crc32c(workload.0.as_bytes())));
    moments(&log, |number, event, files, acked| {
        // What a sample does not leave out: some acknowledgements, and two writes pending, which the
        // journal never has.
        let telling =
            matches!(event, Event::Acked(_)) && picked.below(4) == 0 || files.pending_writes() > 1;
        let taken = telling || event.is_operation() && effort.picks(&mut picked);
        if !taken {
            return;
        }
        let drawn = if effort.is_whole() { effort.times(DRAWN) } else { 1 };
        for crash in crashes(files, number as u64, drawn) {
            let image = left_by(crash, files);
            let what = || {
                let before = log[..=number].iter().rev().take(12).rev();
                format!(
                    "operation {number}, crash {crash:?} after ...{:?}",
                    before.collect::<Vec<_>>()
                )
            };
            judge.judge(&image, acked, &what);
        }
    });
    judge.counts
}

/// All workloads, by two tests that can run beside each other.
fn crash_everywhere_in(part: usize) {
    let effort = Effort::of_this_run();
    let mut counts = Counts::default();
    for workload in WORKLOADS.iter().skip(part).step_by(2) {
        counts.add(crash_everywhere(*workload, effort));
    }
    println!("shown: crashes, part {part} of {} workloads: {counts:?}", WORKLOADS.len());
    assert!(WORKLOADS.len() >= 50);
    assert!(!effort.is_whole() || counts.images >= IMAGES / 2, "only {counts:?}");
}

#[test]
fn every_crash_recovers_a_prefix_with_all_that_was_acknowledged() {
    crash_everywhere_in(0);
}

#[test]
fn every_crash_recovers_a_prefix_with_all_that_was_acknowledged_too() {
    crash_everywhere_in(1);
}

/// The names of segments that are used again, at every operation and whatever the effort.
#[test]
fn segments_that_are_used_again_after_a_crash_survive_the_next_one() {
    let workload = WORKLOADS.iter().find(|(name, _)| *name == "killed after retiring");
    let run = Run::record(*workload.unwrap());
    let mut judge = Judge::new("killed after retiring", &run);
    moments(&run.disk.log(), |number, event, files, acked| {
        for crash in crashes(files, number as u64, 1) {
            let what = || format!("operation {number} ({event:?}), {crash:?}");
            judge.judge(&left_by(crash, files), acked, &what);
        }
    });
}

/// Nothing else makes a name durable here: no index file, no file that is freed, and the reused one is the last there is.
#[test]
fn a_file_that_is_used_again_has_a_durable_name_first() {
    let disk = MemoryDisk::default();
    disk.refuse_to_create(".idx");
    let mut run = Run::on(disk, Model::new(), 1);
    run.options.reserve_segments = 0;
    let filled = [Step::Budget(8), Step::Open, Step::Roll, Step::Roll, Step::Roll, Step::Roll];
    let freed = [Step::LogStart(3, 0), Step::RetireAny];
    for step in filled.into_iter().chain(freed).chain([Step::Roll; 6]) {
        run.take(step);
    }
    let mut judge = Judge::new("used again", &run);
    let mut reused = 0;
    moments(&run.disk.log(), |number, event, files, acked| {
        reused += u64::from(matches!(event, Event::Rename(_, to) if to.ends_with(".seg")));
        let what = || format!("operation {number} ({event:?}), power cut");
        judge.judge(&files.after(Cut::Nothing), acked, &what);
    });
    assert!(reused >= 3, "only {reused}");
}

#[test]
fn every_crash_around_cleaning_recovers_a_prefix_with_all_that_was_acknowledged() {
    let effort = Effort::of_this_run();
    let mut counts = Counts::default();
    for workload in CLEANING {
        counts.add(crash_everywhere(*workload, effort));
    }
    println!("{} workloads that clean: {counts:?}", CLEANING.len());
    assert!(counts.images > 1000, "only {counts:?}");
}

#[test]
fn a_prepared_segment_of_an_earlier_run_is_used_once_its_name_is_durable() {
    // Long enough to need the second file, whenever that is prepared.
    let disk = MemoryDisk::default();
    // A log without other files, whose names would become durable with this one's.
    disk.refuse_to_create(".idx");
    let mut run = Run::on(disk, Model::new(), 1);
    for step in [Step::Open, Step::Roll] {
        run.take(step);
    }
    let mut files = Files::default();
    let mut acked = 0;
    let mut created = 0;
    let mut has_space = false;
    // Up to where an append is durable and the second file has its space, but not yet a durable name.
    for event in run.disk.log() {
        match &event {
            Event::Create(_) if created == 2 => continue,
            Event::SyncFolder(_) if created == 2 => continue,
            Event::Create(_) => created += 1,
            Event::Resize { .. } if created == 2 => has_space = true,
            Event::Acked(count) => acked = *count,
            _ => {}
        }
        files.apply(&event);
        if acked > 1 && has_space {
            break;
        }
    }
    assert_eq!(created, 2);
    let disk = MemoryDisk::new(files);
    // No other file here either, and no space for the next segment, for the same reason.
    disk.refuse_to_create(".idx");
    disk.set_capacity(Some(2 * (64 << 10)));
    // Nor for a reserve.
    let options = JournalOptions { max_bytes: Some(255 << 10), ..small_options() };
    let (journal, state) = open(disk.clone(), &options).unwrap();
    let found = run.model.check(&journal, &state, acked);
    let mut again = Run::on(disk, run.model.prefix(found), 1).with_open(journal, &state);
    again.take(Step::Appends(2, 500));
    let lost = again.disk.files().after(Cut::Nothing);
    let acked = again.model.len();
    Judge::new("one append", &again).recover(lost, acked, &|| "power cut".into());
}

#[test]
fn what_is_appended_after_a_crash_survives_the_next_one() {
    let effort = Effort::of_this_run();
    let mut opened = 0;
    // Where hours pass, when a producer is forgotten depends on when its batch was appended again; and what is
    // drawn for an append knows nothing of partitions that are gone for good.
    let left_out = |step: &Step| matches!(step, Step::Hours(_) | Step::Forget(_));
    // Nor can anything be appended where there is no space but the reserve.
    let usual = |(name, steps): &(&str, &[Step])| {
        !steps.iter().any(left_out) && *name != "cleaned where there is no space but the reserve"
    };
    for workload in WORKLOADS.iter().chain(CLEANING).filter(|workload| usual(workload)) {
        let run = Run::record(*workload);
        let mut picked = Random(3);
        moments(&run.disk.log(), |number, event, files, acked| {
            // Whether an image recovers is the other tests' question.
            if !event.is_operation() || !effort.picks(&mut picked) {
                return;
            }
            let seed = number as u64;
            for crash in [None, Some(Cut::Some(seed)), Some(Cut::Garbled(seed))] {
                let disk = MemoryDisk::new(left_by(crash, files));
                let (journal, state) = open(disk.clone(), &run.recovery_options()).unwrap();
                let found = run.model.check(&journal, &state, acked);
                let mut again =
                    Run::on(disk, run.model.prefix(found), seed).with_open(journal, &state);
                again.options = run.recovery_options();
                again.take(Step::Appends(2, 500));
                let lost = again.disk.files().after(Cut::Nothing);
                let acked = again.model.len();
                let what =
                    || format!("operation {number} ({event:?}), {crash:?}, two appends, cut");
                Judge::new(workload.0, &again).recover(lost, acked, &what);
                opened += 1;
            }
        });
    }
    println!("shown: {opened} crashes with appends after them");
}
