//! Bugs planted on purpose: the drivers of crashes, damage and errors have to find each.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::effort::Effort;
use crate::journal::planted::{Bug, VARIABLE};

/// A driver that runs longer than its normal run takes has found nothing.
const BUDGET: Duration = Duration::from_secs(300);

/// Share of the normal run that will do where everything is slow.
const SAMPLE: &str = "0.4";

/// Runs a driver of this crate in a process with the bug; its output, if it found something.
fn run_with(bug: Bug, driver: &str) -> Option<String> {
    let program = std::env::current_exe().unwrap();
    let output = tempfile::NamedTempFile::new().unwrap();
    let path = format!("journal::tests::{driver}");
    let mut child = Command::new(program)
        .args([&path, "--exact", "--nocapture"])
        .env(VARIABLE, format!("{bug:?}"))
        .env("HEADWATER_SOAK", if Effort::of_this_run().is_whole() { "1" } else { SAMPLE })
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output.reopen().unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + BUDGET;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = std::fs::read_to_string(output.path()).unwrap();
    (!status.success() && text.contains("panicked at")).then_some(text)
}

/// Runs of a driver: when the threads of a workload do their part is up to the machine, and with them what a run shows.
const RUNS: usize = 3;

fn is_found(bug: Bug, driver: &str) {
    let found = (0..RUNS).find_map(|_| run_with(bug, driver));
    let text = found.unwrap_or_else(|| panic!("{driver} does not find {bug:?}"));
    let told = text.lines().find(|line| !line.contains("panicked") && !line.is_empty());
    println!("{bug:?} found by {driver}: {}", told.unwrap_or_default());
}

const CRASH: &str = "crash::every_crash_recovers_a_prefix_with_all_that_was_acknowledged";
const CRASH_TOO: &str = "crash::every_crash_recovers_a_prefix_with_all_that_was_acknowledged_too";
const CLEANING: &str =
    "crash::every_crash_around_cleaning_recovers_a_prefix_with_all_that_was_acknowledged";
const ADOPTED: &str =
    "crash::a_prepared_segment_of_an_earlier_run_is_used_once_its_name_is_durable";
const FLIPS: &str = "damage::a_flipped_bit_hits_only_its_own_entry";
const MOVED: &str = "damage::a_write_that_went_to_the_wrong_place_brings_no_old_fact_back";
const HISTORIES: &str = "damage::files_of_two_histories_are_told_apart";
const ROUND: &str = "crash::a_file_that_is_used_again_has_a_durable_name_first";
const PINNED: &str = "retire::a_reader_keeps_its_segment_and_reads_on";
const ERRORS: &str = "faults::an_error_of_any_call_stops_acknowledgements_and_loses_none";

const COMPACTION: &str =
    "cold::compaction::compaction_keeps_the_latest_of_each_key_and_deletions_for_their_time";

/// One test per bug: which driver finds it.
macro_rules! planted_tests {
    ($($name:ident: $bug:ident by $driver:expr,)+) => {
        $(
            #[test]
            fn $name() {
                is_found(Bug::$bug, $driver);
            }
        )+
    };
}

planted_tests! {
    a_skipped_sync: SkipSync by CRASH,
    an_early_acknowledgement: AcknowledgeEarly by CRASH,
    a_frame_that_is_seen_unsynced: ServeUnsynced by CRASH_TOO,
    a_folder_that_is_not_synced: SkipFolderSync by CRASH,
    an_adopted_name_that_is_not_synced: AdoptUnsynced by ADOPTED,
    a_crc_over_half_of_an_entry: WrongCrcRange by FLIPS,
    positions_ignored: IgnorePosition by MOVED,
    a_chain_that_nobody_checks: SkipChainCheck by HISTORIES,
    an_old_fact_over_a_new_one: OldFactWins by CRASH,
    a_frame_written_ahead: WriteAhead by CRASH,
    an_unproven_frame_left_in_place: CarriedInPlace by CRASH,
    an_unproven_frame_dropped: CarriedDropped by CRASH,
    a_snapshot_taken_late: SnapshotLate by CRASH_TOO,
    a_snapshot_of_one_slice: SnapshotIncomplete by CRASH_TOO,
    a_failed_sync_passed_over: IgnoreFailedSync by ERRORS,
    a_failed_sync_tried_again: RetrySync by ERRORS,
    positions_used_twice: PositionsReused by CRASH,
    void_ranges_served: VoidServed by CRASH,
    a_torn_frame_served: TornServed by CRASH,
    a_spare_whose_new_name_is_not_synced: ReuseUnsynced by ROUND,
    a_segment_that_retires_before_its_fact: RetireEarly by CRASH_TOO,
    a_segment_used_again_under_a_reader: ReusePinned by PINNED,
    a_cold_segment_that_is_not_synced: ColdUnsynced by CLEANING,
    state_derived_from_a_cold_segment: ColdIntoState by CLEANING,
    a_deletion_dropped_early: TombstoneEarly by COMPACTION,
    an_aborted_range_lost: AbortedLost by CLEANING,
    aborted_ranges_forgotten_with_their_memory: SpilledForgotten by CLEANING,
}

#[test]
fn every_driver_passes_without_a_bug() {
    // The cheapest ones: that all of them do is what their own runs show.
    for driver in [ADOPTED, MOVED, HISTORIES, ROUND] {
        let program = std::env::current_exe().unwrap();
        let path = format!("journal::tests::{driver}");
        let output = Command::new(program).args([&path, "--exact"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("1 passed"), "{driver}: {text}");
    }
}
