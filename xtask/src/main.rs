//! `cargo xtask`: everything that is done to this repository, one verb each.

mod bench;
mod board;
mod soak;
mod test;
mod tidy;
mod workspace;

use anyhow::Result;
use clap::Parser;

/// Everything that is done to this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", after_help = "Example:\n  cargo xtask test --quick")]
enum Xtask {
    /// Install what is missing, then run every check and test
    Test(test::Options),
    /// Run the full counts of a proof
    Soak(soak::Options),
    /// Measure
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Build, measure and run the firmware boards
    #[command(subcommand)]
    Board(board::Board),
    /// Check the house rules that no compiler checks
    Tidy,
}

fn main() -> Result<()> {
    match Xtask::parse() {
        Xtask::Test(options) => test::run(&options),
        Xtask::Soak(options) => soak::run(&options),
        Xtask::Bench(bench) => bench::run(&bench),
        Xtask::Board(board) => board::run(&board),
        Xtask::Tidy => tidy::run(),
    }
}
