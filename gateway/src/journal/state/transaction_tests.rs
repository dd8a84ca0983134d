//! Transactions in the reducer: what opens them, what ends them, what they hold back.

use super::{
    AbortedRange, Change, ProducerCheck, State, StateLimits,
    producer::EXPIRATION_MS,
    snapshot::{SnapshotReader, TRANSACTION_BYTES},
};
use crate::{
    journal::{Append, BatchEntry, Fact, Offset, PartitionId, StateFull},
    record::{
        Batch, BatchBuilder, BatchHeader, TransactionMarker,
        TransactionOutcome::{self, Abort, Commit},
    },
};

const P: PartitionId = PartitionId(4);
const Q: PartitionId = PartitionId(5);

fn plain() -> Batch {
    let mut builder = BatchBuilder::default();
    builder.push(0, None, Some(b"x"), &[]);
    builder.push(0, None, Some(b"y"), &[]);
    builder.finish().unwrap()
}

/// Two records of a producer, in a transaction.
fn data(producer: i64, epoch: i16, sequence: i32) -> Batch {
    plain().with_producer(producer, epoch, sequence).unwrap().in_transaction().unwrap()
}

fn marker(outcome: TransactionOutcome, producer: i64, epoch: i16) -> Batch {
    TransactionMarker { outcome, coordinator_epoch: 0 }.batch(producer, epoch, 0).unwrap()
}

fn append(state: &State, partition: PartitionId, batch: Batch) -> Append {
    let base_offset = state.partition(partition).log_end;
    let entry = BatchEntry { partition, base_offset, leader_epoch: 0, batch };
    Append { batches: vec![entry], facts: Vec::new() }
}

fn push(state: &mut State, partition: PartitionId, batch: Batch) -> Vec<AbortedRange> {
    let aborted = state.apply_append(&append(state, partition, batch), 0);
    aborted
        .into_iter()
        .map(|(of, range)| {
            assert_eq!(of, partition);
            range
        })
        .collect()
}

fn range(producer_id: i64, first: i64, last: i64) -> AbortedRange {
    AbortedRange { producer_id, first: Offset(first), last: Offset(last), has_marker: true }
}

fn ends(state: &State, partition: PartitionId) -> (i64, i64) {
    (state.stable_end(partition).0, state.partition(partition).log_end.0)
}

#[test]
fn markers_end_what_transactional_batches_begin() {
    let mut state = State::default();
    let step = |state: &mut State, batch, aborted: &[AbortedRange], stable, end| {
        assert_eq!(push(state, P, batch), aborted);
        assert_eq!(ends(state, P), (stable, end));
    };
    step(&mut state, plain(), &[], 2, 2);
    step(&mut state, data(1, 0, 0), &[], 2, 4);
    step(&mut state, data(2, 0, 0), &[], 2, 6);
    // More of the same transaction does not begin another one.
    step(&mut state, data(1, 0, 2), &[], 2, 8);
    step(&mut state, plain(), &[], 2, 10);
    assert_eq!(state.open_transaction(P, 1), Some(Offset(2)));
    assert_eq!(state.open_transaction(P, 3), None);
    // Of a producer with nothing open here, a marker ends nothing.
    step(&mut state, marker(Abort, 3, 0), &[], 2, 11);
    step(&mut state, marker(Commit, 1, 0), &[], 4, 12);
    step(&mut state, data(1, 0, 4), &[], 4, 14);
    step(&mut state, marker(Abort, 2, 0), &[range(2, 4, 14)], 12, 15);
    step(&mut state, marker(Abort, 2, 0), &[], 12, 16);
    step(&mut state, marker(Abort, 1, 1), &[range(1, 12, 16)], 17, 17);
    // Without a producer nothing begins; a marker that cannot be read ends nothing.
    let header = BatchHeader { attributes: 0x10, ..plain().header() };
    let change = |header| Change::Batch {
        partition: P,
        base_offset: Offset(17),
        leader_epoch: 0,
        header,
        marker: None,
    };
    assert_eq!(state.apply(change(&header), 0), []);
    assert_eq!(state.open_transactions().count(), 0);
    push(&mut state, P, data(1, 1, 0));
    let header = marker(Commit, 1, 1).header();
    assert_eq!(state.apply(change(&header), 0), []);
    assert_eq!(state.open_transactions().collect::<Vec<_>>(), [(P, 1, Offset(19))]);
}

#[test]
fn transactions_are_per_partition_and_bounded_by_the_log_s_start() {
    let mut state = State::default();
    push(&mut state, P, data(1, 0, 0));
    push(&mut state, Q, plain());
    assert_eq!((ends(&state, P), ends(&state, Q)), ((0, 2), (2, 2)));
    push(&mut state, Q, marker(Commit, 1, 0));
    assert_eq!((ends(&state, P), ends(&state, Q)), ((0, 2), (3, 3)));
    let fact = Fact::log_start(P, Offset(1));
    state.apply_append(&Append { facts: vec![fact], ..Append::default() }, 0);
    assert_eq!(ends(&state, P), (1, 2));
    assert_eq!(push(&mut state, P, marker(Abort, 1, 0)), [range(1, 0, 2)]);
}

#[test]
fn a_producer_stays_in_its_open_transaction() {
    let mut state = State::default();
    push(&mut state, P, data(1, 3, 0));
    let outside = |epoch, sequence| plain().with_producer(1, epoch, sequence).unwrap().header();
    let in_transaction = ProducerCheck::InTransaction { first: Offset(0) };
    let cases = [
        ("not in it", P, outside(3, 2), in_transaction),
        ("not in it, of a newer epoch", P, outside(4, 0), in_transaction),
        (
            "not in it, and not the next one",
            P,
            outside(3, 5),
            ProducerCheck::OutOfOrder { expected: 2 },
        ),
        ("not in it, of an older epoch", P, outside(2, 2), ProducerCheck::Fenced { current: 3 }),
        ("again", P, outside(3, 0), ProducerCheck::Duplicate { base_offset: Offset(0) }),
        ("in it", P, data(1, 3, 2).header(), ProducerCheck::New),
        ("elsewhere", Q, outside(3, 2), ProducerCheck::New),
        ("of nobody", P, plain().header(), ProducerCheck::New),
    ];
    for (what, partition, header, expected) in cases {
        assert_eq!(state.check(partition, &header), expected, "{what}");
    }
    push(&mut state, P, marker(Commit, 1, 3));
    assert_eq!(state.check(P, &outside(3, 2)), ProducerCheck::New);
}

#[test]
fn a_producer_with_an_open_transaction_is_never_forgotten() {
    let mut state = State::default();
    push(&mut state, P, data(1, 0, 0));
    push(&mut state, P, data(2, 0, 0));
    push(&mut state, P, marker(Commit, 2, 0));
    state.expire_producers(9 * EXPIRATION_MS);
    let out_of_order = ProducerCheck::OutOfOrder { expected: 2 };
    assert_eq!(state.check(P, &data(1, 0, 7).header()), out_of_order);
    assert_eq!(state.check(P, &data(2, 0, 7).header()), ProducerCheck::New, "forgotten");
    push(&mut state, P, marker(Abort, 1, 0));
    state.expire_producers(9 * EXPIRATION_MS);
    assert_eq!(state.check(P, &data(1, 0, 7).header()), ProducerCheck::New, "forgotten");
}

#[test]
fn a_new_incarnation_gives_open_transactions_up_and_fences_their_producers() {
    let mut state = State::default();
    let barrier = |incarnation| Change::Barrier { incarnation, leader_epoch: incarnation as i32 };
    assert_eq!(state.apply(barrier(1), 0), []);
    push(&mut state, P, data(1, 3, 0));
    push(&mut state, Q, plain());
    push(&mut state, Q, data(1, 3, 0));
    push(&mut state, Q, data(2, 0, 0));
    push(&mut state, Q, marker(Commit, 2, 0));
    push(&mut state, Q, plain());
    assert_eq!(state.apply(barrier(1), 0), [], "the same log goes on");
    assert_eq!(state.open_transactions().count(), 2);

    let given_up = |first, last| AbortedRange { has_marker: false, ..range(1, first, last) };
    assert_eq!(state.apply(barrier(2), 0), [(P, given_up(0, 1)), (Q, given_up(2, 8))]);
    assert_eq!((ends(&state, P), ends(&state, Q)), ((2, 2), (9, 9)));
    // The rest of the lost transaction is refused; with a new epoch the producer goes on.
    let fenced = ProducerCheck::Fenced { current: 4 };
    for partition in [P, Q] {
        assert_eq!(state.check(partition, &data(1, 3, 2).header()), fenced);
        assert_eq!(state.check(partition, &marker(Commit, 1, 3).header()), fenced);
        assert_eq!(state.check(partition, &data(1, 4, 0).header()), ProducerCheck::New);
    }
    assert_eq!(state.check(Q, &data(2, 0, 2).header()), ProducerCheck::New, "it had ended");

    // The last epoch there is cannot be raised: its sequence is no longer known instead.
    push(&mut state, P, data(9, i16::MAX, 0));
    state.apply(barrier(3), 0);
    let out_of_order = ProducerCheck::OutOfOrder { expected: 0 };
    assert_eq!(state.check(P, &data(9, i16::MAX, 2).header()), out_of_order);
}

#[test]
fn golden_snapshot_record() {
    let mut state = State::default();
    push(&mut state, P, plain());
    push(&mut state, P, data(0x1234, 3, 0));
    let slices = state.encode(1 << 20);
    let record =
        [&[5][..], &[4, 0, 0, 0], &[0x34, 0x12, 0, 0, 0, 0, 0, 0], &[2, 0, 0, 0, 0, 0, 0, 0]];
    let record = record.concat();
    assert_eq!(record.len(), TRANSACTION_BYTES);
    assert!(slices[0].windows(record.len()).any(|window| window == record));
    assert_eq!(SnapshotReader::default().slice(0, 1, &slices[0]), Some(state));
    for cut in 0..record.len() {
        let read = SnapshotReader::default().slice(0, 1, &record[..cut]);
        assert_eq!(read.is_some(), cut == 0, "{cut}");
    }
}

#[test]
fn open_transactions_count_for_the_limit() {
    let mut state = State::default();
    push(&mut state, P, plain().with_producer(1, 0, 0).unwrap());
    let before = state.bytes();
    let limits = StateLimits { max_bytes: before, producers_per_partition: 9, producers: 9 };
    let outside = append(&state, P, plain().with_producer(1, 0, 2).unwrap());
    assert_eq!(state.room_for(&outside, &limits), Ok(()));
    let inside = append(&state, P, data(1, 0, 2));
    let bytes = before + TRANSACTION_BYTES;
    let full = StateFull::Bytes { bytes, limit: before };
    assert_eq!(state.room_for(&inside, &limits), Err(full));
    state.apply_append(&inside, 0);
    assert_eq!(state.bytes(), bytes);
    let more = append(&state, P, data(1, 0, 4));
    assert_eq!(state.room_for(&more, &limits), Ok(()), "it is open already");
    let end = append(&state, P, marker(Abort, 1, 0));
    assert_eq!(state.room_for(&end, &limits), Ok(()), "the way out");
    state.apply_append(&end, 0);
    assert_eq!(state.bytes(), before);
}
