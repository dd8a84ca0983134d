//! What a range of one segment's frames holds: batches, snapshot slices, and what it did to the state.

use std::{collections::BTreeMap, io};

use super::{
    Delta, Event, Events, Location, PartitionId, PartitionIndex, Placed, Position, Summary,
};
use crate::journal::{
    format::{Barrier, Cursor, ENTRY_HEADER_BYTES, EntryHeader, EntryKind, Seed},
    reader::batch_header,
    recovery::{End, FoundEntry, Scanner, Step, marker},
    segment::Segment,
};

const BATCHES: u8 = 1;
const TRANSACTIONS: u8 = 2;
const SLICES: u8 = 3;
const STATE: u8 = 4;
const SUMMARY: u8 = 5;
const SEGMENT_TRANSACTIONS: u8 = 6;
const ABORTED_RANGES: u8 = 7;
const AGES: u8 = 8;

/// The index of a range.
#[derive(Debug, Default)]
pub(in crate::journal) struct RangeIndex {
    pub(in crate::journal) partitions: BTreeMap<PartitionId, PartitionIndex>,
    pub(in crate::journal) slices: Vec<SlicePlace>,
    pub(in crate::journal) delta: Delta,
    pub(in crate::journal) events: Events,
    /// Whether there is a batch or a fact in it.
    pub(in crate::journal) data: bool,
}

/// Where a slice of the segment's snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) struct SlicePlace {
    pub(in crate::journal) index: u32,
    pub(in crate::journal) total: u32,
    pub(in crate::journal) position: Position,
    /// Header and payload.
    pub(in crate::journal) length: u32,
}

impl RangeIndex {
    /// The index of everything from a place on, by reading it; with what survives of damaged ranges.
    pub(super) fn scan(
        segment: &Segment,
        seed: Seed,
        from: Position,
        end: End,
    ) -> io::Result<Self> {
        let mut scanner = Scanner::resume(segment, seed, end, from)?;
        let mut index = Self::default();
        loop {
            let (entries, open_ms) = match scanner.step() {
                Step::Frame(frame) => (frame.entries, frame.header.open_ms),
                Step::Damage(damage) => (damage.survivors, 0),
                Step::End(_) => return Ok(index),
            };
            for entry in &entries {
                index.add_found(&mut scanner, entry, open_ms);
            }
        }
    }

    /// Adds the next entry that a scan found.
    pub(in crate::journal) fn add_found(
        &mut self,
        scanner: &mut Scanner<'_>,
        entry: &FoundEntry,
        open_ms: u64,
    ) {
        let payload = entry.intact.then(|| scanner.payload(entry));
        self.add(&entry.header, entry.position, payload, open_ms);
    }

    /// Adds the next entry; without its payload if that is damaged.
    pub(in crate::journal) fn add(
        &mut self,
        header: &EntryHeader,
        position: Position,
        payload: Option<&[u8]>,
        open_ms: u64,
    ) {
        self.delta.add(header, payload, open_ms);
        if let Some(event) = payload.and_then(|payload| self.event(header, payload)) {
            self.events.push(event);
        }
        self.data |= matches!(header.kind, EntryKind::Batch | EntryKind::Fact);
        match header.kind {
            EntryKind::Batch => {
                let placed = placed(header, position, payload);
                self.partitions.entry(header.partition).or_default().insert(&placed);
            }
            EntryKind::Slice => self.slices.push(SlicePlace {
                index: header.partition.0,
                total: header.count,
                position,
                length: ENTRY_HEADER_BYTES as u32 + header.length,
            }),
            EntryKind::Fact | EntryKind::Barrier | EntryKind::Close => {}
        }
    }

    /// What an entry does to transactions.
    fn event(&self, header: &EntryHeader, payload: &[u8]) -> Option<Event> {
        let (partition, offset) = (header.partition, header.base_offset);
        match header.kind {
            EntryKind::Batch => {
                let batch = batch_header(payload)?;
                let producer_id = batch.producer_id;
                if let Some(outcome) = marker(payload) {
                    return Some(Event::End { partition, producer_id, offset, outcome });
                }
                let begins =
                    batch.is_transactional() && !batch.is_control() && batch.has_producer();
                begins.then_some(Event::Begin { partition, producer_id, offset })
            }
            EntryKind::Barrier => {
                let Barrier { incarnation, .. } = Barrier::decode(payload)?;
                let ends = self.partitions.iter().map(|(&id, index)| (id, index.end())).collect();
                Some(Event::Barrier { incarnation, ends })
            }
            EntryKind::Fact | EntryKind::Slice | EntryKind::Close => None,
        }
    }

    /// As an index file stores it.
    pub(in crate::journal) fn encode(&self, summary: Option<&Summary>) -> Vec<u8> {
        let mut batches = Vec::new();
        for (&partition, index) in &self.partitions {
            index.encode(partition, &mut batches);
        }
        let mut slices = Vec::new();
        for slice in &self.slices {
            slices.extend_from_slice(&slice.index.to_le_bytes());
            slices.extend_from_slice(&slice.total.to_le_bytes());
            slices.extend_from_slice(&slice.position.0.to_le_bytes());
            slices.extend_from_slice(&slice.length.to_le_bytes());
        }
        let mut out = Vec::new();
        section(&mut out, BATCHES, &batches);
        section(&mut out, TRANSACTIONS, &self.events.encode());
        section(&mut out, SLICES, &slices);
        section(&mut out, STATE, &self.delta.encode());
        if let Some(summary) = summary {
            section(&mut out, SUMMARY, &summary.encode());
            section(&mut out, SEGMENT_TRANSACTIONS, &summary.events.encode());
            section(&mut out, ABORTED_RANGES, &summary.encode_aborted());
            section(&mut out, AGES, &summary.encode_aged());
        }
        out
    }

    /// Reads what [`RangeIndex::encode`] wrote.
    pub(in crate::journal) fn decode(
        payload: &[u8],
        segment: Position,
    ) -> Option<(Self, Option<Summary>)> {
        let mut cursor = Cursor::new(payload);
        let mut index = Self::default();
        let (mut summary, mut events) = (None, Events::default());
        let (mut aborted, mut aged) = (Vec::new(), Vec::new());
        while !cursor.is_empty() {
            let [kind, ..] = cursor.array::<4>()?;
            let length = usize::try_from(cursor.u32()?).ok()?;
            let content = cursor.bytes(length)?;
            match kind {
                BATCHES => index.partitions = decode_batches(content)?,
                TRANSACTIONS => index.events = Events::decode(content)?,
                SLICES => index.slices = decode_slices(content)?,
                STATE => index.delta = Delta::decode(content)?,
                SUMMARY => summary = Some(Summary::decode(content, segment)?),
                SEGMENT_TRANSACTIONS => events = Events::decode(content)?,
                ABORTED_RANGES => aborted = Summary::decode_aborted(content)?,
                AGES => aged = Summary::decode_aged(content)?,
                _ => return None,
            }
        }
        let summary = summary.map(|summary: Summary| Summary { events, aborted, aged, ..summary });
        Some((index, summary))
    }
}

/// A batch as the index takes it; without its payload its time is not known.
pub(in crate::journal) fn placed(
    header: &EntryHeader,
    position: Position,
    payload: Option<&[u8]>,
) -> Placed {
    let length = ENTRY_HEADER_BYTES as u32 + header.length;
    Placed {
        location: Location { base_offset: header.base_offset, position, length },
        end: header.end_offset(),
        max_timestamp: payload
            .and_then(batch_header)
            .map_or(i64::MIN, |header| header.max_timestamp),
    }
}

fn section(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    if content.is_empty() {
        return;
    }
    let length = u32::try_from(content.len()).expect("a segment is at most 1 GiB");
    out.extend_from_slice(&[kind, 0, 0, 0]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(content);
}

fn decode_batches(content: &[u8]) -> Option<BTreeMap<PartitionId, PartitionIndex>> {
    let mut cursor = Cursor::new(content);
    let mut partitions = BTreeMap::new();
    while !cursor.is_empty() {
        let (partition, index) = PartitionIndex::decode(&mut cursor)?;
        partitions.insert(partition, index);
    }
    Some(partitions)
}

fn decode_slices(content: &[u8]) -> Option<Vec<SlicePlace>> {
    let mut cursor = Cursor::new(content);
    let mut slices = Vec::new();
    while !cursor.is_empty() {
        slices.push(SlicePlace {
            index: cursor.u32()?,
            total: cursor.u32()?,
            position: Position(cursor.u64()?),
            length: cursor.u32()?,
        });
    }
    Some(slices)
}
