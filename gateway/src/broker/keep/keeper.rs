//! The task that moves log starts: at an interval for retention, and at once when the storage is full.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    Gap, GapReason,
    limits::{self, View},
    room::{self, Plan},
};
use crate::{
    Shutdown,
    broker::{AppendError, AppendRequest, Broker, FullPolicy, Topic},
    journal::{AdmitError, COPIED_PER_FREED_BYTE, Fact, Offset, PartitionId, ReadError},
};

/// What the keeper and those who append tell each other.
#[derive(Debug, Default)]
pub(in crate::broker) struct Keeping {
    /// Somebody found no space.
    full: Notify,
    is_full: AtomicBool,
    expired: AtomicU64,
    dropped: AtomicU64,
    held_back: AtomicU64,
    refusals: AtomicU64,
    is_blocked: AtomicBool,
}

/// Counters and states for the page and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepingStatus {
    /// Offsets that retention passed since start.
    pub expired_records: u64,
    /// Offsets that made room in full storage since start; gap records tell which.
    pub dropped_records: u64,
    /// Records that were refused for good since start; gap records tell where.
    pub refused_records: u64,
    /// Appends that found no space since start.
    pub full_refusals: u64,
    /// Partitions of which retention would take more if the centre held it.
    pub held_back_partitions: u64,
    /// Whether an append found no space, and none was found since.
    pub is_full: bool,
    /// Whether topics that would make room cannot: what holds the oldest segments has to stay.
    pub is_blocked: bool,
}

/// Decides at intervals what topics keep.
#[derive(Debug)]
pub struct Keeper {
    broker: Arc<Broker>,
    check_interval: Duration,
    /// Partitions whose data was being dropped when last looked at.
    dropping: BTreeSet<PartitionId>,
    quiet_since: Option<Instant>,
}

/// How often to look whether space is getting short: nobody has to be refused before it is made.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks while writers are being refused: segments take a moment to be freed.
const FULL_INTERVAL: Duration = Duration::from_millis(20);
/// With space for so long an episode of full storage is over.
const EPISODE_END: Duration = Duration::from_secs(60);
/// Segments that one step looks at.
const MOST_HOLDINGS: usize = 8;
/// Log starts, or gap records, in one append: 256 KiB at most.
const STEP_PARTITIONS: usize = 512;

impl Keeping {
    /// Somebody found no space.
    pub(in crate::broker) fn found_full(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        if !self.is_full.swap(true, Ordering::Relaxed) {
            tracing::warn!("storage is full: see headwater.full.policy of the topics");
        }
        self.full.notify_one();
    }

    /// Somebody found space.
    pub(in crate::broker) fn found_space(&self) {
        // Read first: this is on the way of every append.
        if self.is_full.load(Ordering::Relaxed) && self.is_full.swap(false, Ordering::Relaxed) {
            tracing::info!("storage has space again");
        }
    }
}

impl Broker {
    /// Numbers of what was deleted, dropped and refused.
    #[must_use]
    pub fn keeping(&self) -> KeepingStatus {
        let keeping = &self.core.keeping;
        KeepingStatus {
            expired_records: keeping.expired.load(Ordering::Relaxed),
            dropped_records: keeping.dropped.load(Ordering::Relaxed),
            refused_records: self.admission().newest.refused(),
            full_refusals: keeping.refusals.load(Ordering::Relaxed),
            held_back_partitions: keeping.held_back.load(Ordering::Relaxed),
            is_full: keeping.is_full.load(Ordering::Relaxed),
            is_blocked: keeping.is_blocked.load(Ordering::Relaxed),
        }
    }
}

impl Keeper {
    /// A keeper that looks after retention at this interval.
    #[must_use]
    pub fn new(broker: Arc<Broker>, check_interval: Duration) -> Self {
        Self { broker, check_interval, dropping: BTreeSet::new(), quiet_since: None }
    }

    /// Runs until shutdown.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut retention = interval(self.check_interval);
        let mut space = interval(SPACE_INTERVAL);
        retention.set_missed_tick_behavior(MissedTickBehavior::Delay);
        space.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let broker = Arc::clone(&self.broker);
        loop {
            let result = tokio::select! {
                () = shutdown.requested() => return,
                _ = retention.tick() => self.retain().await,
                _ = space.tick() => self.make_room().await,
                () = broker.core.keeping.full.notified() => {
                    let result = self.make_room().await;
                    tokio::time::sleep(FULL_INTERVAL).await;
                    result
                }
            };
            match result {
                Err(AppendError::Poisoned(_) | AppendError::Journal(AdmitError::Poisoned(_))) => {
                    return shutdown.requested().await;
                }
                Err(error) => tracing::warn!(%error, "log starts could not be moved yet"),
                Ok(()) => {}
            }
        }
    }

    /// Moves log starts past what is older or larger than the topics' limits.
    pub async fn retain(&mut self) -> Result<(), AppendError> {
        let mut starts = BTreeMap::new();
        let mut held_back = 0;
        for topic in self.broker.topics() {
            if !limits::applies(&self.broker.settings_of(&topic)) {
                continue;
            }
            for &partition in &topic.partitions {
                let view = match self.view(&topic, partition).await {
                    Ok(view) => view,
                    Err(error) => {
                        tracing::warn!(topic = topic.name, %error, "retention passes over it");
                        continue;
                    }
                };
                let verdict = view.retain();
                held_back += u64::from(verdict.is_held_back);
                starts.extend(verdict.start.map(|start| (partition, start)));
            }
        }
        self.broker.core.keeping.held_back.store(held_back, Ordering::Relaxed);
        let moved = self.advance(starts, None).await?;
        self.broker.core.keeping.expired.fetch_add(moved, Ordering::Relaxed);
        Ok(())
    }

    /// Lets topics that want it make room, if space is missing.
    pub async fn make_room(&mut self) -> Result<(), AppendError> {
        let missing = self.broker.journal().missing_segments();
        if missing == 0 {
            self.episode_may_end();
            return Ok(());
        }
        self.quiet_since = None;
        let Plan { starts, blocked_by, .. } = self.plan(missing);
        self.note_blocked(blocked_by.filter(|_| starts.is_empty()));
        if starts.is_empty() {
            return Ok(());
        }
        for &partition in starts.keys() {
            if self.dropping.insert(partition) {
                let topic = self.broker.topic_of(partition);
                let topic = topic.as_ref().map_or("", |topic| &topic.name);
                tracing::warn!(topic, "storage is full: the oldest records are dropped");
            }
        }
        let dropped = self.advance(starts, Some(GapReason::OverflowOldest)).await?;
        self.broker.core.keeping.dropped.fetch_add(dropped, Ordering::Relaxed);
        Ok(())
    }

    async fn view(&self, topic: &Topic, partition: PartitionId) -> Result<View, ReadError> {
        let settings = self.broker.settings_of(topic);
        let journal = self.broker.journal();
        let (open_ms, ends) = (journal.open_ms(), journal.ends(partition));
        let mut view = View {
            start: ends.log_start,
            stable: ends.stable,
            protected_from: self.broker.protected_from(topic, partition),
            young_from: None,
            fits_from: None,
        };
        if ends.log_start >= ends.stable {
            return Ok(view);
        }
        let by = settings.retention_ms.and_then(|span| open_ms.checked_sub(span.max(1)));
        let limits = move |journal: &crate::journal::Journal| {
            let young = by.map(|by| journal.appended_by(partition, by)).transpose()?;
            let bytes = settings.retention_bytes;
            let fits = bytes.map(|bytes| journal.newest_bytes(partition, bytes)).transpose()?;
            Ok((young, fits))
        };
        (view.young_from, view.fits_from) = self.broker.off_worker(limits).await?;
        Ok(view)
    }

    fn plan(&self, missing: u64) -> Plan {
        let broker = &self.broker;
        let holdings = broker.journal().holdings(MOST_HOLDINGS);
        room::plan(&holdings, missing, COPIED_PER_FREED_BYTE, |partition| {
            let Some(topic) = broker.topic_of(partition) else { return Offset(i64::MAX) };
            if broker.settings_of(&topic).full != FullPolicy::DropOldest {
                return Offset(0);
            }
            let ends = broker.journal().ends(partition);
            let protected_from = broker.protected_from(&topic, partition);
            let (start, stable) = (ends.log_start, ends.stable);
            View { start, stable, protected_from, young_from: None, fits_from: None }.limit()
        })
    }

    /// Moves log starts, with gap records if there is a reason; how many offsets were passed.
    async fn advance(
        &self,
        starts: BTreeMap<PartitionId, Offset>,
        reason: Option<GapReason>,
    ) -> Result<u64, AppendError> {
        let starts: Vec<_> = starts.into_iter().collect();
        let mut passed = 0;
        for some in starts.chunks(STEP_PARTITIONS) {
            let (count, commit) = {
                let mut admission = self.broker.admission();
                let mut request = AppendRequest::default();
                let mut count = 0;
                for &(partition, start) in some {
                    let known = admission.state.partition(partition).log_start;
                    // It may have been deleted, or moved, in the meantime.
                    if !self.broker.core.exists(partition) || start <= known {
                        continue;
                    }
                    let missing = start.0.abs_diff(known.0);
                    count += missing;
                    request.facts.push(Fact::log_start(partition, start));
                    let gap = |reason| Gap { from: known, to: start, count: missing, reason };
                    let batch = reason.map(|reason| gap(reason).to_batch(now_ms()));
                    request.batches.extend(batch.map(|batch| (partition, batch)));
                }
                (count, admission.append_freeing(&self.broker.core.journal, request)?)
            };
            commit.durable().await?;
            passed += count;
        }
        Ok(passed)
    }

    /// Says once that topics which would make room cannot.
    fn note_blocked(&self, by: Option<PartitionId>) {
        let keeping = &self.broker.core.keeping;
        let was_blocked = keeping.is_blocked.swap(by.is_some(), Ordering::Relaxed);
        let Some(topic) = by.filter(|_| !was_blocked).and_then(|by| self.broker.topic_of(by))
        else {
            return;
        };
        let drops =
            |topic: &Arc<Topic>| self.broker.settings_of(topic).full == FullPolicy::DropOldest;
        if self.broker.topics().iter().any(drops) {
            let topic = &topic.name;
            tracing::warn!(
                topic,
                "storage is full and dropping the oldest records would free nothing, so writers wait: \
                 records of this topic that have to stay are among them"
            );
        }
    }

    fn episode_may_end(&mut self) {
        self.note_blocked(None);
        if self.dropping.is_empty() {
            return;
        }
        let since = *self.quiet_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= EPISODE_END {
            let partitions = self.dropping.len();
            let total = self.broker.core.keeping.dropped.load(Ordering::Relaxed);
            tracing::info!(partitions, total, "storage has space: no more records are dropped");
            self.dropping.clear();
            self.quiet_since = None;
        }
    }
}

/// Wall clock, Unix ms.
pub(in crate::broker) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
