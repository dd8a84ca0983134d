//! What deciding what to keep needs to know of the log: what is how old, how large, and what holds segments.

use super::{
    Journal, Offset, PartitionId, Position, ReadError,
    index::{PartitionIndex, Run},
    log::{Log, Readable},
    shared::Shared,
};

/// A segment that could leave the log if nothing in it was live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Bytes of its file: what letting it go frees.
    pub bytes: u64,
    /// A cold segment: it leaves by itself, not in the order of the log, and what stays in it need not be copied.
    pub is_cold: bool,
    /// Who holds it.
    pub live: Vec<Held>,
}

/// A partition with live batches in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The partition.
    pub partition: PartitionId,
    /// One past its last offset there: with its log start here it holds the segment no longer.
    pub end: Offset,
    /// Bytes of its batches there, dead ones included; none if nobody counted them yet.
    pub bytes: Option<u64>,
}

/// Up to which offset a partition's batches lie before a position.
#[derive(Debug)]
pub(super) enum Before {
    /// Up to this one.
    Known(Offset),
    /// Somewhere in a segment that was left.
    Within(Run, Readable),
}

/// What of a partition its newest bytes are.
#[derive(Debug)]
pub(super) enum Newest {
    /// What begins here.
    Known(Offset),
    /// Of a segment that was left so many bytes, if it holds as many: its index has to be looked up.
    Within(Run, Readable, u64),
}

impl Journal {
    /// The offset below which everything in a partition was appended by the time that the journal had been open for so
    /// long ([`Journal::open_ms`]). May be lower than could be, never higher. Blocks on file I/O.
    pub fn appended_by(&self, partition: PartitionId, open_ms: u64) -> Result<Offset, ReadError> {
        self.shared().appended_by(partition, open_ms)
    }

    /// The highest offset from which on a partition still holds at least so many bytes of batches; the log start if it
    /// holds less. Blocks on file I/O.
    pub fn newest_bytes(&self, partition: PartitionId, bytes: u64) -> Result<Offset, ReadError> {
        let shared = self.shared();
        loop {
            let newest = shared.log().newest(partition, bytes);
            match newest {
                Newest::Known(offset) => return Ok(offset),
                Newest::Within(run, readable, left) => {
                    let (segment, end) = (&readable.segment, readable.end);
                    let index = shared.indexes.partition(segment, end, partition)?;
                    shared.log_mut().note_bytes(partition, run.segment, index.bytes());
                    if index.bytes() >= left {
                        let log_start = shared.log().log_start(partition);
                        return Ok(index.newest(left).max(run.first).max(log_start));
                    }
                }
            }
        }
    }

    /// Bytes of a partition's batches in the segments that hold some of it: those before the log start in the first of
    /// them are counted, too. Blocks on file I/O.
    pub fn partition_bytes(&self, partition: PartitionId) -> Result<u64, ReadError> {
        let shared = self.shared();
        let (mut bytes, left) = shared.log().bytes_of(partition);
        for (run, readable) in left {
            let (segment, end) = (&readable.segment, readable.end);
            let index = shared.indexes.partition(segment, end, partition)?;
            shared.log_mut().note_bytes(partition, run.segment, index.bytes());
            bytes = bytes.saturating_add(index.bytes());
        }
        Ok(bytes)
    }

    /// The cold segments and the oldest segments that could leave the log, of these at most so many, oldest first, with
    /// what holds them. Segments that the state needs are not among them.
    #[must_use]
    pub fn holdings(&self, most: usize) -> Vec<Holding> {
        self.shared().log().holdings(most)
    }

    /// Segments that have to be freed before appends find space again, beyond those that are on their way. 0 as long as
    /// the budget and the disk have room.
    #[must_use]
    pub fn missing_segments(&self) -> u64 {
        let shared = self.shared();
        shared.preparer.missing().saturating_sub(shared.retirer.pinned())
    }
}

impl Shared {
    /// [`Journal::appended_by`].
    pub(super) fn appended_by(
        &self,
        partition: PartitionId,
        open_ms: u64,
    ) -> Result<Offset, ReadError> {
        let (cold, before, position) = {
            let log = self.log();
            let position = log.ages().until(open_ms);
            (log.cold_by(partition, open_ms), log.before(partition, position), position)
        };
        Ok(match before {
            Before::Known(offset) => offset.max(cold),
            Before::Within(run, readable) => {
                let (segment, end) = (&readable.segment, readable.end);
                let index = self.indexes.partition(segment, end, partition)?;
                index.first_at(position).unwrap_or(run.end).clamp(run.first, run.end)
            }
        })
    }
}

/// Bytes that may be copied to free one, where a segment holds data that stays as well.
pub const COPIED_PER_FREED_BYTE: u64 = 2;

impl Log {
    /// Up to where a partition's batches lie before a position, those in cold segments left aside.
    pub(super) fn before(&self, partition: PartitionId, position: Position) -> Before {
        let start = self.log_start(partition);
        let mut known = start;
        for (run, readable) in self.runs(partition).filter(|(run, _)| !run.segment.is_cold()) {
            if readable.left() <= position {
                known = known.max(run.end);
            } else if run.segment < position && run.end > start {
                return Before::Within(run, readable.clone());
            } else {
                return Before::Known(known);
            }
        }
        let (active, index) = self.active(partition);
        if active.is_some_and(|active| active < position)
            && let Some(index) = index
        {
            let first = index.first_at(position).unwrap_or(index.end());
            known = known.max(first);
        }
        Before::Known(known)
    }

    /// Bytes of a partition's batches as far as they were counted, and where the others are.
    fn bytes_of(&self, partition: PartitionId) -> (u64, Vec<(Run, Readable)>) {
        let start = self.log_start(partition);
        let (_, active) = self.active(partition);
        let mut bytes = active.map_or(0, PartitionIndex::bytes);
        let mut left = Vec::new();
        for (run, readable) in self.runs(partition).filter(|(run, _)| run.end > start) {
            match self.bytes_in(partition, run.segment) {
                Some(counted) => bytes = bytes.saturating_add(counted),
                None => left.push((run, readable.clone())),
            }
        }
        (bytes, left)
    }

    /// Walks back from the newest batch.
    pub(super) fn newest(&self, partition: PartitionId, bytes: u64) -> Newest {
        let start = self.log_start(partition);
        if bytes == 0 {
            return Newest::Known(self.durable_end(partition));
        }
        let mut left = bytes;
        if let (_, Some(index)) = self.active(partition) {
            if index.bytes() >= left {
                return Newest::Known(index.newest(left).max(start));
            }
            left -= index.bytes();
        }
        for (run, readable) in self.runs(partition).rev() {
            if run.end <= start {
                break;
            }
            match self.bytes_in(partition, run.segment) {
                Some(bytes) if bytes < left => left -= bytes,
                _ => return Newest::Within(run, readable.clone(), left),
            }
        }
        Newest::Known(start)
    }
}
