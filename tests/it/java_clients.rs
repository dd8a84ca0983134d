//! Apache Kafka's own Java tools, unmodified and with their defaults.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
};

use headwater_tests::{clients, gateway::Gateway, kcat, permit};

const CONSOLE_CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const CONSOLE_PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const PRODUCER_PERFORMANCE: &str = "org.apache.kafka.tools.ProducerPerformance";

#[test]
fn java_clients_console_producer_and_consumer_group_over_a_sigkill() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path(), "");
    let first: Vec<String> = (0..100).map(|n| format!("first {n}")).collect();
    produce(&gateway, &first);
    assert_eq!(consume_in_group(&gateway, 100), first);

    gateway.kill();
    gateway.restart();
    let second: Vec<String> = (0..100).map(|n| format!("second {n}")).collect();
    produce(&gateway, &second);
    assert_eq!(consume_in_group(&gateway, 100), second);
}

#[test]
fn java_clients_producer_performance_with_defaults_is_idempotent() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), "");
    let mut command = clients::java_tool(PRODUCER_PERFORMANCE, "256m");
    command.args(["--topic", "load", "--num-records", "50000", "--record-size", "100"]);
    command.args(["--throughput", "-1", "--producer-props"]);
    command.arg(format!("bootstrap.servers={}", gateway.kafka));
    let printed = kcat::run(&mut command);
    assert!(printed.contains("50000 records sent"), "{printed}");
    assert_eq!(kcat::consume(gateway.kafka, "load").len(), 50_000);
}

fn produce(gateway: &Gateway, lines: &[String]) {
    let file = gateway.folder().join("lines.txt");
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    let mut command = clients::java_tool(CONSOLE_PRODUCER, "256m");
    command.args(["--topic", "orders", "--bootstrap-server", &gateway.kafka.to_string()]);
    let output = command.stdin(File::open(file).unwrap()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !errors.contains("ERROR"), "{errors}");
}

fn consume_in_group(gateway: &Gateway, count: usize) -> Vec<String> {
    let mut command: Command = clients::java_tool(CONSOLE_CONSUMER, "256m");
    command.args(["--topic", "orders", "--bootstrap-server", &gateway.kafka.to_string()]);
    command.args(["--group", "readers", "--from-beginning", "--timeout-ms", "60000"]);
    command.args(["--max-messages", &count.to_string()]);
    let printed = kcat::run(command.stderr(Stdio::piped()));
    printed.lines().map(str::to_owned).collect()
}
