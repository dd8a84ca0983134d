//! The central cluster over `krafka`: sessions, topics, cursors, transactions.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use krafka::{
    CloseOptions, Compression, Kafka, KrafkaError, Record as OutRecord,
    admin::{
        AdminClient, ConfigResource, CreateTopicsOptions, DescribeConfigsOptions,
        DescribeTopicsOptions, ListOffsetsOptions, NewTopic, OffsetSpec,
    },
    consumer::{AutoOffsetReset, IsolationLevel, TopicPartition},
    error::ErrorCode,
    producer::TransactionalProducer,
};

use super::{
    centre::{
        CentralTopic, Centre, CentreError, CommitError, CursorScope, Leg, Session, Transaction,
        WantedTopic,
    },
    cursor::{CursorTable, home_partition},
    verdict::{blame, explain, is_missing, lost},
};
use crate::{broker::Uuid, record::Record};

/// Partitions of the cursor topic, if it has to be created.
const CURSOR_PARTITIONS: u32 = 8;
/// Its segments: small ones, because compaction leaves the active one alone and a start reads all
/// of it.
const CURSOR_SEGMENT_BYTES: &str = "4194304";
/// How much of it may be dirty before it is compacted.
const CURSOR_DIRTY_RATIO: &str = "0.1";
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
    producer: TransactionalProducer,
    gateway: [u8; 16],
    cursor_topic: Arc<str>,
    cursor_partitions: u32,
    timeouts: Timeouts,
}

impl Centre for KrafkaCentre {
    type Session = KrafkaSession;

    async fn open(&self) -> Result<KrafkaSession, CentreError> {
        let name = format!("headwater-{}", Uuid(self.gateway));
        let kafka = Kafka::builder(self.bootstrap.clone())
            .client_id(name.clone())
            .connect_timeout(self.timeouts.connect)
            .request_timeout(self.timeouts.request)
            .connect()
            .await
            .map_err(|error| explain("connect", &error))?;
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
        let mut session = KrafkaSession {
            admin: kafka.admin().metrics_push(false),
            kafka,
            producer,
            gateway: self.gateway,
            cursor_topic: self.cursor_topic.clone(),
            cursor_partitions: 0,
            timeouts: self.timeouts,
        };
        session.prepare_cursor_topic().await?;
        Ok(session)
    }
}

impl Session for KrafkaSession {
    async fn ensure_topics(
        &mut self,
        wanted: &[WantedTopic],
    ) -> Result<Vec<Result<CentralTopic, String>>, CentreError> {
        let mut found = self.describe(wanted.iter().map(|topic| &*topic.name)).await?;
        let missing: Vec<_> = wanted
            .iter()
            .filter(|topic| matches!(found.get(&*topic.name), Some(Ok(None))))
            .collect();
        if !missing.is_empty() {
            let mut created = Vec::new();
            for topic in &missing {
                created.push(new_topic(topic)?);
            }
            let refused = self.create(created).await?;
            let there = self.describe(missing.iter().map(|topic| &*topic.name)).await?;
            for topic in missing {
                let outcome = match (refused.get(&*topic.name), there.get(&*topic.name)) {
                    (Some(why), _) => Err(format!("cannot be created: {why}")),
                    (None, Some(Ok(Some(partitions)))) => Ok(Some(*partitions)),
                    // Created, and not every broker has heard of it: the producer waits for it.
                    (None, _) => Ok(Some(topic.partitions)),
                };
                found.insert(topic.name.to_string(), outcome);
            }
        }
        let settings = self.settings(wanted.iter().map(|topic| &*topic.name)).await;
        Ok(wanted
            .iter()
            .map(|topic| match found.remove(&*topic.name) {
                Some(Ok(Some(partitions))) => Ok(CentralTopic {
                    partitions,
                    retention_ms: settings.get(&*topic.name).and_then(retention_by_sample_time),
                }),
                Some(Err(why)) => Err(why),
                Some(Ok(None)) | None => Err("the centre said nothing about it".to_owned()),
            })
            .collect())
    }

    async fn cursors(&mut self, scope: CursorScope) -> Result<CursorTable, CentreError> {
        let count = i32::try_from(self.cursor_partitions).unwrap_or(1);
        let partitions = match scope {
            CursorScope::Home => vec![home_partition(self.gateway, count)],
            CursorScope::Everything => (0..count).collect(),
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

    async fn commit(&mut self, transaction: &Transaction) -> Result<(), CommitError> {
        self.producer.begin().map_err(|error| lost("begin a transaction", &error))?;
        let mut sent = Vec::new();
        for (partition, leg) in &transaction.legs {
            for record in &leg.records {
                match self.producer.enqueue(out_record(leg, record)).await {
                    Ok(handle) => sent.push((*partition, handle)),
                    Err(error) => return Err(blame(sent, Some(*partition), &error).await),
                }
            }
        }
        let home = home_partition(self.gateway, i32::try_from(self.cursor_partitions).unwrap_or(1));
        for leg in transaction.legs.values() {
            let value = leg.cursor.encode(&leg.cursor_key);
            let record = OutRecord::new(&*self.cursor_topic, value)
                .key(leg.cursor_key.clone())
                .partition(home);
            if let Err(error) = self.producer.enqueue(record).await {
                return Err(blame(sent, None, &error).await);
            }
        }
        match self.producer.commit().await {
            Ok(()) => Ok(()),
            Err(error) => Err(blame(sent, None, &error).await),
        }
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
    /// Makes sure that the cursor topic is there and keeps the last cursor of every key for ever.
    async fn prepare_cursor_topic(&mut self) -> Result<(), CentreError> {
        let name = self.cursor_topic.clone();
        let mut there = self.describe([&*name]).await?;
        if let Some(Ok(None)) = there.get(&*name) {
            let topic = WantedTopic { name: name.clone(), partitions: CURSOR_PARTITIONS };
            let topic = new_topic(&topic)?
                .with_config("cleanup.policy", "compact")
                .with_config("segment.bytes", CURSOR_SEGMENT_BYTES)
                .with_config("min.cleanable.dirty.ratio", CURSOR_DIRTY_RATIO);
            if let Some(why) = self.create(vec![topic]).await?.get(&*name) {
                return Err(CentreError::refused(format!(
                    "the cursor topic {name:?} cannot be created at the centre: {why}"
                )));
            }
            there = self.describe([&*name]).await?;
        }
        self.cursor_partitions = match there.remove(&*name) {
            Some(Ok(Some(partitions))) if partitions > 0 => partitions,
            Some(Err(why)) => {
                return Err(CentreError::refused(format!("cursor topic {name:?}: {why}")));
            }
            _ => {
                return Err(CentreError::transient(format!(
                    "cursor topic {name:?} is not there yet"
                )));
            }
        };
        let settings = self.settings([&*name]).await;
        match settings.get(&*name).and_then(|settings| settings.get("cleanup.policy")) {
            Some(policy) if !policy.split(',').any(|policy| policy.trim() == "compact") => {
                Err(CentreError::refused(format!(
                    "the cursor topic {name:?} has cleanup.policy={policy} at the centre: it would \
                     forget the cursors, and records would be sent twice; set \
                     cleanup.policy=compact"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The partition count of each topic; `None` if it is not there, an error text if the centre
    /// will not tell.
    async fn describe(
        &self,
        names: impl IntoIterator<Item = &str>,
    ) -> Result<HashMap<String, Result<Option<u32>, String>>, CentreError> {
        let options = DescribeTopicsOptions::default().timeout(self.timeouts.coordinator);
        let described = self
            .admin
            .describe_topics(names, options)
            .await
            .map_err(|error| explain("look topics up", &error))?;
        let mut found = HashMap::new();
        for (name, result) in described {
            let outcome = match result {
                Ok(topic) => Ok(Some(u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX))),
                Err(error) if is_missing(&error) => Ok(None),
                Err(error) if error.is_retriable() => {
                    return Err(explain("look topics up", &error));
                }
                Err(error) => Err(error.to_string()),
            };
            found.insert(name, outcome);
        }
        Ok(found)
    }

    /// Creates topics; gives the reasons of those that were refused.
    async fn create(&self, topics: Vec<NewTopic>) -> Result<HashMap<String, String>, CentreError> {
        let options = CreateTopicsOptions::default().timeout(self.timeouts.coordinator);
        let outcomes = self
            .admin
            .create_topics(topics, options)
            .await
            .map_err(|error| explain("create topics", &error))?;
        let mut refused = HashMap::new();
        for (name, outcome) in outcomes {
            match outcome {
                Ok(()) | Err(KrafkaError::Broker { code: ErrorCode::TopicAlreadyExists, .. }) => {}
                Err(error) if error.is_retriable() => return Err(explain("create topics", &error)),
                Err(error) => {
                    refused.insert(name, error.to_string());
                }
            }
        }
        Ok(refused)
    }

    /// Settings of topics. Advice only: a centre that does not tell them is used without.
    async fn settings(
        &self,
        names: impl IntoIterator<Item = &str>,
    ) -> HashMap<String, HashMap<String, String>> {
        let wanted = ["cleanup.policy", "retention.ms", "message.timestamp.type"];
        let options = DescribeConfigsOptions::default()
            .timeout(self.timeouts.connect)
            .config_names(wanted.map(str::to_owned).to_vec());
        let resources: Vec<_> = names.into_iter().map(ConfigResource::topic).collect();
        let described = match self.admin.describe_configs(resources, options).await {
            Ok(described) => described,
            Err(error) => {
                tracing::debug!(%error, "the centre does not tell topic settings");
                return HashMap::new();
            }
        };
        described
            .into_iter()
            .filter_map(|(resource, entries)| Some((resource.name, entries.ok()?)))
            .map(|(name, entries)| {
                let values =
                    entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
                (name, values.collect())
            })
            .collect()
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

fn new_topic(topic: &WantedTopic) -> Result<NewTopic, CentreError> {
    let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
    // Replication is the centre's own business.
    NewTopic::new(&*topic.name, partitions, -1)
        .map_err(|error| CentreError::refused(format!("topic {:?}: {error}", topic.name)))
}

/// How long the topic keeps records by the time of their sample, if it deletes them by that.
fn retention_by_sample_time(settings: &HashMap<String, String>) -> Option<i64> {
    let is =
        |name: &str, value: &str| settings.get(name).is_some_and(|found| found.contains(value));
    if !is("cleanup.policy", "delete") || is("message.timestamp.type", "LogAppendTime") {
        return None;
    }
    settings.get("retention.ms")?.parse().ok().filter(|retention| *retention >= 0)
}

fn out_record(leg: &Leg, record: &Record) -> OutRecord {
    let mut out = OutRecord::new(&*leg.topic, bytes::Bytes::new())
        .partition(i32::try_from(leg.index).unwrap_or(i32::MAX))
        .timestamp(record.timestamp);
    out.key = record.key.clone();
    out.value = record.value.clone();
    out.headers = record
        .headers
        .iter()
        // Header names are text to every client; one that is not would be shown like this by all of
        // them anyway.
        .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.clone()))
        .collect();
    out
}
