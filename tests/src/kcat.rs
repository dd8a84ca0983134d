//! kcat, the command-line client on librdkafka: an independent reader of the log.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
};

use serde_json::Value;

/// A record as kcat prints it (`-J`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// Partition.
    pub partition: i64,
    /// Offset.
    pub offset: i64,
    /// Timestamp, Unix ms.
    pub timestamp: i64,
    /// Key as text.
    pub key: Option<String>,
    /// Value as text.
    pub value: Option<String>,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
}

impl Consumed {
    /// The value of the first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a topic from the beginning to its present end, committed records only.
///
/// # Panics
/// If kcat fails.
#[must_use]
pub fn consume(broker: SocketAddr, topic: &str) -> Vec<Consumed> {
    let mut command = Command::new("kcat");
    command.args(["-C", "-q", "-e", "-J", "-o", "beginning", "-t", topic]);
    command.arg("-b").arg(broker.to_string());
    command.args(["-X", "isolation.level=read_committed"]);
    run(&mut command).lines().map(parse).collect()
}

/// Runs kcat (or any client) to its end and returns what it printed.
///
/// # Panics
/// If it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}: {printed}{errors}", output.status);
    printed
}

fn parse(line: &str) -> Consumed {
    let json: Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("kcat printed {line:?}: {error}"));
    let text = |name: &str| json[name].as_str().map(str::to_owned);
    let headers = json["headers"].as_array().map_or(&[][..], Vec::as_slice);
    let words: Vec<String> =
        headers.iter().map(|word| word.as_str().unwrap_or_default().to_owned()).collect();
    let pairs = words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
    Consumed {
        partition: json["partition"].as_i64().unwrap_or(-1),
        offset: json["offset"].as_i64().unwrap_or(-1),
        timestamp: json["ts"].as_i64().unwrap_or(-1),
        key: text("key"),
        value: text("payload"),
        headers: pairs.collect(),
    }
}
