//! Kafka's own Java tools and the Python client, run as their users run them.

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

/// A Python script with the broker's address as its first argument.
#[must_use]
pub fn python(script: &Path, broker: SocketAddr) -> Command {
    let mut command = Command::new(environment::python());
    command.arg(script).arg(broker.to_string()).stdin(Stdio::null());
    command
}
