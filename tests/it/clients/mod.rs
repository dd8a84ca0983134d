//! Unmodified clients, one file per family, against whoever is asked for: `cargo xtask test --against kafka` runs the same
//! tests against a real Apache Kafka. They describe Kafka, not Headwater.

mod go;
mod groups;
mod java;
mod kcat;
mod krafka;
mod node;
mod python;

use std::{net::SocketAddr, process::Command};

use headwater_tests::{checks, cluster::Cluster, permit};

/// What the program of every client checks, in whatever way the client has for it. Codecs that a client lacks are the
/// exception, and the settings of topics where its admin has none.
const COMMON: [&str; 10] = [
    "create topics",
    "produce none",
    "produce gzip",
    "read every codec",
    "offsets and times",
    "a group of two",
    "list and describe",
    "committed after a SIGKILL",
    "goes on after a SIGKILL",
    "delete a topic",
];
const OTHER_CODECS: [&str; 3] = ["produce snappy", "produce lz4", "produce zstd"];
const SETTINGS: &str = "configs, partitions and records";

/// Runs a client's program, which is told the address of a cluster of its own.
fn run(expected: &[&str], program: impl FnOnce(SocketAddr) -> Command) {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path());
    let mut command = program(cluster.address());
    checks::run(&mut cluster, &mut command, &folder.path().join("client.log"), expected);
}
