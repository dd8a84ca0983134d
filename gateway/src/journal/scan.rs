//! One pass through the journal in the order that it was written in, for whoever wants many partitions:
//! a read of each alone would pass through the same frames again and again.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Journal, Offset, PartitionId, Position, ReadError,
    format::EntryKind,
    log::{Met, Readable},
    lookup::{self, Reach},
    recovery::{ColdStep, End, FoundEntry, Scanner, Step},
    segment::Segment,
    shared::Shared,
};

/// A place in the journal, and the partitions that are wanted.
#[derive(Debug)]
pub struct Scan {
    position: Position,
    /// None: all of them.
    partitions: Option<BTreeSet<PartitionId>>,
    /// Per partition, one past the last offset that was given out: where segments were cleaned in the meantime,
    /// what replaced them holds more than what is still to come.
    met: HashMap<PartitionId, Offset>,
    /// Holds the segment that the place is in: it is not used again as long as somebody reads it.
    pinned: Option<Arc<Segment>>,
}

/// What lies at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A whole durable batch.
    Batch {
        /// Partition.
        partition: PartitionId,
        /// Offset of its first record.
        base_offset: Offset,
        /// One past its last offset.
        end_offset: Offset,
        /// The batch as it is stored.
        bytes: Bytes,
    },
    /// Damaged bytes. What they held is not known; batches of theirs that survived follow.
    Damaged {
        /// First of them.
        from: Position,
        /// One past the last.
        to: Position,
    },
}

impl Journal {
    /// A pass from the frame at a position, or the first one behind it. No partitions: all.
    #[must_use]
    pub fn scan(&self, from: Position, partitions: impl IntoIterator<Item = PartitionId>) -> Scan {
        let partitions = BTreeSet::from_iter(partitions);
        let partitions = (!partitions.is_empty()).then_some(partitions);
        let readable = self.shared().log().at_or_after(from);
        let pinned = readable.map(|met| met.readable.segment);
        Scan { position: from, partitions, met: HashMap::new(), pinned }
    }

    /// A position to begin a pass at that meets everything from an offset on: where its segment begins.
    pub fn position_of(
        &self,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Position, ReadError> {
        let sources = lookup::plan(self.shared(), partition, offset, 1, Reach::Files)?;
        let first = sources.and_then(|plan| plan.sources.into_iter().next());
        let durable = || self.shared().log().durable();
        Ok(first.map_or_else(durable, |first| first.segment.header.frames()))
    }

    /// What comes next in a pass, on a thread that may wait for the medium; see [`Scan::next`].
    pub async fn scan_next(
        &self,
        mut scan: Scan,
        max_bytes: usize,
    ) -> Result<(Scan, Vec<Scanned>), ReadError> {
        let work = move |journal: &Self| {
            let found = scan.next(journal, max_bytes)?;
            Ok((scan, found))
        };
        self.off_worker(work).await
    }
}

impl Scan {
    /// Where it goes on: behind all that was given out. May be kept, and given to [`Journal::scan`]. If what lies there is
    /// cleaned in the meantime, that pass begins where what took its place begins, and meets batches again.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The wanted batches of the next frames, in order, at least `max_bytes` of them if there are so many; whole
    /// frames, so it may be one frame more. Empty at the durable end. Blocks on file I/O.
    pub fn next(&mut self, journal: &Journal, max_bytes: usize) -> Result<Vec<Scanned>, ReadError> {
        let shared = journal.shared();
        let mut found = Vec::new();
        let mut bytes = 0;
        while bytes < max_bytes {
            let Some(met) = shared.log().at_or_after(self.position) else { break };
            let Met { readable, then } = met;
            self.pinned = Some(Arc::clone(&readable.segment));
            let more = max_bytes - bytes;
            bytes += match then {
                Some(then) => self.within_cold(shared, &readable, then, more, &mut found)?,
                None => self.within(shared, &readable, more, &mut found)?,
            };
        }
        Ok(found)
    }

    /// As [`Scan::within`], in a cold segment, behind which the pass goes on at `then`.
    fn within_cold(
        &mut self,
        shared: &Shared,
        readable: &Readable,
        then: Position,
        max_bytes: usize,
        found: &mut Vec<Scanned>,
    ) -> io::Result<usize> {
        let segment = &readable.segment;
        let is_within =
            self.position.is_cold() && self.position.cold_sequence() == segment.header.sequence;
        let from = if is_within { self.position } else { Position(0) };
        let from = from.max(segment.header.frames());
        let mut scanner = Scanner::resume(segment, shared.seed, readable.end, from)?;
        let mut bytes = 0;
        while bytes < max_bytes {
            match scanner.cold_step() {
                Some(ColdStep::Entry(entry)) if entry.intact => {
                    bytes += self.give(shared, &mut scanner, &entry, found);
                }
                Some(ColdStep::Entry(entry)) => {
                    let to = entry.position.plus(entry.header.size() as u64);
                    found.push(Scanned::Damaged { from: entry.position, to });
                }
                Some(ColdStep::Damage { from, to }) => found.push(Scanned::Damaged { from, to }),
                None => {
                    self.position = then;
                    return Ok(bytes);
                }
            }
            self.position = scanner.position();
        }
        Ok(bytes)
    }

    /// Gives a batch out, if it is wanted and new; how many bytes of it.
    fn give(
        &mut self,
        shared: &Shared,
        scanner: &mut Scanner<'_>,
        entry: &FoundEntry,
        found: &mut Vec<Scanned>,
    ) -> usize {
        let (partition, end_offset) = (entry.header.partition, entry.header.end_offset());
        let met = self.met.get(&partition).copied().unwrap_or_default();
        if end_offset <= met || !self.wants(shared, entry) {
            return 0;
        }
        self.met.insert(partition, end_offset);
        let bytes = Bytes::copy_from_slice(scanner.payload(entry));
        let length = bytes.len();
        let base_offset = entry.header.base_offset;
        found.push(Scanned::Batch { partition, base_offset, end_offset, bytes });
        length
    }

    /// Goes on to the end of a segment, or until there is enough; how many bytes were found.
    fn within(
        &mut self,
        shared: &Shared,
        readable: &Readable,
        max_bytes: usize,
        found: &mut Vec<Scanned>,
    ) -> io::Result<usize> {
        let segment = &readable.segment;
        let from = self.position.max(segment.header.frames());
        let mut scanner = Scanner::resume(segment, shared.seed, readable.end, from)?;
        let mut bytes = 0;
        while bytes < max_bytes {
            let entries = match scanner.step() {
                Step::Frame(frame) => frame.entries,
                Step::Damage(damage) => {
                    found.push(Scanned::Damaged { from: damage.from, to: damage.to });
                    damage.survivors
                }
                Step::End(_) => {
                    let end = match readable.end {
                        End::Known(end) => end,
                        End::Open => segment.header.end(),
                    };
                    self.position = self.position.max(end);
                    return Ok(bytes);
                }
            };
            for entry in entries.iter().filter(|entry| entry.intact) {
                bytes += self.give(shared, &mut scanner, entry, found);
            }
            self.position = scanner.position();
        }
        Ok(bytes)
    }

    fn wants(&self, shared: &Shared, entry: &FoundEntry) -> bool {
        let partition = entry.header.partition;
        entry.header.kind == EntryKind::Batch
            && self.partitions.as_ref().is_none_or(|wanted| wanted.contains(&partition))
            && entry.header.end_offset() > shared.log().log_start(partition)
    }
}
