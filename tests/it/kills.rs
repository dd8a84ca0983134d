//! SIGKILL at random instants under Kafka load: nothing acknowledged is lost, no offset is doubled.

use std::{thread, time::Duration};

use headwater_tests::{effort, gateway::Gateway, ledger::process::Ledger, permit, random::Random};

/// A life of the gateway lasts up to this, from its first instant on, so that some kills hit the opening.
const LONGEST_LIFE_MS: u64 = 1_000;
/// One in so many kills comes before anybody is served.
const EARLY_ONE_IN: u64 = 5;
const EARLY_MS: u64 = 60;
/// A dead gateway comes back after up to this.
const LONGEST_DEATH_MS: u64 = 50;
/// Less would mean that the kills met an idle gateway.
const RECORDS_PER_KILL: u64 = 20;

/// Small segments, so that kills meet the change from one to the next; retention that lets the oldest ones go, so that they
/// also meet the cleaner and files that are used again; and commits that take so long that a kill finds records which have
/// arrived and are not yet durable. Without that an early acknowledgement goes unnoticed.
const CONFIGURATION: &str = "[journal]\nsegment_bytes = \"2 MiB\"\nlinger = \"20 ms\"\n\
                             [log.retention]\nbytes = 500000\ncheck_interval = \"1 s\"\n\
                             [topics.orders]\npartitions = 4\n";

#[test]
fn sigkill_at_random_instants_loses_and_doubles_nothing() {
    let _permit = permit::waiting();
    let kills = effort::count(50, 200);
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new("kills");
    let mut gateway = Gateway::start(folder.path(), CONFIGURATION);
    let mut ledger = Ledger::start(&gateway, "orders", random.bits(), &[]);
    for _ in 0..kills {
        let is_early = random.below(EARLY_ONE_IN) == 0;
        let life = random.below(if is_early { EARLY_MS } else { LONGEST_LIFE_MS });
        thread::sleep(Duration::from_millis(life));
        gateway.kill();
        ledger.assert_running();
        thread::sleep(Duration::from_millis(random.below(LONGEST_DEATH_MS)));
        gateway.begin();
        if !is_early {
            gateway.wait_ready();
        }
    }
    gateway.wait_ready();
    let (acknowledged, verdict) = ledger.verdict();
    let status = gateway.status();
    let [segments, cold] = ["segments", "cold_segments"].map(|name| &status["journal"][name]);
    println!("shown: {kills} kills, {segments} segments and {cold} cold ones left; {verdict}");
    assert!(acknowledged >= kills * RECORDS_PER_KILL, "only {acknowledged} records");
    gateway.stop();
}
