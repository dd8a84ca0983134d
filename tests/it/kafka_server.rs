//! What only Headwater promises of its Kafka listener; what it shares with Kafka is in `clients`.

use std::{process::Command, time::Duration};

use headwater_tests::{gateway::Gateway, kcat, permit, process::Process, wait};

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn the_gateway_stops_on_sigterm_with_a_consumer_waiting() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path(), "");
    let line = folder.path().join("line");
    std::fs::write(&line, "one\n").unwrap();
    let mut produce = Command::new("kcat");
    produce.args(["-P", "-t", "quiet", "-b", &gateway.kafka.to_string(), "-l"]).arg(&line);
    kcat::run(&mut produce);
    let mut tail = Command::new("kcat");
    tail.args(["-C", "-u", "-q", "-t", "quiet", "-b", &gateway.kafka.to_string()]);
    let tail = Process::start("kcat tail", &mut tail, &folder.path().join("tail.log"));
    wait::for_condition("the consumer's first record", DEADLINE, || tail.output().contains("one"));
    gateway.stop();
    gateway.restart();
    assert_eq!(kcat::consume(gateway.kafka, "quiet").len(), 1);
}
