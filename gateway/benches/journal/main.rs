//! `cargo xtask bench journal`: what the journal costs, as ratios to the bare disk in the same run.
//!
//! The peer is a loop of pwrite and fdatasync on a preallocated file of the same file system, with the same
//! bytes per sync; runs of both alternate, medians count. Nothing is asserted.

#![expect(clippy::unwrap_used, reason = "a bench stops at what it did not expect")]

mod append;
mod bed;
mod child;
mod fill;
mod memory;
mod raw;
mod reading;
mod reopen;

use std::path::PathBuf;

use bed::Bed;
use clap::Parser;

/// What the journal costs, beside the bare disk.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench journal --")]
struct Options {
    /// Small sizes and short runs: a minute or two in all
    #[arg(long)]
    quick: bool,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Folder on the file system to measure; default: the target folder's
    #[arg(long, value_name = "DIR", default_value = env!("CARGO_TARGET_TMPDIR"))]
    folder: PathBuf,
    /// What this process is in the service of another one
    #[arg(long, hide = true, value_delimiter = ' ', num_args = 1..)]
    child: Vec<String>,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

/// Parts of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Durable appends, and what reaches the medium
    Append,
    /// Opening after a kill with nothing in the page cache
    Reopen,
    /// Memory with a thousand partitions
    Memory,
    /// One of a hundred partitions, and all of them
    Read,
}

fn main() {
    let options = Options::parse();
    if let [mode, arguments @ ..] = &options.child[..] {
        // As the gateway does.
        headwater::allocator::limit();
        return child::run(mode, arguments);
    }
    let bed = Bed::new(&options.folder, options.quick);
    bed.describe();
    let wants = |part| options.only.is_empty() || options.only.contains(&part);
    if wants(Part::Append) {
        append::measure(&bed);
    }
    if wants(Part::Reopen) {
        reopen::measure(&bed);
    }
    if wants(Part::Memory) {
        memory::measure(&bed);
    }
    if wants(Part::Read) {
        reading::measure(&bed);
    }
    bed.describe();
}
