//! The emulated board on a serial line: what its own ledger says is what a Kafka consumer finds.

use std::collections::BTreeSet;

use headwater_tests::{
    effort,
    noise::Noise,
    permit,
    random::Random,
    workbench::{self, Found, Workbench},
};

use crate::blows::{Blow, SLOW_COMMITS, assert_struck, strike_all};

/// Temperatures in multiples of 125 millidegrees, which the sensor reads exactly.
const TEMPERATURES: i64 = 32;
/// Ten times the bit error rate of a line that is called bad. Of 1e-5 a board that says some 2,000 bits a second would hardly
/// see one within the test.
const NOISY_ONE_IN_BITS: u64 = 10_000;

#[test]
fn board_readings_arrive_once_and_in_order() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Workbench::start(folder.path(), "");
    let temperatures: Vec<i64> = (0..TEMPERATURES).map(|n| -10_000 + n * 1_375).collect();
    for millidegrees in &temperatures {
        bench.measure(*millidegrees);
    }
    let ledger = bench.settle();
    let Found { report, gap_records } = workbench::compare(&ledger, bench.gateway.kafka);
    assert_eq!((ledger.runs.len(), report.dropped, gap_records), (1, 0, 0));
    // What was sampled between the last acknowledgement and the stop is still on its way.
    assert!(report.lost <= 10, "{} readings are not in the log", report.lost);

    let run = &ledger.runs[0];
    let codes: BTreeSet<i64> = run.readings.values().filter_map(|codes| codes[0]).collect();
    for millidegrees in temperatures {
        assert!(codes.contains(&(millidegrees * 2 / 125)), "{millidegrees} was never sampled");
    }
}

#[test]
fn board_readings_survive_kills_cuts_resets_and_an_erased_memory() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new("board");
    let mut bench = Workbench::start(folder.path(), SLOW_COMMITS);
    strike_all(&mut bench, Blow::edge(), &mut random, |_, _| {});
    let ledger = bench.settle();
    let found = workbench::compare(&ledger, bench.gateway.kafka);
    assert_struck(&ledger, &found);
}

#[test]
fn board_readings_survive_bit_errors_kills_and_a_long_absence() {
    let _permit = permit::waiting();
    let kills = effort::count(6, 20);
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new("board");
    let mut bench = Workbench::start(folder.path(), SLOW_COMMITS);
    bench.line.disturb(Noise::new(random.fork(1), NOISY_ONE_IN_BITS));
    let mut blows = vec![Blow::GatewayKilled; kills as usize - 1];
    blows.push(Blow::GatewayAway);
    strike_all(&mut bench, blows, &mut random, |_, _| {});
    let ledger = bench.settle();
    let Found { report, gap_records } = workbench::compare(&ledger, bench.gateway.kafka);
    let flipped = bench.line.flipped();
    println!(
        "shown: {kills} SIGKILLs, {flipped} bits flipped, {gap_records} gap records; {report}"
    );
    assert_eq!(ledger.runs.len(), 1, "nothing but the gateway started again");
    assert!(flipped > 0 && report.dropped > 0 && gap_records > 0);
    // What was sampled between the last acknowledgement and the stop is still on its way.
    assert!(report.lost <= 20, "{} readings are not in the log", report.lost);
    assert_eq!(report.durable + report.dropped + report.lost, report.sampled);
}
