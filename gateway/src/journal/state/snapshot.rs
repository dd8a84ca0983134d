//! The state as bytes: slices that every segment begins with.
//!
//! A slice is a sequence of whole records {kind, fields}; a snapshot is complete when all its
//! slices are there. The order of records means nothing.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    Offset, PartitionId, PartitionState, Space, State,
    producer::{WINDOW_BATCHES, Window, WindowBatch},
};
use crate::journal::format::Cursor;

const GLOBALS: u8 = 1;
const PARTITION: u8 = 2;
const PRODUCER: u8 = 3;
const FACT: u8 = 4;
const TRANSACTION: u8 = 5;

pub(super) const GLOBALS_BYTES: usize = 1 + 8 + 4;
pub(super) const PARTITION_BYTES: usize = 1 + 4 + 8 + 8 + 4;

pub(super) const fn producer_bytes(batches: usize) -> usize {
    1 + 4 + 8 + 2 + 8 + 1 + batches * 16
}

pub(super) const TRANSACTION_BYTES: usize = 1 + 4 + 8 + 8;

pub(super) const fn fact_bytes(key: usize, value: usize) -> usize {
    1 + 1 + 4 + 4 + key + value
}

impl State {
    /// The snapshot as slices of at most `slice_bytes` (or one record, if that is larger).
    pub(in crate::journal) fn encode(&self, slice_bytes: usize) -> VecDeque<Vec<u8>> {
        let mut slices = Slices { limit: slice_bytes, done: VecDeque::new(), open: Vec::new() };
        let out = slices.room(GLOBALS_BYTES);
        out.push(GLOBALS);
        out.extend_from_slice(&self.incarnation.to_le_bytes());
        out.extend_from_slice(&self.leader_epoch.to_le_bytes());
        for (id, state) in &self.partitions {
            let out = slices.room(PARTITION_BYTES);
            out.push(PARTITION);
            out.extend_from_slice(&id.0.to_le_bytes());
            out.extend_from_slice(&state.log_start.0.to_le_bytes());
            out.extend_from_slice(&state.log_end.0.to_le_bytes());
            out.extend_from_slice(&state.leader_epoch.to_le_bytes());
        }
        for (partition, producer_id, window) in self.producers.iter() {
            let out = slices.room(producer_bytes(window.batches.len()));
            encode_producer(out, partition, producer_id, window);
        }
        for (partition, producer_id, first) in self.transactions.iter() {
            let out = slices.room(TRANSACTION_BYTES);
            out.push(TRANSACTION);
            out.extend_from_slice(&partition.0.to_le_bytes());
            out.extend_from_slice(&producer_id.to_le_bytes());
            out.extend_from_slice(&first.0.to_le_bytes());
        }
        for ((space, key), value) in &self.facts {
            let out = slices.room(fact_bytes(key.len(), value.len()));
            encode_fact(out, *space, key, value);
        }
        slices.done.push_back(slices.open);
        slices.done
    }
}

fn encode_producer(out: &mut Vec<u8>, partition: PartitionId, producer_id: i64, window: &Window) {
    out.push(PRODUCER);
    out.extend_from_slice(&partition.0.to_le_bytes());
    out.extend_from_slice(&producer_id.to_le_bytes());
    out.extend_from_slice(&window.epoch.to_le_bytes());
    out.extend_from_slice(&window.seen_open_ms.to_le_bytes());
    out.push(window.batches.len() as u8);
    for batch in &window.batches {
        out.extend_from_slice(&batch.first_sequence.to_le_bytes());
        out.extend_from_slice(&batch.last_sequence.to_le_bytes());
        out.extend_from_slice(&batch.base_offset.0.to_le_bytes());
    }
}

fn encode_fact(out: &mut Vec<u8>, space: Space, key: &Bytes, value: &Bytes) {
    let key_length = u32::try_from(key.len()).expect("an append is below 4 GiB");
    let value_length = u32::try_from(value.len()).expect("an append is below 4 GiB");
    out.push(FACT);
    out.push(space.0);
    out.extend_from_slice(&key_length.to_le_bytes());
    out.extend_from_slice(&value_length.to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

struct Slices {
    limit: usize,
    done: VecDeque<Vec<u8>>,
    open: Vec<u8>,
}

impl Slices {
    /// The slice that takes the next record of so many bytes.
    fn room(&mut self, bytes: usize) -> &mut Vec<u8> {
        if !self.open.is_empty() && self.open.len() + bytes > self.limit {
            self.done.push_back(std::mem::take(&mut self.open));
        }
        &mut self.open
    }
}

/// Collects the slices of one segment's snapshot, in order.
#[derive(Debug, Default)]
pub(in crate::journal) struct SnapshotReader {
    state: State,
    next: u32,
}

impl SnapshotReader {
    /// Takes a slice; the state when it was the last one. A slice that is not the next one, or that
    /// does not decode, leaves the snapshot incomplete for good.
    pub(in crate::journal) fn slice(
        &mut self,
        index: u32,
        total: u32,
        payload: &[u8],
    ) -> Option<State> {
        if index != self.next || decode_records(&mut self.state, payload).is_none() {
            self.next = u32::MAX;
            return None;
        }
        self.next += 1;
        (self.next == total || planted!(SnapshotIncomplete))
            .then(|| std::mem::take(&mut self.state))
    }
}

fn decode_records(state: &mut State, payload: &[u8]) -> Option<()> {
    let mut cursor = Cursor::new(payload);
    while !cursor.is_empty() {
        match cursor.u8()? {
            GLOBALS => {
                state.incarnation = cursor.u64()?;
                state.leader_epoch = cursor.i32()?;
            }
            PARTITION => {
                let id = PartitionId(cursor.u32()?);
                let log_start = Offset(cursor.i64()?);
                let log_end = Offset(cursor.i64()?);
                let leader_epoch = cursor.i32()?;
                state.partitions.insert(id, PartitionState { log_start, log_end, leader_epoch });
            }
            PRODUCER => decode_producer(state, &mut cursor)?,
            TRANSACTION => {
                let partition = PartitionId(cursor.u32()?);
                let producer_id = cursor.i64()?;
                state.transactions.begin(partition, producer_id, Offset(cursor.i64()?));
            }
            FACT => {
                let space = Space(cursor.u8()?);
                let key_length = usize::try_from(cursor.u32()?).ok()?;
                let value_length = usize::try_from(cursor.u32()?).ok()?;
                let key = cursor.bytes(key_length)?;
                let value = cursor.bytes(value_length)?;
                state.set_fact(space, key, Some(value));
            }
            _ => return None,
        }
    }
    Some(())
}

fn decode_producer(state: &mut State, cursor: &mut Cursor<'_>) -> Option<()> {
    let partition = PartitionId(cursor.u32()?);
    let producer_id = cursor.i64()?;
    let mut window = Window::new(cursor.i16()?, cursor.u64()?);
    let count = usize::from(cursor.u8()?);
    if count > WINDOW_BATCHES {
        return None;
    }
    for _ in 0..count {
        window.batches.push_back(WindowBatch {
            first_sequence: cursor.i32()?,
            last_sequence: cursor.i32()?,
            base_offset: Offset(cursor.i64()?),
        });
    }
    state.producers.restore(partition, producer_id, window);
    Some(())
}
