//! A lane: one local partition on its way to the same partition at the centre, and the rules for
//! where it starts.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    centre::CentralTopic,
    cursor::{BadCursor, Cursor},
};
use crate::{
    broker::LogEnds,
    journal::{Offset, PartitionId},
};

/// First wait of a parked lane; doubles up to the longest.
const PARK_FIRST: Duration = Duration::from_secs(60);
/// Longest wait of a parked lane: what an operator repairs at the centre is picked up within it.
const PARK_LONGEST: Duration = Duration::from_secs(960);
/// A ration of so many records is none any more.
const RATION_LIFTED: usize = 65_536;

/// What a lane connects.
#[derive(Clone, Debug)]
pub(super) struct LaneIdentity {
    /// The local partition.
    pub(super) partition: PartitionId,
    /// Name of the local topic.
    pub(super) topic: Arc<str>,
    /// Name of the topic at the centre.
    pub(super) central: Arc<str>,
    /// Partition index on both sides.
    pub(super) index: u32,
    /// Partitions of the local topic.
    pub(super) partitions: u32,
    /// Id of the local topic.
    pub(super) topic_id: [u8; 16],
    /// Key of the lane's cursor at the centre.
    pub(super) cursor_key: Bytes,
}

/// What a lane may do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// To be placed: where the centre stands has not been compared with the local log in this
    /// session.
    Unplaced,
    /// Sends.
    Running,
    /// Left out until then; the others go on.
    Parked {
        /// For the operator.
        why: String,
        /// When it is tried again.
        until: Instant,
    },
    /// Left out for good: going on would double or hide records.
    Halted {
        /// For the operator.
        why: String,
    },
}

/// While a record that the centre refuses is searched for: fewer and fewer records at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ration {
    /// Most records in one transaction.
    pub(super) records: usize,
    /// The refused record lies before this offset.
    pub(super) until: Offset,
}

/// One lane.
#[derive(Debug)]
pub(super) struct Lane {
    /// What it connects.
    pub(super) identity: LaneIdentity,
    /// What it may do.
    pub(super) standing: Standing,
    /// Next offset by the centre's account, as far as is known.
    pub(super) committed: Offset,
    /// Next offset to read: past what is on its way.
    pub(super) taken: Offset,
    /// Digest of the record before `taken`.
    pub(super) taken_tail: Option<u32>,
    /// Limits while a refused record is searched for.
    pub(super) ration: Option<Ration>,
    /// Parked so many times without a commit in between.
    pub(super) parkings: u32,
    /// The cursor that the local log was last proven to match.
    pub(super) proven: Option<Cursor>,
}

/// Where a lane starts, by cursor and local log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Here.
    At(Offset),
    /// Here, after records that the local log lost before they were sent.
    AfterGap {
        /// Where.
        at: Offset,
        /// Records that will be missing at the centre.
        missing: i64,
    },
    /// Here, if the record before it still has this digest.
    IfProven {
        /// Where.
        at: Offset,
        /// The record's digest.
        tail: u32,
    },
    /// Not decided before the end of the log is durable again, right after a restart.
    Later,
    /// Nowhere.
    Halt(String),
}

/// Compares the centre's cursor with the local log.
pub(super) fn start_of(
    cursor: Option<&Result<Cursor, BadCursor>>,
    topic_id: [u8; 16],
    ends: LogEnds,
) -> Start {
    let cursor = match cursor {
        None => return Start::At(ends.start),
        Some(Err(error)) => return Start::Halt(error.to_string()),
        // Another topic of the same name: none of its records were ever sent.
        Some(Ok(cursor)) if cursor.topic_id != topic_id => return Start::At(ends.start),
        Some(Ok(cursor)) => cursor,
    };
    if cursor.next.0 > ends.written.0 {
        return Start::Halt(format!(
            "the centre already holds offsets up to {} but the local log ends at {}: it was \
             restored from an older copy, and its new records would be taken for old ones",
            cursor.next.0, ends.written.0
        ));
    }
    if cursor.leader_epoch > ends.leader_epoch {
        return Start::Halt(format!(
            "the centre was last written from leader epoch {} but the local log is in epoch {}: \
             it was restored from an older copy",
            cursor.leader_epoch, ends.leader_epoch
        ));
    }
    if cursor.next.0 > ends.durable.0 {
        return Start::Later;
    }
    if cursor.next.0 < ends.start.0 {
        return Start::AfterGap { at: ends.start, missing: ends.start.0 - cursor.next.0 };
    }
    match cursor.tail {
        Some(tail) if cursor.next.0 > ends.start.0 => Start::IfProven { at: cursor.next, tail },
        _ => Start::At(cursor.next),
    }
}

impl Lane {
    /// A lane that has yet to be placed.
    pub(super) fn new(identity: LaneIdentity) -> Self {
        Self {
            identity,
            standing: Standing::Unplaced,
            committed: Offset(0),
            taken: Offset(0),
            taken_tail: None,
            ration: None,
            parkings: 0,
            proven: None,
        }
    }

    /// Starts to send at `at`, after a record with digest `tail`.
    pub(super) fn run(&mut self, at: Offset, tail: Option<u32>) {
        self.standing = Standing::Running;
        self.committed = at;
        self.taken = at;
        self.taken_tail = tail;
    }

    /// Leaves the lane out for a while.
    pub(super) fn park(&mut self, why: String, now: Instant) {
        let wait = PARK_FIRST.saturating_mul(1 << self.parkings.min(8)).min(PARK_LONGEST);
        self.parkings = self.parkings.saturating_add(1);
        self.standing = Standing::Parked { why, until: now + wait };
    }

    /// Leaves the lane out for good.
    pub(super) fn halt(&mut self, why: String) {
        self.standing = Standing::Halted { why };
    }

    /// Narrows the search for the refused record in the transaction that took `records` records up
    /// to `end`; parks the lane once it stands right before it.
    pub(super) fn narrow(&mut self, records: usize, end: Offset, why: &str, now: Instant) {
        let until = self.ration.map_or(end, |ration| ration.until.max(end));
        self.ration = Some(Ration { records: (records / 2).max(1), until });
        if records <= 1 {
            self.park(
                format!("the centre refuses the record at offset {}: {why}", self.committed.0),
                now,
            );
        }
    }

    /// Notes that everything before `cursor` is at the centre.
    pub(super) fn advance(&mut self, cursor: Cursor) {
        self.committed = cursor.next;
        self.proven = Some(cursor);
        self.parkings = 0;
        // Lifted step by step: a centre that refuses large batches, rather than one record, would
        // refuse the next too.
        if let Some(ration) = self.ration.filter(|ration| ration.until <= cursor.next) {
            let records = ration.records.saturating_mul(2);
            self.ration = (records < RATION_LIFTED).then_some(Ration { records, ..ration });
        }
    }

    /// Why the lane does not send, if so.
    pub(super) fn trouble(&self) -> Option<&str> {
        match &self.standing {
            Standing::Unplaced | Standing::Running => None,
            Standing::Parked { why, .. } | Standing::Halted { why } => Some(why),
        }
    }

    /// Checks that the centre has the lane's partition.
    pub(super) fn fits(&self, central: &Result<CentralTopic, String>) -> Result<(), String> {
        let identity = &self.identity;
        match central {
            Ok(central) if identity.index < central.partitions => Ok(()),
            Ok(central) => Err(format!(
                "topic {:?} has {} partitions at the centre and {} here: add partitions there",
                identity.central, central.partitions, identity.partitions
            )),
            Err(why) => Err(format!("topic {:?} at the centre: {why}", identity.central)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: [u8; 16] = [1; 16];

    fn ends(start: i64, durable: i64) -> LogEnds {
        LogEnds {
            start: Offset(start),
            written: Offset(durable),
            durable: Offset(durable),
            stable: Offset(durable),
            leader_epoch: 2,
        }
    }

    fn cursor(next: i64) -> Cursor {
        Cursor { next: Offset(next), leader_epoch: 2, topic_id: TOPIC, tail: Some(7) }
    }

    #[test]
    fn where_a_lane_starts() {
        let untailed = Cursor { tail: None, ..cursor(5) };
        let elsewhere = Cursor { topic_id: [2; 16], ..cursor(900) };
        let proven = |at| Start::IfProven { at: Offset(at), tail: 7 };
        for (cursor, ends, expect) in [
            (None, ends(0, 10), Start::At(Offset(0))),
            (None, ends(4, 10), Start::At(Offset(4))),
            (Some(cursor(0)), ends(0, 10), Start::At(Offset(0))),
            (Some(cursor(5)), ends(0, 10), proven(5)),
            (Some(cursor(10)), ends(0, 10), proven(10)),
            (Some(untailed), ends(0, 10), Start::At(Offset(5))),
            // The record before the cursor was deleted locally: nothing left to compare with.
            (Some(cursor(5)), ends(5, 10), Start::At(Offset(5))),
            (Some(cursor(5)), ends(8, 10), Start::AfterGap { at: Offset(8), missing: 3 }),
            (Some(elsewhere), ends(3, 10), Start::At(Offset(3))),
        ] {
            assert_eq!(
                start_of(cursor.map(Ok).as_ref(), TOPIC, ends),
                expect,
                "{cursor:?} {ends:?}"
            );
        }
    }

    #[test]
    fn a_tail_that_is_not_durable_again_is_waited_for() {
        let ends = LogEnds { durable: Offset(4), stable: Offset(4), ..ends(0, 10) };
        assert_eq!(start_of(Some(&Ok(cursor(5))), TOPIC, ends), Start::Later);
    }

    #[test]
    fn an_older_copy_of_the_log_halts() {
        let newer_epoch = Cursor { leader_epoch: 3, ..cursor(5) };
        let unreadable = Cursor::decode(b"k", b"junk").unwrap_err();
        for (cursor, word) in [
            (Ok(cursor(11)), "restored from an older copy"),
            (Ok(newer_epoch), "restored from an older copy"),
            (Err(unreadable), "unreadable"),
        ] {
            match start_of(Some(&cursor), TOPIC, ends(0, 10)) {
                Start::Halt(why) => assert!(why.contains(word), "{why}"),
                other => panic!("{cursor:?} gave {other:?}"),
            }
        }
    }

    #[test]
    fn parking_waits_longer_each_time_and_forgets_on_success() {
        let now = Instant::now();
        let mut lane = lane();
        let mut waits = Vec::new();
        for _ in 0..12 {
            lane.park("why".into(), now);
            let Standing::Parked { until, .. } = lane.standing else {
                panic!("{:?}", lane.standing)
            };
            waits.push((until - now).as_secs());
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 960, 960, 960, 960, 960, 960, 960]);
        lane.advance(cursor(1));
        lane.park("why".into(), now);
        assert!(
            matches!(&lane.standing, Standing::Parked { until, .. } if *until == now + PARK_FIRST)
        );
    }

    #[test]
    fn narrowing_halves_down_to_one_record_then_parks() {
        let now = Instant::now();
        let mut lane = lane();
        lane.run(Offset(10), None);
        lane.narrow(8, Offset(18), "too large", now);
        assert_eq!(lane.ration, Some(Ration { records: 4, until: Offset(18) }));
        lane.narrow(4, Offset(14), "too large", now);
        assert_eq!(lane.ration, Some(Ration { records: 2, until: Offset(18) }));
        assert_eq!(lane.trouble(), None);
        lane.advance(Cursor { next: Offset(12), ..cursor(0) });
        lane.narrow(1, Offset(13), "too large", now);
        assert_eq!(lane.trouble(), Some("the centre refuses the record at offset 12: too large"));
        let past = Cursor { next: Offset(18), ..cursor(0) };
        lane.advance(past);
        assert_eq!(lane.ration, Some(Ration { records: 2, until: Offset(18) }));
        for _ in 0..16 {
            lane.advance(past);
        }
        assert_eq!(lane.ration, None);
    }

    fn lane() -> Lane {
        Lane::new(LaneIdentity {
            partition: PartitionId(1),
            topic: "t".into(),
            central: "t".into(),
            index: 0,
            partitions: 1,
            topic_id: TOPIC,
            cursor_key: Bytes::from_static(b"k"),
        })
    }
}
