//! Durable appends against the bare disk at equal bytes per sync, and what reaches the medium for each byte.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    bed::{Bed, MIB, median},
    fill::{self, Done, Load},
    raw,
};

const BLOCK: u64 = 4096;
const MAX_BYTES: u64 = 8 << 30;
const WARM_UP: Duration = Duration::from_millis(300);
const APPENDERS: [u32; 3] = [1, 16, 256];
const RECORD_BYTES: [usize; 3] = [100, 1024, 100 * 1024];

/// One run of the journal.
struct Run {
    appends_per_s: f64,
    user_bytes_per_s: f64,
    syncs_per_s: f64,
    bytes_per_sync: u64,
    /// Bytes on the medium for each byte of a batch.
    medium: Option<f64>,
}

pub(crate) fn measure(bed: &Bed) {
    println!(
        "\ndurable appends; raw = pwrite + fdatasync of the same bytes per sync; medians of paired runs"
    );
    println!(
        "{:>9} {:>8} {:>11} {:>9} {:>10} {:>10} {:>9} {:>11} {:>11}",
        "appenders",
        "record",
        "appends/s",
        "MiB/s",
        "B/sync",
        "syncs/s",
        "to raw",
        "medium/user",
        "raw medium"
    );
    let rounds = bed.pick(1, 5);
    let life = bed.pick(Duration::from_millis(700), Duration::from_secs(2));
    for appenders in APPENDERS {
        for record_bytes in RECORD_BYTES {
            let load = Load { appenders, partitions: appenders, record_bytes };
            let mut pairs = Vec::new();
            for _ in 0..rounds {
                let run = journal(bed, load, life);
                let before = bed.medium_bytes();
                let folder = bed.empty();
                let raw = raw::syncs_per_s(folder.path(), run.bytes_per_sync as usize, life);
                let after = bed.medium_bytes();
                let written = raw * life.as_secs_f64() * run.bytes_per_sync as f64;
                let medium =
                    before.zip(after).map(|(before, after)| (after - before) as f64 / written);
                pairs.push((run, raw, medium));
            }
            print(load, &pairs);
        }
    }
}

fn print(load: Load, pairs: &[(Run, f64, Option<f64>)]) {
    let of =
        |number: fn(&(Run, f64, Option<f64>)) -> f64| median(pairs.iter().map(number).collect());
    println!(
        "{:>9} {:>8} {:>11.0} {:>9.1} {:>10.0} {:>10.0} {:>9.2} {:>11.2} {:>11.2}",
        load.appenders,
        load.record_bytes,
        of(|(run, ..)| run.appends_per_s),
        of(|(run, ..)| run.user_bytes_per_s / MIB),
        of(|(run, ..)| run.bytes_per_sync as f64),
        of(|(run, ..)| run.syncs_per_s),
        of(|(run, raw, _)| run.syncs_per_s / raw),
        of(|(run, ..)| run.medium.unwrap_or(f64::NAN)),
        of(|(.., medium)| medium.unwrap_or(f64::NAN)),
    );
}

fn journal(bed: &Bed, load: Load, life: Duration) -> Run {
    let folder = bed.empty();
    let (journal, _state) = fill::open(folder.path(), MAX_BYTES);
    let runtime = fill::runtime();
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(Done::default());
    let appenders = load.start(&runtime, &journal, &stop, &done);
    thread::sleep(WARM_UP);
    let counts = || {
        let status = journal.status();
        let (appends, bytes) =
            (done.appends.load(Ordering::Relaxed), done.bytes.load(Ordering::Relaxed));
        [appends, bytes, status.frames, status.written_bytes]
    };
    let medium = bed.medium_bytes();
    let (began, before) = (Instant::now(), counts());
    thread::sleep(life);
    let (took, after) = (began.elapsed().as_secs_f64(), counts());
    stop.store(true, Ordering::Relaxed);
    for appender in appenders {
        runtime.block_on(appender).unwrap();
    }
    let last = counts();
    // The counter is read when all is written: what was appended until then counts with it.
    let medium = medium
        .zip(bed.medium_bytes())
        .map(|(from, to)| (to - from) as f64 / (last[1] - before[1]).max(1) as f64);
    journal.close().unwrap();
    let [appends, bytes, frames, written] = [0, 1, 2, 3].map(|index| after[index] - before[index]);
    Run {
        appends_per_s: appends as f64 / took,
        user_bytes_per_s: bytes as f64 / took,
        syncs_per_s: frames as f64 / took,
        bytes_per_sync: (written / frames.max(1)).next_multiple_of(BLOCK).max(BLOCK),
        medium,
    }
}
