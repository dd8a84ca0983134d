//! Where transactions begin and end in a range: what it takes to find the aborted ones without their batches.
//!
//! A transaction may begin in one segment and end in another, so these are steps, not results.

use std::collections::{HashMap, HashSet};

use super::{Offset, PartitionId};
use crate::{
    journal::{AbortedRange, format::Cursor},
    record::TransactionOutcome,
};

const BEGIN: u8 = 1;
const ABORT: u8 = 2;
const COMMIT: u8 = 3;
const BARRIER: u8 = 4;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::journal) enum Event {
    /// A producer's first transactional batch of the range, or since the last end.
    Begin { partition: PartitionId, producer_id: i64, offset: Offset },
    /// A marker.
    End { partition: PartitionId, producer_id: i64, offset: Offset, outcome: TransactionOutcome },
    /// A barrier, and where partitions end before it that have batches in the segment before it.
    Barrier { incarnation: u64, ends: Vec<(PartitionId, Offset)> },
}

/// Steps in order.
#[derive(Clone, Debug, Default)]
pub(in crate::journal) struct Events {
    /// None: found to mean nothing.
    steps: Vec<Option<Event>>,
    /// Open ones with the place of their begin.
    open: HashMap<(PartitionId, i64), usize>,
    /// Of whose transactions an end was seen: nothing from before the range is open any more.
    ended: HashSet<(PartitionId, i64)>,
}

impl Events {
    pub(super) fn push(&mut self, event: Event) {
        match &event {
            Event::Begin { partition, producer_id, .. } => {
                let key = (*partition, *producer_id);
                if self.open.contains_key(&key) {
                    return;
                }
                self.open.insert(key, self.steps.len());
            }
            Event::End { partition, producer_id, outcome, .. } => {
                let key = (*partition, *producer_id);
                let begin = self.open.remove(&key);
                let is_known = !self.ended.insert(key);
                // Begun and committed in here: nobody has to know.
                if *outcome == TransactionOutcome::Commit && is_known {
                    if let Some(begin) = begin.and_then(|at| self.steps.get_mut(at)) {
                        *begin = None;
                    }
                    return;
                }
            }
            Event::Barrier { .. } => {
                self.open.clear();
                self.ended.clear();
            }
        }
        self.steps.push(Some(event));
    }

    /// Adds the steps of the next range.
    pub(in crate::journal) fn extend(&mut self, next: &Self) {
        next.iter().cloned().for_each(|event| self.push(event));
    }

    pub(in crate::journal) fn iter(&self) -> impl Iterator<Item = &Event> {
        self.steps.iter().flatten()
    }

    /// The transactions of a partition that markers aborted, by these steps alone: one that began before seems to begin
    /// with its first batch here. `gives_up`: a barrier ends those before it.
    pub(in crate::journal) fn aborted(
        &self,
        partition: PartitionId,
        gives_up: bool,
    ) -> Vec<AbortedRange> {
        let mut open: HashMap<i64, Offset> = HashMap::new();
        let mut aborted = Vec::new();
        for event in self.iter() {
            match *event {
                Event::Begin { partition: of, producer_id, offset } if of == partition => {
                    open.entry(producer_id).or_insert(offset);
                }
                Event::End { partition: of, producer_id, offset: last, outcome }
                    if of == partition =>
                {
                    let first = open.remove(&producer_id);
                    let first = first.filter(|_| outcome == TransactionOutcome::Abort);
                    aborted.extend(first.map(|first| AbortedRange {
                        producer_id,
                        first,
                        last,
                        has_marker: true,
                    }));
                }
                Event::Barrier { .. } if gives_up => open.clear(),
                Event::Begin { .. } | Event::End { .. } | Event::Barrier { .. } => {}
            }
        }
        aborted
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for event in self.iter() {
            let (kind, partition, producer_id, offset) = match event {
                Event::Begin { partition, producer_id, offset } => {
                    (BEGIN, partition, producer_id, offset)
                }
                Event::End { partition, producer_id, offset, outcome } => {
                    let is_abort = *outcome == TransactionOutcome::Abort;
                    (if is_abort { ABORT } else { COMMIT }, partition, producer_id, offset)
                }
                Event::Barrier { incarnation, ends } => {
                    out.push(BARRIER);
                    out.extend_from_slice(&incarnation.to_le_bytes());
                    let count = u32::try_from(ends.len()).expect("as many as there are batches");
                    out.extend_from_slice(&count.to_le_bytes());
                    for (partition, end) in ends {
                        out.extend_from_slice(&partition.0.to_le_bytes());
                        out.extend_from_slice(&end.0.to_le_bytes());
                    }
                    continue;
                }
            };
            out.push(kind);
            out.extend_from_slice(&partition.0.to_le_bytes());
            out.extend_from_slice(&producer_id.to_le_bytes());
            out.extend_from_slice(&offset.0.to_le_bytes());
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let mut events = Self::default();
        while !cursor.is_empty() {
            let kind = cursor.u8()?;
            if kind == BARRIER {
                let incarnation = cursor.u64()?;
                let count = cursor.u32()?;
                let mut ends = Vec::new();
                for _ in 0..count {
                    ends.push((PartitionId(cursor.u32()?), Offset(cursor.i64()?)));
                }
                events.push(Event::Barrier { incarnation, ends });
                continue;
            }
            let partition = PartitionId(cursor.u32()?);
            let producer_id = cursor.i64()?;
            let offset = Offset(cursor.i64()?);
            let end = |outcome| Event::End { partition, producer_id, offset, outcome };
            events.push(match kind {
                BEGIN => Event::Begin { partition, producer_id, offset },
                ABORT => end(TransactionOutcome::Abort),
                COMMIT => end(TransactionOutcome::Commit),
                _ => return None,
            });
        }
        Some(events)
    }
}
