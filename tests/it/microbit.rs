//! The micro:bit on a serial line, and without power: what its own ledger says is what a Kafka consumer finds.

use std::{collections::BTreeSet, thread, time::Duration};

use headwater_sim::ledger::DeviceLedger;
use headwater_tests::{
    effort,
    line::Joint,
    microbit::{Microbit, channels},
    noise::Noise,
    permit,
    random::Random,
    wait,
    workbench::{self, Emulated, Workbench},
};

use crate::blows::SLOW_COMMITS;

/// Of this a board that says some 3,000 bits a second sees a few while the line is cut and joined.
const NOISY_ONE_IN_BITS: u64 = 10_000;
const FLIPS: u64 = 3;
/// For them to come, and for a busy machine.
const NOISE: Duration = Duration::from_secs(120);
/// In which readings are taken, sealed, sent, synced and acknowledged.
const LIFE_MS: u64 = 1_500;
/// In which the program starts and writes its memory.
const START_US: u64 = 5_000;

#[test]
fn microbit_readings_survive_bit_errors_and_a_cut_line() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new("microbit");
    let mut bench = Workbench::<Microbit>::with_board(folder.path(), SLOW_COMMITS);
    bench.line.disturb(Noise::new(random.fork(1), NOISY_ONE_IN_BITS));
    for joint in [Joint::Silent, Joint::Unplugged, Joint::Deaf] {
        bench.wait_readings(5 + random.below(10) as usize);
        bench.line.set(joint);
        bench.wait_readings(5 + random.below(10) as usize);
        bench.line.set(Joint::Joined);
    }
    wait::for_condition("bits that flip", NOISE, || bench.line.flipped() >= FLIPS);
    let ledger = bench.settle();
    let found = workbench::compare_channels(&ledger, channels(), bench.gateway.kafka);
    assert_counts(&ledger);
    let report = found.report;
    assert_eq!((ledger.runs.len(), report.dropped, found.gap_records), (1, 0, 0));
    // What was sampled between the last acknowledgement and the stop is still on its way.
    assert!(report.lost <= may_be_lost(&ledger), "{report}");
    assert!(report.durable >= 30, "{report}");
}

#[test]
fn microbit_never_repeats_a_boot_over_power_cuts() {
    let _permit = permit::waiting();
    let cuts = effort::count(6, 20);
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new("microbit");
    let mut bench = Workbench::<Microbit>::with_board(folder.path(), SLOW_COMMITS);
    let mut starts = 0;
    for cut in 0..cuts {
        let instant = match cut % 3 {
            // While it starts, without anything in between.
            2 => Duration::from_micros(random.below(START_US)),
            _ => {
                bench.wait_acknowledged(starts);
                Duration::from_millis(random.below(LIFE_MS))
            }
        };
        thread::sleep(instant);
        bench.board.cut_power();
        starts = bench.board.ledger().runs.len();
        bench.board.switch_on();
    }
    bench.wait_acknowledged(starts);
    bench.wait_readings(5);
    let ledger = bench.settle();
    let found = workbench::compare_channels(&ledger, channels(), bench.gateway.kafka);
    assert_counts(&ledger);

    let boots: Vec<u64> = ledger.runs.iter().map(|run| run.boot).collect();
    assert!(boots.is_sorted_by(|before, after| before < after), "boots {boots:?}");
    let streams: BTreeSet<u64> =
        ledger.runs.iter().flat_map(|run| run.streams.iter().copied()).collect();
    assert_eq!(streams.len(), 1, "the stream is kept");
    let report = found.report;
    let (lost, may_be_lost) = (report.lost, may_be_lost(&ledger));
    println!(
        "shown: {cuts} power cuts, boots {boots:?}, {} gap records; {report}",
        found.gap_records
    );
    assert!(lost <= may_be_lost, "{lost} readings are lost, {may_be_lost} may be");
    // What a cut took from RAM nobody knows, so each may say that something is missing; nothing else may.
    assert!(found.gap_records as u64 <= cuts && report.dropped == 0, "{report}");
    // Of three cuts two come after an acknowledgement.
    let acknowledged = ledger.runs.iter().filter(|run| run.acknowledged.is_some()).count();
    assert!(acknowledged as u64 > cuts * 2 / 3, "{acknowledged} starts got an acknowledgement");
}

/// That the counter counts readings, and no sensor answers: QEMU has none.
fn assert_counts(ledger: &DeviceLedger) {
    for run in &ledger.runs {
        for (number, (seq, codes)) in run.readings.iter().enumerate() {
            assert_eq!(*seq, number as u64, "boot {}", run.boot);
            assert_eq!(**codes, [Some(*seq as i64), None], "boot {} seq {seq}", run.boot);
        }
    }
}

/// Readings that a board may take with it when it goes: its queue is in RAM, so all that no acknowledgement covers. This is
/// the place to be stricter once items outlive a loss of power: then only what is in no block.
fn may_be_lost(ledger: &DeviceLedger) -> u64 {
    let of_run = ledger.runs.iter().map(|run| {
        let acknowledged = run.blocks.iter().filter(|(item, _)| Some(**item) <= run.acknowledged);
        let kept = acknowledged.map(|(_, range)| range.end()).max().unwrap_or(0);
        run.readings.range(kept..).count() as u64
    });
    of_run.sum()
}
