//! A range's delta against the entries that it stands for, and its transactions against the state's.

use std::collections::BTreeMap;

use super::disk::Random;
use crate::{
    journal::{
        AbortedRange, Append, BatchEntry, Change, Fact, Offset, PartitionId, Space, State,
        format::{Barrier, EntryHeader, EntryKind, FactRef},
        index::Delta,
    },
    record::{Batch, BatchBuilder, TransactionMarker, TransactionOutcome},
};

/// An append with at most one batch, drawn at random.
fn draw(random: &mut Random, state: &State, sequences: &mut BTreeMap<i64, i32>) -> Append {
    let mut append = Append::default();
    if random.below(4) > 0 {
        let partition = PartitionId(random.below(3) as u32);
        let base_offset = state.partition(partition).log_end;
        let batch = draw_batch(random, sequences);
        append.batches.push(BatchEntry { partition, base_offset, leader_epoch: 3, batch });
    }
    if random.coin() {
        let value = random.coin().then(|| random.next().to_be_bytes().to_vec().into());
        let key = vec![random.below(5) as u8].into();
        append.facts.push(Fact { space: Space(1 + random.below(2) as u8), key, value });
    }
    if random.below(8) == 0 {
        let partition = PartitionId(random.below(4) as u32);
        let end = state.partition(partition).log_end.0;
        // Also one that would move it back.
        append.facts.push(Fact::log_start(partition, Offset(random.below(end as u64 + 1) as i64)));
    }
    append
}

fn draw_batch(random: &mut Random, sequences: &mut BTreeMap<i64, i32>) -> Batch {
    let mut builder = BatchBuilder::default();
    for _ in 0..=random.below(2) {
        builder.push(random.below(1 << 40) as i64, None, Some(b"value"), &[]);
    }
    let batch = builder.finish().unwrap();
    let producer = random.below(4) as i64;
    // Epochs of one producer only grow, seldom.
    let sequence = sequences.entry(producer).or_insert(0);
    *sequence += 10;
    let epoch = (*sequence / 150) as i16;
    match random.below(8) {
        0 => batch,
        1 => {
            let commits = random.coin();
            let outcome =
                if commits { TransactionOutcome::Commit } else { TransactionOutcome::Abort };
            let marker = TransactionMarker { outcome, coordinator_epoch: 0 };
            marker.batch(producer, epoch, 1_700_000_000_000).unwrap()
        }
        n => {
            let batch = batch.with_producer(producer, epoch, *sequence).unwrap();
            if n > 3 { batch.in_transaction().unwrap() } else { batch }
        }
    }
}

fn entries(append: &Append) -> Vec<(EntryHeader, Vec<u8>)> {
    let mut entries = Vec::new();
    for entry in &append.batches {
        let batch = entry.batch.stamped(entry.base_offset.0, entry.leader_epoch);
        let header = EntryHeader {
            kind: EntryKind::Batch,
            length: batch.len() as u32,
            partition: entry.partition,
            count: batch.header().last_offset_delta as u32 + 1,
            base_offset: entry.base_offset,
        };
        entries.push((header, batch.bytes().to_vec()));
    }
    for fact in &append.facts {
        let mut payload = Vec::new();
        FactRef { space: fact.space, key: &fact.key, value: fact.value.as_deref() }
            .encode(&mut payload);
        entries.push((EntryHeader::plain(EntryKind::Fact, payload.len() as u32), payload));
    }
    entries
}

#[test]
fn a_delta_does_to_the_state_what_its_entries_do() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut sequences = BTreeMap::new();
        let mut by_entries = State::default();
        let mut by_deltas = State::default();
        let (mut aborted, mut aborted_by_deltas) = (Vec::new(), Vec::new());
        for range in 0..4 {
            let mut delta = Delta::default();
            for n in 0..random.below(80) {
                let append = draw(&mut random, &by_entries, &mut sequences);
                let open_ms = range * 100 + n;
                aborted.extend(by_entries.apply_append(&append, open_ms));
                for (header, payload) in entries(&append) {
                    delta.add(&header, Some(&payload), open_ms);
                }
                if range == 2 && n == 5 {
                    let barrier = Barrier { incarnation: 2, leader_epoch: 1 };
                    let mut payload = Vec::new();
                    barrier.encode(&mut payload);
                    let header = EntryHeader::plain(EntryKind::Barrier, payload.len() as u32);
                    delta.add(&header, Some(&payload), open_ms);
                    let change = Change::Barrier { incarnation: 2, leader_epoch: 1 };
                    aborted.extend(by_entries.apply(change, open_ms));
                }
            }
            let delta = Delta::decode(&delta.encode()).unwrap();
            aborted_by_deltas.extend(delta.apply(&mut by_deltas));
        }
        assert_eq!(by_deltas, by_entries, "seed {seed}");
        let sorted = |mut ranges: Vec<(PartitionId, AbortedRange)>| {
            ranges.sort_by_key(|(partition, range)| (*partition, range.last, range.producer_id));
            ranges
        };
        assert_eq!(sorted(aborted_by_deltas), sorted(aborted), "seed {seed}");
    }
}

#[test]
fn a_delta_stays_small_however_often_things_change() {
    let mut delta = Delta::default();
    let mut state = State::default();
    for n in 0..1000 {
        let mut builder = BatchBuilder::default();
        builder.push(0, None, Some(b"value"), &[]);
        let batch = builder.finish().unwrap().with_producer(7, 0, n).unwrap();
        let partition = PartitionId(1);
        let base_offset = state.partition(partition).log_end;
        let append = Append {
            batches: vec![BatchEntry { partition, base_offset, leader_epoch: 0, batch }],
            facts: vec![Fact {
                space: Space(1),
                key: b"k".to_vec().into(),
                value: Some(n.to_be_bytes().to_vec().into()),
            }],
        };
        state.apply_append(&append, 0);
        for (header, payload) in entries(&append) {
            delta.add(&header, Some(&payload), 0);
        }
    }
    assert!(delta.encode().len() < 500, "{}", delta.encode().len());
}
