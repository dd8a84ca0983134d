//! Runs a test command, passes its output on, and counts what libtest reports.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

/// Tests that passed and failed, and the names of the latter.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) failures: Vec<String>,
}

impl Tally {
    /// Runs a libtest command. A command that fails without a failed test (it did not compile, it was killed)
    /// counts as one failure under `name`.
    pub(crate) fn run(&mut self, name: &str, command: &mut Command) -> Result<()> {
        self.run_watched(name, command, |_| {})
    }

    /// As [`Tally::run`], and shows every line to `watch`.
    pub(crate) fn run_watched(
        &mut self,
        name: &str,
        command: &mut Command,
        mut watch: impl FnMut(&str),
    ) -> Result<()> {
        let failed_before = self.failed;
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        let stdout = child.stdout.take().context("stdout was piped")?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            println!("{line}");
            watch(&line);
            self.count(&line);
        }
        if !child.wait()?.success() && self.failed == failed_before {
            self.fail(name);
        }
        Ok(())
    }

    /// Counts a check that is not a libtest run.
    pub(crate) fn check(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let status =
            command.status().with_context(|| format!("cannot start {name}: {command:?}"))?;
        if status.success() {
            self.passed += 1;
        } else {
            self.fail(name);
        }
        Ok(())
    }

    /// Counts one failure.
    pub(crate) fn fail(&mut self, name: &str) {
        self.failed += 1;
        self.failures.push(name.to_owned());
    }

    fn count(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix("FAILED"))
        {
            self.failures.push(name.trim_end_matches([' ', '.']).to_owned());
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let number_before = |word: &str| {
            let (before, _) = result.split_once(word)?;
            before.split_whitespace().next_back()?.parse::<u64>().ok()
        };
        self.passed += number_before(" passed").unwrap_or(0);
        self.failed += number_before(" failed").unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_binaries_add_up() {
        let mut tally = Tally::default();
        for line in [
            "test journal::frame::tests::torn ... ok",
            "test result: ok. 14 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.01s",
            "test uplink::resume ... FAILED",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ] {
            tally.count(line);
        }
        let failures = vec!["uplink::resume".to_owned()];
        assert_eq!(tally, Tally { passed: 16, failed: 1, failures });
    }

    #[test]
    fn a_run_that_breaks_without_a_failed_test_is_a_failure() {
        let mut tally = Tally::default();
        tally.run("broken", Command::new("sh").args(["-c", "exit 3"])).unwrap();
        assert_eq!((tally.passed, tally.failed), (0, 1));
    }
}
