//! `cargo xtask test`: provisioning, checks, unit tests, boards, black-box tests, one count at the end.

mod provision;
mod tally;

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
pub(crate) use provision::{for_benches as provision_for_benches, kafka_libs, recordings};
pub(crate) use tally::Tally;

use crate::{board, tidy, workspace};

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo xtask test --quick\n  cargo xtask test --only mosquitto\n  \
                  cargo xtask test --against kafka"
)]
pub(crate) struct Options {
    /// Only what takes under five minutes on a warm tree: no Java, no real Kafka, no demo
    #[arg(long)]
    quick: bool,
    /// Only the black-box tests whose name contains this; no checks, no unit tests
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Who serves the unmodified clients; with `kafka`, only their tests run, and all of them have to pass
    #[arg(long, value_enum, default_value = "headwater")]
    against: Against,
}

/// Who serves the matrix of unmodified clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Against {
    /// What is built here
    Headwater,
    /// A real Apache Kafka: what the tests say has to be true of it
    Kafka,
}

/// Tests that describe Kafka.
const MATRIX: &str = "clients::";
/// Each has a Kafka of its own, which takes half a gigabyte.
const KAFKAS_AT_ONCE: usize = 3;

/// Black-box tests that need Java, Node, Go or minutes; `--quick` leaves them out.
const SLOW: [&str; 7] = [
    "central_kafka",
    "clients::go",
    "clients::groups",
    "clients::java",
    "clients::node",
    "demo",
    "differential_kafka",
];

/// How much the enumerations of faults do, as a multiple of a normal run.
const EFFORT: &str = "HEADWATER_SOAK";
const QUICK_EFFORT: &str = "0.1";

/// Tells the tests who serves the matrix.
const AGAINST: &str = "HEADWATER_AGAINST";

/// Everything is built under this profile (root manifest).
pub(crate) const PROFILE: &str = "ci";

pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    // Packages and jars come over the network while the compiler has the processors.
    let quick = options.quick;
    let provisioning = thread::spawn(move || provision::provision(quick));
    let mut tally = Tally::default();
    let mut stages = Vec::new();
    let mut stage = |name: &'static str, since: Instant| stages.push((name, since.elapsed()));

    if options.only.is_none() && options.against == Against::Headwater {
        let since = Instant::now();
        checks(&mut tally)?;
        stage("format and lints", since);
        let since = Instant::now();
        unit_tests(options, &mut tally)?;
        stage("unit tests", since);
    }

    let since = Instant::now();
    if options.against == Against::Headwater {
        build(options, &mut tally)?;
    }
    stage("builds", since);

    let since = Instant::now();
    provisioning.join().map_err(|_| anyhow::anyhow!("provisioning panicked"))??;
    stage("waiting for packages", since);

    let since = Instant::now();
    let mut command = black_box(options);
    if options.against == Against::Headwater {
        // Builds them, too.
        board::size().context("the boards' images do not build")?;
        command.env("HEADWATER_BOARDS", board::images());
    }
    stage("boards", since);

    let since = Instant::now();
    tally.run("black-box tests", &mut command)?;
    stage("black-box tests", since);
    report(&tally, &stages, started.elapsed())
}

fn checks(tally: &mut Tally) -> Result<()> {
    tally.check("cargo fmt", &mut workspace::cargo(&["fmt", "--all", "--check"]))?;
    for mut check in board::format_checks()? {
        tally.check("cargo fmt of a board", &mut check)?;
    }
    let targets =
        ["clippy", "--quiet", "--profile", PROFILE, "--workspace", "--all-targets", "--test", "it"];
    let mut clippy = workspace::cargo(&targets);
    tally.check("cargo clippy", clippy.args(["--", "--deny", "warnings"]))?;
    match tidy::run() {
        Ok(()) => tally.passed += 1,
        Err(error) => {
            println!("{error:#}");
            tally.fail("tidy");
        }
    }
    Ok(())
}

/// Unit tests and documentation examples of every crate; the black-box tests are not among them.
fn unit_tests(options: &Options, tally: &mut Tally) -> Result<()> {
    let mut tests =
        workspace::cargo(&["test", "--no-fail-fast", "--profile", PROFILE, "--workspace"]);
    if options.quick {
        tests.env(EFFORT, QUICK_EFFORT);
    }
    tally.run("unit tests", &mut tests)
}

fn build(options: &Options, tally: &mut Tally) -> Result<()> {
    let bins = ["build", "--profile", PROFILE, "--workspace", "--bins"];
    if !workspace::cargo(&bins).status()?.success() {
        bail!("the workspace does not build");
    }
    if !options.quick && options.only.as_deref().is_none_or(|only| "demo".contains(only)) {
        let release = ["build", "--release", "--workspace", "--bins"];
        tally.check("release build", &mut workspace::cargo(&release))?;
    }
    Ok(())
}

fn black_box(options: &Options) -> Command {
    let arguments = ["test", "--profile", PROFILE, "--workspace", "--test", "it", "--"];
    let mut command = workspace::cargo(&arguments);
    match options.against {
        Against::Headwater => {
            command.arg("--test-threads=6");
            command.args(&options.only);
        }
        Against::Kafka => {
            command.arg(format!("--test-threads={KAFKAS_AT_ONCE}")).env(AGAINST, "kafka");
            command.arg(options.only.as_deref().unwrap_or(MATRIX));
        }
    }
    if options.quick {
        command.args(SLOW.iter().flat_map(|name| ["--skip", name]));
    }
    test_environment(&mut command);
    command
}

/// Tells the tests where everything is but the boards' images.
pub(crate) fn test_environment(command: &mut Command) {
    command.env("HEADWATER_BIN_DIR", workspace::target().join(PROFILE));
    provision::test_environment(command);
}

fn report(tally: &Tally, stages: &[(&str, Duration)], total: Duration) -> Result<()> {
    println!();
    for (name, took) in stages {
        println!("{:>7.1} s  {name}", took.as_secs_f64());
    }
    println!("{:>7.1} s  in all", total.as_secs_f64());
    for name in &tally.failures {
        println!("failed: {name}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        bail!("the tests failed");
    }
    Ok(())
}
