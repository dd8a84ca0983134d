//! kcat, on the librdkafka that Debian has: an older one than confluent-kafka's.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use headwater_tests::{cluster::Cluster, kcat, permit};

#[test]
fn kcat_produces_and_consumes_with_every_compression() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(folder.path());
    let mut expected = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let lines: Vec<String> = (0..200).map(|n| format!("key-{n}:{codec} {n}")).collect();
        let arguments = ["-z", codec, "-K:", "-H", "n=1", "-H", "n=again"];
        produce(&cluster, folder.path(), "letters", &lines, &arguments);
        expected.extend(lines);
    }
    let read = kcat::consume(cluster.address(), "letters");
    let lines: Vec<String> = read
        .iter()
        .map(|r| format!("{}:{}", r.key.as_deref().unwrap(), r.value.as_deref().unwrap()))
        .collect();
    assert_eq!(lines, expected);
    let offsets: Vec<i64> = read.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (0..1000).collect::<Vec<i64>>());
    let headers = [("n", "1"), ("n", "again")].map(|(name, is)| (name.to_owned(), is.to_owned()));
    assert!(read.iter().all(|record| record.headers == headers));

    // The offset of the first record at or after a time.
    let time = read[500].timestamp;
    let first = read.iter().find(|record| record.timestamp >= time).unwrap();
    let mut query = Command::new("kcat");
    query.args(["-Q", "-b", &cluster.address().to_string(), "-t", &format!("letters:0:{time}")]);
    assert!(kcat::run(&mut query).contains(&format!("offset {}", first.offset)));
}

#[test]
fn kcat_group_goes_on_where_it_was_after_a_sigkill() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path());
    let first: Vec<String> = (0..50).map(|n| format!("first {n}")).collect();
    produce(&cluster, folder.path(), "orders", &first, &[]);
    assert_eq!(consume_in_group(&cluster, "orders"), first);

    cluster.kill();
    cluster.restart();
    let second: Vec<String> = (0..50).map(|n| format!("second {n}")).collect();
    produce(&cluster, folder.path(), "orders", &second, &[]);
    assert_eq!(consume_in_group(&cluster, "orders"), second);
    assert_eq!(kcat::consume(cluster.address(), "orders").len(), 100);

    let mut list = Command::new("kcat");
    list.args(["-L", "-J", "-b", &cluster.address().to_string()]);
    assert!(kcat::run(&mut list).contains("\"topic\":\"orders\""));
}

/// One line, one record; every record is acknowledged when this returns.
fn produce(cluster: &Cluster, folder: &Path, topic: &str, lines: &[String], arguments: &[&str]) {
    let file = folder.join("lines.txt");
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    let mut command = Command::new("kcat");
    command.args(["-P", "-t", topic, "-b", &cluster.address().to_string(), "-X", "acks=all"]);
    command.args(arguments).args(["-l"]).arg(&file);
    kcat::run(&mut command);
}

/// Reads what the group has not read yet, commits, and leaves.
fn consume_in_group(cluster: &Cluster, topic: &str) -> Vec<String> {
    let mut command = Command::new("timeout");
    command.args(["60", "kcat", "-b", &cluster.address().to_string(), "-q", "-e"]);
    command.args(["-X", "auto.offset.reset=earliest", "-G", "readers", topic]);
    let printed = kcat::run(command.stderr(Stdio::null()));
    printed.lines().map(str::to_owned).collect()
}
