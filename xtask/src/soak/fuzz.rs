//! Every fuzz target for a while: by libFuzzer where `cargo fuzz` and a nightly Rust are installed, else by the loop in
//! the gateway's own tests, which mutates the corpus without looking at coverage.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::step::{self, Outcome};
use crate::{test::PROFILE, workspace};

pub(super) fn run(seconds: u64, seed: u64) -> Result<Outcome> {
    if has_cargo_fuzz() {
        return by_coverage(seconds, seed);
    }
    println!("no `cargo fuzz` under a nightly Rust: mutations of the corpus, without coverage");
    let mut command = workspace::cargo(&["test", "--profile", PROFILE, "--workspace", "--lib"]);
    command.args(["--", "--nocapture", "fuzz::tests::"]);
    command.env("HEADWATER_FUZZ_SECONDS", seconds.to_string());
    let mut outcome = step::tests("fuzz", &mut command, seed)?;
    outcome.shown.insert(0, "without coverage".into());
    Ok(outcome)
}

/// Rustup's cargo of the nightly, in the fuzz workspace.
fn nightly(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    // The toolchain that runs this must not decide for the other one.
    command.env_remove("CARGO").env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
    command.current_dir(workspace::root().join("fuzz")).arg("+nightly").args(arguments);
    command
}

fn has_cargo_fuzz() -> bool {
    let mut asked = nightly(&["fuzz", "--version"]);
    let status = asked.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn by_coverage(seconds: u64, seed: u64) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let written = nightly(&["run", "--release", "--bin", "write_corpus"]).status()?.success();
    anyhow::ensure!(written, "the corpus cannot be written");
    let listed = nightly(&["fuzz", "list"]).output().context("cannot start cargo fuzz")?;
    let names = String::from_utf8(listed.stdout)?;
    for name in names.lines().filter(|name| *name != "write_corpus") {
        let limits = [format!("-max_total_time={seconds}"), format!("-seed={}", seed as u32)];
        let passed = nightly(&["fuzz", "run", name, "--"]).args(limits).status()?.success();
        outcome.passed += u64::from(passed);
        outcome.failed += u64::from(!passed);
        outcome.shown.push(format!("{name} {}", if passed { "holds" } else { "FAILED" }));
    }
    Ok(outcome)
}
