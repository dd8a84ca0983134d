//! kcat produces, consumes and keeps its place in a group over a SIGKILL of the gateway.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use headwater_tests::{gateway::Gateway, kcat, permit};

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn kcat_produces_and_consumes_with_every_compression() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), "");
    let mut expected = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let lines: Vec<String> = (0..200).map(|n| format!("key-{n}:{codec} {n}")).collect();
        produce(&gateway, "letters", &lines, &["-z", codec, "-K:"]);
        expected.extend(lines);
    }
    let read = kcat::consume(gateway.kafka, "letters");
    let lines: Vec<String> = read
        .iter()
        .map(|r| format!("{}:{}", r.key.as_deref().unwrap(), r.value.as_deref().unwrap()))
        .collect();
    assert_eq!(lines, expected);
    let offsets: Vec<i64> = read.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (0..1000).collect::<Vec<i64>>());
}

#[test]
fn kcat_group_goes_on_where_it_was_after_a_sigkill() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path(), "");
    let first: Vec<String> = (0..50).map(|n| format!("first {n}")).collect();
    produce(&gateway, "orders", &first, &[]);
    assert_eq!(consume_in_group(&gateway, "orders"), first);

    gateway.kill();
    gateway.restart();
    let second: Vec<String> = (0..50).map(|n| format!("second {n}")).collect();
    produce(&gateway, "orders", &second, &[]);
    assert_eq!(consume_in_group(&gateway, "orders"), second);
    assert_eq!(kcat::consume(gateway.kafka, "orders").len(), 100);
}

#[test]
fn the_gateway_stops_on_sigterm_with_a_consumer_waiting() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path(), "");
    produce(&gateway, "quiet", &["one".into()], &[]);
    let mut tail = Command::new("kcat");
    tail.args(["-C", "-u", "-q", "-t", "quiet", "-b", &gateway.kafka.to_string()]);
    let log = folder.path().join("tail.log");
    let tail = headwater_tests::process::Process::start("kcat tail", &mut tail, &log);
    headwater_tests::wait::for_condition("the consumer's first record", DEADLINE, || {
        tail.output().contains("one")
    });
    gateway.stop();
    gateway.restart();
    assert_eq!(kcat::consume(gateway.kafka, "quiet").len(), 1);
}

/// One line, one record; every record is acknowledged when this returns.
fn produce(gateway: &Gateway, topic: &str, lines: &[String], arguments: &[&str]) {
    let file = gateway.folder().join("lines.txt");
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    let mut command = Command::new("kcat");
    command.args(["-P", "-t", topic, "-b", &gateway.kafka.to_string(), "-X", "acks=all"]);
    command.args(arguments).args(["-l"]).arg(&file);
    kcat::run(&mut command);
}

/// Reads what the group has not read yet, commits, and leaves.
fn consume_in_group(gateway: &Gateway, topic: &str) -> Vec<String> {
    let mut command = Command::new("timeout");
    command.args(["60", "kcat", "-b", &gateway.kafka.to_string(), "-q", "-e"]);
    command.args(["-X", "auto.offset.reset=earliest", "-G", "readers", topic]);
    let printed = kcat::run(command.stderr(Stdio::null()));
    printed.lines().map(str::to_owned).collect()
}
