//! The ledger as a fixture: started beside a gateway, asked for its verdict in the end.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{environment, gateway::Gateway, process::Process};

/// For the producers to finish what they began, and the comparison.
const VERDICT: Duration = Duration::from_secs(120);

/// A running ledger.
#[derive(Debug)]
pub struct Ledger {
    process: Process,
    until: PathBuf,
}

impl Ledger {
    /// Starts it on a topic; `options` are more of its options.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(gateway: &Gateway, topic: &str, seed: u64, options: &[&str]) -> Self {
        let file = |name: &str| gateway.folder().join(format!("{topic}-{name}"));
        let until = file("enough");
        let mut command = Command::new(environment::binary("headwater-ledger"));
        command.args(["--broker", &gateway.kafka.to_string(), "--topic", topic]).args(options);
        command.arg("--books").arg(file("books")).arg("--until").arg(&until);
        command.env("HEADWATER_SEED", seed.to_string());
        let process = Process::start("ledger", &mut command, &file("ledger.log"));
        Self { process, until }
    }

    /// The folder of its notes.
    #[must_use]
    pub fn books(gateway: &Gateway, topic: &str) -> PathBuf {
        Path::new(gateway.folder()).join(format!("{topic}-books"))
    }

    /// That it goes on: it ends by itself only when it cannot keep its notes.
    ///
    /// # Panics
    /// If it has ended.
    pub fn assert_running(&mut self) {
        assert!(self.process.is_running(), "the ledger ended: {}", self.process.output());
    }

    /// Lets the producers finish and compares: acknowledged records, and all that was found, which is without defects.
    ///
    /// # Panics
    /// If there are defects.
    #[must_use]
    pub fn verdict(mut self) -> (u64, String) {
        fs::write(&self.until, "").expect("the test's folder is writable");
        let status = self.process.wait(VERDICT);
        let output = self.process.output();
        assert!(status.success(), "the ledger ended with {status}: {output}");
        let line = output.lines().find_map(|line| line.strip_prefix("verdict: "));
        let line = line.expect("a verdict").to_owned();
        let acknowledged = line.split(' ').next().and_then(|count| count.parse().ok());
        (acknowledged.expect("a number first"), line)
    }
}
