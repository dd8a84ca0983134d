//! `cargo xtask bench codec`: bytes on the line for a reading, beside other formats, at several lingers.
//!
//! Headwater's are whole frames, delimiters included; the others are bare payloads of the same readings, batched likewise,
//! without any framing, checksum or sequence. Nothing is asserted but that blocks decode to what went in.

#![expect(clippy::unwrap_used, reason = "a bench stops at what it did not expect")]

mod link;
mod others;
mod sets;

use std::path::PathBuf;

use clap::Parser;
use sets::Set;

/// Bytes for a reading.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench codec --")]
struct Options {
    /// Folder with the recordings
    #[arg(long, value_name = "DIR")]
    recordings: PathBuf,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    println!(
        "{:<34} {:>6} {:>9} {:>7} {:>8} {:>7} {:>7} {:>9} {:>9} {:>9} {:>9}",
        "bytes a reading",
        "linger",
        "Headwater",
        "codes",
        "entropy",
        "ratio",
        "varint",
        "CBOR",
        "SenML",
        "Sparkplug",
        "zstd JSON"
    );
    for set in sets::all(&options.recordings) {
        match set.rows.first().map_or(0, Vec::len) {
            3 => print::<3>(&set),
            9 => print::<9>(&set),
            other => panic!("{other} channels"),
        }
    }
    println!(
        "\nentropy: of the differences of each channel over the whole set, order 0; ratio: of the codes, without block heads, to it.\n\
         Headwater and varint: with block head, item head, frame, CRC and delimiters; the others: the payload alone."
    );
}

fn print<const CHANNELS: usize>(set: &Set) {
    let entropy = set.entropy_bytes();
    for &linger_s in set.lingers_s {
        let per_block = (linger_s * set.hz) as usize;
        let sent = link::packed::<CHANNELS>(set, per_block);
        let per = |bytes: usize| bytes as f64 / set.rows.len() as f64;
        println!(
            "{:<34} {:>4} s {:>9.3} {:>7.3} {:>8.3} {:>7.2} {:>7.2} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
            set.name,
            linger_s,
            per(sent.frames),
            per(sent.codes),
            entropy,
            per(sent.codes) / entropy,
            per(link::varint_deltas(set, per_block)),
            per(others::sum(set, per_block, others::cbor)),
            per(others::sum(set, per_block, others::senml_json)),
            per(others::sum(set, per_block, others::sparkplug_b)),
            per(others::sum(set, per_block, others::zstd_of_json)),
        );
    }
}
