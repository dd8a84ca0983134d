//! A client program of the matrix: it prints a line for each thing that it checked, and may ask for a SIGKILL of the broker.
//!
//! The lines are `ok NAME`, `FAILED NAME: why`, and `restart`, after which the program waits for a line on its standard
//! input. What it was expected to check is named by the test, so that a check which was left out is missed.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use crate::{cluster::Cluster, wait};

/// A program that says nothing for so long hangs. Rebalances after a kill wait for sessions of up to 45 s.
const SILENCE: Duration = Duration::from_secs(120);
const ENDING: Duration = Duration::from_secs(20);
/// Lines of the program's errors that a failure shows.
const SHOWN_LINES: usize = 30;

/// Runs `command` against `cluster` and holds what it checked against `expected`, in any order.
///
/// # Panics
/// If a check failed, is missing or unexpected, or if the program fails.
pub fn run(cluster: &mut Cluster, command: &mut Command, log: &Path, expected: &[&str]) {
    let errors = File::create(log).expect("the test's folder is writable");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
    let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let mut program = Program { child, passed: Vec::new(), failed: Vec::new() };
    program.watch(cluster);
    let status = wait::until("the program's end", ENDING, || program.child.try_wait().ok()?);

    for name in expected {
        if !program.passed.iter().any(|passed| passed == name) {
            program.failed.push(format!("{name}: did not pass"));
        }
    }
    for name in &program.passed {
        if !expected.contains(&name.as_str()) {
            program.failed.push(format!("{name}: nobody expected it"));
        }
    }
    let clean = status.success() && program.failed.is_empty();
    let failures = program.failed.join("\n  ");
    assert!(clean, "{status}; failed:\n  {failures}\n{}", end_of(log));
    println!("{} checks passed", program.passed.len());
}

struct Program {
    child: Child,
    passed: Vec<String>,
    failed: Vec<String>,
}

impl Program {
    /// Follows what it prints until it closes its output.
    fn watch(&mut self, cluster: &mut Cluster) {
        let output = self.child.stdout.take().expect("it is piped");
        let mut input = self.child.stdin.take().expect("it is piped");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        loop {
            let line = match lines.recv_timeout(SILENCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.failed.push(format!("silent for {SILENCE:?}"));
                    // Its end is what the caller waits for.
                    let _ = self.child.kill();
                    return;
                }
            };
            println!("  {line}");
            if line == "restart" {
                cluster.kill();
                cluster.restart();
                // A program that has ended meanwhile is seen by what it did not check.
                let _ = input.write_all(b"\n").and_then(|()| input.flush());
            } else if let Some(name) = line.strip_prefix("ok ") {
                self.passed.push(name.to_owned());
            } else if let Some(what) = line.strip_prefix("FAILED ") {
                self.failed.push(what.to_owned());
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn end_of(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}
