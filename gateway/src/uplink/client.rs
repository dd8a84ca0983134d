//! The central cluster over `krafka`: sessions, topics, cursors, transactions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use krafka::{
    CloseOptions, Compression, Kafka, Record as OutRecord,
    admin::{AdminClient, ListOffsetsOptions, OffsetSpec},
    consumer::{AutoOffsetReset, IsolationLevel, TopicPartition},
    producer::TransactionalProducer,
};

use super::{
    centre::{
        CentralPartition, CentralTopic, Centre, CentreError, CommitError, CursorScope, Leg,
        Session, Transaction, WantedTopic,
    },
    cursor::{CursorTable, home_partition},
    hanging::{Completion, Last, Outcome},
    topics::Topics,
    verdict::{blame, explain, lost},
};
use crate::{broker::Uuid, record::Record};

/// One produce batch before compression. Well below the usual `max.message.bytes` of 1 MiB: a batch
/// in a transaction is not split when it is refused.
const BATCH_BYTES: usize = 256 * 1024;
/// One wait for more cursors.
const CURSOR_POLL: Duration = Duration::from_millis(500);
/// For an old producer to let go.
const CLOSE: Duration = Duration::from_millis(300);
/// Cursors that one poll hands out.
const CURSORS_PER_POLL: i32 = 10_000;

/// How long the client waits for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// A TCP connection.
    pub(super) connect: Duration,
    /// An answer; the slowest line that works carries one batch in it.
    pub(super) request: Duration,
    /// A batch, retries included; at least a request and the client's linger.
    pub(super) delivery: Duration,
    /// A call to the coordinator. The client does not look for a moved coordinator within it, so it
    /// stays short.
    pub(super) coordinator: Duration,
    /// After this the centre aborts a transaction by itself; at least the delivery. A gateway that
    /// dies in one holds up readers of the same partitions for as long.
    pub(super) transaction: Duration,
    /// Reading the cursors back, which may wait for another gateway's transaction.
    pub(super) cursors: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(10),
            delivery: Duration::from_secs(20),
            coordinator: Duration::from_secs(10),
            transaction: Duration::from_secs(40),
            cursors: Duration::from_secs(90),
        }
    }
}

/// Where and who.
#[derive(Debug)]
pub(super) struct KrafkaCentre {
    /// `host:port`, separated by commas.
    pub(super) bootstrap: String,
    /// This gateway.
    pub(super) gateway: [u8; 16],
    /// The topic that holds the cursors.
    pub(super) cursor_topic: Arc<str>,
    /// Patience.
    pub(super) timeouts: Timeouts,
}

/// A connected client with an initialised producer.
pub(super) struct KrafkaSession {
    kafka: Kafka,
    admin: AdminClient,
    topics: Topics,
    producer: TransactionalProducer,
    completion: Completion,
    gateway: [u8; 16],
    cursor_topic: Arc<str>,
    cursor_partitions: i32,
    timeouts: Timeouts,
}

impl Centre for KrafkaCentre {
    type Session = KrafkaSession;

    async fn open(&self, written: &[CentralPartition]) -> Result<KrafkaSession, CentreError> {
        let name = format!("headwater-{}", Uuid(self.gateway));
        let kafka = Kafka::builder(self.bootstrap.clone())
            .client_id(name.clone())
            .connect_timeout(self.timeouts.connect)
            .request_timeout(self.timeouts.request)
            .connect()
            .await
            .map_err(|error| explain("connect", &error))?;
        let topics = Topics::new(kafka.admin().metrics_push(false), self.timeouts);
        let cursor_partitions = topics.ensure_cursors(&self.cursor_topic).await?;
        let cursor_partitions = i32::try_from(cursor_partitions).unwrap_or(i32::MAX);
        let cursors = (0..cursor_partitions)
            .map(|partition| TopicPartition::new(&*self.cursor_topic, partition));
        let written: Vec<_> = written
            .iter()
            .map(|partition| topic_partition(&partition.topic, partition.index))
            .chain(cursors)
            .collect();
        let mut completion =
            Completion::new(&kafka, name.clone(), self.timeouts.coordinator, self.timeouts.cursors);
        let last = completion.last().await?;
        if let Some(last) = last.filter(|last| last.outcome == Outcome::Committed) {
            completion.complete(&written, last).await?;
        }
        let producer = kafka
            .producer()
            .compression(Compression::Zstd)
            .batch_size(BATCH_BYTES)
            .delivery_timeout(self.timeouts.delivery)
            .max_block(self.timeouts.coordinator)
            .transaction_timeout(self.timeouts.transaction)
            .metrics_push(false)
            .build_transactional(name)
            .await
            .map_err(|error| explain("initialise the producer", &error))?;
        if !producer.transaction_version().is_v2() {
            // A probe that was cut off looks the same, so this is tried again as soon as any other
            // error.
            return Err(CentreError::transient(
                "the central cluster does not offer transaction.version 2: the uplink needs Kafka \
                 4.0 or later with `kafka-features.sh upgrade --feature transaction.version=2`",
            ));
        }
        if let Some(last) = last {
            completion.complete(&written, Last { outcome: Outcome::Aborted, ..last }).await?;
        }
        Ok(KrafkaSession {
            admin: kafka.admin().metrics_push(false),
            kafka,
            topics,
            producer,
            completion,
            gateway: self.gateway,
            cursor_topic: self.cursor_topic.clone(),
            cursor_partitions,
            timeouts: self.timeouts,
        })
    }
}

impl Session for KrafkaSession {
    async fn ensure_topics(
        &mut self,
        wanted: &[WantedTopic],
    ) -> Result<Vec<Result<CentralTopic, String>>, CentreError> {
        self.topics.ensure(wanted).await
    }

    async fn cursors(&mut self, scope: CursorScope) -> Result<CursorTable, CentreError> {
        let partitions = match scope {
            CursorScope::Home => vec![self.home()],
            CursorScope::Everything => (0..self.cursor_partitions).collect(),
        };
        let read = self.read_cursors(partitions);
        match tokio::time::timeout(self.timeouts.cursors, read).await {
            Ok(Ok(table)) => Ok(table),
            Ok(Err(error)) => Err(explain("read the cursors", &error)),
            Err(_) => Err(CentreError::transient(format!(
                "reading the cursors took over {} s: another gateway's transaction may be open \
                 on {:?}",
                self.timeouts.cursors.as_secs(),
                self.cursor_topic
            ))),
        }
    }

    async fn commit(&mut self, transaction: &mut Transaction) -> Result<(), CommitError> {
        self.producer.begin().map_err(|error| lost("begin a transaction", &error))?;
        let home = self.home();
        let mut written = vec![TopicPartition::new(&*self.cursor_topic, home)];
        let mut sent = Vec::new();
        for (partition, leg) in &mut transaction.legs {
            written.push(topic_partition(&leg.topic, leg.index));
            for record in std::mem::take(&mut leg.records) {
                match self.producer.enqueue(out_record(leg, record)).await {
                    Ok(handle) => sent.push((*partition, handle)),
                    Err(error) => return Err(blame(sent, Some(*partition), &error).await),
                }
            }
        }
        for leg in transaction.legs.values() {
            let value = leg.cursor.encode(&leg.cursor_key);
            let record = OutRecord::new(&*self.cursor_topic, value)
                .key(leg.cursor_key.clone())
                .partition(home);
            if let Err(error) = self.producer.enqueue(record).await {
                return Err(blame(sent, None, &error).await);
            }
        }
        // Every transaction has an epoch of its own, but one id.
        let producer_id = self.producer.producer_id();
        if let Err(error) = self.producer.commit().await {
            return Err(blame(sent, None, &error).await);
        }
        self.completion.see_committed(&written, producer_id).await.map_err(CommitError::Lost)
    }

    async fn close(self) {
        // Dropped without this, the client would go on sending what it holds, in vain: its epoch is
        // fenced by then.
        let options = CloseOptions::new().timeout(CLOSE);
        if let Err(error) = self.producer.close_with(options).await {
            tracing::debug!(%error, "uplink: the old producer closed with an error");
        }
    }
}

impl KrafkaSession {
    /// The partition of the cursor topic that this gateway writes to.
    fn home(&self) -> i32 {
        home_partition(self.gateway, self.cursor_partitions)
    }

    /// Reads every partition up to where it ends now. The end is the high watermark: reading up to
    /// the last stable offset would miss cursors that lie behind another gateway's open
    /// transaction, and double their records.
    async fn read_cursors(&self, partitions: Vec<i32>) -> krafka::Result<CursorTable> {
        let topic = &*self.cursor_topic;
        let starts = self.offsets(&partitions, OffsetSpec::Earliest).await?;
        let mut open = self.offsets(&partitions, OffsetSpec::Latest).await?;
        open.retain(|partition, end| starts.get(partition).is_some_and(|start| start < end));
        if open.is_empty() {
            return Ok(CursorTable::default());
        }
        let reader = self
            .kafka
            .consumer_without_group()
            .isolation_level(IsolationLevel::ReadCommitted)
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .enable_auto_commit(false)
            .max_poll_records(CURSORS_PER_POLL)
            .max_buffered_records(2 * CURSORS_PER_POLL)
            .metrics_push(false)
            .build()
            .await?;
        reader.assign(topic, open.keys().copied().collect()).await?;
        for partition in open.keys() {
            reader.seek(topic, *partition, starts[partition]).await?;
        }
        let mut tables: BTreeMap<i32, CursorTable> = BTreeMap::new();
        while !open.is_empty() {
            for record in reader.poll(CURSOR_POLL).await? {
                tables.entry(record.partition).or_default().apply(
                    self.gateway,
                    record.key.as_ref(),
                    record.value.as_ref(),
                );
            }
            let mut reached = BTreeSet::new();
            for (partition, end) in &open {
                if reader.position(topic, *partition).await.is_some_and(|at| at >= *end) {
                    reached.insert(*partition);
                }
            }
            open.retain(|partition, _| !reached.contains(partition));
        }
        reader.close().await?;
        let mut all = CursorTable::default();
        for table in tables.into_values() {
            all.merge(table);
        }
        Ok(all)
    }

    /// One end of each partition; the latest is the high watermark.
    async fn offsets(
        &self,
        partitions: &[i32],
        end: OffsetSpec,
    ) -> krafka::Result<BTreeMap<i32, i64>> {
        let topic = &*self.cursor_topic;
        let wanted =
            partitions.iter().map(|partition| (TopicPartition::new(topic, *partition), end));
        let options =
            ListOffsetsOptions::default().timeout(self.timeouts.coordinator).read_committed(false);
        let mut found = BTreeMap::new();
        for (partition, offset) in self.admin.list_offsets(wanted, options).await? {
            found.insert(partition.partition, offset?.offset);
        }
        Ok(found)
    }
}

fn topic_partition(topic: &str, index: u32) -> TopicPartition {
    TopicPartition::new(topic, i32::try_from(index).unwrap_or(i32::MAX))
}

fn out_record(leg: &Leg, record: Record) -> OutRecord {
    let mut out = OutRecord::new(&*leg.topic, bytes::Bytes::new())
        .partition(i32::try_from(leg.index).unwrap_or(i32::MAX))
        .timestamp(record.timestamp);
    out.key = record.key;
    out.value = record.value;
    out.headers = record
        .headers
        .into_iter()
        // Header names are text to every client; one that is not would be shown like this by all of
        // them anyway.
        .map(|(name, value)| (String::from_utf8_lossy(&name).into_owned(), value))
        .collect();
    out
}
