//! What a range of the log did to the state, last values only.
//!
//! Applied to the state at the start of the range it gives the state at its end: it is the entries
//! again, without payloads and without those that later ones make meaningless.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Offset, PartitionId, Position};
use crate::{
    journal::{
        AbortedRange, Change, Space, State,
        append::{HOT_START_KEY, decode_hot_start, decode_log_start},
        format::{Barrier, Cursor, EntryHeader, EntryKind, FactRef},
        recovery::marker,
    },
    record::{BatchHeader, TransactionOutcome},
};

const BARRIER: u8 = 1;
const END: u8 = 2;
const LOG_START: u8 = 3;
const FACT: u8 = 4;
const DELETED: u8 = 5;
const BATCH: u8 = 6;

/// An opening has one barrier and begins a segment.
const MAX_BARRIERS: usize = 4;
/// Batches that a window of a producer remembers.
const WINDOW_BATCHES: usize = 5;

/// Changes of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::journal) struct Delta {
    /// What was before the barrier.
    earlier: Option<Box<Self>>,
    barrier: Option<(u64, i32)>,
    ends: BTreeMap<PartitionId, (Offset, i32)>,
    log_starts: BTreeMap<PartitionId, Offset>,
    facts: BTreeMap<(Space, Bytes), Option<Bytes>>,
    producers: BTreeMap<(PartitionId, i64), Vec<ProducerBatch>>,
}

/// A batch of a producer, as far as the state looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProducerBatch {
    base_offset: Offset,
    last_offset_delta: i32,
    leader_epoch: i32,
    attributes: i16,
    producer_epoch: i16,
    base_sequence: i32,
    open_ms: u64,
    marker: Option<TransactionOutcome>,
}

impl Delta {
    /// Adds an entry; as recovery does, one without payload is a batch that only takes its offsets.
    pub(in crate::journal) fn add(
        &mut self,
        header: &EntryHeader,
        payload: Option<&[u8]>,
        open_ms: u64,
    ) {
        match (header.kind, payload) {
            (EntryKind::Batch, payload) => {
                let batch = payload.and_then(crate::journal::reader::batch_header);
                self.batch(header, batch.as_ref(), payload.and_then(marker), open_ms);
            }
            (EntryKind::Fact, Some(payload)) => {
                if let Some(fact) = FactRef::decode(payload) {
                    self.fact(fact);
                }
            }
            (EntryKind::Barrier, Some(payload)) => {
                if let Some(Barrier { incarnation, leader_epoch }) = Barrier::decode(payload) {
                    self.pass((incarnation, leader_epoch));
                }
            }
            _ => {}
        }
    }

    /// Goes past a barrier. There is one at the start of an opening, if at all.
    fn pass(&mut self, barrier: (u64, i32)) {
        let earlier = std::mem::take(self);
        let is_empty = earlier == Self::default();
        self.earlier = (!is_empty).then(|| Box::new(earlier));
        self.barrier = Some(barrier);
    }

    fn batch(
        &mut self,
        entry: &EntryHeader,
        batch: Option<&BatchHeader>,
        marker: Option<TransactionOutcome>,
        open_ms: u64,
    ) {
        let (span, leader_epoch) = match batch {
            Some(batch) => {
                (i64::from(batch.last_offset_delta).saturating_add(1), batch.leader_epoch)
            }
            None => (i64::from(entry.count.max(1)), 0),
        };
        let end = Offset(entry.base_offset.0.saturating_add(span));
        let known = self.ends.entry(entry.partition).or_insert((end, leader_epoch));
        *known = (known.0.max(end), known.1.max(leader_epoch));
        let Some(batch) = batch.filter(|batch| batch.has_producer()) else {
            return;
        };
        let next = ProducerBatch {
            base_offset: entry.base_offset,
            last_offset_delta: batch.last_offset_delta,
            leader_epoch: batch.leader_epoch,
            attributes: batch.attributes,
            producer_epoch: batch.producer_epoch,
            base_sequence: batch.base_sequence,
            open_ms,
            marker,
        };
        let batches = self.producers.entry((entry.partition, batch.producer_id)).or_default();
        batches.push(next);
        drop_forgotten(batches);
    }

    fn fact(&mut self, fact: FactRef<'_>) {
        if fact.space == Space::LOG_START && fact.value.is_some() {
            if let Some((partition, start)) = decode_log_start(fact.key, fact.value) {
                let known = self.log_starts.entry(partition).or_insert(start);
                *known = (*known).max(start);
            }
            return;
        }
        // Copied: a slice would keep the window of the scan in memory.
        let slot = (fact.space, Bytes::copy_from_slice(fact.key));
        self.facts.insert(slot, fact.value.map(Bytes::copy_from_slice));
    }

    /// Where the range moved the hot start to.
    pub(in crate::journal) fn hot_start(&self) -> Option<Position> {
        let slot = (Space::JOURNAL, Bytes::from_static(HOT_START_KEY));
        let value = self.facts.get(&slot);
        let moved = value.and_then(|value| decode_hot_start(HOT_START_KEY, value.as_deref()));
        moved.max(self.earlier.as_ref().and_then(|earlier| earlier.hot_start()))
    }

    /// Applies the changes; gives the transactions that they aborted.
    pub(in crate::journal) fn apply(&self, state: &mut State) -> Vec<(PartitionId, AbortedRange)> {
        let mut aborted = Vec::new();
        if let Some(earlier) = &self.earlier {
            aborted = earlier.apply(state);
        }
        if let Some((incarnation, leader_epoch)) = self.barrier {
            aborted.extend(state.apply(Change::Barrier { incarnation, leader_epoch }, 0));
        }
        for (&partition, &(end, leader_epoch)) in &self.ends {
            let header = ends_before(end);
            let base_offset = Offset(end.0.saturating_sub(1));
            let change = Change::Batch {
                partition,
                base_offset,
                leader_epoch,
                header: &header,
                marker: None,
            };
            state.apply(change, 0);
        }
        for (&(partition, producer_id), batches) in &self.producers {
            for batch in batches {
                let change = Change::Batch {
                    partition,
                    base_offset: batch.base_offset,
                    leader_epoch: batch.leader_epoch,
                    header: &batch.header(producer_id),
                    marker: batch.marker,
                };
                aborted.extend(state.apply(change, batch.open_ms));
            }
        }
        for (partition, start) in &self.log_starts {
            let (key, value) = (partition.0.to_be_bytes(), start.0.to_be_bytes());
            let change = Change::Fact { space: Space::LOG_START, key: &key, value: Some(&value) };
            state.apply(change, 0);
        }
        for ((space, key), value) in &self.facts {
            let change = Change::Fact { space: *space, key, value: value.as_deref() };
            state.apply(change, 0);
        }
        aborted
    }

    pub(in crate::journal) fn encode(&self) -> Vec<u8> {
        let mut out = self.earlier.as_ref().map_or_else(Vec::new, |earlier| earlier.encode());
        if let Some((incarnation, leader_epoch)) = self.barrier {
            out.push(BARRIER);
            out.extend_from_slice(&incarnation.to_le_bytes());
            out.extend_from_slice(&leader_epoch.to_le_bytes());
        }
        for (partition, (end, leader_epoch)) in &self.ends {
            out.push(END);
            out.extend_from_slice(&partition.0.to_le_bytes());
            out.extend_from_slice(&end.0.to_le_bytes());
            out.extend_from_slice(&leader_epoch.to_le_bytes());
        }
        for (partition, start) in &self.log_starts {
            out.push(LOG_START);
            out.extend_from_slice(&partition.0.to_le_bytes());
            out.extend_from_slice(&start.0.to_le_bytes());
        }
        for ((space, key), value) in &self.facts {
            encode_fact(&mut out, *space, key, value.as_deref());
        }
        for (&(partition, producer_id), batches) in &self.producers {
            for batch in batches {
                batch.encode(partition, producer_id, &mut out);
            }
        }
        out
    }

    pub(in crate::journal) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let (mut delta, mut barriers) = (Self::default(), 0);
        while !cursor.is_empty() {
            match cursor.u8()? {
                BARRIER => {
                    barriers += 1;
                    if barriers > MAX_BARRIERS {
                        return None;
                    }
                    delta.pass((cursor.u64()?, cursor.i32()?));
                }
                END => {
                    let partition = PartitionId(cursor.u32()?);
                    delta.ends.insert(partition, (Offset(cursor.i64()?), cursor.i32()?));
                }
                LOG_START => {
                    let partition = PartitionId(cursor.u32()?);
                    delta.log_starts.insert(partition, Offset(cursor.i64()?));
                }
                FACT => {
                    let space = Space(cursor.u8()?);
                    let (key, value) = (cursor.u32()?, cursor.u32()?);
                    let key = cursor.bytes(usize::try_from(key).ok()?)?;
                    let value = cursor.bytes(usize::try_from(value).ok()?)?;
                    let slot = (space, Bytes::copy_from_slice(key));
                    delta.facts.insert(slot, Some(Bytes::copy_from_slice(value)));
                }
                DELETED => {
                    let space = Space(cursor.u8()?);
                    let key = cursor.u32()?;
                    let key = cursor.bytes(usize::try_from(key).ok()?)?;
                    delta.facts.insert((space, Bytes::copy_from_slice(key)), None);
                }
                BATCH => {
                    let (key, batch) = ProducerBatch::decode(&mut cursor)?;
                    delta.producers.entry(key).or_default().push(batch);
                }
                _ => return None,
            }
        }
        Some(delta)
    }
}

impl ProducerBatch {
    fn header(&self, producer_id: i64) -> BatchHeader {
        BatchHeader {
            base_offset: self.base_offset.0,
            leader_epoch: self.leader_epoch,
            attributes: self.attributes,
            last_offset_delta: self.last_offset_delta,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: 0,
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        (self.attributes, self.producer_epoch, self.leader_epoch)
            == (other.attributes, other.producer_epoch, other.leader_epoch)
    }

    fn encode(&self, partition: PartitionId, producer_id: i64, out: &mut Vec<u8>) {
        out.push(BATCH);
        out.extend_from_slice(&partition.0.to_le_bytes());
        out.extend_from_slice(&self.base_offset.0.to_le_bytes());
        out.extend_from_slice(&self.last_offset_delta.to_le_bytes());
        out.extend_from_slice(&self.leader_epoch.to_le_bytes());
        out.extend_from_slice(&self.attributes.to_le_bytes());
        out.extend_from_slice(&producer_id.to_le_bytes());
        out.extend_from_slice(&self.producer_epoch.to_le_bytes());
        out.extend_from_slice(&self.base_sequence.to_le_bytes());
        out.extend_from_slice(&self.open_ms.to_le_bytes());
        out.push(match self.marker {
            None => 0,
            Some(TransactionOutcome::Abort) => 1,
            Some(TransactionOutcome::Commit) => 2,
        });
    }

    fn decode(cursor: &mut Cursor<'_>) -> Option<((PartitionId, i64), Self)> {
        let partition = PartitionId(cursor.u32()?);
        let base_offset = Offset(cursor.i64()?);
        let last_offset_delta = cursor.i32()?;
        let leader_epoch = cursor.i32()?;
        let attributes = cursor.i16()?;
        let producer_id = cursor.i64()?;
        let batch = Self {
            base_offset,
            last_offset_delta,
            leader_epoch,
            attributes,
            producer_epoch: cursor.i16()?,
            base_sequence: cursor.i32()?,
            open_ms: cursor.u64()?,
            marker: match cursor.u8()? {
                0 => None,
                1 => Some(TransactionOutcome::Abort),
                2 => Some(TransactionOutcome::Commit),
                _ => return None,
            },
        };
        Some(((partition, producer_id), batch))
    }
}

/// Of batches that differ in nothing but sequence and offset the state remembers five; before them the
/// first one is kept, since a transaction may begin with it.
fn drop_forgotten(batches: &mut Vec<ProducerBatch>) {
    let count = WINDOW_BATCHES + 2;
    let Some(first) = batches.len().checked_sub(count) else {
        return;
    };
    let alike = |pair: &[ProducerBatch]| matches!(pair, [one, two] if one.is_like(two));
    let window = batches.get(first..).unwrap_or_default();
    let is_control = window.iter().any(|batch| batch.header(0).is_control());
    if window.windows(2).all(alike) && !is_control {
        batches.remove(first + 1);
    }
}

fn encode_fact(out: &mut Vec<u8>, space: Space, key: &Bytes, value: Option<&[u8]>) {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("an append is below 4 GiB");
    out.push(if value.is_some() { FACT } else { DELETED });
    out.push(space.0);
    out.extend_from_slice(&length(key).to_le_bytes());
    if let Some(value) = value {
        out.extend_from_slice(&length(value).to_le_bytes());
    }
    out.extend_from_slice(key);
    out.extend_from_slice(value.unwrap_or_default());
}

/// A batch of nobody that takes one offset.
fn ends_before(end: Offset) -> BatchHeader {
    BatchHeader {
        base_offset: end.0.saturating_sub(1),
        leader_epoch: 0,
        attributes: 0,
        last_offset_delta: 0,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
    }
}
