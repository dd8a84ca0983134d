//! The uplink into a real Apache Kafka that is killed, with a gateway that is killed: exactly once and in order.

use std::{process::Command, time::Duration};

use headwater_tests::{
    central::CentralKafka, environment, gateway::Gateway, kcat, permit, process::Process, wait,
};

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
