//! Clients in Java, Python, Node and Go, run as their users run them.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use crate::environment;

/// One of the tools that ship with Apache Kafka, by class name.
#[must_use]
pub fn java_tool(class: &str, heap: &str) -> Command {
    let mut command = Command::new("java");
    command.arg(format!("-Xmx{heap}")).arg("-XX:TieredStopAtLevel=1").arg("-cp");
    command.arg(environment::kafka_libs().join("*")).arg(class);
    command.stdin(Stdio::null());
    command
}

/// One of the programs of tests/java, with Apache Kafka's jars.
#[must_use]
pub fn java_program(class: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"]);
    let (classes, libs) = (environment::java_classes(), environment::kafka_libs().join("*"));
    command.arg(format!("{}:{}", classes.display(), libs.display())).arg(class);
    command
}

/// A Python script with the broker's address as its first argument.
#[must_use]
pub fn python(script: &Path, broker: SocketAddr) -> Command {
    let mut command = Command::new(environment::python());
    command.arg(script).arg(broker.to_string()).stdin(Stdio::null());
    command
}

/// A script of tests/node, with the Node clients.
#[must_use]
pub fn node(script: &str, broker: SocketAddr) -> Command {
    let mut command = Command::new("node");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("node").join(script));
    command.arg(broker.to_string()).env("NODE_PATH", environment::node_modules());
    command
}

/// Whether there is a Go that is new enough for its clients: the only toolchain that may be absent.
#[must_use]
pub fn has_go() -> bool {
    environment::go_clients().is_some()
}

/// One of the programs of tests/go.
///
/// # Panics
/// If there is no Go.
#[must_use]
pub fn go(client: &str, broker: SocketAddr) -> Command {
    let program = environment::go_clients().expect("has_go was asked").join(client);
    let mut command = Command::new(program);
    command.arg(broker.to_string());
    command
}
