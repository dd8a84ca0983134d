//! `cargo xtask soak NAME`: the full counts of a proof, which a normal test run only samples. One summary line each.
//!
//! A new soak is an entry of [`SOAKS`]. What it runs are the tests of the normal run, told by the environment how much
//! more to do; they print what was shown in lines that begin with `shown:`.

mod fuzz;
mod step;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use step::{Outcome, Step};

/// One soak.
struct Soak {
    name: &'static str,
    /// What it does, in a line of the help.
    about: &'static str,
    steps: &'static [Step],
}

const SOAKS: &[Soak] = &[
    Soak {
        name: "journal-crash",
        about: "J1: ten times the crash images and nested paths of the normal run",
        steps: &[
            Step::Unit { filter: "journal::tests::crash::", times: 10 },
            Step::Unit { filter: "journal::tests::nested::", times: 10 },
        ],
    },
    Soak {
        name: "journal-kill",
        about: "J5: 200 SIGKILLs of the gateway under Kafka load, judged by a ledger process",
        steps: &[Step::BlackBox { filter: "kills::" }],
    },
    Soak {
        name: "journal-fuzz",
        about: "J8: every decoder of the journal for 60 s each, coverage-guided where cargo fuzz is installed",
        steps: &[Step::Fuzz { room: "journal", seconds: 60 }],
    },
    Soak {
        name: "kafka-fuzz",
        about: "any bytes as a Kafka request, decoded and handled, for 300 s, coverage-guided where cargo fuzz is installed",
        steps: &[Step::Fuzz { room: "kafka", seconds: 300 }],
    },
    Soak {
        name: "journal-card",
        about: "J9: the whole gateway on an SD card for 60 s",
        steps: &[Step::BlackBox { filter: "card::" }],
    },
    Soak {
        name: "link",
        about: "D1, D3: 1,000,000 seeds of device and host over a faulty line; 10,000,000 double bit errors",
        steps: &[
            Step::Link {
                test: "simulation",
                filter: "every_reading",
                count: ("HEADWATER_SEEDS", "1000000"),
            },
            Step::Link {
                test: "bit_errors",
                filter: "bit_errors",
                count: ("HEADWATER_BIT_ERRORS", "10000000"),
            },
        ],
    },
    Soak {
        name: "link-fuzz",
        about: "D5: both ends of the link and its items for 60 s each, coverage-guided where cargo fuzz is installed",
        steps: &[Step::Fuzz { room: "link", seconds: 60 }],
    },
    Soak {
        name: "kafka-groups",
        about: "K3: 20 members of a group come, go and crash for 60 s, over 6 SIGKILLs of the broker",
        steps: &[Step::BlackBox { filter: "clients::groups::" }],
    },
    Soak {
        name: "link-fleet",
        about: "D6: 1,000 simulated devices for 60 s over two SIGKILLs of the gateway: ledgers equal the log",
        steps: &[Step::BlackBox { filter: "fleet::" }],
    },
    Soak {
        name: "link-board",
        about: "the board over a line with bit errors, 20 SIGKILLs of the gateway and a long absence",
        steps: &[Step::BlackBox { filter: "board::board_readings_survive_bit_errors" }],
    },
    Soak {
        name: "board-microbit",
        about: "the micro:bit over 20 power cuts: no boot repeats, what was acknowledged is in the log",
        steps: &[Step::BlackBox { filter: "microbit::microbit_never_repeats" }],
    },
    Soak {
        name: "link-client",
        about: "a device client made from the link's specification delivers over 20 SIGKILLs of the gateway",
        steps: &[Step::BlackBox { filter: "link_client::" }],
    },
];

/// Options of `cargo xtask soak`.
#[derive(Debug, clap::Args)]
#[command(after_help = help())]
pub(crate) struct Options {
    /// One of the names below, or `all`
    name: String,
    /// Seed of everything that is drawn; default: from the clock, and printed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

fn help() -> String {
    let mut help = String::from("Soaks:\n");
    for soak in SOAKS {
        help += &format!("  {:<16} {}\n", soak.name, soak.about);
    }
    help + "\nExample:\n  cargo xtask soak journal-kill --seed 7"
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let chosen: Vec<&Soak> =
        SOAKS.iter().filter(|soak| options.name == "all" || soak.name == options.name).collect();
    if chosen.is_empty() {
        bail!("no soak is called {:?}\n\n{}", options.name, help());
    }
    let seed = options.seed.unwrap_or_else(seed_of_the_clock);
    if chosen.iter().any(|soak| soak.steps.iter().any(Step::starts_programs)) {
        step::build()?;
    }
    let lines: Vec<(String, bool)> =
        chosen.iter().map(|soak| soak.run(seed)).collect::<Result<_>>()?;
    println!();
    for (line, _) in &lines {
        println!("{line}");
    }
    if lines.iter().any(|(_, passed)| !passed) {
        bail!("the soak failed");
    }
    Ok(())
}

impl Soak {
    /// Runs all steps; gives the summary, and whether all is well.
    fn run(&self, seed: u64) -> Result<(String, bool)> {
        println!("{}: {} (seed {seed})", self.name, self.about);
        let started = Instant::now();
        let mut outcome = Outcome::default();
        for step in self.steps {
            outcome.add(step.run(seed)?);
        }
        let took = started.elapsed().as_secs_f64();
        Ok((self.summary(&outcome, took, seed), outcome.has_passed()))
    }

    fn summary(&self, outcome: &Outcome, took_s: f64, seed: u64) -> String {
        let verdict = if outcome.has_passed() { "ok" } else { "FAILED" };
        let counts = format!("{} passed, {} failed", outcome.passed, outcome.failed);
        let shown = outcome.shown.join("; ");
        let gap = if shown.is_empty() { "" } else { "; " };
        format!("{}: {verdict}; {counts}; {took_s:.0} s; seed {seed}{gap}{shown}", self.name)
    }
}

fn seed_of_the_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_are_in_the_help() {
        let help = help();
        for (number, soak) in SOAKS.iter().enumerate() {
            assert!(help.contains(soak.name) && !soak.steps.is_empty(), "{}", soak.name);
            assert!(SOAKS[..number].iter().all(|other| other.name != soak.name), "{}", soak.name);
        }
    }

    #[test]
    fn a_soak_in_which_nothing_ran_has_failed() {
        let soak = &SOAKS[0];
        let line = soak.summary(&Outcome::default(), 1.0, 7);
        assert_eq!(line, "journal-crash: FAILED; 0 passed, 0 failed; 1 s; seed 7");
        let outcome = Outcome { passed: 2, failed: 0, shown: vec!["5 kills".into()] };
        let line = soak.summary(&outcome, 1.0, 7);
        assert_eq!(line, "journal-crash: ok; 2 passed, 0 failed; 1 s; seed 7; 5 kills");
    }
}
