//! Reading one of a hundred interleaved partitions, and all of them in one pass; the raw peer reads the files.

use std::{fs, io::Read, path::Path, time::Instant};

use super::{
    bed::{Bed, MIB, cache},
    reopen::{fill_and_kill, numbers},
};

const GIB: u64 = 1 << 30;
const PARTITIONS: u64 = 100;
const RECORD_BYTES: u64 = 1024;
const CHUNK: usize = 1 << 20;
/// Of each partition at a time: what is read ahead of a hundred lanes, and what a transaction takes of one.
const ROUNDS: [u64; 2] = [20 << 10, 64 << 10];

pub(crate) fn measure(bed: &Bed) {
    let bytes = bed.pick(GIB / 16, GIB);
    let folder = bed.empty();
    fill_and_kill(folder.path(), [bytes, PARTITIONS, RECORD_BYTES]);
    println!(
        "\nreading {:.2} GiB of {RECORD_BYTES} B batches, hot segments",
        bytes as f64 / GIB as f64
    );
    compare(folder.path(), bytes, PARTITIONS);
    let before = bed.medium_bytes();
    let [copied, us] = numbers(&mut Bed::child("clean", folder.path(), &[bytes]), "cleaned ");
    let medium = before.zip(bed.medium_bytes()).map_or(f64::NAN, |(from, to)| (to - from) as f64);
    let live = copied as f64 / MIB;
    println!(
        "every other partition deleted, {live:.0} MiB copied into cold segments at {:.1} MiB/s, {:.2} bytes on the medium for \
         each copied",
        live / (us as f64 / 1e6),
        medium / copied as f64
    );
    compare(folder.path(), bytes, PARTITIONS / 2);
}

/// One partition, all, and the bare files; warm and cold.
fn compare(folder: &Path, bytes: u64, partitions: u64) {
    for cold in [false, true] {
        let prepare = || cold && Bed::drop_caches();
        if !cold {
            read_files(folder);
        }
        let dropped = prepare();
        let raw = read_files(folder);
        prepare();
        let one = rate(&mut Bed::child("read-one", folder, &[bytes, PARTITIONS / 2]));
        prepare();
        let all = rate(&mut Bed::child("read-all", folder, &[bytes]));
        let rounds = |partition_bytes, together| {
            prepare();
            let numbers = [bytes, partition_bytes, together];
            rate(&mut Bed::child("read-rounds", folder, &numbers))
        };
        let by_round = ROUNDS.map(|partition_bytes| {
            let [together, alone] = [1, 0].map(|together| rounds(partition_bytes, together));
            format!("{} KiB {together:>6.1} / {alone:>6.1}", partition_bytes >> 10)
        });
        let state = if cold { cache(dropped) } else { "cache warm" };
        println!(
            "{state:<14}  files {raw:>8.1} MiB/s  all {all:>8.1} MiB/s ({:.2} of raw)  one of {partitions} {one:>8.1} MiB/s",
            all / raw
        );
        println!(
            "{:<14}  rounds over all of them, in one pass / one after the other, MiB/s: {}",
            "",
            by_round.join(", ")
        );
    }
}

fn rate(command: &mut std::process::Command) -> f64 {
    let [bytes, us] = numbers(command, "read ");
    bytes as f64 / MIB / (us as f64 / 1e6)
}

/// MiB a second of plain reads of all files of segments and cold segments.
fn read_files(folder: &Path) -> f64 {
    let (began, mut bytes) = (Instant::now(), 0);
    let mut buffer = vec![0; CHUNK];
    let folders = ["journal", "cold"].map(|name| folder.join(name));
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    for entry in entries {
        let mut file = fs::File::open(entry.unwrap().path()).unwrap();
        loop {
            match file.read(&mut buffer).unwrap() {
                0 => break,
                count => bytes += count,
            }
        }
    }
    bytes as f64 / MIB / began.elapsed().as_secs_f64()
}
