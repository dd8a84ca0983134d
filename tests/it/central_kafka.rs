//! The uplink into a real Apache Kafka that is killed, with a gateway that is killed: exactly once and in order.

use std::{fs, process::Command, time::Duration};

use headwater_tests::{
    central::CentralKafka,
    environment,
    gateway::Gateway,
    kcat, permit,
    process::Process,
    random::Random,
    unfinished::Producer,
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

/// What Apache Kafka 4.3 does when partitions have no leader while it ends a transaction: it records the end, and
/// they never hear of it.
#[test]
fn transactions_that_the_centre_forgot_to_end_are_ended_as_they_should() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let trusting = "transaction.partition.verification.enable=false";
    let central = CentralKafka::start_with(folder.path(), trusting);
    let uplink = format!("[uplink]\nbootstrap = [\"{}\"]\n", central.address);
    let mut gateway = Gateway::start(folder.path(), &uplink);
    let line = folder.path().join("line");
    let produce = |gateway: &Gateway, value: &str| {
        fs::write(&line, value).unwrap();
        let mut command = Command::new("kcat");
        command.args(["-P", "-b", &gateway.kafka.to_string(), "-t", "readings", "-l"]).arg(&line);
        kcat::run(&mut command);
    };
    let cursors = |producer: &Producer, value: &str| {
        for index in 0..8 {
            producer.leave_open(central.address, "headwater-cursors", index, value);
        }
    };
    produce(&gateway, "first");
    replicated_past(&gateway, 0);
    gateway.kill();
    let producer = Producer::only(central.address);
    assert_eq!(producer.state, "CompleteCommit");
    producer.leave_open(central.address, "readings", 0, "of the commit");
    cursors(&producer, "of the commit");

    gateway.restart();
    connected(&gateway);
    gateway.kill();
    let producer = Producer::only(central.address);
    assert_eq!(producer.state, "Empty");
    producer.leave_open(central.address, "readings", 0, "of an abort");
    cursors(&producer, "of an abort");

    gateway.restart();
    connected(&gateway);
    produce(&gateway, "second");
    replicated_past(&gateway, 1);
    let values: Vec<_> =
        kcat::consume(central.address, "readings").into_iter().filter_map(|it| it.value).collect();
    assert_eq!(values, ["first", "of the commit", "second"]);
}

fn connected(gateway: &Gateway) {
    wait::for_condition("the uplink's session", DEADLINE, || {
        gateway.status()["uplink"]["connected"] == true
    });
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
