//! The groups of a running gateway: awaits answers, drives the timers, stores offsets through the broker.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{
    Answer, Ask, CommitError, CommittedOffset, Coordinator, GroupDescription, GroupError,
    GroupOptions, GroupPhase, GroupSummary, JoinRequest, Joined, Leaving,
    MAX_OFFSET_METADATA_BYTES, MemberRef, OffsetCommit, SyncRequest, Synced,
    coordinator::check_group_id, expiry::Expiry, offset, subscription::CONSUMER,
};
use crate::{
    broker::{AppendError, AppendRequest, Broker, identity::random_uuid, space},
    journal::Fact,
};

/// How often it is looked for offsets that nobody came back for, Kafka's `offsets.retention.check.interval.ms`.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(600);
/// Offsets in one append.
const EXPIRY_STEP: usize = 512;

/// The groups of this gateway; share it by `Arc`.
#[derive(Debug)]
pub struct Groups {
    broker: Arc<Broker>,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<Front>,
    /// A deadline may have come nearer, or the groups are gone.
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct Front {
    coordinator: Coordinator,
    waiting: HashMap<Ask, Waiting>,
    next_ask: u64,
}

#[derive(Debug)]
enum Waiting {
    Join(oneshot::Sender<Result<Joined, GroupError>>),
    Sync(oneshot::Sender<Result<Synced, GroupError>>),
}

impl Groups {
    /// Groups without members, with the offsets that the broker holds. Needs a tokio runtime: one
    /// task drives the timers until this is dropped.
    #[must_use]
    pub fn new(broker: Arc<Broker>, options: GroupOptions) -> Self {
        let expiry = Expiry::new(options.offsets_retention, broker.journal().open_ms());
        let front =
            Front { coordinator: Coordinator::new(options), waiting: HashMap::new(), next_ask: 0 };
        let changed = Arc::new(Notify::new());
        let inner = Arc::new(Inner { state: Mutex::new(front), changed: Arc::clone(&changed) });
        tokio::spawn(drive_timers(Arc::downgrade(&inner), changed));
        tokio::spawn(expire(Arc::downgrade(&inner), Arc::downgrade(&broker), expiry));
        Self { broker, inner }
    }

    /// Joins a group; answered when the rebalance is over.
    pub async fn join(&self, mut request: JoinRequest) -> Result<Joined, GroupError> {
        for (_, metadata) in &mut request.protocols {
            // A slice would keep the whole request in memory.
            *metadata = Bytes::copy_from_slice(metadata);
        }
        let fresh = random_uuid().to_string();
        let (sender, receiver) = oneshot::channel();
        self.inner.turn(|front, out| {
            let ask = front.ask(Waiting::Join(sender));
            front.coordinator.join(now(), ask, request, &fresh, out);
        });
        receiver.await.unwrap_or(Err(GroupError::Stopped))
    }

    /// Asks for the assignment; answered when the leader brought it.
    pub async fn sync(&self, mut request: SyncRequest) -> Result<Synced, GroupError> {
        for (_, assignment) in &mut request.assignments {
            *assignment = Bytes::copy_from_slice(assignment);
        }
        let (sender, receiver) = oneshot::channel();
        self.inner.turn(|front, out| {
            let ask = front.ask(Waiting::Sync(sender));
            front.coordinator.sync(now(), ask, request, out);
        });
        receiver.await.unwrap_or(Err(GroupError::Stopped))
    }

    /// A member is alive.
    pub fn heartbeat(&self, who: &MemberRef) -> Result<(), GroupError> {
        self.inner.turn(|front, _| front.coordinator.heartbeat(now(), who))
    }

    /// Members leave; one result each, in order.
    pub fn leave(
        &self,
        group: &str,
        leaving: &[Leaving],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        self.inner.turn(|front, out| front.coordinator.leave(now(), group, leaving, out))
    }

    /// Commits offsets, durable when this returns; one result each, in order. What is legal lands together.
    pub async fn commit(
        &self,
        who: &MemberRef,
        commits: Vec<OffsetCommit>,
    ) -> Result<Vec<Result<(), CommitError>>, CommitError> {
        // Before anything is made of it: keys carry 16-bit lengths.
        check_group_id(&who.group)?;
        let (committed_ms, open_ms) = (wall_clock_ms(), self.broker.journal().open_ms());
        let mut results = Vec::with_capacity(commits.len());
        let mut facts = Vec::with_capacity(commits.len());
        for commit in commits {
            let result = self.check_commit(&commit);
            if result.is_ok() {
                let key = offset::key(&who.group, &commit.topic, commit.partition);
                let value = CommittedOffset::new(commit, committed_ms, open_ms).to_fact();
                facts.push(Fact { space: space::GROUP_OFFSET, key, value: Some(value) });
            }
            results.push(result);
        }
        // One turn: between the check and the place in the log no other member may commit.
        let commit = self.inner.turn(|front, _| {
            front.coordinator.admit_commit(now(), who)?;
            if facts.is_empty() {
                return Ok(None);
            }
            let request = AppendRequest { batches: Vec::new(), facts };
            self.broker.append(request).map(Some).map_err(CommitError::from)
        })?;
        if let Some(commit) = commit {
            commit.durable().await.map_err(|poisoned| CommitError::Append(poisoned.into()))?;
        }
        Ok(results)
    }

    /// How far a group has read a partition; none if it never committed.
    #[must_use]
    pub fn committed(&self, group: &str, topic: &str, partition: u32) -> Option<CommittedOffset> {
        if !is_keyable(group, topic) {
            return None;
        }
        let value = self.broker.fact(space::GROUP_OFFSET, &offset::key(group, topic, partition))?;
        read_offset(value)
    }

    /// Every offset that a group committed, by topic and partition.
    #[must_use]
    pub fn all_committed(&self, group: &str) -> Vec<(String, u32, CommittedOffset)> {
        let offsets = self.offset_facts(group).into_iter().filter_map(|(key, value)| {
            let (_, topic, partition) = offset::read_key(key).ok()?;
            Some((topic, partition, read_offset(value)?))
        });
        offsets.collect()
    }

    /// All groups: those with members, and those that only keep offsets.
    #[must_use]
    pub fn list(&self) -> Vec<GroupSummary> {
        let mut groups: BTreeMap<String, GroupSummary> = self
            .broker
            .facts(space::GROUP_OFFSET)
            .into_iter()
            .filter_map(|(key, _)| offset::read_key(key).ok())
            .map(|(group, _, _)| (group.clone(), offsets_only(group)))
            .collect();
        let active = self.inner.turn(|front, _| front.coordinator.list());
        groups.extend(active.into_iter().map(|summary| (summary.group.clone(), summary)));
        groups.into_values().collect()
    }

    /// A group in full; none if it has neither members nor offsets.
    #[must_use]
    pub fn describe(&self, group: &str) -> Option<GroupDescription> {
        let active = self.inner.turn(|front, _| front.coordinator.describe(group));
        active.or_else(|| {
            if self.offset_facts(group).is_empty() {
                return None;
            }
            Some(GroupDescription {
                group: group.to_owned(),
                phase: GroupPhase::Empty,
                generation: 0,
                protocol_type: String::new(),
                protocol: String::new(),
                members: Vec::new(),
            })
        })
    }

    /// Deletes a group without members: its offsets are gone, durably, when this returns.
    pub async fn delete(&self, group: &str) -> Result<(), CommitError> {
        let commit = self.inner.turn(|front, _| {
            check_group_id(group)?;
            // Who was only given an id is no member yet.
            if front.coordinator.describe(group).is_some_and(|it| it.has_members()) {
                return Err(CommitError::Group(GroupError::NotEmpty));
            }
            let facts: Vec<Fact> = self
                .offset_facts(group)
                .into_iter()
                .map(|(key, _)| Fact { space: space::GROUP_OFFSET, key, value: None })
                .collect();
            if facts.is_empty() {
                return Err(CommitError::Group(GroupError::NotFound));
            }
            Ok(self.broker.append(AppendRequest { batches: Vec::new(), facts })?)
        })?;
        commit.durable().await.map_err(|poisoned| CommitError::Append(poisoned.into()))
    }

    /// Forgets offsets that a group committed, durably when this returns; one result each, in order. A topic that members
    /// read keeps its offsets.
    pub async fn delete_offsets(
        &self,
        group: &str,
        offsets: Vec<(String, u32)>,
    ) -> Result<Vec<Result<(), CommitError>>, CommitError> {
        let (results, commit) = self.inner.turn(|front, _| {
            check_group_id(group)?;
            let active = front.coordinator.describe(group);
            if active.is_none() && self.offset_facts(group).is_empty() {
                return Err(CommitError::Group(GroupError::NotFound));
            }
            if active.as_ref().is_some_and(|it| it.protocol_type != CONSUMER && it.has_members()) {
                return Err(CommitError::Group(GroupError::NotEmpty));
            }
            let mut facts = Vec::new();
            let results = offsets.iter().map(|(topic, partition)| {
                self.check_partition(topic, *partition)?;
                if active.as_ref().is_some_and(|group| group.reads(topic)) {
                    return Err(CommitError::Group(GroupError::SubscribedToTopic));
                }
                let key = offset::key(group, topic, *partition);
                if self.broker.fact(space::GROUP_OFFSET, &key).is_some() {
                    facts.push(Fact { space: space::GROUP_OFFSET, key, value: None });
                }
                Ok(())
            });
            let results = results.collect();
            let request = AppendRequest { batches: Vec::new(), facts };
            Ok::<_, CommitError>((results, self.broker.append(request)?))
        })?;
        commit.durable().await.map_err(|poisoned| CommitError::Append(poisoned.into()))?;
        Ok(results)
    }

    fn check_partition(&self, topic: &str, partition: u32) -> Result<(), CommitError> {
        let topic = self.broker.topic(topic).ok_or(CommitError::UnknownPartition)?;
        match topic.partitions.get(partition as usize) {
            Some(_) => Ok(()),
            None => Err(CommitError::UnknownPartition),
        }
    }

    fn check_commit(&self, commit: &OffsetCommit) -> Result<(), CommitError> {
        self.check_partition(&commit.topic, commit.partition)?;
        let (bytes, limit) = (commit.metadata.len(), MAX_OFFSET_METADATA_BYTES);
        if bytes > limit {
            return Err(CommitError::MetadataTooLarge { bytes, limit });
        }
        Ok(())
    }

    fn offset_facts(&self, group: &str) -> Vec<(Bytes, Bytes)> {
        if check_group_id(group).is_err() {
            return Vec::new();
        }
        self.broker.facts_with_prefix(space::GROUP_OFFSET, &offset::group_prefix(group))
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.inner.changed.notify_one();
    }
}

impl Inner {
    /// One step of the coordinator: hands out its answers and wakes the timers.
    fn turn<R>(&self, step: impl FnOnce(&mut Front, &mut Vec<Answer>) -> R) -> R {
        let mut front = self.lock();
        let before = front.coordinator.next_deadline();
        let mut out = Vec::new();
        let result = step(&mut front, &mut out);
        front.hand_out(out);
        let after = front.coordinator.next_deadline();
        drop(front);
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.changed.notify_one();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Front> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Front {
    fn ask(&mut self, waiting: Waiting) -> Ask {
        let ask = Ask(self.next_ask);
        self.next_ask += 1;
        self.waiting.insert(ask, waiting);
        ask
    }

    fn hand_out(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            // Who hung up does not hear it; the member's session tells the group.
            match answer {
                Answer::Join(ask, result) => {
                    if let Some(Waiting::Join(sender)) = self.waiting.remove(&ask) {
                        let _ = sender.send(result);
                    }
                }
                Answer::Sync(ask, result) => {
                    if let Some(Waiting::Sync(sender)) = self.waiting.remove(&ask) {
                        let _ = sender.send(result);
                    }
                }
            }
        }
    }
}

/// Handles deadlines until the groups are dropped.
async fn drive_timers(inner: Weak<Inner>, changed: Arc<Notify>) {
    loop {
        let Some(alive) = inner.upgrade() else { return };
        let next = alive.turn(|front, out| {
            front.coordinator.advance(now(), out);
            front.coordinator.next_deadline()
        });
        drop(alive);
        match next {
            Some(deadline) => tokio::select! {
                () = tokio::time::sleep_until(Instant::from_std(deadline)) => {}
                () = changed.notified() => {}
            },
            None => changed.notified().await,
        }
    }
}

/// Forgets offsets that nobody came back for, until the groups are dropped.
async fn expire(inner: Weak<Inner>, broker: Weak<Broker>, mut expiry: Expiry) {
    loop {
        tokio::time::sleep(EXPIRY_INTERVAL).await;
        let (Some(inner), Some(broker)) = (inner.upgrade(), broker.upgrade()) else { return };
        let expired = expire_once(&inner, &broker, &mut expiry).await;
        match expired {
            Ok(0) => {}
            Ok(offsets) => tracing::info!(offsets, "offsets of groups that are gone were deleted"),
            Err(error) => tracing::warn!(%error, "old offsets could not be deleted yet"),
        }
    }
}

/// How many were forgotten, durably.
async fn expire_once(
    inner: &Inner,
    broker: &Broker,
    expiry: &mut Expiry,
) -> Result<usize, AppendError> {
    let mut count = 0;
    loop {
        // One turn: between the look and the place in the log nobody may join or commit.
        let (step, commit) = inner.turn(|front, _| {
            let active = front.coordinator.list().into_iter().filter_map(|group| {
                let described = front.coordinator.describe(&group.group)?;
                Some((group.group, described))
            });
            let active = active.collect();
            let offsets = broker.facts(space::GROUP_OFFSET);
            let due = expiry.due(broker.journal().open_ms(), &active, offsets);
            let facts: Vec<Fact> = due
                .into_iter()
                .take(EXPIRY_STEP)
                .map(|key| Fact { space: space::GROUP_OFFSET, key, value: None })
                .collect();
            let step = facts.len();
            let request = AppendRequest { batches: Vec::new(), facts };
            broker.append(request).map(|commit| (step, commit))
        })?;
        commit.durable().await?;
        count += step;
        if step < EXPIRY_STEP {
            return Ok(count);
        }
    }
}

/// The runtime's clock, so that a paused one holds for groups too.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn wall_clock_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

fn offsets_only(group: String) -> GroupSummary {
    GroupSummary { group, protocol_type: String::new(), phase: GroupPhase::Empty }
}

/// Keys carry 16-bit lengths; nothing longer was ever stored.
fn is_keyable(group: &str, topic: &str) -> bool {
    check_group_id(group).is_ok() && topic.len() <= crate::broker::MAX_TOPIC_NAME_BYTES
}

fn read_offset(value: Bytes) -> Option<CommittedOffset> {
    CommittedOffset::from_fact(value)
        .inspect_err(|error| tracing::error!(%error, "a group offset is not readable"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::{open, reopen};

    #[tokio::test]
    async fn offsets_of_groups_that_are_gone_are_deleted_for_good() {
        let folder = tempfile::tempdir().expect("folder");
        let broker = open(folder.path()).await;
        broker.create_topic("t", Some(1000), BTreeMap::new()).await.expect("created");
        let groups = Groups::new(Arc::clone(&broker), GroupOptions::default());
        let commit = |partition| OffsetCommit {
            topic: "t".to_owned(),
            partition,
            offset: 1,
            leader_epoch: -1,
            metadata: String::new(),
        };
        let nobody = MemberRef {
            group: "gone".to_owned(),
            member_id: String::new(),
            instance_id: None,
            generation: -1,
        };
        let commits = (0..1000).map(commit).collect();
        assert!(groups.commit(&nobody, commits).await.expect("taken").iter().all(Result::is_ok));
        let mut patient = Expiry::new(Duration::ZERO, 0);
        assert_eq!(expire_once(&groups.inner, &broker, &mut patient).await.expect("done"), 0);
        let mut expiry = Expiry::impatient();
        assert_eq!(expire_once(&groups.inner, &broker, &mut expiry).await.expect("done"), 1000);
        drop(groups);
        let broker = reopen(broker, folder.path()).await;
        assert!(broker.facts(space::GROUP_OFFSET).is_empty());
    }
}
