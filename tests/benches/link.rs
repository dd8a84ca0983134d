//! `cargo xtask bench link`: what of a serial line's rate is left for items, over bit errors and over a disk that stalls.
//!
//! The firmware's node in this process, a PTY paced to 115,200 baud both ways, and a gateway; nothing is asserted.

#![expect(clippy::unwrap_used, reason = "a bench stops at what it did not expect")]

#[path = "../it/simulated.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod simulated;

use std::{path::Path, time::Duration};

use clap::Parser;
use headwater_tests::{
    gateway::Gateway,
    noise::Noise,
    random::Random,
    uart::{self, Uart},
};
use simulated::Simulated;

/// Goodput of the device link.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench link --")]
struct Options {
    /// Seconds for each measurement
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u64,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

/// A bad line flips one in so many bits.
const ONE_IN_BITS: u64 = 100_000;

fn main() {
    let options = Options::parse();
    let time = Duration::from_secs(options.seconds);
    let random = Random::new("link");
    println!(
        "bytes of item bodies that became durable, of {} B/s; aims with large blocks: 95 % clean, 80 % at 1e-5, nothing sent \
         again because of stalls",
        uart::LINE_BYTES_PER_S
    );
    // Rows of readings; a block's head takes some 14 bytes more.
    all::<570>("600 B", &random, time);
    all::<270>("300 B", &random, time);
}

fn all<const ROWS: usize>(bodies: &str, random: &Random, time: Duration) {
    let noise = Noise::new(random.fork(1), ONE_IN_BITS);
    for (name, noise) in [("clean", None), ("1e-5", Some(noise))] {
        measure::<ROWS, _>(&format!("{bodies}, {name}"), random, noise, time, |folder, port| {
            Gateway::start(folder, &uart::serial_table(port))
        });
    }
    let name = format!("{bodies}, stalls of 500 ms");
    measure::<ROWS, _>(&name, random, None, time, |_, port| {
        Simulated::stalling(port, random.clone().bits())
    });
}

/// One line of the table, with a gateway of its own.
fn measure<const ROWS: usize, G>(
    name: &str,
    random: &Random,
    noise: Option<Noise>,
    time: Duration,
    start: impl FnOnce(&Path, &Path) -> G,
) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = folder.path().join("tty");
    let mut device = Uart::<ROWS>::new(&port, random.fork(2), noise);
    let _gateway = start(folder.path(), &port);
    println!("{name:<25} {}", device.measure(time));
}
