//! Crashes during recovery from a crash, three deep.

use super::{
    disk::{Event, Files, Random},
    effort::Effort,
    recovering::{Crash, Judge, any_crash, crashes, left_by, moments},
    workload::Run,
    workloads::{CLEANING, WORKLOADS},
};

/// Paths of crashes that are drawn in a normal run.
const PATHS: usize = 10_000;
/// Crashes one after the other in a path.
const DEPTH: usize = 3;
/// Where the drawing begins.
const SEED: u64 = 0x6865_6164;

#[test]
fn every_crash_during_recovery_recovers_too() {
    let effort = Effort::of_this_run();
    let mut opened = 0;
    let skipped = if effort.is_whole() { 1 } else { 12 };
    for workload in CLEANING.iter().chain(WORKLOADS).step_by(skipped) {
        let run = Run::record(*workload);
        let log = run.disk.log();
        let mut judge = Judge::new(workload.0, &run);
        let mut picked = Random(SEED);
        // Depth one whole: of a sample of crashes, every operation of the recovery.
        let step = (log.len() / effort.times(6)).max(1);
        moments(&log, |number, event, files, acked| {
            if !event.is_operation() || number % step > 0 {
                return;
            }
            let crash = any_crash(files, &mut picked);
            let image = left_by(crash, files);
            let what = || format!("operation {number} ({event:?}), {crash:?}");
            let recovery = judge.recover(image.clone(), acked, &what);
            let steps = recovery.disk.log();
            replay(image, &steps, |step, nested| {
                for inner in crashes(nested, number as u64 * 31 + step as u64, 2) {
                    let what = || format!("{}, recovery's operation {step}, {inner:?}", what());
                    judge.recover(left_by(inner, nested), acked, &what);
                    opened += 1;
                }
            });
        });
    }
    println!("shown: {opened} crashes during recovery");
    assert!(opened > 100, "only {opened}");
}

/// A run that is killed before it synced a name, and a power cut once the next run gave the file another one: whatever
/// the effort.
#[test]
fn a_name_that_a_killed_run_gave_is_durable_before_the_next_one() {
    let workload = WORKLOADS.iter().find(|(name, _)| *name == "killed after retiring").unwrap();
    let run = Run::record(*workload);
    let mut judge = Judge::new(workload.0, &run);
    let mut renamed = 0;
    moments(&run.disk.log(), |number, event, files, acked| {
        if !matches!(event, Event::Rename { .. }) {
            return;
        }
        renamed += 1;
        let what = || format!("operation {number} ({event:?}), killed");
        let steps = judge.recover(files.clone(), acked, &what).disk.log();
        replay(files.clone(), &steps, |step, nested| {
            for inner in crashes(nested, step as u64, 2) {
                let what = || format!("{}, recovery's operation {step}, {inner:?}", what());
                judge.recover(left_by(inner, nested), acked, &what);
            }
        });
    });
    assert!(renamed > 2, "only {renamed}");
}

#[test]
fn crashes_three_deep_recover() {
    let effort = Effort::of_this_run();
    let paths = effort.times(PATHS).div_ceil(WORKLOADS.len());
    let mut walked = 0;
    println!("{paths} paths per workload from seed {SEED:#x}");
    for workload in WORKLOADS.iter().chain(CLEANING) {
        let run = Run::record(*workload);
        let log = run.disk.log();
        let mut judge = Judge::new(workload.0, &run);
        for path in 0..paths as u64 {
            walk(&mut judge, &log, SEED ^ (path << 20));
            walked += 1;
        }
    }
    println!("shown: {walked} paths, {DEPTH} crashes each, from seed {SEED:#x}");
    assert!(!effort.is_whole() || walked >= PATHS, "only {walked}");
}

/// One path: a crash of the run, then crashes of one recovery after the other.
fn walk(judge: &mut Judge<'_>, log: &[Event], seed: u64) {
    let mut random = Random(seed);
    let mut told: Vec<(usize, Crash)> = Vec::new();
    let (mut files, mut acked) = (Files::default(), 0);
    let mut steps = log.to_vec();
    let mut served = 0;
    for depth in 0..=DEPTH {
        if depth < DEPTH {
            let end = random.below(steps.len() as u64 + 1) as usize;
            for event in &steps[..end] {
                files.apply(event);
                if let Event::Acked(count) = event {
                    acked = *count;
                }
            }
            // An opening that came to its end has served what it found.
            if end == steps.len() {
                acked = acked.max(served);
            }
            let crash = any_crash(&files, &mut random);
            told.push((end, crash));
            files = left_by(crash, &files);
        }
        let what = || format!("path of seed {seed:#x}: {told:?}");
        let recovery = judge.recover(files.clone(), acked, &what);
        steps = recovery.disk.log();
        served = recovery.found;
    }
}

fn replay(image: Files, steps: &[Event], mut each: impl FnMut(usize, &Files)) {
    let mut files = image;
    for (step, event) in steps.iter().enumerate() {
        files.apply(event);
        each(step, &files);
    }
}
