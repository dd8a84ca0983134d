//! A fleet of simulated devices over TCP while the gateway is killed: ledgers equal the log.

use std::{process::Command, time::Duration};

use headwater_tests::{
    effort, environment, gateway::Gateway, kcat, permit, process::Process, random::Random, wait,
};

const DEVICES: u64 = 1_000;
const RATE_HZ: u64 = 1;
const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn fleet_of_1000_devices_over_two_sigkills() {
    let _permit = permit::computing();
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new("fleet");
    let seconds = effort::count(30, 60);
    let mut gateway = Gateway::start(folder.path(), "");
    let ledgers = folder.path().join("ledgers");
    let mut command = Command::new(environment::binary("headwater-sim"));
    command.args(["fleet", "--devices", &DEVICES.to_string(), "--rate", &RATE_HZ.to_string()]);
    command.args(["--connect", &gateway.device.to_string(), "--seconds", &seconds.to_string()]);
    command.arg("--ledgers").arg(&ledgers);
    let mut fleet = Process::start("fleet", &mut command, &folder.path().join("fleet.log"));

    let all = DEVICES * RATE_HZ * seconds;
    for part in [all / 5, all / 2] {
        let instant = part + random.below(all / 10);
        wait::for_condition("readings before the kill", DEADLINE, || {
            gateway.durable("readings") > instant
        });
        gateway.kill();
        gateway.restart();
    }
    let status = fleet.wait(DEADLINE);
    assert!(status.success(), "the fleet ended with {status}: {}", fleet.output());

    let mut verify = Command::new(environment::binary("headwater-sim"));
    verify.arg("verify").arg("--ledgers").arg(&ledgers);
    verify.args(["--bootstrap", &gateway.kafka.to_string(), "--topic", "readings"]);
    print!("{}", kcat::run(&mut verify));
    let records = kcat::consume(gateway.kafka, "readings").len() as u64;
    let (peak_kib, cpu) = (gateway.process().peak_rss_kib(), gateway.process().cpu());
    println!(
        "shown: {DEVICES} devices at {RATE_HZ}/s for {seconds} s over 2 SIGKILLs: {records} records, gateway after the last \
         one: {:.1} MiB at most, {:.1} s of CPU",
        peak_kib as f64 / 1024.0,
        cpu.as_secs_f64()
    );
    assert!(records > all * 9 / 10, "only {records} of about {all} readings were taken");
}
