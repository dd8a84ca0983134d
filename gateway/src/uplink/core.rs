//! The uplink's decisions: what is read next, how a transaction is filled, what follows from each
//! outcome.
//!
//! No clock, no socket, no task: the shell (`shell.rs`) carries out what is decided here and
//! reports back.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::{Duration, Instant},
};

use super::{
    backoff::Backoff,
    centre::{
        CentralPartition, CentralTopic, CentreError, CommitError, Leg, Severity, Transaction,
        WantedTopic,
    },
    cursor::{Cursor, CursorTable},
    decode::{self, Decoded, Slice},
    lane::{Lane, LaneIdentity, Standing, Start, start_of},
};
use crate::{
    broker::LogEnds,
    journal::{Offset, PartitionId},
};

/// A transaction is never smaller because of failures: on a line that loses one in two, smaller
/// ones only cost more.
const MIN_BUDGET_BYTES: usize = 64 * 1024;
/// Least that one read asks for: many partitions share a transaction, but not in crumbs.
const MIN_READ_BYTES: usize = 64 * 1024;

/// All lanes and what is on its way.
#[derive(Debug)]
pub(super) struct Core {
    lanes: BTreeMap<PartitionId, Lane>,
    table: CursorTable,
    max_bytes: usize,
    budget: usize,
    backoff: Backoff,
    last_served: PartitionId,
}

/// One read of the local log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    /// Where from.
    pub(super) partition: PartitionId,
    /// What of it.
    pub(super) slice: Slice,
}

/// A transaction that is being filled.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// What it holds so far.
    pub(super) transaction: Transaction,
    exhausted: BTreeSet<PartitionId>,
}

/// What has to be looked up before a lane may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    /// The lane.
    pub(super) partition: PartitionId,
    /// The record whose digest is compared.
    pub(super) record: Offset,
}

/// What came of placing a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It runs, is left out (see its trouble), or has to be placed again later.
    Done,
    /// It runs from here on; so many records before are gone.
    Gap(i64),
    /// Answer with [`Core::prove`].
    Proof(Proof),
}

/// One lane, for the status.
#[derive(Clone, Debug)]
pub(super) struct LaneReport {
    /// Local topic.
    pub(super) topic: std::sync::Arc<str>,
    /// Partition index.
    pub(super) index: u32,
    /// Local partition.
    pub(super) partition: PartitionId,
    /// Next offset to be committed at the centre; none while that is unknown.
    pub(super) next: Option<Offset>,
    /// Why it does not move, if so.
    pub(super) trouble: Option<String>,
}

impl Core {
    /// Without lanes. `max_bytes` is the size of a full transaction.
    pub(super) fn new(max_bytes: usize) -> Self {
        let max_bytes = max_bytes.max(MIN_BUDGET_BYTES);
        Self {
            lanes: BTreeMap::new(),
            table: CursorTable::default(),
            max_bytes,
            budget: max_bytes,
            backoff: Backoff::default(),
            last_served: PartitionId(0),
        }
    }

    /// Whether a partition was taken in.
    pub(super) fn knows(&self, partition: PartitionId) -> bool {
        self.lanes.contains_key(&partition)
    }

    /// Takes in a partition that is to be forwarded; known ones stay as they are.
    pub(super) fn adopt(&mut self, identity: LaneIdentity) {
        self.lanes.entry(identity.partition).or_insert_with(|| Lane::new(identity));
    }

    /// Starts over with what was read back from the centre. What was on its way is forgotten:
    /// either the cursors show it, or it is sent again.
    pub(super) fn resume(&mut self, table: CursorTable) {
        self.table = table;
        for lane in self.lanes.values_mut() {
            if lane.standing == Standing::Running {
                lane.standing = Standing::Unplaced;
            }
        }
    }

    /// Whether a lane has no cursor in `table`.
    pub(super) fn misses_cursor(&self, table: &CursorTable) -> bool {
        self.lanes.values().any(|lane| table.get(&lane.identity.cursor_key).is_none())
    }

    /// Lanes that have to be placed now; parked ones whose time has come are among them.
    pub(super) fn unplaced(&mut self, now: Instant) -> Vec<PartitionId> {
        let mut due = Vec::new();
        for (partition, lane) in &mut self.lanes {
            if matches!(lane.standing, Standing::Parked { until, .. } if until <= now) {
                lane.standing = Standing::Unplaced;
            }
            if lane.standing == Standing::Unplaced {
                due.push(*partition);
            }
        }
        due
    }

    /// Every partition at the centre that a lane leads to.
    pub(super) fn destinations(&self) -> Vec<CentralPartition> {
        let identities = self.lanes.values().map(|lane| &lane.identity);
        identities
            .map(|lane| CentralPartition { topic: lane.central.clone(), index: lane.index })
            .collect()
    }

    /// The central topics of these lanes, each once.
    pub(super) fn topics_of(&self, lanes: &[PartitionId]) -> Vec<WantedTopic> {
        let mut wanted = BTreeMap::new();
        for lane in lanes.iter().filter_map(|partition| self.lanes.get(partition)) {
            wanted.insert(lane.identity.central.clone(), lane.identity.partitions);
        }
        wanted.into_iter().map(|(name, partitions)| WantedTopic { name, partitions }).collect()
    }

    /// The central topic of a lane.
    pub(super) fn central_of(&self, partition: PartitionId) -> Option<&str> {
        self.lanes.get(&partition).map(|lane| &*lane.identity.central)
    }

    /// Decides where a lane starts.
    pub(super) fn place(
        &mut self,
        partition: PartitionId,
        central: &Result<CentralTopic, String>,
        ends: LogEnds,
        now: Instant,
    ) -> Placed {
        let Some(lane) = self.lanes.get_mut(&partition) else { return Placed::Done };
        if let Err(why) = lane.fits(central) {
            lane.park(why, now);
            return Placed::Done;
        }
        let cursor = self.table.get(&lane.identity.cursor_key);
        match start_of(cursor, lane.identity.topic_id, ends) {
            Start::At(at) => lane.run(at, None),
            Start::AfterGap { at, missing } => {
                lane.run(at, None);
                return Placed::Gap(missing);
            }
            Start::IfProven { at, tail } if lane.proven == cursor.and_then(|c| c.clone().ok()) => {
                lane.run(at, Some(tail));
            }
            Start::IfProven { at, .. } => {
                return Placed::Proof(Proof { partition, record: Offset(at.0 - 1) });
            }
            Start::Later => {}
            Start::Halt(why) => lane.halt(why),
        }
        Placed::Done
    }

    /// Answers a [`Placed::Proof`] with the digest of the local record; `None` if the local log no
    /// longer has it, as compaction may bring about.
    pub(super) fn prove(&mut self, proof: Proof, found: Option<u32>) {
        let Some(lane) = self.lanes.get_mut(&proof.partition) else { return };
        let Some(Ok(cursor)) = self.table.get(&lane.identity.cursor_key) else { return };
        match (found, cursor.tail) {
            (Some(found), Some(tail)) if found != tail => lane.halt(format!(
                "the record at offset {} is not the one that was sent to the centre: the local log \
                 was restored from an older copy and written anew",
                proof.record.0
            )),
            _ => {
                lane.proven = Some(*cursor);
                lane.run(cursor.next, cursor.tail);
            }
        }
    }

    /// Why a lane does not send, if so.
    pub(super) fn trouble(&self, partition: PartitionId) -> Option<&str> {
        self.lanes.get(&partition).and_then(Lane::trouble)
    }

    /// Leaves a lane out for a while.
    pub(super) fn park(&mut self, partition: PartitionId, why: String, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.park(why, now);
        }
    }

    /// The next round of reads for the draft: one per lane that has something stable to send, in
    /// equal shares, so that a backlog in one does not hold up the others. Empty when nothing is
    /// left or the draft is full; stop within a round once [`Core::has_room`] says so.
    pub(super) fn next_round(
        &self,
        draft: &Draft,
        ends: impl Fn(PartitionId) -> LogEnds,
    ) -> Vec<Read> {
        let room = self.budget.saturating_sub(draft.transaction.bytes);
        if room == 0 {
            return Vec::new();
        }
        let after = (Bound::Excluded(self.last_served), Bound::Unbounded);
        let ready: Vec<_> = self
            .lanes
            .range(after)
            .chain(self.lanes.range(..=self.last_served))
            .filter(|(partition, lane)| {
                lane.standing == Standing::Running && !draft.exhausted.contains(partition)
            })
            .map(|(partition, lane)| (*partition, lane, ends(*partition).stable))
            .filter(|(_, lane, stable)| lane.taken.0 < stable.0)
            .collect();
        let share = (room / ready.len().max(1)).max(MIN_READ_BYTES).min(room);
        ready
            .into_iter()
            .map(|(partition, lane, stable)| Read {
                partition,
                slice: Slice {
                    from: lane.taken,
                    until: stable,
                    max_bytes: share,
                    max_records: lane.ration.map_or(usize::MAX, |ration| ration.records),
                },
            })
            .collect()
    }

    /// Whether the draft takes more.
    pub(super) fn has_room(&self, draft: &Draft) -> bool {
        draft.transaction.bytes < self.budget
    }

    /// Puts what was read into the draft.
    pub(super) fn take(
        &mut self,
        draft: &mut Draft,
        read: Read,
        decoded: Decoded,
        leader_epoch: i32,
        now: Instant,
    ) {
        let Some(lane) = self.lanes.get_mut(&read.partition) else { return };
        let Some(next) = decoded.next.filter(|next| next.0 > lane.taken.0) else {
            // Nothing to be had: without this the same read would come again.
            draft.exhausted.insert(read.partition);
            if let Some(why) = decoded.blocked {
                lane.park(why, now);
            }
            return;
        };
        if lane.ration.is_some() || decoded.blocked.is_some() {
            draft.exhausted.insert(read.partition);
        }
        self.last_served = read.partition;
        lane.taken = next;
        if let Some(last) = decoded.records.last() {
            lane.taken_tail = Some(decode::digest(last));
        }
        let cursor =
            Cursor { next, leader_epoch, topic_id: lane.identity.topic_id, tail: lane.taken_tail };
        draft.add(lane, cursor, decoded);
    }

    /// Whether the draft is worth sending without waiting for more.
    pub(super) fn is_full(&self, draft: &Draft) -> bool {
        draft.transaction.bytes * 2 >= self.budget
            || self.lanes.values().any(|lane| lane.ration.is_some() && lane.trouble().is_none())
    }

    /// The centre confirmed the transaction.
    pub(super) fn committed(&mut self, transaction: &Transaction) {
        for (partition, leg) in &transaction.legs {
            self.table.set(leg.cursor_key.clone(), leg.cursor);
            if let Some(lane) = self.lanes.get_mut(partition) {
                lane.advance(leg.cursor);
            }
        }
        self.budget = self.budget.saturating_mul(2).min(self.max_bytes);
        self.backoff.reset();
    }

    /// The transaction failed: the session ends, and the next is opened after the wait.
    pub(super) fn failed(
        &mut self,
        transaction: &Transaction,
        error: &CommitError,
        now: Instant,
        jitter: f64,
    ) -> Duration {
        match error {
            CommitError::Poison(refused) => {
                for (partition, why) in refused {
                    let leg = transaction.legs.get(partition);
                    if let (Some(leg), Some(lane)) = (leg, self.lanes.get_mut(partition)) {
                        lane.narrow(leg.count, leg.cursor.next, why, now);
                    }
                }
                // The search takes a failed transaction for each halving; growing waits would stop
                // everybody else.
                Backoff::default().after(Severity::Transient, jitter)
            }
            CommitError::Lost(error) => {
                // On a slow line a smaller transaction fits into the timeouts.
                self.budget = (self.budget / 2).max(MIN_BUDGET_BYTES);
                self.lost(error, jitter)
            }
        }
    }

    /// The session could not be opened, or ended outside of a transaction.
    pub(super) fn lost(&mut self, error: &CentreError, jitter: f64) -> Duration {
        self.backoff.after(error.severity, jitter)
    }

    /// Nothing is left to send: all is well.
    pub(super) fn settled(&mut self) {
        self.backoff.reset();
    }

    /// What new data to wait for.
    pub(super) fn wants(&self) -> Vec<(PartitionId, Offset)> {
        self.lanes
            .values()
            .filter(|lane| lane.standing == Standing::Running)
            .map(|lane| (lane.identity.partition, lane.taken))
            .collect()
    }

    /// Every lane, for the status.
    pub(super) fn report(&self) -> Vec<LaneReport> {
        self.lanes
            .values()
            .map(|lane| LaneReport {
                topic: lane.identity.topic.clone(),
                index: lane.identity.index,
                partition: lane.identity.partition,
                next: self
                    .table
                    .get(&lane.identity.cursor_key)
                    .and_then(|cursor| cursor.as_ref().ok().map(|cursor| cursor.next))
                    .or((lane.standing == Standing::Running).then_some(lane.committed)),
                trouble: lane.trouble().map(str::to_owned),
            })
            .collect()
    }
}

impl Draft {
    fn add(&mut self, lane: &Lane, cursor: Cursor, decoded: Decoded) {
        let leg = self.transaction.legs.entry(lane.identity.partition).or_insert_with(|| Leg {
            topic: lane.identity.central.clone(),
            index: lane.identity.index,
            records: Vec::new(),
            count: 0,
            cursor_key: lane.identity.cursor_key.clone(),
            cursor,
        });
        leg.count += decoded.records.len();
        leg.records.extend(decoded.records);
        leg.cursor = cursor;
        self.transaction.bytes += decoded.bytes;
    }

    /// Whether it moves nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.transaction.legs.is_empty()
    }
}
