//! The last frame, which nothing proves durable: taken out, to be written again before anyone sees it.

use std::ops::Range;

use super::super::{
    AbortedRange, PartitionId, State,
    format::{EntryHeader, EntryKind, entry_size},
};

/// Entries of that frame that belong into the log.
#[derive(Debug)]
pub(in crate::journal) struct Carried {
    pub(super) entries: Vec<(EntryHeader, Range<usize>)>,
    pub(super) payloads: Vec<u8>,
    pub(super) open_ms: u64,
    /// Bytes of the whole frame.
    pub(super) length: u64,
}

impl Carried {
    /// Headers and payloads in order.
    pub(in crate::journal) fn entries(&self) -> impl Iterator<Item = (EntryHeader, &[u8])> {
        self.entries
            .iter()
            .map(|(header, range)| (*header, self.payloads.get(range.clone()).unwrap_or_default()))
    }

    /// Bytes that they take in a frame.
    pub(in crate::journal) fn entries_bytes(&self) -> usize {
        self.entries.iter().map(|(header, _)| entry_size(header.length as usize)).sum()
    }

    /// Applies them to the state; gives the transactions that they aborted.
    pub(in crate::journal) fn apply(&self, state: &mut State) -> Vec<(PartitionId, AbortedRange)> {
        let apply =
            |(header, payload)| super::replay::apply(state, &header, Some(payload), self.open_ms);
        self.entries().flat_map(apply).collect()
    }

    /// Whether an entry is data: the rest belongs to its segment and is written anew for the next one.
    pub(super) fn takes(kind: EntryKind) -> bool {
        matches!(kind, EntryKind::Batch | EntryKind::Fact)
    }
}
