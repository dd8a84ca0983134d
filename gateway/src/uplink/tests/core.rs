//! The core against a model: a local log in vectors, a centre that applies or loses transactions as
//! told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;

use crate::{
    broker::LogEnds,
    journal::{Offset, PartitionId},
    record::Record,
    uplink::{
        centre::{CentralTopic, CentreError, CommitError, Severity, Transaction},
        core::{Core, Draft, Placed, Read},
        cursor::{Cursor, CursorTable},
        decode::{Decoded, Slice, digest},
        lane::LaneIdentity,
    },
};

const GATEWAY: [u8; 16] = [7; 16];
const MAX_BYTES: usize = 256 * 1024;
const RECORD_BYTES: usize = 1024;

fn key(partition: PartitionId) -> Bytes {
    crate::uplink::cursor::key(GATEWAY, "t", partition.0)
}

fn record(partition: PartitionId, offset: i64, version: u8) -> Record {
    Record {
        offset,
        timestamp: 1_000 + offset,
        key: None,
        value: Some(Bytes::from(format!("{}:{offset}:{version}", partition.0))),
        headers: Vec::new(),
    }
}

/// What a transaction's end looks like from here, and what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Committed,
    LostYetCommitted,
    LostAndAborted,
}

struct World {
    core: Core,
    now: Instant,
    local: BTreeMap<PartitionId, Vec<Record>>,
    start: i64,
    partitions_there: u32,
    data: BTreeMap<PartitionId, Vec<Record>>,
    cursors: BTreeMap<PartitionId, Cursor>,
    /// Offsets that the centre never takes.
    poison: BTreeSet<(PartitionId, i64)>,
    gaps: i64,
    failures: u32,
}

impl World {
    fn new(partitions: u32) -> Self {
        let ids = (1..=partitions).map(PartitionId);
        let mut world = Self {
            core: Core::new(MAX_BYTES),
            now: Instant::now(),
            local: ids.map(|id| (id, Vec::new())).collect(),
            start: 0,
            partitions_there: partitions,
            data: BTreeMap::new(),
            cursors: BTreeMap::new(),
            poison: BTreeSet::new(),
            gaps: 0,
            failures: 0,
        };
        world.restart();
        world
    }

    /// A new process with the same log.
    fn restart(&mut self) {
        self.core = Core::new(MAX_BYTES);
        let partitions = u32::try_from(self.local.len()).unwrap();
        for partition in self.local.keys() {
            self.core.adopt(LaneIdentity {
                partition: *partition,
                topic: "t".into(),
                central: "t".into(),
                index: partition.0 - 1,
                partitions,
                topic_id: [1; 16],
                cursor_key: key(*partition),
            });
        }
        self.resume();
    }

    /// A new session.
    fn resume(&mut self) {
        let mut table = CursorTable::default();
        for (partition, cursor) in &self.cursors {
            let key = key(*partition);
            table.apply(GATEWAY, Some(&key), Some(&cursor.encode(&key)));
        }
        self.core.resume(table);
    }

    fn append(&mut self, partition: PartitionId, count: usize) {
        let log = self.local.get_mut(&partition).unwrap();
        for _ in 0..count {
            let offset = i64::try_from(log.len()).unwrap();
            log.push(record(partition, offset, 0));
        }
    }

    fn ends(&self, partition: PartitionId) -> LogEnds {
        let end = Offset(i64::try_from(self.local[&partition].len()).unwrap());
        LogEnds {
            start: Offset(self.start),
            written: end,
            durable: end,
            stable: end,
            leader_epoch: 0,
        }
    }

    fn place(&mut self) {
        for partition in self.core.unplaced(self.now) {
            let central =
                Ok(CentralTopic { partitions: self.partitions_there, retention_ms: None });
            match self.core.place(partition, &central, self.ends(partition), self.now) {
                Placed::Done => {}
                Placed::Gap(missing) => self.gaps += missing,
                Placed::Proof(proof) => {
                    let offset = usize::try_from(proof.record.0).unwrap();
                    let found = self.local[&partition].get(offset).map(digest);
                    self.core.prove(proof, found);
                }
            }
        }
    }

    fn read(&self, read: Read) -> Decoded {
        let Slice { from, until, max_bytes, max_records } = read.slice;
        let mut decoded = Decoded::default();
        for record in &self.local[&read.partition] {
            let full = decoded.bytes >= max_bytes || decoded.records.len() >= max_records;
            if record.offset < from.0 || record.offset >= until.0 || full {
                continue;
            }
            decoded.next = Some(Offset(record.offset + 1));
            decoded.bytes += RECORD_BYTES;
            decoded.records.push(record.clone());
        }
        decoded
    }

    fn fill(&mut self) -> Draft {
        let mut draft = Draft::default();
        loop {
            let round = self.core.next_round(&draft, |partition| self.ends(partition));
            if round.is_empty() {
                return draft;
            }
            for read in round {
                if !self.core.has_room(&draft) {
                    return draft;
                }
                let decoded = self.read(read);
                self.core.take(&mut draft, read, decoded, 0, self.now);
            }
        }
    }

    fn apply(&mut self, transaction: &Transaction) {
        for (partition, leg) in &transaction.legs {
            self.data.entry(*partition).or_default().extend(leg.records.iter().cloned());
            self.cursors.insert(*partition, leg.cursor);
        }
    }

    fn poisoned(&self, transaction: &Transaction) -> Vec<(PartitionId, String)> {
        let hit = |(partition, leg): (&PartitionId, &crate::uplink::centre::Leg)| {
            leg.records
                .iter()
                .any(|record| self.poison.contains(&(*partition, record.offset)))
                .then(|| (*partition, "MessageTooLarge".to_owned()))
        };
        transaction.legs.iter().filter_map(hit).collect()
    }

    /// One transaction, with the next one already being filled if `ahead`; false when there is
    /// nothing to send.
    fn step(&mut self, outcome: Outcome, ahead: bool) -> bool {
        self.place();
        let draft = self.fill();
        if draft.is_empty() {
            return false;
        }
        if ahead {
            // Dropped by every error, as the shell does; after a commit the core goes on behind it.
            let next = self.fill();
            let behind = self.finish(&draft.transaction, outcome);
            if behind && !next.is_empty() {
                self.finish(&next.transaction, Outcome::Committed);
            }
        } else {
            self.finish(&draft.transaction, outcome);
        }
        true
    }

    /// Whether it was seen to commit.
    fn finish(&mut self, transaction: &Transaction, outcome: Outcome) -> bool {
        let refused = self.poisoned(transaction);
        let error = if !refused.is_empty() {
            CommitError::Poison(refused)
        } else if outcome == Outcome::Committed {
            self.apply(transaction);
            self.core.committed(transaction);
            return true;
        } else {
            if outcome == Outcome::LostYetCommitted {
                self.apply(transaction);
            }
            CommitError::Lost(CentreError::transient("cut"))
        };
        self.failures += 1;
        let wait = self.core.failed(transaction, &error, self.now, 0.0);
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(60));
        self.resume();
        false
    }

    fn drain(&mut self) {
        for _ in 0..10_000 {
            if !self.step(Outcome::Committed, false) {
                return;
            }
        }
        panic!("never done");
    }

    fn trouble(&self, partition: u32) -> Option<&str> {
        self.core.trouble(PartitionId(partition))
    }

    fn assert_all_there(&self) {
        for (partition, log) in &self.local {
            let there = self.data.get(partition).cloned().unwrap_or_default();
            assert_eq!(&there, log, "{partition:?}");
        }
    }
}

const P1: PartitionId = PartitionId(1);
const P2: PartitionId = PartitionId(2);

#[test]
fn every_outcome_ends_with_each_record_once() {
    for outcome in [Outcome::Committed, Outcome::LostYetCommitted, Outcome::LostAndAborted] {
        for ahead in [false, true] {
            let mut world = World::new(2);
            world.append(P1, 600);
            world.append(P2, 3);
            assert!(world.step(outcome, ahead));
            world.drain();
            world.assert_all_there();
        }
    }
}

proptest! {
    #[test]
    fn any_mix_of_outcomes_and_restarts_keeps_every_record_once_and_in_order(
        script in proptest::collection::vec(
            (0_u8..3, any::<bool>(), any::<bool>(), 0_usize..400), 1..40
        )
    ) {
        let mut world = World::new(3);
        for (outcome, ahead, restart, count) in script {
            world.append(PartitionId(1 + u32::try_from(count % 3).unwrap()), count);
            let outcome = [Outcome::Committed, Outcome::LostYetCommitted, Outcome::LostAndAborted]
                [usize::from(outcome)];
            world.step(outcome, ahead);
            if restart {
                world.restart();
            }
        }
        world.drain();
        world.assert_all_there();
    }
}

#[test]
fn a_backlog_in_one_partition_leaves_room_for_the_others() {
    let mut world = World::new(3);
    world.append(P1, 100_000);
    world.append(P2, 10);
    world.append(PartitionId(3), 10);
    assert!(world.step(Outcome::Committed, false));
    assert_eq!(world.data[&P2].len(), 10);
    assert_eq!(world.data[&PartitionId(3)].len(), 10);
    let first = world.data[&P1].len();
    assert!(first * RECORD_BYTES >= MAX_BYTES / 2, "the rest of the transaction is used: {first}");
    assert!(first * RECORD_BYTES <= MAX_BYTES + RECORD_BYTES);
}

#[test]
fn more_partitions_than_fit_take_turns() {
    let mut world = World::new(64);
    for partition in 1..=64 {
        world.append(PartitionId(partition), 64);
    }
    for _ in 0..16 {
        assert!(world.step(Outcome::Committed, false));
    }
    world.assert_all_there();
}

#[test]
fn a_refused_record_parks_its_partition_at_that_record_and_the_others_go_on() {
    let mut world = World::new(2);
    world.append(P1, 300);
    world.append(P2, 300);
    world.poison.insert((P1, 137));
    world.drain();
    assert_eq!(world.data[&P1].len(), 137, "everything before it is there");
    assert_eq!(
        world.trouble(1),
        Some("the centre refuses the record at offset 137: MessageTooLarge")
    );
    assert_eq!(world.data[&P2].len(), 300);
    assert!(world.failures <= 12, "{} failures to find one of 300", world.failures);

    world.append(P2, 5);
    world.drain();
    assert_eq!(world.data[&P2].len(), 305);

    world.now += Duration::from_secs(61);
    world.drain();
    assert!(world.trouble(1).is_some(), "tried again, still refused");

    world.poison.clear();
    world.now += Duration::from_secs(1_000);
    world.drain();
    assert_eq!(world.trouble(1), None);
    world.assert_all_there();
}

#[test]
fn partitions_that_the_centre_lacks_are_parked_until_it_has_them() {
    let mut world = World::new(2);
    world.partitions_there = 1;
    world.append(P1, 5);
    world.append(P2, 5);
    world.drain();
    assert_eq!(world.data[&P1].len(), 5);
    assert_eq!(
        world.trouble(2),
        Some("topic \"t\" has 1 partitions at the centre and 2 here: add partitions there")
    );
    world.partitions_there = 2;
    world.now += Duration::from_secs(61);
    world.drain();
    world.assert_all_there();
}

#[test]
fn a_topic_that_cannot_be_had_parks_its_partitions() {
    let mut world = World::new(1);
    let due = world.core.unplaced(world.now);
    world.core.place(due[0], &Err("no permission".into()), world.ends(P1), world.now);
    assert_eq!(world.trouble(1), Some("topic \"t\" at the centre: no permission"));
    assert!(world.core.unplaced(world.now).is_empty());
}

#[test]
fn a_log_restored_from_an_older_copy_halts_and_sends_nothing() {
    let mut world = World::new(2);
    world.append(P1, 50);
    world.append(P2, 50);
    world.drain();
    let mut shorter = World::new(2);
    (shorter.data, shorter.cursors) = (world.data.clone(), world.cursors.clone());
    shorter.append(P1, 40);
    shorter.append(P2, 50);
    shorter.restart();
    shorter.place();
    shorter.append(P1, 100);
    shorter.append(P2, 1);
    shorter.drain();
    let why = shorter.trouble(1).unwrap();
    assert!(why.contains("was restored from an older copy"), "{why}");
    assert_eq!(shorter.data[&P1].len(), 50, "nothing of it was sent");
    assert_eq!(shorter.data[&P2].len(), 51, "the other partition goes on");
    shorter.now += Duration::from_secs(100_000);
    shorter.resume();
    shorter.drain();
    assert!(shorter.trouble(1).is_some(), "halted for good");
}

#[test]
fn a_log_restored_and_written_past_the_cursor_halts_too() {
    let mut world = World::new(1);
    world.append(P1, 50);
    world.drain();
    let log = world.local.get_mut(&P1).unwrap();
    for offset in 40..60_i64 {
        let index = usize::try_from(offset).unwrap();
        log.truncate(index.max(40));
        log.push(record(P1, offset, 1));
    }
    world.restart();
    world.drain();
    assert!(world.trouble(1).unwrap().contains("written anew"), "{:?}", world.trouble(1));
    assert_eq!(world.data[&P1].len(), 50);
}

#[test]
fn records_that_the_log_dropped_unsent_are_counted_not_hidden() {
    let mut world = World::new(1);
    world.append(P1, 10);
    world.drain();
    world.append(P1, 10);
    world.start = 15;
    world.restart();
    world.drain();
    assert_eq!(world.gaps, 5);
    assert_eq!(world.data[&P1].last().map(|record| record.offset), Some(19));
}

#[test]
fn what_cannot_be_decoded_parks_after_what_can() {
    let mut world = World::new(1);
    world.append(P1, 10);
    world.place();
    let mut draft = Draft::default();
    let read = world.core.next_round(&draft, |partition| world.ends(partition))[0];
    let mut half = world.read(read);
    half.records.truncate(4);
    half.next = Some(Offset(4));
    half.blocked = Some("damaged".into());
    world.core.take(&mut draft, read, half, 0, world.now);
    assert!(world.core.next_round(&draft, |partition| world.ends(partition)).is_empty());
    assert_eq!(world.trouble(1), None, "what is before it goes first");
    world.finish(&draft.transaction, Outcome::Committed);
    let mut draft = Draft::default();
    let read = world.core.next_round(&draft, |partition| world.ends(partition))[0];
    assert_eq!(read.slice.from, Offset(4));
    let nothing = Decoded { blocked: Some("damaged".into()), ..Decoded::default() };
    world.core.take(&mut draft, read, nothing, 0, world.now);
    assert!(draft.is_empty());
    assert_eq!(world.trouble(1), Some("damaged"));
}

#[test]
fn transactions_shrink_while_the_line_fails_and_grow_back() {
    let mut world = World::new(1);
    world.append(P1, 10_000);
    let mut sizes = Vec::new();
    for outcome in [Outcome::LostAndAborted; 4].into_iter().chain([Outcome::Committed; 4]) {
        world.place();
        let draft = world.fill();
        sizes.push(draft.transaction.bytes / 1024);
        world.finish(&draft.transaction, outcome);
    }
    assert_eq!(sizes, [256, 128, 64, 64, 64, 128, 256, 256]);
}

#[test]
fn a_refusal_waits_longer_than_a_cut() {
    let mut world = World::new(1);
    let error = |severity| CentreError { severity, message: "no".into() };
    let cut = world.core.lost(&error(Severity::Transient), 0.0);
    world.core.settled();
    let fenced = world.core.lost(&error(Severity::Fenced), 0.0);
    assert!(fenced > cut * 10, "{fenced:?} {cut:?}");
}
