//! The uplink into a real Apache Kafka that is killed, with a gateway that is killed: exactly once and in order.

use std::{process::Command, time::Duration};

use headwater_tests::{
    central::CentralKafka,
    environment,
    gateway::Gateway,
    kcat, permit,
    process::Process,
    random::Random,
    wait,
    workbench::{self, TOPIC, Workbench},
};

use crate::blows::{Blow, SLOW_COMMITS, assert_struck, strike_all};

const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn central_kafka_gets_a_fleets_readings_exactly_once_over_kills_of_both() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut central = CentralKafka::start(folder.path());
    let uplink = format!("[uplink]\nbootstrap = [\"{}\"]\n", central.address);
    let mut gateway = Gateway::start(folder.path(), &uplink);
    let ledgers = folder.path().join("ledgers");
    let mut command = Command::new(environment::binary("headwater-sim"));
    command.args(["fleet", "--devices", "20", "--rate", "10", "--seconds", "25"]);
    command.args(["--connect", &gateway.device.to_string()]).arg("--ledgers").arg(&ledgers);
    let mut fleet = Process::start("fleet", &mut command, &folder.path().join("fleet.log"));

    replicated_past(&gateway, 300);
    central.kill();
    central.restart();
    replicated_past(&gateway, 1_000);
    gateway.kill();
    gateway.restart();
    replicated_past(&gateway, 2_000);
    central.kill();
    gateway.kill();
    gateway.restart();
    central.restart();

    let status = fleet.wait(DEADLINE);
    assert!(status.success(), "the fleet ended with {status}: {}", fleet.output());
    let local = kcat::consume(gateway.kafka, "readings");
    wait::for_condition("everything at the centre", DEADLINE, || {
        replicated(&gateway) >= local.len() as u64
    });
    let there = kcat::consume(central.address, "readings");
    assert_eq!(strip(&there), strip(&local));
}

#[test]
fn central_kafka_gets_a_boards_readings_exactly_once_over_everything() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new("central_kafka board");
    let mut central = CentralKafka::start(folder.path());
    let uplink = format!("{SLOW_COMMITS}[uplink]\nbootstrap = [\"{}\"]\n", central.address);
    let mut bench = Workbench::start(folder.path(), &uplink);
    forget_the_centre(&mut bench, &mut central);

    let mut blows = Blow::edge();
    blows.extend([Blow::CentreKilled; 2]);
    strike_all(&mut bench, blows, &mut random, |bench, random| {
        central.kill();
        bench.wait_readings(random.below(30) as usize);
        central.restart();
    });
    let ledger = bench.settle();
    assert_struck(&ledger, &workbench::compare(&ledger, bench.gateway.kafka));
    let local = bench.gateway.durable(TOPIC);
    wait::for_condition("everything at the centre", DEADLINE, || {
        replicated(&bench.gateway) >= local
    });
    workbench::compare(&ledger, central.address);
}

/// What a gateway notes of the centre it writes 30 s after its start at the earliest. One that is killed before knows
/// nothing of what it has sent; the centre, killed too, cannot tell it until it is back.
fn forget_the_centre(bench: &mut Workbench, central: &mut CentralKafka) {
    // At once, since a busy machine could need the 30 s for more.
    replicated_past(&bench.gateway, 0);
    central.kill();
    bench.gateway.kill();
    bench.gateway.restart();
    assert_eq!(replicated(&bench.gateway), 0, "a note of the centre survived");
    central.restart();
}

/// Offsets differ at the centre, where transaction markers take some too.
fn strip(records: &[kcat::Consumed]) -> Vec<kcat::Consumed> {
    records.iter().map(|record| kcat::Consumed { offset: 0, ..record.clone() }).collect()
}

fn replicated_past(gateway: &Gateway, count: u64) {
    wait::for_condition("replication", DEADLINE, || replicated(gateway) > count);
}

fn replicated(gateway: &Gateway) -> u64 {
    let status = gateway.status();
    let topics = status["topics"].as_array().cloned().unwrap_or_default();
    let readings = topics.iter().find(|topic| topic["name"] == "readings");
    readings.and_then(|topic| topic["partitions"][0]["replicated"].as_u64()).unwrap_or(0)
}
