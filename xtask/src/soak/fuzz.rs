//! Every fuzz target for a while: by libFuzzer where `cargo fuzz` is installed, else by the loop in the crates' own
//! tests, which mutates the corpus without looking at coverage.
//!
//! Coverage needs no nightly Rust as long as no sanitizer is asked for, and there is no `unsafe` for one to look at.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::step::{self, Outcome};
use crate::{test::PROFILE, workspace};

/// A decoder that takes more memory than this for an input of a few KiB has trusted a length.
const MEMORY_LIMIT: &str = "-rss_limit_mb=512";
/// How targets of these rooms begin; all others are the journal's.
const ROOMS: [(&str, &str); 2] = [("kafka", "kafka_"), ("link", "link_")];
/// Seconds for one input.
const TIME_LIMIT: &str = "-timeout=5";

/// Feeds the targets of one room for so long each.
pub(super) fn run(room: &str, seconds: u64, seed: u64) -> Result<Outcome> {
    if has_cargo_fuzz() {
        return by_coverage(room, seconds, seed);
    }
    println!(
        "no `cargo fuzz` (cargo install cargo-fuzz): mutations of the corpus, without coverage"
    );
    let mut command = workspace::cargo(&["test", "--profile", PROFILE]);
    if room == "link" {
        command.args(["--package", "headwater-protocol", "--test", "fuzz", "--", "--nocapture"]);
    } else {
        command.args(["--workspace", "--lib", "--", "--nocapture", &format!("{room}::fuzz::")]);
    }
    command.env("HEADWATER_FUZZ_SECONDS", seconds.to_string());
    let mut outcome = step::tests("fuzz", &mut command, seed)?;
    outcome.shown.insert(0, "without coverage".into());
    Ok(outcome)
}

/// Cargo in the fuzz workspace, whose builds stay apart from all others.
fn fuzz_cargo(arguments: &[&str]) -> Command {
    let mut command = workspace::cargo(arguments);
    let target = workspace::target().join("fuzz");
    command.current_dir(workspace::root().join("fuzz")).env("CARGO_TARGET_DIR", target);
    command
}

fn has_cargo_fuzz() -> bool {
    let mut asked = fuzz_cargo(&["fuzz", "--version"]);
    let status = asked.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn room_of(target: &str) -> &'static str {
    let room = ROOMS.iter().find(|(_, prefix)| target.starts_with(prefix));
    room.map_or("journal", |(room, _)| *room)
}

fn by_coverage(room: &str, seconds: u64, seed: u64) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let folder = workspace::target().join("fuzz-corpus");
    let mut write = fuzz_cargo(&["run", "--release", "--bin", "write_corpus", "--"]);
    anyhow::ensure!(write.arg(&folder).status()?.success(), "the corpus cannot be written");
    let listed = fuzz_cargo(&["fuzz", "list"]).output().context("cannot start cargo fuzz")?;
    let names = String::from_utf8(listed.stdout)?;
    let targets = names.lines().filter(|name| *name != "write_corpus");
    for name in targets.filter(|name| room_of(name) == room) {
        let mut fuzzing = fuzz_cargo(&["fuzz", "run", "--sanitizer", "none", name]);
        fuzzing.arg(folder.join(name)).args(["--", MEMORY_LIMIT, TIME_LIMIT]);
        fuzzing.arg(format!("-max_total_time={seconds}")).arg(format!("-seed={}", seed as u32));
        let passed = fuzzing.status()?.success();
        outcome.passed += u64::from(passed);
        outcome.failed += u64::from(!passed);
        outcome.shown.push(format!("{name} {}", if passed { "holds" } else { "FAILED" }));
    }
    Ok(outcome)
}
