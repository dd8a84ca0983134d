//! The reducer: Kafka's producer rules, facts, log starts, limits, and snapshots.

use bytes::Bytes;

use super::{
    Change, ProducerCheck, State, StateLimits,
    producer::{EXPIRATION_MS, WINDOW_BATCHES},
    snapshot::SnapshotReader,
};
use crate::{
    journal::{AbortedRange, Append, BatchEntry, Fact, Offset, PartitionId, Space, StateFull},
    record::{BatchBuilder, BatchHeader, TransactionOutcome},
};

const P: PartitionId = PartitionId(4);
const LIMITS: StateLimits =
    StateLimits { max_bytes: 5_000, producers_per_partition: 3, producers: 5 };

fn header(producer_id: i64, epoch: i16, sequence: i32, records: i32) -> BatchHeader {
    BatchHeader {
        base_offset: 0,
        leader_epoch: 0,
        attributes: 0,
        last_offset_delta: records - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id,
        producer_epoch: epoch,
        base_sequence: sequence,
        record_count: records,
    }
}

/// Puts a batch at the end of the partition.
fn apply(
    state: &mut State,
    header: &BatchHeader,
    marker: Option<TransactionOutcome>,
    open_ms: u64,
) -> Vec<(PartitionId, AbortedRange)> {
    let base_offset = state.partition(P).log_end;
    let change = Change::Batch { partition: P, base_offset, leader_epoch: 2, header, marker };
    state.apply(change, open_ms)
}

fn record(state: &mut State, header: &BatchHeader) -> Offset {
    let base_offset = state.partition(P).log_end;
    apply(state, header, None, 0);
    base_offset
}

#[test]
fn producers_are_checked_as_kafka_does() {
    use ProducerCheck::{Duplicate, Fenced, Forgotten, New, OutOfOrder};
    let mut state = State::default();
    let mut offsets = Vec::new();
    // Six batches of two records: sequences 10 to 21, of which the last five are remembered.
    for n in 0..6 {
        let header = header(7, 3, 10 + 2 * n, 2);
        assert_eq!(state.check(P, &header), New);
        offsets.push(record(&mut state, &header));
    }
    let cases = [
        ("no producer", header(-1, -1, -1, 1), New),
        ("nothing is known of it: any sequence", header(8, 0, 55, 1), New),
        ("the next one", header(7, 3, 22, 9), New),
        ("the last one again", header(7, 3, 20, 2), Duplicate { base_offset: offsets[5] }),
        ("the oldest remembered", header(7, 3, 12, 2), Duplicate { base_offset: offsets[1] }),
        ("no longer remembered", header(7, 3, 10, 2), Forgotten),
        ("same start, other length", header(7, 3, 20, 1), OutOfOrder { expected: 22 }),
        ("a gap", header(7, 3, 23, 1), OutOfOrder { expected: 22 }),
        ("older epoch", header(7, 2, 22, 1), Fenced { current: 3 }),
        ("newer epoch begins at 0", header(7, 4, 0, 1), New),
        ("newer epoch elsewhere", header(7, 4, 22, 1), OutOfOrder { expected: 0 }),
    ];
    for (what, header, expected) in cases {
        assert_eq!(state.check(P, &header), expected, "{what}");
    }
    assert_eq!(state.check(PartitionId(5), &header(7, 3, 77, 1)), New, "windows are per partition");

    record(&mut state, &header(7, 4, 0, 1));
    assert_eq!(state.check(P, &header(7, 4, 1, 1)), New);
    assert_eq!(state.check(P, &header(7, 3, 20, 2)), Fenced { current: 4 });
}

#[test]
fn sequences_wrap_to_0() {
    let mut state = State::default();
    let last = header(7, 0, i32::MAX, 1);
    let at = record(&mut state, &last);
    assert_eq!(state.check(P, &header(7, 0, 0, 5)), ProducerCheck::New);
    assert_eq!(state.check(P, &header(7, 0, 1, 5)), ProducerCheck::OutOfOrder { expected: 0 });
    assert_eq!(state.check(P, &last), ProducerCheck::Duplicate { base_offset: at });

    // A batch across the wrap: 2^31 - 2, 2^31 - 1, 0, 1.
    let mut state = State::default();
    let across = header(9, 0, i32::MAX - 1, 4);
    let at = record(&mut state, &across);
    assert_eq!(state.check(P, &header(9, 0, 2, 1)), ProducerCheck::New);
    assert_eq!(state.check(P, &across), ProducerCheck::Duplicate { base_offset: at });
}

#[test]
fn control_batches_move_the_epoch_and_take_no_sequence() {
    let mut state = State::default();
    record(&mut state, &header(7, 1, 0, 3));
    let marker = BatchHeader { attributes: 0x30, ..header(7, 1, -1, 1) };
    assert_eq!(state.check(P, &marker), ProducerCheck::New);
    record(&mut state, &marker);
    assert_eq!(state.check(P, &header(7, 1, 3, 1)), ProducerCheck::New);
    let marker = BatchHeader { attributes: 0x30, ..header(7, 2, -1, 1) };
    record(&mut state, &marker);
    assert_eq!(state.check(P, &header(7, 2, 0, 1)), ProducerCheck::New);
    assert_eq!(state.check(P, &header(7, 1, 4, 1)), ProducerCheck::Fenced { current: 2 });
}

#[test]
fn silent_producers_expire_by_the_journal_s_own_age() {
    let mut state = State::default();
    for (id, seen) in [(1, 0), (2, 1000)] {
        apply(&mut state, &header(id, 0, 5, 1), None, seen);
    }
    state.expire_producers(EXPIRATION_MS);
    assert_eq!(state.check(P, &header(1, 0, 99, 1)), ProducerCheck::New, "forgotten");
    let kept = state.check(P, &header(2, 0, 99, 1));
    assert_eq!(kept, ProducerCheck::OutOfOrder { expected: 6 });
}

#[test]
fn the_latest_fact_counts_and_log_starts_never_move_back() {
    let mut state = State::default();
    let set = |state: &mut State, key: &[u8], value: Option<&[u8]>| {
        state.apply(Change::Fact { space: Space(3), key, value }, 0);
    };
    set(&mut state, b"a", Some(b"1"));
    set(&mut state, b"b", Some(b"2"));
    set(&mut state, b"a", Some(b"3"));
    set(&mut state, b"b", None);
    set(&mut state, b"c", None);
    assert_eq!(state.fact(Space(3), b"a"), Some(&Bytes::from_static(b"3")));
    assert_eq!(state.facts(Space(3)).count(), 1);
    assert_eq!(state.facts(Space(2)).count() + state.facts(Space(4)).count(), 0);
    let with_one_fact = state.bytes();
    set(&mut state, b"a", None);
    assert_eq!(state.bytes(), State::default().bytes());
    assert!(with_one_fact > state.bytes());

    for (start, expected) in [(5, 5), (3, 5), (9, 9)] {
        let fact = Fact::log_start(P, Offset(start));
        state.apply_append(&Append { facts: vec![fact], ..Append::default() }, 0);
        assert_eq!(state.partition(P).log_start, Offset(expected));
        assert_eq!(state.partition(P).log_end, Offset(expected));
    }
    assert_eq!(state.facts(Space::LOG_START).count(), 0);
}

fn in_transaction(producer_id: i64, epoch: i16, sequence: i32) -> BatchHeader {
    BatchHeader { attributes: 0x10, ..header(producer_id, epoch, sequence, 1) }
}

/// A state with something of everything.
fn full_state() -> State {
    let mut state = State::default();
    state.apply(Change::Barrier { incarnation: 4, leader_epoch: 9 }, 0);
    for n in 0..9 {
        record(&mut state, &header(n % 3, 0, 10 * n as i32, 10));
    }
    for producer in 1..3 {
        record(&mut state, &in_transaction(producer, 1, 0));
    }
    for n in 0..50u32 {
        let (key, value) = (n.to_be_bytes(), [n as u8; 90]);
        let value = &value[..n as usize];
        state.apply(
            Change::Fact { space: Space(n as u8 % 5 + 1), key: &key, value: Some(value) },
            0,
        );
    }
    state
}

#[test]
fn a_snapshot_gives_the_same_state_whatever_the_slices() {
    let state = full_state();
    for slice_bytes in [1, 100, 1000, 1 << 20] {
        let slices = state.encode(slice_bytes);
        let longest = slices.iter().map(Vec::len).max().unwrap();
        assert!(longest <= slice_bytes.max(200), "{longest}");
        assert!(slices.iter().map(Vec::len).sum::<usize>() <= state.bytes());
        let mut reader = SnapshotReader::default();
        let mut read = None;
        let total = slices.len() as u32;
        for (index, slice) in (0..).zip(&slices) {
            assert_eq!(read, None);
            read = reader.slice(index, total, slice);
        }
        assert_eq!(read.as_ref(), Some(&state));
    }
}

#[test]
fn a_snapshot_with_a_missing_or_bad_slice_is_none() {
    let slices = full_state().encode(500);
    let total = slices.len() as u32;
    assert!(total > 3);
    for bad in 0..slices.len() {
        for missing in [true, false] {
            let mut reader = SnapshotReader::default();
            for (index, slice) in slices.iter().enumerate() {
                let cut = &slice[..slice.len() - usize::from(index == bad)];
                if index == bad && missing {
                    continue;
                }
                assert_eq!(reader.slice(index as u32, total, cut), None);
            }
        }
    }
}

#[test]
fn each_limit_is_refused_by_name() {
    let batch = |producer: i64| {
        let mut builder = BatchBuilder::default();
        builder.push(0, None, Some(b"x"), &[]);
        let batch = builder.finish().unwrap();
        if producer < 0 { batch } else { batch.with_producer(producer, 0, 0).unwrap() }
    };
    let append = |partition: u32, producer: i64| Append {
        batches: vec![BatchEntry {
            partition: PartitionId(partition),
            base_offset: Offset(0),
            leader_epoch: 0,
            batch: batch(producer),
        }],
        facts: Vec::new(),
    };
    let facts = |key: usize, value: usize| {
        let fact =
            Fact { space: Space(1), key: vec![0; key].into(), value: Some(vec![0; value].into()) };
        Append { facts: vec![fact], ..Append::default() }
    };

    let mut state = State::default();
    for producer in 0..3 {
        assert_eq!(state.room_for(&append(1, producer), &LIMITS), Ok(()));
        state.apply_append(&append(1, producer), 0);
    }
    let full = StateFull::ProducersPerPartition { partition: 1, limit: 3 };
    assert_eq!(state.room_for(&append(1, 3), &LIMITS), Err(full));
    assert_eq!(state.room_for(&append(1, 2), &LIMITS), Ok(()), "a known producer goes on");
    for producer in 0..2 {
        state.apply_append(&append(2, producer), 0);
    }
    assert_eq!(state.room_for(&append(2, 2), &LIMITS), Err(StateFull::Producers { limit: 5 }));
    assert_eq!(state.room_for(&append(2, -1), &LIMITS), Ok(()), "without a producer");

    let long = StateFull::Fact { space: Space(1), bytes: 4097, limit: Fact::MAX_KEY_BYTES };
    assert_eq!(state.room_for(&facts(4097, 0), &LIMITS), Err(long));
    let long = StateFull::Fact { space: Space(1), bytes: 8193, limit: Fact::MAX_VALUE_BYTES };
    assert_eq!(state.room_for(&facts(1, 8193), &LIMITS), Err(long));

    let free = LIMITS.max_bytes - state.bytes() - super::snapshot::fact_bytes(1, 0);
    assert_eq!(state.room_for(&facts(1, free), &LIMITS), Ok(()));
    let bytes = LIMITS.max_bytes + 1;
    let full = StateFull::Bytes { bytes, limit: LIMITS.max_bytes };
    assert_eq!(state.room_for(&facts(1, free + 1), &LIMITS), Err(full));
    state.apply_append(&facts(1, free), 0);
    assert_eq!(state.bytes(), LIMITS.max_bytes);
    assert_eq!(state.room_for(&facts(1, free), &LIMITS), Ok(()), "the same fact again");
    assert_eq!(WINDOW_BATCHES, 5, "Kafka's, and what clients rely on");
}
