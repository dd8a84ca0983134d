//! Carries out what the core decides: sessions, reads, waits. The only place of the uplink with
//! tasks and clocks.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    ahead::Ahead,
    backoff::jitter,
    centre::{CentralTopic, Centre, CentreError, CommitError, CursorScope, Session, Transaction},
    core::{Core, Draft, Placed, Proof, Read},
    cursor,
    decode::{self, Decoded, Slice},
    hint::Hints,
    lane::LaneIdentity,
    selection::Selection,
    status::Shared,
};
use crate::{
    Shutdown,
    broker::{Broker, Isolation},
    journal::{Offset, PartitionId, ReadError},
};

/// How often new topics are looked for while nothing else happens.
const TOPIC_SCAN: Duration = Duration::from_secs(1);
/// How long a stop waits for the transaction that is on its way. If it does not make it, the next
/// start finds out.
const DRAIN: Duration = Duration::from_secs(1);
/// What is read locally for one decoded record at most.
const PROOF_BYTES: usize = 1;

/// One uplink at work.
pub(super) struct Shell<C> {
    centre: C,
    broker: Arc<Broker>,
    shared: Arc<Shared>,
    shutdown: Shutdown,
    selection: Selection,
    interval: Duration,
    core: Core,
    ahead: Ahead,
    hints: Hints,
    /// `retention.ms` of central topics that delete by sample time; taken out once it was warned
    /// of.
    retention: HashMap<Arc<str>, i64>,
}

/// Why a session ended.
enum Ended {
    /// A stop was asked for.
    Shutdown,
    /// An error; the next session comes after the wait.
    After(Duration),
}

impl From<Stop> for Ended {
    fn from(Stop: Stop) -> Self {
        Self::Shutdown
    }
}

/// A stop was asked for while something was waited for.
struct Stop;

impl<C: Centre> Shell<C> {
    /// Ready to run.
    pub(super) fn new(
        centre: C,
        broker: Arc<Broker>,
        shared: Arc<Shared>,
        shutdown: Shutdown,
        selection: Selection,
        interval: Duration,
        max_bytes: usize,
    ) -> Self {
        let hints = Hints::load(&broker);
        Self {
            centre,
            broker,
            shared,
            shutdown,
            selection,
            interval,
            core: Core::new(max_bytes),
            ahead: Ahead::default(),
            hints,
            retention: HashMap::new(),
        }
    }

    /// Forwards until shutdown.
    pub(super) async fn run(mut self) {
        self.adopt_topics();
        loop {
            let ended = self.session().await;
            self.shared.disconnected();
            match ended {
                Ended::Shutdown => break,
                Ended::After(wait) => {
                    if self.until_stop(tokio::time::sleep(wait)).await.is_err() {
                        break;
                    }
                }
            }
        }
        self.hints.save(&self.broker).await;
    }

    /// One session, from connecting to its first error.
    async fn session(&mut self) -> Ended {
        match self.open().await {
            Ok(mut session) => {
                let ended = self.forward(&mut session).await;
                match ended {
                    Ended::Shutdown => session.close().await,
                    // The next session is not kept waiting by the last one.
                    Ended::After(_) => drop(tokio::spawn(session.close())),
                }
                ended
            }
            Err(Failure::Stop(stop)) => stop.into(),
            Err(Failure::Centre(error)) => self.ended_by(&error),
        }
    }

    /// Connects and reads back where the centre stands.
    async fn open(&mut self) -> Result<C::Session, Failure> {
        self.adopt_topics();
        let written = self.core.destinations();
        let mut session = stoppable(&self.shutdown, self.centre.open(&written)).await??;
        self.adopt_topics();
        let mut table = stoppable(&self.shutdown, session.cursors(CursorScope::Home)).await??;
        if self.core.misses_cursor(&table) {
            table
                .merge(stoppable(&self.shutdown, session.cursors(CursorScope::Everything)).await??);
        }
        self.core.resume(table);
        self.shared.connected();
        self.publish();
        tracing::info!("uplink: connected to the central cluster");
        Ok(session)
    }

    /// Sends until something fails or a stop is asked for.
    async fn forward(&mut self, session: &mut C::Session) -> Ended {
        let mut draft = Draft::default();
        loop {
            match stoppable(&self.shutdown.clone(), self.place_lanes(session)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return self.ended_by(&error),
                Err(stop) => return stop.into(),
            }
            if draft.is_empty() {
                self.fill(&mut draft).await;
            }
            if draft.is_empty() {
                self.core.settled();
                self.hints.save_if_due(&self.broker).await;
                if self.wait_for_data().await.is_err() {
                    return Ended::Shutdown;
                }
                continue;
            }
            let full = self.core.is_full(&draft);
            let mut transaction = std::mem::take(&mut draft.transaction);
            draft = Draft::default();
            match self.commit(session, &mut transaction, full.then_some(&mut draft)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return self.failed(&transaction, &error),
                Err(stop) => return stop.into(),
            }
            if self.shutdown.is_requested() {
                return Ended::Shutdown;
            }
        }
    }

    /// Commits a transaction; meanwhile fills the next one if there is a backlog.
    async fn commit(
        &mut self,
        session: &mut C::Session,
        transaction: &mut Transaction,
        next: Option<&mut Draft>,
    ) -> Result<Result<(), CommitError>, Stop> {
        let shutdown = self.shutdown.clone();
        let commit = session.commit(transaction);
        let bounded = async {
            tokio::pin!(commit);
            tokio::select! {
                outcome = &mut commit => Some(outcome),
                () = shutdown.requested() => tokio::time::timeout(DRAIN, commit).await.ok(),
            }
        };
        let outcome = match next {
            Some(next) => tokio::join!(bounded, self.fill(next)).0,
            None => bounded.await,
        };
        if let Err(error) = outcome.ok_or(Stop)? {
            return Ok(Err(error));
        }
        self.core.committed(transaction);
        let records = transaction.legs.values().map(|leg| leg.count as u64).sum();
        self.shared.committed(records);
        self.publish();
        self.hints.save_if_due(&self.broker).await;
        Ok(Ok(()))
    }

    /// Puts what can be sent now into the draft, up to a full transaction.
    async fn fill(&mut self, draft: &mut Draft) {
        loop {
            let round = self.core.next_round(draft, |partition| self.broker.ends(partition));
            if round.is_empty() {
                return;
            }
            self.ahead.keep_for(&round);
            for (at, read) in round.iter().enumerate() {
                if !self.core.has_room(draft) {
                    return;
                }
                if !self.ahead.holds(read) {
                    self.read_ahead(round.get(at..).unwrap_or_default()).await;
                }
                let decoded = self.decode(*read).await;
                self.warn_of_retention(read.partition, &decoded);
                let epoch = self.broker.ends(read.partition).leader_epoch;
                self.core.take(draft, *read, decoded, epoch, Instant::now());
            }
        }
    }

    /// Reads what is not held of the lanes of a round, but at least of the first one.
    async fn read_ahead(&mut self, round: &[Read]) {
        let wants = self.ahead.wants(round);
        let read =
            self.broker.read_many_isolated(wants.clone(), self.ahead.room(), Isolation::Committed);
        let answers = read.await;
        self.ahead.put(&wants, answers);
    }

    /// Decodes what is held of a lane off the async workers.
    async fn decode(&mut self, read: Read) -> Decoded {
        let Read { partition, slice } = read;
        let blocked = |why| Decoded { blocked: Some(why), ..Decoded::default() };
        let fetched = match self.ahead.take_for(&read) {
            Some(Ok(fetched)) => fetched,
            Some(Err(error)) => return blocked(read_trouble(&error)),
            None => return Decoded::default(),
        };
        let decode = move || (decode::decode(&fetched, slice), fetched);
        match tokio::task::spawn_blocking(decode).await {
            Ok((decoded, fetched)) => {
                let next = decoded.next.filter(|_| decoded.blocked.is_none());
                if let Some(next) = next {
                    self.ahead.give_back(partition, next, fetched);
                }
                decoded
            }
            Err(error) => blocked(format!("decoding failed: {error}")),
        }
    }

    /// Decides for every lane that has no place yet where it starts, creating central topics on the
    /// way.
    async fn place_lanes(&mut self, session: &mut C::Session) -> Result<(), CentreError> {
        self.adopt_topics();
        let due = self.core.unplaced(Instant::now());
        if due.is_empty() {
            return Ok(());
        }
        let wanted = self.core.topics_of(&due);
        let answers = session.ensure_topics(&wanted).await?;
        let mut topics: BTreeMap<Arc<str>, Result<CentralTopic, String>> = BTreeMap::new();
        for (topic, answer) in wanted.into_iter().zip(answers) {
            if let Ok(CentralTopic { retention_ms: Some(retention), .. }) = answer {
                self.retention.insert(topic.name.clone(), retention);
            }
            topics.insert(topic.name, answer);
        }
        for partition in due {
            let Some(central) =
                self.core.central_of(partition).and_then(|central| topics.get(central))
            else {
                continue;
            };
            self.place(partition, central).await;
        }
        self.publish();
        Ok(())
    }

    async fn place(&mut self, partition: PartitionId, central: &Result<CentralTopic, String>) {
        let ends = self.broker.ends(partition);
        match self.core.place(partition, central, ends, Instant::now()) {
            Placed::Done => {}
            Placed::Gap(missing) => tracing::error!(
                ?partition,
                missing,
                from = ends.start.0,
                "uplink: the local log dropped records before they reached the centre"
            ),
            Placed::Proof(proof) => match self.digest_of(proof).await {
                Ok(found) => self.core.prove(proof, found),
                Err(error) => self.core.park(partition, read_trouble(&error), Instant::now()),
            },
        }
        if let Some(why) = self.core.trouble(partition) {
            tracing::error!(?partition, why, "uplink: partition left out");
        }
    }

    /// The digest of one local record; `None` if the log holds none at that offset.
    async fn digest_of(&self, proof: Proof) -> Result<Option<u32>, ReadError> {
        let Proof { partition, record } = proof;
        let fetched =
            self.broker.read_isolated(partition, record, PROOF_BYTES, Isolation::Committed).await?;
        let slice = Slice {
            from: proof.record,
            until: Offset(proof.record.0 + 1),
            max_bytes: usize::MAX,
            max_records: 1,
        };
        let decoded = tokio::task::spawn_blocking(move || decode::decode(&fetched, slice)).await;
        Ok(decoded.ok().and_then(|decoded| decoded.records.first().map(decode::digest)))
    }

    /// Waits for something to send, and then as long as a transaction may gather.
    async fn wait_for_data(&self) -> Result<(), Stop> {
        let wants = self.core.wants();
        let data = async {
            if wants.is_empty() {
                std::future::pending::<()>().await;
            } else {
                self.broker.wait_stable(&wants).await;
            }
        };
        match self.until_stop(tokio::time::timeout(TOPIC_SCAN, data)).await? {
            Ok(()) => self.until_stop(tokio::time::sleep(self.interval)).await,
            Err(_) => Ok(()),
        }
    }

    /// Takes in topics that came since the last look.
    fn adopt_topics(&mut self) {
        let gateway = self.broker.gateway_id();
        let mut news = false;
        for topic in self.broker.topics() {
            // A topic's partitions come and stay together.
            let known = topic.partitions.iter().all(|partition| self.core.knows(*partition));
            if known || !self.selection.takes(&topic.name) {
                continue;
            }
            news = true;
            let name: Arc<str> = topic.name.as_str().into();
            let central: Arc<str> = self.selection.central_name(&topic.name).into();
            let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            for (index, partition) in (0..partitions).zip(&topic.partitions) {
                self.core.adopt(LaneIdentity {
                    partition: *partition,
                    cursor_key: cursor::key(gateway, &topic.name, index),
                    topic: name.clone(),
                    central: central.clone(),
                    index,
                    partitions,
                    topic_id: topic.id,
                });
            }
        }
        if news {
            self.shared.set_lanes(self.core.report(), &self.hints);
        }
    }

    /// Makes the lanes' positions known to the broker and the page.
    fn publish(&mut self) {
        let lanes = self.core.report();
        for lane in &lanes {
            if let Some(next) = lane.next {
                self.broker.set_replicated(lane.partition, next);
                self.hints.note(lane.partition, next);
            }
        }
        self.shared.set_lanes(lanes, &self.hints);
    }

    /// The centre deletes what is older than its retention as soon as it may, acknowledged or not.
    fn warn_of_retention(&mut self, partition: PartitionId, decoded: &Decoded) {
        let (Some(central), Some(first)) =
            (self.core.central_of(partition), decoded.records.first())
        else {
            return;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let age = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(first.timestamp);
        if self.retention.get(central).is_some_and(|retention| age > *retention) {
            tracing::warn!(
                topic = central,
                age_s = age / 1000,
                "uplink: sending records that are older than the central topic's retention.ms; \
                 it will delete them soon. Raise retention.ms there, or set \
                 message.timestamp.type=LogAppendTime"
            );
            let central = central.to_owned();
            self.retention.remove(&*central);
        }
    }

    fn ended_by(&mut self, error: &CentreError) -> Ended {
        let wait = self.core.lost(error, jitter());
        tracing::warn!(%error, wait_ms = wait.as_millis(), "uplink: disconnected");
        self.shared.failed(error.to_string());
        Ended::After(wait)
    }

    fn failed(&mut self, transaction: &Transaction, error: &CommitError) -> Ended {
        let wait = self.core.failed(transaction, error, Instant::now(), jitter());
        match error {
            CommitError::Lost(error) => {
                tracing::warn!(%error, wait_ms = wait.as_millis(), "uplink: transaction lost");
                self.shared.failed(error.to_string());
            }
            CommitError::Poison(refused) => {
                for (partition, why) in refused {
                    let parked = self.core.trouble(*partition);
                    tracing::error!(?partition, why, parked, "uplink: the centre refuses a record");
                    self.shared.failed(format!("the centre refuses a record: {why}"));
                }
            }
        }
        self.publish();
        Ended::After(wait)
    }

    async fn until_stop<F: Future>(&self, future: F) -> Result<F::Output, Stop> {
        stoppable(&self.shutdown, future).await
    }
}

/// Why a session could not be opened.
enum Failure {
    Stop(Stop),
    Centre(CentreError),
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<CentreError> for Failure {
    fn from(error: CentreError) -> Self {
        Self::Centre(error)
    }
}

async fn stoppable<F: Future>(shutdown: &Shutdown, future: F) -> Result<F::Output, Stop> {
    tokio::select! {
        output = future => Ok(output),
        () = shutdown.requested() => Err(Stop),
    }
}

fn read_trouble(error: &ReadError) -> String {
    format!("the local log cannot be read: {error}")
}
