//! A gateway for the tests: a real broker and journal in a folder of its own, and its uplink.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::client::TIMEOUTS;
use crate::{
    Shutdown,
    broker::{AppendRequest, Broker, BrokerOptions, EndTransaction, space},
    config::{
        UplinkConfig,
        units::{ByteSize, Span},
    },
    journal::{Disk, Fact, JournalOptions, RealDisk},
    record::{BatchBuilder, Compression, TransactionOutcome},
    uplink::{Uplink, UplinkStatus, UplinkWatch},
};

/// Generous: a busy machine is no failure.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);
/// Records of one batch.
const BATCH: i64 = 7;

/// A gateway's folder and, while it runs, its broker.
pub(super) struct Site {
    folder: TempDir,
    broker: Option<Arc<Broker>>,
}

/// A running uplink.
pub(super) struct Running {
    shutdown: Shutdown,
    task: JoinHandle<()>,
    watch: UplinkWatch,
}

impl Site {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Some(open(folder.path()).await);
        Self { folder, broker }
    }

    pub(super) fn broker(&self) -> &Arc<Broker> {
        self.broker.as_ref().unwrap()
    }

    /// As a restart of the process. Nothing else may hold the broker.
    pub(super) async fn restart(&mut self) {
        self.stop();
        self.broker = Some(open(self.folder.path()).await);
    }

    fn stop(&mut self) {
        let broker = self.broker.take().unwrap();
        assert_eq!(Arc::strong_count(&broker), 1, "somebody still holds the broker");
    }

    /// A copy of the folder as it is now, while the gateway is stopped.
    pub(super) async fn copy(&mut self) -> PathBuf {
        self.stop();
        let copy = self.folder.path().with_extension("copy");
        copy_folder(self.folder.path(), &copy);
        self.broker = Some(open(self.folder.path()).await);
        copy
    }

    /// Puts a copy in the folder's place.
    pub(super) async fn restore(&mut self, copy: &Path) {
        self.stop();
        std::fs::remove_dir_all(self.folder.path()).unwrap();
        std::fs::rename(copy, self.folder.path()).unwrap();
        self.broker = Some(open(self.folder.path()).await);
    }

    pub(super) async fn topic(&self, name: &str, partitions: u32) {
        self.broker().create_topic(name, Some(partitions), BTreeMap::new()).await.unwrap();
    }

    /// Appends records up to the end offset `until` in batches; each value says where it belongs.
    pub(super) async fn append_until(&self, topic: &str, partition: u32, until: i64) {
        self.append(topic, partition, until, "").await;
    }

    /// The same with records that belong to another history.
    pub(super) async fn append_others_until(&self, topic: &str, partition: u32, until: i64) {
        self.append(topic, partition, until, "other ").await;
    }

    async fn append(&self, topic: &str, partition: u32, until: i64, history: &str) {
        let id = self.broker().topic(topic).unwrap().partitions[partition as usize];
        let mut next = self.broker().ends(id).written.0;
        let mut last = None;
        while next < until {
            let mut builder = BatchBuilder::compressed(Compression::Lz4);
            for offset in next..until.min(next + BATCH) {
                let value = format!("{history}{}", value(topic, partition, offset));
                builder.push(1_790_000_000_000 + offset, None, Some(value.as_bytes()), &[]);
            }
            next = until.min(next + BATCH);
            let batches = vec![(id, builder.finish().unwrap())];
            let request = AppendRequest { batches, facts: Vec::new() };
            last = Some(self.broker().append(request).unwrap());
        }
        if let Some(last) = last {
            last.durable().await.unwrap();
        }
    }

    /// Appends a batch to partition 0 in the transaction of a local producer.
    pub(super) async fn append_transactional(
        &self,
        topic: &str,
        producer: i64,
        sequence: i32,
        values: &[&str],
    ) {
        let id = self.broker().topic(topic).unwrap().partitions[0];
        let mut builder = BatchBuilder::default();
        for value in values {
            builder.push(1_790_000_000_000, None, Some(value.as_bytes()), &[]);
        }
        let batch = builder.finish().unwrap().with_producer(producer, 0, sequence).unwrap();
        let batches = vec![(id, batch.in_transaction().unwrap())];
        let request = AppendRequest { batches, facts: Vec::new() };
        self.broker().append(request).unwrap().durable().await.unwrap();
    }

    /// Ends it.
    pub(super) async fn end_transaction(
        &self,
        topic: &str,
        producer_id: i64,
        outcome: TransactionOutcome,
    ) {
        let id = self.broker().topic(topic).unwrap().partitions[0];
        let end = EndTransaction {
            producer_id,
            producer_epoch: 0,
            outcome,
            coordinator_epoch: 0,
            partitions: [id].into(),
            facts: Vec::new(),
            timestamp_ms: 1_790_000_000_000,
        };
        self.broker().end_transaction(end).unwrap().durable().await.unwrap();
    }

    /// Forgets what the uplink noted locally.
    pub(super) async fn forget_hints(&self) {
        let facts: Vec<_> = self
            .broker()
            .facts(space::UPLINK)
            .into_iter()
            .map(|(key, _)| Fact { space: space::UPLINK, key, value: None })
            .collect();
        assert!(!facts.is_empty(), "there was something to forget");
        let request = AppendRequest { batches: Vec::new(), facts };
        self.broker().append(request).unwrap().durable().await.unwrap();
    }

    pub(super) fn uplink(&self, bootstrap: &str) -> Running {
        let config = UplinkConfig {
            bootstrap: vec![bootstrap.to_owned()],
            interval: Span::millis(2),
            max_transaction_bytes: ByteSize(64 * 1024),
            ..UplinkConfig::default()
        };
        let mut uplink = Uplink::new(config, self.broker().clone());
        uplink.timeouts = TIMEOUTS;
        let shutdown = Shutdown::new();
        let watch = uplink.watch();
        let task = tokio::spawn(uplink.run(shutdown.clone()));
        Running { shutdown, task, watch }
    }
}

impl Running {
    pub(super) fn status(&self) -> UplinkStatus {
        self.watch.status()
    }

    pub(super) async fn caught_up(&self) {
        eventually("the lag is gone", || {
            let status = self.status();
            (status.connected && status.lag_records == 0).then_some(()).ok_or(status)
        })
        .await;
    }

    /// Stops it; true if that took no longer than a stop may.
    pub(super) async fn stop(self) -> bool {
        let asked = Instant::now();
        self.shutdown.request();
        self.task.await.unwrap();
        asked.elapsed() < Duration::from_secs(2)
    }
}

/// Long enough that a few hundred fill a transaction of the tests.
pub(super) fn value(topic: &str, partition: u32, offset: i64) -> String {
    format!("{topic}-{partition}@{offset} {}", "x".repeat(300))
}

/// Waits until `check` gives a value; shows what it said last when it never does.
pub(super) async fn eventually<T, E: std::fmt::Debug>(
    what: &str,
    mut check: impl FnMut() -> Result<T, E>,
) -> T {
    let begun = Instant::now();
    loop {
        match check() {
            Ok(value) => return value,
            Err(last) => {
                assert!(begun.elapsed() < DEADLINE, "never: {what}; last: {last:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

async fn open(folder: &Path) -> Arc<Broker> {
    let options = JournalOptions { max_bytes: Some(64 << 20), ..JournalOptions::default() };
    open_on(RealDisk::open(folder).unwrap(), options).await
}

/// A broker on a disk of the test's own.
pub(super) async fn open_on(disk: impl Disk + 'static, options: JournalOptions) -> Arc<Broker> {
    let (journal, state) = crate::journal::open(disk, &options).unwrap();
    let options = BrokerOptions {
        default_partitions: 1,
        auto_create_topics: true,
        max_message_bytes: 1 << 20,
        topic_defaults: crate::broker::TopicDefaults::default(),
    };
    Broker::open(journal, state, options).await.unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
