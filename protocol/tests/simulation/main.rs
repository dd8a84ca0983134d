//! Device and host over a faulty line, in one thread and in virtual time. A seed decides
//! everything, so a failure is repeated by its seed: `HEADWATER_SEED=n cargo test -p
//! headwater-protocol --test simulation one_seed`.
//!
//! The oracle knows what was sampled, sealed and dropped, and compares it with what the host made
//! durable.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod device;
mod host;
mod line;
mod random;
mod world;

use world::{Plant, Report, World};

/// Seeds of one run: a second of an optimised build.
const SEEDS: u64 = 3_000;

fn run(seeds: impl Iterator<Item = u64>, plant: Plant) -> Result<Report, String> {
    let mut sum = Report::default();
    for seed in seeds {
        let report =
            World::new(seed, plant).run().map_err(|what| format!("seed {seed}: {what}"))?;
        sum.add(&report);
    }
    Ok(sum)
}

#[test]
fn every_reading_arrives_once_and_in_order_over_faulty_lines() {
    let seeds = std::env::var("HEADWATER_SEEDS").map_or(SEEDS, |text| text.parse().unwrap());
    let report = run(0..seeds, Plant::None).unwrap();
    println!("{report:?}");
    // A run in which a fault never happened proves nothing about it.
    for (what, count) in report.counts() {
        assert!(count > 0, "no {what} in {seeds} seeds: {report:?}");
    }
}

#[test]
fn one_seed() {
    let Ok(seed) = std::env::var("HEADWATER_SEED") else { return };
    let seed = seed.parse().unwrap();
    println!("{:?}", run(seed..=seed, Plant::None).unwrap());
}

#[test]
fn an_owner_that_acknowledges_before_durability_is_caught() {
    run(0..200, Plant::AcknowledgeOnArrival).unwrap_err();
}

#[test]
fn an_owner_that_accepts_before_earlier_appends_settled_is_caught() {
    run(0..200, Plant::AcceptUnsettled).unwrap_err();
}

#[test]
fn a_queue_that_drops_what_is_in_flight_is_caught() {
    run(0..200, Plant::DropInFlight).unwrap_err();
}

#[test]
fn an_owner_that_forgets_the_position_on_restart_is_caught() {
    run(0..200, Plant::ForgetPosition).unwrap_err();
}
