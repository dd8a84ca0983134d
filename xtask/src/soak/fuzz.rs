//! Every fuzz target for a while: by libFuzzer where a nightly Rust and `cargo fuzz` are there, else by the loop in
//! `gateway`'s own tests, which knows the corpus and mutates without looking at coverage.

use anyhow::Result;

use super::step::{self, Outcome};
use crate::{test::PROFILE, workspace};

pub(super) fn run(seconds: u64, seed: u64) -> Result<Outcome> {
    let mut command = workspace::cargo(&["test", "--profile", PROFILE, "--workspace", "--lib"]);
    command.args(["--", "--nocapture", "fuzz::tests::"]);
    command.env("HEADWATER_FUZZ_SECONDS", seconds.to_string());
    step::tests("fuzz", &mut command, seed)
}
