//! Indexes and aborted ranges of segments that were left: loaded when somebody reads there, the longest unused ones dropped.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    Coverage, Events, Findings, Offset, PartitionId, PartitionIndex, Position, RangeIndex,
};
use crate::journal::{
    AbortedRange, Disk,
    aborted::Spilled,
    cold,
    format::{ENTRY_ALIGN, Seed},
    recovery::End,
    segment::Segment,
};

/// Key, hash table and order: what an entry takes beside its index.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// The cache, and where it loads from.
#[derive(Debug)]
pub(in crate::journal) struct IndexCache {
    disk: Arc<dyn Disk>,
    seed: Seed,
    budget_bytes: usize,
    inner: Mutex<Inner>,
    /// Files that turned out to be damaged while something was looked up.
    damaged: AtomicU64,
}

/// By segment (its `first`) and partition.
type Key = (Position, PartitionId, Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Batches,
    Aborted,
}

#[derive(Clone, Debug)]
enum Content {
    Batches(Arc<PartitionIndex>),
    Aborted(Arc<[AbortedRange]>),
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    /// From the longest unused on.
    order: BTreeMap<u64, Key>,
    next_use: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    content: Content,
    bytes: usize,
    used: u64,
}

/// What a partition has in a segment.
#[derive(Clone, Copy, Debug)]
pub(in crate::journal) struct Size {
    pub(in crate::journal) partition: PartitionId,
    /// With headers and padding.
    pub(in crate::journal) entry_bytes: u64,
    pub(in crate::journal) batch_bytes: u64,
}

impl IndexCache {
    pub(in crate::journal) fn new(disk: Arc<dyn Disk>, seed: Seed, budget_bytes: usize) -> Self {
        let (inner, damaged) = (Mutex::default(), AtomicU64::new(0));
        Self { disk, seed, budget_bytes, inner, damaged }
    }

    /// Where index files are.
    pub(in crate::journal) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The index of one partition in one segment. Reads files when it is not in memory.
    pub(in crate::journal) fn partition(
        &self,
        segment: &Segment,
        end: End,
        partition: PartitionId,
    ) -> io::Result<Arc<PartitionIndex>> {
        let first = segment.header.first;
        if let Some(index) = self.held(segment, partition) {
            return Ok(index);
        }
        let mut partitions = self.load(segment, end)?;
        let wanted = partitions.remove(&partition).unwrap_or_default();
        // Whoever reads one partition of a segment will hardly be the only one.
        self.keep(first, partitions);
        let wanted = Arc::new(wanted);
        let content = Content::Batches(Arc::clone(&wanted));
        self.lock().insert((first, partition, Kind::Batches), content, self.budget_bytes);
        Ok(wanted)
    }

    /// Aborted ranges of one partition whose markers are in one segment. None: what can be read are not those that
    /// were spilled. Reads files when they are not in memory.
    pub(in crate::journal) fn aborted(
        &self,
        segment: &Segment,
        end: End,
        partition: PartitionId,
        spilled: &Spilled,
    ) -> io::Result<Option<Arc<[AbortedRange]>>> {
        if let Some(ranges) = self.held_aborted(segment, partition) {
            return Ok(Some(ranges));
        }
        let found = if segment.header.first.is_cold() {
            let told = cold::aborted(segment, self.seed, end);
            let told = told.into_iter().filter(|(of, _)| *of == partition);
            spilled.accept(&told.map(|(_, range)| range).collect::<Vec<_>>())
        } else {
            self.find_aborted(segment, end, partition, spilled)?
        };
        let Some(ranges) = found else { return Ok(None) };
        let ranges: Arc<[AbortedRange]> = ranges.into();
        let key = (segment.header.first, partition, Kind::Aborted);
        self.lock().insert(key, Content::Aborted(Arc::clone(&ranges)), self.budget_bytes);
        Ok(Some(ranges))
    }

    /// What the steps in an index file tell, or else those of the entries themselves.
    fn find_aborted(
        &self,
        segment: &Segment,
        end: End,
        partition: PartitionId,
        spilled: &Spilled,
    ) -> io::Result<Option<Vec<AbortedRange>>> {
        let accept = |events: &Events| {
            // Whether the barrier of an opening gave up what stands before it, the segment alone does not tell.
            let mut told = [false, true].into_iter().map(|it| events.aborted(partition, it));
            told.find_map(|told| spilled.accept(&told))
        };
        if let End::Known(limit) = end
            && let Some((_, summary)) =
                Coverage::sealed(&*self.disk, self.seed, segment, (limit, 0))
            && let Some(ranges) = accept(&summary.events)
        {
            return Ok(Some(ranges));
        }
        let all = RangeIndex::scan(segment, self.seed, segment.header.frames(), end)?;
        Ok(accept(&all.events))
    }

    /// How many bytes each partition has in a segment. Reads files, and keeps nothing.
    pub(in crate::journal) fn sizes(&self, segment: &Segment, end: End) -> io::Result<Vec<Size>> {
        let size = |(&partition, index): (&PartitionId, &PartitionIndex)| {
            let entries = index.starting_at(Offset(i64::MIN));
            let aligned =
                entries.map(|entry| u64::from(entry.length).next_multiple_of(ENTRY_ALIGN as u64));
            Size { partition, entry_bytes: aligned.sum(), batch_bytes: index.bytes() }
        };
        let partitions = self.load(segment, end)?;
        Ok(partitions.iter().map(size).collect())
    }

    /// That index, if it is in memory.
    pub(in crate::journal) fn held(
        &self,
        segment: &Segment,
        partition: PartitionId,
    ) -> Option<Arc<PartitionIndex>> {
        match self.lock().hit((segment.header.first, partition, Kind::Batches))? {
            Content::Batches(index) => Some(index),
            Content::Aborted(_) => None,
        }
    }

    /// Those aborted ranges, if they are in memory.
    pub(in crate::journal) fn held_aborted(
        &self,
        segment: &Segment,
        partition: PartitionId,
    ) -> Option<Arc<[AbortedRange]>> {
        match self.lock().hit((segment.header.first, partition, Kind::Aborted))? {
            Content::Aborted(ranges) => Some(ranges),
            Content::Batches(_) => None,
        }
    }

    /// Takes over the indexes of a segment.
    pub(in crate::journal) fn keep(
        &self,
        segment: Position,
        partitions: impl IntoIterator<Item = (PartitionId, PartitionIndex)>,
    ) {
        let mut inner = self.lock();
        for (partition, index) in partitions {
            let content = Content::Batches(Arc::new(index));
            inner.insert((segment, partition, Kind::Batches), content, self.budget_bytes);
        }
    }

    /// Bytes in use.
    pub(in crate::journal) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Index files that turned out to be damaged while the journal was open.
    pub(in crate::journal) fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    fn load(
        &self,
        segment: &Segment,
        end: End,
    ) -> io::Result<BTreeMap<PartitionId, PartitionIndex>> {
        if segment.header.first.is_cold() {
            return cold::index(segment, self.seed, end);
        }
        let mut findings = Findings::default();
        let found = Coverage::find(&*self.disk, self.seed, segment, end, 0, &mut findings);
        self.damaged.fetch_add(findings.damaged + findings.stale, Ordering::Relaxed);
        let from = found.end().unwrap_or(segment.header.frames());
        let mut ranges: Vec<_> = found.chunks.into_iter().map(|(_, index)| index).collect();
        if !matches!(end, End::Known(end) if end <= from) {
            ranges.push(RangeIndex::scan(segment, self.seed, from, end)?);
        }
        let mut partitions: BTreeMap<PartitionId, PartitionIndex> = BTreeMap::new();
        for (partition, index) in ranges.into_iter().flat_map(|range| range.partitions) {
            partitions.entry(partition).or_default().extend(index);
        }
        Ok(partitions)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Batches(index) => index.heap_bytes(),
            Self::Aborted(ranges) => size_of_val::<[AbortedRange]>(ranges),
        }
    }
}

impl Inner {
    fn hit(&mut self, key: Key) -> Option<Content> {
        let entry = self.entries.get_mut(&key)?;
        self.order.remove(&entry.used);
        self.next_use += 1;
        entry.used = self.next_use;
        self.order.insert(entry.used, key);
        Some(entry.content.clone())
    }

    fn insert(&mut self, key: Key, content: Content, budget_bytes: usize) {
        let bytes = content.heap_bytes() + ENTRY_OVERHEAD_BYTES;
        self.remove(key);
        self.next_use += 1;
        let used = self.next_use;
        self.order.insert(used, key);
        self.entries.insert(key, Entry { content, bytes, used });
        self.bytes += bytes;
        while self.bytes > budget_bytes {
            let Some((_, &oldest)) = self.order.first_key_value() else { return };
            self.remove(oldest);
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            self.order.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }
}
