//! `headwater journal` on a folder that a gateway wrote and did not close: a byte rots, it is found and told, the rest is
//! served, and a repair takes readers past it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use headwater_tests::{environment, gateway::Gateway, permit};
use serde_json::Value;

fn headwater(arguments: &[&str]) -> Output {
    let mut command = Command::new(environment::binary("headwater"));
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A record in a batch of its own.
fn produce(gateway: &Gateway, topic: &str, line: &str) {
    let mut command = Command::new(environment::binary("headwater"));
    command.args(["produce", topic, "--bootstrap", &gateway.kafka.to_string()]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// Values of a topic from an offset on.
fn tail(gateway: &Gateway, topic: &str, from: u32, count: u32) -> Vec<String> {
    let bootstrap = gateway.kafka.to_string();
    let (from, count) = (from.to_string(), count.to_string());
    let output = headwater(&[
        "tail",
        topic,
        "--bootstrap",
        &bootstrap,
        "--no-follow",
        "--from",
        &from,
        "--count",
        &count,
        "--format",
        "json",
    ]);
    assert!(output.status.success(), "{}", text(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    let value = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["value"].as_str().unwrap().to_owned()
    };
    lines.lines().map(value).collect()
}

/// The segment file with some bytes, and where in it they are.
fn find(data: &Path, wanted: &str) -> (PathBuf, usize) {
    let files = fs::read_dir(data.join("journal")).unwrap().map(|file| file.unwrap().path());
    let segments = files.filter(|path| path.extension().is_some_and(|it| it == "seg"));
    let found = segments.into_iter().find_map(|path| {
        let content = fs::read(&path).unwrap();
        let at = content.windows(wanted.len()).position(|bytes| bytes == wanted.as_bytes())?;
        Some((path, at))
    });
    found.unwrap_or_else(|| panic!("{wanted:?} is stored nowhere"))
}

#[test]
fn rot_is_found_told_and_given_up_on_demand_only() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path(), "");
    let data = folder.path().join("data");
    let data_name = data.to_str().unwrap();
    let values: Vec<String> = (0..8).map(|number| format!("reading-number-{number}")).collect();
    for value in &values {
        produce(&gateway, "readings", value);
    }
    // Beside a running gateway; what is written is sound.
    let output = headwater(&["journal", "verify", data_name]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("has the folder open"), "{}", text(&output));
    let output = headwater(&["journal", "repair", data_name, "--accept-loss"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("stop the gateway first"), "{}", text(&output));

    gateway.kill();
    let (file, at) = find(&data, &values[3]);
    let mut content = fs::read(&file).unwrap();
    content[at] ^= 1;
    fs::write(&file, content).unwrap();

    let output = headwater(&["journal", "verify", data_name]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let told = text(&output);
    assert!(told.contains("lost: readings/0 offsets 3 to 3"), "{told}");
    assert!(told.contains(file.file_name().unwrap().to_str().unwrap()), "{told}");
    let output = headwater(&["journal", "verify", data_name, "--json"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["verdict"], "damaged");
    let damage = lines.iter().find(|line| line["finding"] == "damage").unwrap();
    assert_eq!(
        (&damage["lost"][0]["topic"], &damage["lost"][0]["from"]),
        (&"readings".into(), &3.into())
    );

    let output =
        headwater(&["journal", "dump", data_name, "--json", "--show", "records", "--values"]);
    let dumped = text(&output);
    assert!(dumped.contains(&values[2]) && !dumped.contains(&values[3]), "{dumped}");
    let plain = text(&headwater(&["journal", "dump", data_name, "--show", "records"]));
    assert!(!plain.contains(&values[2]), "values only on request: {plain}");

    gateway.restart();
    assert_eq!(tail(&gateway, "readings", 0, 3), values[..3]);
    assert_eq!(tail(&gateway, "readings", 4, 4), values[4..]);
    assert!(
        gateway.get("/healthz").starts_with("degraded: 1 damaged range"),
        "{}",
        gateway.get("/healthz")
    );
    let metrics = gateway.get("/metrics");
    assert!(metrics.contains("headwater_journal_open_damage 1.0"), "{metrics}");
    gateway.stop();

    let output = headwater(&["journal", "repair", data_name]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("nothing was changed"), "{}", text(&output));
    let config = folder.path().join("headwater.toml");
    let config = config.to_str().unwrap();
    let output = headwater(&["journal", "repair", "--config", config, "--accept-loss"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let output = headwater(&["journal", "verify", "--config", config]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("accepted as lost"), "{}", text(&output));
    let note = fs::read_to_string(data.join("quarantine/repair.log")).unwrap();
    assert!(note.contains("accepted as lost: damage"), "{note}");

    gateway.restart();
    let rest: Vec<_> = values.iter().filter(|value| **value != values[3]).cloned().collect();
    assert_eq!(tail(&gateway, "readings", 0, 7), rest);
    assert_eq!(gateway.get("/healthz"), "ok\n");
    gateway.stop();
}

#[test]
fn what_cannot_be_read_is_told_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().to_str().unwrap();
    for (arguments, word) in [
        (vec!["verify", name], "holds no journal"),
        (vec!["dump", name], "holds no journal"),
        (vec!["repair", name], "holds no journal"),
        (vec!["verify", "/no/such/folder"], "no such folder"),
    ] {
        let arguments = [vec!["journal"], arguments].concat();
        let output = headwater(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(word), "{arguments:?}: {}", text(&output));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "looking leaves nothing behind");
}
