//! Which offsets of which partitions a segment holds: all that stays in memory of a segment that was left.

use std::collections::BTreeMap;

use super::{Events, Offset, PartitionId, PartitionIndex, Placed, Position};
use crate::journal::{AbortedRange, age::Aged, format::Cursor};

/// Offsets of one partition in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) struct Run {
    /// `first` of the segment.
    pub(in crate::journal) segment: Position,
    pub(in crate::journal) first: Offset,
    /// One past the last.
    pub(in crate::journal) end: Offset,
    pub(in crate::journal) max_timestamp: i64,
}

/// All runs of one segment.
#[derive(Clone, Debug, Default)]
pub(in crate::journal) struct Summary {
    /// Its transactions.
    pub(in crate::journal) events: Events,
    /// Of a cold segment: the aborted ranges that end in it and concern data that is still there.
    pub(in crate::journal) aborted: Vec<(PartitionId, AbortedRange)>,
    /// Of a cold segment: how old what is.
    pub(in crate::journal) aged: Vec<(PartitionId, Aged)>,
    pub(super) runs: BTreeMap<PartitionId, Run>,
}

impl Summary {
    /// Adds a batch; the caller has made sure that it lies behind all others of its partition.
    pub(in crate::journal) fn add(
        &mut self,
        segment: Position,
        partition: PartitionId,
        placed: &Placed,
    ) {
        let span = (placed.location.base_offset, placed.end, placed.max_timestamp);
        self.add_span(segment, partition, span);
    }

    /// Adds the batches of the next range.
    pub(in crate::journal) fn extend<'a>(
        &mut self,
        segment: Position,
        partitions: impl IntoIterator<Item = (&'a PartitionId, &'a PartitionIndex)>,
    ) {
        for (&partition, index) in partitions {
            if let Some(span) = index.span() {
                self.add_span(segment, partition, span);
            }
        }
    }

    fn add_span(
        &mut self,
        segment: Position,
        partition: PartitionId,
        (first, end, max_timestamp): (Offset, Offset, i64),
    ) {
        let run = self.runs.entry(partition).or_insert(Run { segment, first, end, max_timestamp });
        run.end = run.end.max(end);
        run.max_timestamp = run.max_timestamp.max(max_timestamp);
    }

    /// Notes which offsets of a partition the segment stands for.
    pub(in crate::journal) fn cover(&mut self, partition: PartitionId, run: Run) {
        self.runs.insert(partition, run);
    }

    pub(super) fn encode_aborted(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (partition, range) in &self.aborted {
            out.extend_from_slice(&partition.0.to_le_bytes());
            out.extend_from_slice(&range.producer_id.to_le_bytes());
            out.extend_from_slice(&range.first.0.to_le_bytes());
            out.extend_from_slice(&range.last.0.to_le_bytes());
            out.push(u8::from(range.has_marker));
        }
        out
    }

    pub(super) fn decode_aborted(bytes: &[u8]) -> Option<Vec<(PartitionId, AbortedRange)>> {
        let mut cursor = Cursor::new(bytes);
        let mut ranges = Vec::new();
        while !cursor.is_empty() {
            let partition = PartitionId(cursor.u32()?);
            let producer_id = cursor.i64()?;
            let (first, last) = (Offset(cursor.i64()?), Offset(cursor.i64()?));
            let has_marker = cursor.u8()? != 0;
            ranges.push((partition, AbortedRange { producer_id, first, last, has_marker }));
        }
        Some(ranges)
    }

    pub(super) fn encode_aged(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (partition, aged) in &self.aged {
            out.extend_from_slice(&partition.0.to_le_bytes());
            out.extend_from_slice(&aged.end.0.to_le_bytes());
            out.extend_from_slice(&aged.open_ms.to_le_bytes());
        }
        out
    }

    pub(super) fn decode_aged(bytes: &[u8]) -> Option<Vec<(PartitionId, Aged)>> {
        let mut cursor = Cursor::new(bytes);
        let mut told = Vec::new();
        while !cursor.is_empty() {
            let partition = PartitionId(cursor.u32()?);
            told.push((partition, Aged { end: Offset(cursor.i64()?), open_ms: cursor.u64()? }));
        }
        Some(told)
    }

    /// One past the last offset of a partition.
    pub(in crate::journal) fn end(&self, partition: PartitionId) -> Option<Offset> {
        self.runs.get(&partition).map(|run| run.end)
    }

    pub(in crate::journal) fn runs(&self) -> impl Iterator<Item = (PartitionId, Run)> {
        self.runs.iter().map(|(&partition, &run)| (partition, run))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (partition, run) in &self.runs {
            out.extend_from_slice(&partition.0.to_le_bytes());
            out.extend_from_slice(&run.first.0.to_le_bytes());
            out.extend_from_slice(&run.end.0.to_le_bytes());
            out.extend_from_slice(&run.max_timestamp.to_le_bytes());
        }
        out
    }

    pub(super) fn decode(bytes: &[u8], segment: Position) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let mut summary = Self::default();
        while !cursor.is_empty() {
            let partition = PartitionId(cursor.u32()?);
            let first = Offset(cursor.i64()?);
            let end = Offset(cursor.i64()?);
            let max_timestamp = cursor.i64()?;
            summary.runs.insert(partition, Run { segment, first, end, max_timestamp });
        }
        Some(summary)
    }
}
