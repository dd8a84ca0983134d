//! Device and host over a faulty line, in one thread and in virtual time. A seed decides
//! everything, so a failure is repeated by its seed: `HEADWATER_SEED=n cargo test -p
//! headwater-protocol --test simulation one_seed`. `HEADWATER_SEEDS` is the number of seeds, for a
//! soak.
//!
//! The oracle knows what was sampled, sealed, dropped and lost, and compares it with what the host
//! made durable.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod device;
mod host;
mod line;
mod plant;
mod queue;
mod random;
mod report;
mod truth;
mod world;

use std::{
    env,
    ops::Range,
    panic,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use plant::Plant;
use report::Report;
use world::World;

/// Seeds of a normal run.
const SEEDS: u64 = 10_000;
/// Within so many each planted bug is found.
const SEEDS_OF_A_PLANT: u64 = 500;
/// Seeds that a thread takes at a time.
const CHUNK: u64 = 50;
/// From so many seeds on, progress is shown so often.
const SHOW_EVERY: u64 = 50_000;

fn run_one(seed: u64, plant: Plant) -> Result<Report, String> {
    let run = panic::catch_unwind(|| World::new(seed, plant).run());
    run.unwrap_or_else(|_| Err("panicked, as told above".into()))
}

/// Runs seeds on all cores; the lowest one that fails is told.
fn run(seeds: Range<u64>, plant: Plant) -> Result<Report, String> {
    let started = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let done: Mutex<(Report, Option<(u64, String)>)> = Mutex::default();
    let work = || {
        loop {
            let first = next.fetch_add(CHUNK, Ordering::Relaxed);
            if first >= seeds.end || done.lock().unwrap().1.is_some() {
                return;
            }
            let mut sum = Report::default();
            for seed in first..seeds.end.min(first + CHUNK) {
                match run_one(seed, plant) {
                    Ok(report) => sum.add(&report),
                    Err(what) => {
                        let failed = &mut done.lock().unwrap().1;
                        if failed.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                            *failed = Some((seed, what));
                        }
                        return;
                    }
                }
            }
            done.lock().unwrap().0.add(&sum);
            if (first + CHUNK).is_multiple_of(SHOW_EVERY) {
                let took = started.elapsed().as_secs();
                println!("{} of {} seeds, {took} s", first + CHUNK, seeds.end);
            }
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let (sum, failed) = done.into_inner().unwrap();
    match failed {
        None => Ok(sum),
        Some((seed, what)) => Err(format!(
            "{what}\nrepeat: HEADWATER_SEED={seed} cargo test -p headwater-protocol --test simulation one_seed"
        )),
    }
}

#[test]
fn every_reading_arrives_once_and_in_order_over_faulty_lines() {
    let seeds = env::var("HEADWATER_SEEDS").map_or(SEEDS, |text| text.parse().unwrap());
    let report = run(0..seeds, Plant::None).unwrap_or_else(|what| panic!("{what}"));
    println!("{report:?}");
    println!("shown: {seeds} seeds, {} readings each once and in order", report.readings);
    for (what, count) in report.counts() {
        assert!(count > 0, "no {what} in {seeds} seeds");
    }
}

#[test]
fn one_seed() {
    let Ok(seed) = env::var("HEADWATER_SEED") else { return };
    let report = run_one(seed.parse().unwrap(), Plant::None);
    println!("{:?}", report.unwrap_or_else(|what| panic!("{what}")));
}

#[test]
fn every_planted_bug_is_found() {
    run(0..SEEDS_OF_A_PLANT, Plant::None).unwrap_or_else(|what| panic!("without a plant: {what}"));
    for plant in Plant::ALL {
        let Err(what) = run(0..SEEDS_OF_A_PLANT, plant) else {
            panic!("{plant:?} is not found in {SEEDS_OF_A_PLANT} seeds");
        };
        let (why, repeat) = what.rsplit_once('\n').unwrap();
        println!("{plant:?}: {}: {}", why.chars().take(90).collect::<String>(), &repeat[8..28]);
    }
    println!("shown: {} planted bugs found", Plant::ALL.len());
}
