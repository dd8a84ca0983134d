//! What a process of its own does: fill until it is killed, open and tell how long that took, read.

use std::{
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use headwater::journal::{Append, Fact, Journal, Offset, PartitionId, Position, Want};

use super::fill::{self, Done, Load};

const INTERVAL: Duration = Duration::from_millis(5);
const READ_BYTES: usize = 1 << 20;
/// Bytes copied for a freed one.
const MAX_COST: f64 = 2.0;

pub(crate) fn run(mode: &str, arguments: &[String]) {
    let folder = Path::new(&arguments[0]);
    let numbers: Vec<u64> = arguments[1..].iter().map(|it| it.parse().unwrap()).collect();
    match (mode, &numbers[..]) {
        ("fill", &[bytes, partitions, record_bytes]) => {
            fill(folder, bytes, partitions as u32, record_bytes as usize);
        }
        ("open", &[bytes]) => open(folder, bytes),
        ("read-one", &[bytes, partition]) => {
            let (journal, _) = fill::open(folder, max_bytes(bytes));
            read_one(&journal, PartitionId(partition as u32));
        }
        ("read-rounds", &[bytes, partition_bytes, together]) => {
            let (journal, state) = fill::open(folder, max_bytes(bytes));
            let partitions = state.partitions().map(|(partition, _)| partition).collect();
            read_rounds(&journal, partitions, partition_bytes as usize, together == 1);
        }
        ("clean", &[bytes]) => clean(folder, max_bytes(bytes)),
        ("read-all", &[bytes]) => read_all(&fill::open(folder, max_bytes(bytes)).0),
        _ => panic!("{mode} {arguments:?}"),
    }
}

/// Room for the data and for what is kept free.
fn max_bytes(bytes: u64) -> u64 {
    bytes * 5 / 4 + (512 << 20)
}

/// Tells when so much is durable, and goes on until it is killed.
fn fill(folder: &Path, bytes: u64, partitions: u32, record_bytes: usize) {
    let (journal, _state) = fill::open(folder, max_bytes(bytes));
    let runtime = fill::runtime();
    let done = Arc::new(Done::default());
    let load = Load { appenders: 64.min(partitions), partitions, record_bytes };
    let _appenders = load.start(&runtime, &journal, &Arc::new(AtomicBool::new(false)), &done);
    while done.bytes.load(Ordering::Relaxed) < bytes {
        thread::sleep(INTERVAL);
    }
    say(&format!("filled {}", rss_kib()));
    loop {
        thread::park();
    }
}

fn open(folder: &Path, bytes: u64) {
    let began = Instant::now();
    let (journal, state) = fill::open(folder, max_bytes(bytes));
    let took = began.elapsed();
    // The index of a partition comes into memory when somebody reads it.
    let opened_kib = rss_kib();
    for (partition, ends) in state.partitions() {
        let middle = Offset(ends.log_end.0 / 2);
        let _ = journal.read(partition, middle, 1).unwrap();
    }
    say(&format!("opened {} {opened_kib} {}", took.as_micros(), rss_kib()));
}

fn read_one(journal: &Journal, partition: PartitionId) {
    let (began, mut bytes) = (Instant::now(), 0);
    let (mut next, end) = (journal.log_start(partition), journal.durable_end(partition));
    while next < end {
        let batches = journal.read(partition, next, READ_BYTES).unwrap();
        bytes += batches.iter().map(bytes::Bytes::len).sum::<usize>();
        next = Offset(next.0 + batches.len() as i64);
    }
    say(&format!("read {bytes} {}", began.elapsed().as_micros()));
}

fn read_all(journal: &Journal) {
    let (began, mut bytes) = (Instant::now(), 0);
    let mut scan = journal.scan(Position(0), []);
    loop {
        let found = scan.next(journal, READ_BYTES).unwrap();
        if found.is_empty() {
            break;
        }
        for scanned in found {
            if let headwater::journal::Scanned::Batch { bytes: batch, .. } = scanned {
                bytes += batch.len();
            }
        }
    }
    say(&format!("read {bytes} {}", began.elapsed().as_micros()));
}

/// Some of each partition at a time, as the uplink reads its lanes: all of them in one pass, or one after the other.
fn read_rounds(
    journal: &Journal,
    partitions: Vec<PartitionId>,
    partition_bytes: usize,
    together: bool,
) {
    let (began, mut bytes) = (Instant::now(), 0);
    let start = |partition| Want {
        partition,
        from: journal.log_start(partition),
        max_bytes: partition_bytes,
    };
    let mut wants: Vec<Want> = partitions.into_iter().map(start).collect();
    loop {
        wants.retain(|want| want.from < journal.durable_end(want.partition));
        if wants.is_empty() {
            break;
        }
        let answers = if together {
            journal.read_many(&wants, usize::MAX)
        } else {
            let alone = |want: &Want| journal.read(want.partition, want.from, want.max_bytes);
            wants.iter().map(alone).collect()
        };
        for (want, answer) in wants.iter_mut().zip(answers) {
            let batches = answer.unwrap();
            bytes += batches.iter().map(bytes::Bytes::len).sum::<usize>();
            want.from.0 += batches.len() as i64;
        }
    }
    say(&format!("read {bytes} {}", began.elapsed().as_micros()));
}

/// Deletes every other partition, and copies what lives on out of all segments that may go.
fn clean(folder: &Path, max_bytes: u64) {
    let (journal, state) = fill::open(folder, max_bytes);
    let dead = state.partitions().filter(|(partition, _)| partition.0 % 2 == 1);
    let facts = dead.map(|(partition, ends)| Fact::log_start(partition, ends.log_end)).collect();
    let append = Append { batches: Vec::new(), facts };
    let permit = loop {
        match journal.admit(append.encoded_len()) {
            Ok(permit) => break permit,
            Err(_) => thread::sleep(INTERVAL),
        }
    };
    fill::runtime().block_on(journal.append(permit, append)).unwrap();
    let began = Instant::now();
    // One byte is copied for one that is freed.
    while journal.clean(MAX_COST).unwrap().is_some() {}
    let status = journal.status();
    say(&format!("cleaned {} {}", status.cleaner_copied_bytes, began.elapsed().as_micros()));
    journal.close().unwrap();
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
