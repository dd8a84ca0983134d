//! What a soak consists of: tests that run longer, and fuzzing.

use std::process::Command;

use anyhow::{Result, bail};

use super::fuzz;
use crate::{
    test::{PROFILE, Tally, test_environment},
    workspace,
};

/// One part of a soak.
pub(super) enum Step {
    /// Unit tests of the gateway whose names contain this, with so many times the normal effort.
    Unit { filter: &'static str, times: u32 },
    /// Black-box tests whose names contain this, with the soak's counts.
    BlackBox { filter: &'static str },
    /// Tests of the link, with a count for the environment.
    Link { test: &'static str, filter: &'static str, count: (&'static str, &'static str) },
    /// Every fuzz target of a room of the gateway for so long.
    Fuzz { room: &'static str, seconds: u64 },
}

/// What became of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) passed: u64,
    pub(super) failed: u64,
    /// What the tests say that they showed.
    pub(super) shown: Vec<String>,
}

/// Begins a line in which a test says what it showed.
const SHOWN: &str = "shown: ";

impl Outcome {
    /// A soak in which no test ran shows nothing.
    pub(super) fn has_passed(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.shown.extend(other.shown);
    }
}

impl Step {
    /// Whether it starts programs of the workspace.
    pub(super) const fn starts_programs(&self) -> bool {
        matches!(self, Self::BlackBox { .. })
    }

    pub(super) fn run(&self, seed: u64) -> Result<Outcome> {
        match *self {
            Self::Unit { filter, times } => {
                let mut command = workspace::cargo(&["test", "--profile", PROFILE, "--workspace"]);
                command.args(["--lib", "--", "--nocapture", filter]);
                tests(filter, command.env("HEADWATER_SOAK", times.to_string()), seed)
            }
            Self::BlackBox { filter } => {
                let mut command = workspace::cargo(&["test", "--profile", PROFILE, "--workspace"]);
                command.args(["--test", "it", "--", "--nocapture", "--test-threads=1", filter]);
                test_environment(&mut command);
                tests(filter, command.env("HEADWATER_SOAK", "10"), seed)
            }
            Self::Link { test, filter, count: (variable, count) } => {
                let mut command = workspace::cargo(&["test", "--profile", PROFILE]);
                command.args(["--package", "headwater-protocol", "--test", test]);
                command.args(["--", "--nocapture", filter]);
                tests(filter, command.env(variable, count), seed)
            }
            Self::Fuzz { room, seconds } => fuzz::run(room, seconds, seed),
        }
    }
}

/// The programs that black-box tests start.
pub(super) fn build() -> Result<()> {
    let bins = ["build", "--profile", PROFILE, "--workspace", "--bins"];
    if !workspace::cargo(&bins).status()?.success() {
        bail!("the workspace does not build");
    }
    Ok(())
}

/// Runs a libtest command and gathers what its tests say.
pub(super) fn tests(name: &str, command: &mut Command, seed: u64) -> Result<Outcome> {
    let mut shown = Vec::new();
    let mut tally = Tally::default();
    command.env("HEADWATER_SEED", seed.to_string());
    tally.run_watched(name, command, |line| {
        // Without capturing, a test's first line stands behind its name.
        if let Some((_, what)) = line.split_once(SHOWN) {
            shown.push(what.to_owned());
        }
    })?;
    Ok(Outcome { passed: tally.passed, failed: tally.failed, shown })
}
