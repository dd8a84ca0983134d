//! `cargo xtask bench`: measurements, printed and never asserted.

mod codec;
mod journal;
mod kafka;
mod link;
mod smoke;

use anyhow::Result;

/// Benches by name.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    /// Idle memory and time from exec to the first acknowledged produce, beside Mosquitto in the same run
    #[command(after_help = "Example:\n  cargo xtask bench smoke")]
    Smoke,
    /// Bytes on the line for a reading, beside other formats: a simulated day of climate, and recordings of two wearables
    #[command(after_help = "Example:\n  cargo xtask bench codec")]
    Codec,
    /// Items over a serial line as a share of its rate: clean, with bit errors, and with a disk that stalls
    Link(link::Options),
    /// The journal as ratios to pwrite and fdatasync on the same file system
    Journal(journal::Options),
    /// Produce, consume, latency, memory and CPU beside real Apache Kafka, as ratios
    Kafka(kafka::Options),
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Smoke => smoke::run(),
        Bench::Codec => codec::run(),
        Bench::Link(options) => link::run(options),
        Bench::Journal(options) => journal::run(options),
        Bench::Kafka(options) => kafka::run(options),
    }
}
