//! The handle that every room holds: opening, topics, ends, facts.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use bytes::Bytes;

use super::{
    AppendError, AppendRequest, FactError, MAX_PARTITIONS_PER_TOPIC, Topic, TopicDefaults,
    TopicError, TopicSettings, Uuid,
    alter::finished,
    append::Admission,
    catalog::{Catalog, Draft},
    identity::{GATEWAY_ID_KEY, random_uuid},
    keep::Keeping,
    producer_id::{self, ProducerIds},
    protection::Protection,
    settings, space,
};
use crate::{
    held::Held,
    journal::{
        AdmitError, Fact, Journal, Offset, PartitionEnds, PartitionId, Poisoned, ReadError, Space,
        State,
    },
};

/// Settings of the broker.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Partitions of a topic that is created without a count.
    pub default_partitions: u32,
    /// Whether unknown topics are created on demand.
    pub auto_create_topics: bool,
    /// Default of `max.message.bytes`.
    pub max_message_bytes: usize,
    /// What holds for topics that do not say otherwise.
    pub topic_defaults: TopicDefaults,
}

/// Where a partition's log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnds {
    /// First offset still there.
    pub start: Offset,
    /// One past the last offset handed to the journal.
    pub written: Offset,
    /// One past the last durable offset: Kafka's high watermark.
    pub durable: Offset,
    /// One past the last durable offset before the first open transaction: Kafka's last stable offset, and what
    /// uplink and pipelines may read.
    pub stable: Offset,
    /// Leader epoch.
    pub leader_epoch: i32,
}

/// Why the broker could not take over the journal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A fact is not readable, perhaps of a later version of the program.
    #[error(transparent)]
    Fact(#[from] FactError),
    /// The gateway's id could not be stored.
    #[error("the gateway's id could not be stored: {0}")]
    Admit(#[from] AdmitError),
    /// The journal stopped.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

/// The broker; share it by `Arc`.
#[derive(Debug)]
pub struct Broker {
    pub(super) core: Arc<Core>,
    gateway_id: Uuid,
    /// Held while a block of ids is being reserved, so that one reservation serves all who wait.
    producer_ids: tokio::sync::Mutex<ProducerIds>,
}

/// What outlives a caller that gave up waiting.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) journal: Journal,
    pub(super) admission: Mutex<Admission>,
    options: BrokerOptions,
    catalog: RwLock<Catalog>,
    /// Held while a topic is being created, changed or deleted: of one name there is one.
    pub(super) creating: tokio::sync::Mutex<()>,
    pub(super) keeping: Keeping,
    pub(super) protection: Protection,
}

impl Broker {
    /// Takes over the journal and the state that its recovery replayed. Draws the gateway id on the first start (durable before this returns).
    pub async fn open(
        journal: Journal,
        state: State,
        options: BrokerOptions,
    ) -> Result<Arc<Self>, OpenError> {
        let catalog = Catalog::restore(&state)?;
        producer_id::next_block(&state)?;
        let stored = state.fact(space::GATEWAY, GATEWAY_ID_KEY).cloned();
        let core = Core {
            admission: Mutex::new(Admission::new(state)),
            journal,
            options,
            catalog: RwLock::new(catalog),
            creating: tokio::sync::Mutex::new(()),
            keeping: Keeping::default(),
            protection: Protection::default(),
        };
        core.catalog().topics().iter().for_each(|topic| core.tell_cleaner(topic));
        let gateway_id = match stored {
            Some(value) => Uuid::from_fact(value)?,
            None => core.draw_gateway_id().await?,
        };
        Ok(Arc::new(Self {
            core: Arc::new(core),
            gateway_id,
            producer_ids: tokio::sync::Mutex::default(),
        }))
    }

    /// Random UUID of this gateway.
    #[must_use]
    pub fn gateway_id(&self) -> [u8; 16] {
        self.gateway_id.0
    }

    /// The gateway id as Kafka prints the id of a cluster.
    #[must_use]
    pub fn cluster_id(&self) -> String {
        self.gateway_id.base64_url()
    }

    /// What the broker was opened with.
    #[must_use]
    pub fn options(&self) -> &BrokerOptions {
        &self.core.options
    }

    /// The journal below, for reading and status.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.core.journal
    }

    /// A topic by name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.core.catalog().topic(name).cloned()
    }

    /// A topic by its random id.
    #[must_use]
    pub fn topic_by_id(&self, id: &[u8; 16]) -> Option<Arc<Topic>> {
        self.core.catalog().topic_by_id(id).cloned()
    }

    /// The topic that a partition belongs to.
    #[must_use]
    pub fn topic_of(&self, partition: PartitionId) -> Option<Arc<Topic>> {
        self.core.catalog().of_partition(partition).cloned()
    }

    /// All topics by name.
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.core.catalog().topics()
    }

    /// Creates a topic, durable when this returns. `partitions: None` takes the default.
    ///
    /// What was begun is finished even if the caller stops waiting.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: Option<u32>,
        settings: BTreeMap<String, String>,
    ) -> Result<Arc<Topic>, TopicError> {
        let partitions = partitions.unwrap_or(self.core.options.default_partitions);
        self.check_topic(name, partitions, &settings)?;
        let core = Arc::clone(&self.core);
        let name = name.to_owned();
        let creation = async move { core.create_topic(&name, partitions, settings).await };
        finished(tokio::spawn(creation)).await
    }

    /// Says whether [`Broker::create_topic`] would create the topic, without doing it.
    pub fn check_topic(
        &self,
        name: &str,
        partitions: u32,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), TopicError> {
        if !Topic::is_legal_name(name) {
            return Err(TopicError::IllegalName(name.to_owned()));
        }
        if self.topic(name).is_some() {
            return Err(TopicError::Exists(name.to_owned()));
        }
        if !(1..=MAX_PARTITIONS_PER_TOPIC).contains(&partitions) {
            return Err(TopicError::IllegalPartitions(partitions));
        }
        settings::check_all(settings).map_err(|(name, what)| TopicError::IllegalSetting(name, what))
    }

    /// The topic, created with defaults if it is not there (whether or not auto-create is on: for the gateway's own inputs).
    pub async fn ensure_topic(&self, name: &str) -> Result<Arc<Topic>, TopicError> {
        if let Some(topic) = self.topic(name) {
            return Ok(topic);
        }
        match self.create_topic(name, None, BTreeMap::new()).await {
            Err(TopicError::Exists(_)) => {
                self.topic(name).ok_or_else(|| TopicError::Exists(name.to_owned()))
            }
            result => result,
        }
    }

    /// Ends of a partition.
    #[must_use]
    pub fn ends(&self, partition: PartitionId) -> LogEnds {
        let journal = &self.core.journal;
        let (written, leader_epoch) = {
            let admission = self.admission();
            (admission.state.partition(partition).log_end, admission.state.leader_epoch())
        };
        let PartitionEnds { log_start, stable, durable } = journal.ends(partition);
        LogEnds { start: log_start, written: written.max(durable), durable, stable, leader_epoch }
    }

    /// Durable whole batches from `from` on; see [`Journal::read_async`].
    pub async fn read(
        &self,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ReadError> {
        self.core.journal.read_async(partition, from, max_bytes).await
    }

    /// The first offset from `from` on that an intact batch holds; see [`Journal::next_readable`].
    pub async fn next_readable(
        &self,
        partition: PartitionId,
        from: Offset,
    ) -> Result<Option<Offset>, ReadError> {
        self.off_worker(move |journal| journal.next_readable(partition, from)).await
    }

    /// Identity of the log: bumped when offsets may have been used again.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.admission().state.incarnation()
    }

    /// What the one node of the cluster agrees on with itself: the epoch that it leads under, and how much it made
    /// durable since it started, in frames of the journal.
    #[must_use]
    pub fn quorum(&self) -> (i32, u64) {
        (self.admission().state.leader_epoch(), self.core.journal.status().frames)
    }

    /// Resolves when any of the partitions has durable data past its offset; see [`Journal::wait_durable`].
    pub async fn wait_durable(&self, wants: &[(PartitionId, Offset)]) {
        self.core.journal.wait_durable(wants).await;
    }

    /// A producer id that was never given before, also across restarts.
    pub async fn allocate_producer_id(&self) -> Result<i64, AppendError> {
        let mut ids = self.producer_ids.lock().await;
        loop {
            if let Some(id) = ids.take() {
                return Ok(id);
            }
            // Read from the state each time: a caller that gave up has reserved its block all the same.
            let (first, commit) = {
                let mut admission = self.admission();
                let first = producer_id::next_block(&admission.state)?;
                let facts = vec![producer_id::reserve(first)];
                let request = AppendRequest { batches: Vec::new(), facts };
                (first, admission.append(&self.core.journal, request)?)
            };
            commit.durable().await?;
            ids.refill(first);
        }
    }

    /// A fact as of the last admitted append.
    #[must_use]
    pub fn fact(&self, space: Space, key: &[u8]) -> Option<Bytes> {
        self.admission().state.fact(space, key).cloned()
    }

    /// All facts of a space as of the last admitted append.
    #[must_use]
    pub fn facts(&self, space: Space) -> Vec<(Bytes, Bytes)> {
        let admission = self.admission();
        admission.state.facts(space).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// The facts of a space whose keys begin with `prefix`, as of the last admitted append.
    #[must_use]
    pub fn facts_with_prefix(&self, space: Space, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let admission = self.admission();
        let facts = admission.state.facts(space).filter(|(key, _)| key.starts_with(prefix));
        facts.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// What the gateway acts on of a topic's settings, with the gateway's own defaults.
    #[must_use]
    pub fn settings_of(&self, topic: &Topic) -> TopicSettings {
        topic.settings(&self.core.options.topic_defaults)
    }

    /// `max.message.bytes` of a partition's topic.
    pub(super) fn max_message_bytes(&self, partition: PartitionId) -> Result<usize, AppendError> {
        let catalog = self.core.catalog();
        let topic =
            catalog.of_partition(partition).ok_or(AppendError::UnknownPartition(partition))?;
        Ok(topic.max_message_bytes().unwrap_or(self.core.options.max_message_bytes))
    }

    /// Runs file I/O where it may block.
    pub(super) async fn off_worker<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Journal) -> Result<R, ReadError> + Send + 'static,
    ) -> Result<R, ReadError> {
        self.core.journal.off_worker(work).await
    }
}

impl Core {
    async fn draw_gateway_id(&self) -> Result<Uuid, OpenError> {
        let id = random_uuid();
        let key = Bytes::from_static(GATEWAY_ID_KEY);
        let fact = Fact { space: space::GATEWAY, key, value: Some(id.to_fact()) };
        let request = AppendRequest { batches: Vec::new(), facts: vec![fact] };
        let commit = match self.admission().append(&self.journal, request) {
            Ok(commit) => commit,
            Err(AppendError::Journal(error)) => return Err(error.into()),
            Err(error) => unreachable!("a fact alone is refused by the journal alone: {error}"),
        };
        commit.durable().await?;
        Ok(id)
    }

    async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        settings: BTreeMap<String, String>,
    ) -> Result<Arc<Topic>, TopicError> {
        let _creating = self.creating.lock().await;
        if self.catalog().topic(name).is_some() {
            return Err(TopicError::Exists(name.to_owned()));
        }
        let (topic, commit) = {
            let mut admission = self.admission();
            let id = random_uuid().0;
            let draft = Draft::new(&admission.state, name, id, partitions, settings)?;
            let request = AppendRequest { batches: Vec::new(), facts: draft.facts };
            (draft.topic, admission.append(&self.journal, request)?)
        };
        commit.durable().await.map_err(AppendError::from)?;
        let topic = Arc::new(topic);
        self.tell_cleaner(&topic);
        self.catalog_mut().insert(Arc::clone(&topic));
        Ok(topic)
    }

    pub(super) fn options(&self) -> &BrokerOptions {
        &self.options
    }

    /// Whether a partition is there; ask it under the admission's lock to rely on it.
    pub(super) fn exists(&self, partition: PartitionId) -> bool {
        self.catalog().of_partition(partition).is_some()
    }

    pub(super) fn catalog(&self) -> Held<RwLockReadGuard<'_, Catalog>> {
        Held::read(&self.catalog)
    }

    pub(super) fn catalog_mut(&self) -> Held<RwLockWriteGuard<'_, Catalog>> {
        Held::write(&self.catalog)
    }
}
