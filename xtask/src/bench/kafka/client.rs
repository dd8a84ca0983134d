//! The bench's client: `client.c`, compiled for the run and kept on the second core.

use std::{net::SocketAddr, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::broker::pinned;
use crate::workspace;

/// The core that clients run on; the broker has the other one.
const CORE: usize = 1;

/// The compiled client.
#[derive(Debug)]
pub(super) struct Client {
    program: PathBuf,
}

/// What it reports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) records: u64,
    pub(super) seconds: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// Of the client itself.
    pub(super) cpu_s: f64,
}

impl Outcome {
    pub(super) fn per_second(&self) -> f64 {
        self.records as f64 / self.seconds
    }

    /// How much of its core the client had: near 1 it is the client that is measured.
    pub(super) fn busy(&self) -> f64 {
        self.cpu_s / self.seconds
    }
}

impl Client {
    /// Compiles it. Fails where there is no C compiler or no librdkafka.
    pub(super) fn build() -> Result<Self> {
        let program = workspace::target().join("bench-kafka-client");
        let source = workspace::root().join("xtask/src/bench/kafka/client.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-o"]).arg(&program).arg(source).args(["-lrdkafka", "-lpthread"]);
        if !compiler.status().context("cannot start cc")?.success() {
            bail!("the client does not compile: is librdkafka-dev installed?");
        }
        Ok(Self { program })
    }

    /// Produces for a while, as fast as possible or at a rate of all producers together.
    pub(super) fn produce(
        &self,
        broker: SocketAddr,
        topic: &str,
        record_bytes: usize,
        producers: usize,
        seconds: u64,
        per_second: Option<f64>,
    ) -> Result<Outcome> {
        let mut arguments = vec![
            "produce".into(),
            broker.to_string(),
            topic.into(),
            record_bytes.to_string(),
            producers.to_string(),
            seconds.to_string(),
        ];
        arguments.extend(per_second.map(|it| format!("{it:.0}")));
        self.run(&arguments)
    }

    /// Reads so many records from the beginning.
    pub(super) fn consume(&self, broker: SocketAddr, topic: &str, records: u64) -> Result<Outcome> {
        self.run(&["consume".into(), broker.to_string(), topic.into(), records.to_string()])
    }

    /// From a producer to a consumer beside it, at a steady rate.
    pub(super) fn end_to_end(
        &self,
        broker: SocketAddr,
        topic: &str,
        record_bytes: usize,
        per_second: u64,
        seconds: u64,
    ) -> Result<Outcome> {
        let numbers = [record_bytes as u64, per_second, seconds].map(|it| it.to_string());
        let mut arguments = vec!["end-to-end".into(), broker.to_string(), topic.into()];
        arguments.extend(numbers);
        self.run(&arguments)
    }

    fn run(&self, arguments: &[String]) -> Result<Outcome> {
        let output = pinned(CORE, &self.program).args(arguments).output()?;
        if !output.status.success() {
            bail!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let number = |key: &str| report[key].as_f64().with_context(|| format!("{key}: {report}"));
        if number("refused")? > 0.0 {
            bail!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(Outcome {
            records: number("records")? as u64,
            seconds: number("seconds")?,
            p50_us: number("p50_us")?,
            p99_us: number("p99_us")?,
            cpu_s: number("cpu_s")?,
        })
    }
}
