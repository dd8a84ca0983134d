//! Appenders: so many at once, each with a partition and batches of one length.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use headwater::{
    journal::{
        self, Append, BatchEntry, Journal, JournalOptions, Offset, PartitionId, RealDisk, State,
    },
    record::{Batch, BatchBuilder},
};

/// Space is prepared in the background; an appender that finds none asks again.
const RETRY: Duration = Duration::from_micros(500);

/// Who appends what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) appenders: u32,
    pub(crate) partitions: u32,
    pub(crate) record_bytes: usize,
}

/// What was appended and is durable.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) appends: AtomicU64,
    /// Bytes of batches.
    pub(crate) bytes: AtomicU64,
}

pub(crate) fn open(folder: &Path, max_bytes: u64) -> (Journal, State) {
    let options = JournalOptions {
        max_bytes: Some(max_bytes),
        // Cleaning is measured where it is asked for, at the disk's own speed.
        clean: false,
        clean_bytes_per_second: Some(u64::MAX),
        ..JournalOptions::default()
    };
    journal::open(RealDisk::open(folder).unwrap(), &options).unwrap()
}

impl Load {
    /// Starts the appenders; they end when `stop` is set, or after so many bytes.
    pub(crate) fn start(
        self,
        runtime: &tokio::runtime::Runtime,
        journal: &Journal,
        stop: &Arc<AtomicBool>,
        done: &Arc<Done>,
    ) -> Vec<tokio::task::JoinHandle<()>> {
        let batch = self.batch();
        let appender = |number| {
            let partitions: Vec<PartitionId> = (number..self.partitions)
                .step_by(self.appenders as usize)
                .map(PartitionId)
                .collect();
            let own = if partitions.is_empty() { vec![PartitionId(number)] } else { partitions };
            runtime.spawn(append(
                journal.clone(),
                own,
                batch.clone(),
                Arc::clone(stop),
                Arc::clone(done),
            ))
        };
        (0..self.appenders).map(appender).collect()
    }

    fn batch(self) -> Batch {
        // Not compressible, should a file system try.
        let mut state = 1u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        let value: Vec<u8> = (0..self.record_bytes).map(|_| random()).collect();
        let mut builder = BatchBuilder::default();
        builder.push(1_700_000_000_000, None, Some(&value), &[]);
        builder.finish().unwrap()
    }
}

async fn append(
    journal: Journal,
    partitions: Vec<PartitionId>,
    batch: Batch,
    stop: Arc<AtomicBool>,
    done: Arc<Done>,
) {
    let needed = Append::batch_len(batch.len());
    for round in 0.. {
        for &partition in &partitions {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let permit = loop {
                match journal.admit(needed) {
                    Ok(permit) => break permit,
                    Err(_) if stop.load(Ordering::Relaxed) => return,
                    Err(_) => tokio::time::sleep(RETRY).await,
                }
            };
            let (base_offset, batch) = (Offset(round), batch.clone());
            let entry =
                BatchEntry { partition, base_offset, leader_epoch: 0, batch: batch.clone() };
            let append = Append { batches: vec![entry], facts: Vec::new() };
            journal.append(permit, append).await.unwrap();
            done.appends.fetch_add(1, Ordering::Relaxed);
            done.bytes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}
