//! `headwater devices` beside a gateway and simulated devices: the list, admission, names, commands.

use std::{process::Command, time::Duration};

use headwater_tests::{environment, gateway::Gateway, kcat, permit, process::Process, wait};

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs the command; whether it succeeded, and what it printed.
fn devices(gateway: &Gateway, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(environment::binary("headwater"));
    command.arg("devices").args(arguments);
    command.args(["--http", &gateway.http.to_string()]);
    command.args(["--bootstrap", &gateway.kafka.to_string()]);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn devices_are_approved_named_commanded_and_refused() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let config = "unknown = \"hold\"\nheaders = [\"name\", \"labels\"]\n";
    let mut gateway = Gateway::start(folder.path(), config);
    let ledgers = folder.path().join("ledgers");
    let mut command = Command::new(environment::binary("headwater-sim"));
    command.args(["fleet", "--devices", "2", "--rate", "20", "--drain", "60 s", "--ledgers"]);
    command.arg(&ledgers).args(["--connect", &gateway.device.to_string()]);
    let _fleet = Process::start("fleet", &mut command, &folder.path().join("fleet.log"));
    let lists = |gateway: &Gateway, words: &[&str]| {
        let (done, text) = devices(gateway, &[]);
        done && words.iter().all(|word| text.contains(word))
    };
    wait::for_condition("two devices that wait", DEADLINE, || {
        devices(&gateway, &["list"]).1.matches("waits").count() == 2
    });
    assert_eq!(gateway.durable("readings"), 0, "nothing of a device that waits is taken");
    let (done, text) =
        devices(&gateway, &["label", "sim-000001", "site=roof", "--name", "wind, north"]);
    assert!(done && text.contains("wind, north") && text.contains("site=roof"), "{text}");
    let (done, text) = devices(&gateway, &["approve", "sim-000001"]);
    assert!(done && text.contains("accepted"), "{text}");
    wait::for_condition("readings", DEADLINE, || gateway.durable("readings") > 20);
    assert!(lists(&gateway, &["here", "waits", "wind, north"]));
    let records = kcat::consume(gateway.kafka, "readings");
    assert!(records.iter().all(|record| record.key.as_deref() == Some("sim-000001")));

    let (done, text) = devices(&gateway, &["command", "sim-000001", "say hello there"]);
    assert!(done && text.contains("done: say hello there"), "{text}");
    wait::for_condition("the line", DEADLINE, || {
        devices(&gateway, &["show", "sim-000001"]).1.contains("hello there")
    });
    let (done, text) = devices(&gateway, &["command", "sim-000001", "jump"]);
    assert!(!done && text.contains("no such command"), "{text}");
    let (done, text) = devices(&gateway, &["command", "sim-000002", "seal", "--timeout", "1"]);
    assert!(!done && text.contains("not here in time"), "{text}");

    gateway.kill();
    gateway.restart();
    wait::for_condition("the device after a kill", DEADLINE, || {
        lists(&gateway, &["here", "wind, north"])
    });
    let (done, text) = devices(&gateway, &["command", "sim-000001", "seal"]);
    assert!(done, "{text}");
    let (done, text) = devices(&gateway, &["refuse", "sim-000001"]);
    assert!(done && text.contains("refused"), "{text}");
    wait::for_condition("its end", DEADLINE, || {
        let (_, text) = devices(&gateway, &["list"]);
        text.contains("refused") && !text.contains("here")
    });
    let (done, text) = devices(&gateway, &["show", "nobody"]);
    assert!(!done && text.contains("no device"), "{text}");
}
