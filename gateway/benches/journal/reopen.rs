//! Opening after a SIGKILL with nothing in the page cache, by the size of the log.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use super::bed::{Bed, cache};

const GIB: u64 = 1 << 30;
const PARTITIONS: u64 = 100;
const RECORD_BYTES: u64 = 8 * 1024;

pub(crate) fn measure(bed: &Bed) {
    println!(
        "\nreopening after SIGKILL under load, {PARTITIONS} partitions, batches of {RECORD_BYTES} B"
    );
    for bytes in bed.pick([GIB / 8, GIB / 2], [GIB, 8 * GIB]) {
        let folder = bed.empty();
        fill_and_kill(folder.path(), [bytes, PARTITIONS, RECORD_BYTES]);
        let dropped = Bed::drop_caches();
        let [us, _, _] = numbers(&mut Bed::child("open", folder.path(), &[bytes]), "opened ");
        println!(
            "{:>8.2} GiB {:>9.1} ms  {}",
            bytes as f64 / GIB as f64,
            us as f64 / 1e3,
            cache(dropped)
        );
    }
}

/// Fills a journal and kills its process in the middle of it; its memory then, KiB.
pub(crate) fn fill_and_kill(folder: &Path, numbers: [u64; 3]) -> u64 {
    let mut child = Bed::child("fill", folder, &numbers).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    line.trim().strip_prefix("filled ").expect("it filled").parse().unwrap()
}

/// What a child says behind a word.
pub(crate) fn numbers<const N: usize>(command: &mut Command, word: &str) -> [u64; N] {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let line = printed.lines().find_map(|line| line.strip_prefix(word)).expect("an answer");
    let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().expect("so many numbers")
}
