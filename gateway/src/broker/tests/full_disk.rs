//! A disk that is really full: a small file system of its own, filled by the journal and by somebody else, under load.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{BROKER_OPTIONS, one, partition_of, records};
use crate::{
    broker::{AppendError, Broker},
    journal::{self, AdmitError, JournalOptions, Offset, PartitionId, RealDisk},
    record::BatchBuilder,
};

const PRODUCERS: u64 = 4;
const LIMIT: Duration = Duration::from_secs(60);

/// A file system of 32 MiB in memory, gone when dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    /// None where this process may not mount.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"]).arg(folder.path());
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(folder)),
            Ok(output) => {
                eprintln!("skipped: mount: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("skipped: mount: {error}");
                None
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Takes every byte that is free, as a log file of somebody else does.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("foreign");
        let mut file = File::create(&path).expect("an empty file");
        for length in [1 << 16, 4096, 1] {
            while file.write_all(&vec![1; length]).is_ok() {}
        }
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: an assertion that failed may have left files open.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

async fn open(data: &Path) -> Arc<Broker> {
    // More than there is: the disk is full before the budget is.
    let options = JournalOptions {
        max_bytes: Some(64 << 20),
        segment_bytes: Some(1 << 20),
        space_retry: Duration::from_millis(20),
        ..JournalOptions::default()
    };
    let disk = RealDisk::open(data).expect("no other journal is open there");
    let (journal, state) = journal::open(disk, &options).expect("opens on a full disk");
    Broker::open(journal, state, BROKER_OPTIONS).await.expect("opens on a full disk")
}

/// What the producers came to.
#[derive(Debug, Default)]
struct Tally {
    acked: [AtomicU64; PRODUCERS as usize],
    refused: AtomicU64,
    stop: AtomicBool,
}

impl Tally {
    fn acked(&self) -> u64 {
        self.acked.iter().map(|acked| acked.load(Ordering::Relaxed)).sum()
    }

    /// Waits until so many more are acknowledged.
    async fn progress(&self, more: u64, broker: &Broker, when: &str) {
        let (from, deadline) = (self.acked(), Instant::now() + LIMIT);
        while self.acked() < from + more {
            let (acked, status) = (self.acked() - from, broker.journal().status());
            assert!(Instant::now() < deadline, "{when}: {acked} of {more} more, {status:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until nothing was acknowledged for half a second, but tried.
    async fn standstill(&self) {
        let deadline = Instant::now() + LIMIT;
        let mut seen = (self.acked(), Instant::now(), self.refused.load(Ordering::Relaxed));
        loop {
            assert!(Instant::now() < deadline, "never full");
            sleep(Duration::from_millis(20)).await;
            let refused = self.refused.load(Ordering::Relaxed);
            if self.acked() != seen.0 {
                seen = (self.acked(), Instant::now(), refused);
            } else if seen.1.elapsed() > Duration::from_millis(500) && refused > seen.2 + 10 {
                return;
            }
        }
    }
}

/// Appends numbered records of 20 kB, and tries again as a producer does after a retriable error.
async fn produce(broker: Arc<Broker>, partition: PartitionId, number: u64, tally: Arc<Tally>) {
    let acked = &tally.acked[usize::try_from(number).expect("few")];
    while !tally.stop.load(Ordering::Relaxed) {
        let mut value = vec![0; 20_000];
        value[..8].copy_from_slice(&number.to_be_bytes());
        value[8..16].copy_from_slice(&acked.load(Ordering::Relaxed).to_be_bytes());
        let mut builder = BatchBuilder::default();
        builder.push(0, None, Some(&value), &[]);
        match broker.append(one(partition, builder.finish().expect("not empty"))) {
            Ok(commit) => {
                commit.durable().await.expect("a full disk poisons nothing");
                acked.fetch_add(1, Ordering::Relaxed);
            }
            Err(AppendError::Journal(AdmitError::Full)) => {
                tally.refused.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(2)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn start(broker: &Arc<Broker>, partition: PartitionId, tally: &Arc<Tally>) -> JoinSet<()> {
    tally.stop.store(false, Ordering::Relaxed);
    let mut producers = JoinSet::new();
    for number in 0..PRODUCERS {
        producers.spawn(produce(Arc::clone(broker), partition, number, Arc::clone(tally)));
    }
    producers
}

/// Everything that is there is in order for each producer, ends with what was acknowledged last, and is not doubled.
async fn consume(broker: &Broker, partition: PartitionId, tally: &Tally) -> u64 {
    let acked = || tally.acked.each_ref().map(|acked| acked.load(Ordering::Relaxed));
    let before = acked();
    let mut next: [Option<u64>; PRODUCERS as usize] = [None; PRODUCERS as usize];
    let found = records(broker, partition).await;
    for record in &found {
        let value = record.value.as_deref().expect("a value");
        let number = |at: usize| u64::from_be_bytes(value[at..at + 8].try_into().expect("8 bytes"));
        let next = &mut next[usize::try_from(number(0)).expect("few")];
        assert_eq!(number(8), next.unwrap_or(number(8)), "in order, none missing, none doubled");
        *next = Some(number(8) + 1);
    }
    for (next, acked) in next.iter().zip(before) {
        assert!(next.unwrap_or(acked) >= acked, "acknowledged and not there");
    }
    found.len() as u64
}

#[tokio::test]
async fn a_full_disk_keeps_writers_waiting_and_nothing_else() {
    let Some(mount) = Mount::new() else { return };
    let mut broker = open(&mount.data()).await;
    let mut partition = partition_of(&broker, "t").await;
    let tally = Arc::new(Tally::default());
    let mut producers = start(&broker, partition, &tally);
    tally.progress(20, &broker, "at first").await;

    // Somebody else takes all, and gives it back.
    let foreign = mount.fill();
    tally.standstill().await;
    assert!(consume(&broker, partition, &tally).await > 0, "consumers go on");
    std::fs::remove_file(&foreign).expect("there");
    tally.progress(50, &broker, "the other file is gone").await;

    // All of it is our own.
    tally.standstill().await;
    let there = consume(&broker, partition, &tally).await;
    assert!(there > 1000, "{there} records of 20 kB on 32 MiB");
    let keep_from = Offset(broker.ends(partition).durable.0 - 100);
    broker.delete_records(partition, Some(keep_from)).await.expect("works on a full disk");
    tally.progress(200, &broker, "records were deleted").await;

    // Full again, and then stopped and started, with not a byte free.
    tally.standstill().await;
    tally.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = producers.join_next().await {
        ended.expect("producers see nothing but retriable errors");
    }
    assert!(broker.journal().status().poisoned.is_none());
    for round in 0..3 {
        let expected = consume(&broker, partition, &tally).await;
        drop(broker);
        mount.fill();
        broker = open(&mount.data()).await;
        partition = partition_of(&broker, "t").await;
        assert_eq!(consume(&broker, partition, &tally).await, expected, "{round}");
    }
    producers = start(&broker, partition, &tally);
    broker.delete_records(partition, None).await.expect("works on a full disk");
    tally.progress(200, &broker, "after restarts").await;
    tally.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = producers.join_next().await {
        ended.expect("producers see nothing but retriable errors");
    }
    consume(&broker, partition, &tally).await;
    assert!(broker.journal().status().poisoned.is_none());
}
