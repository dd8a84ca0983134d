//! Indexes of segments that were left: loaded when somebody reads there, the longest unused ones dropped.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Coverage, Findings, Offset, PartitionId, PartitionIndex, Position, RangeIndex};
use crate::journal::{
    Disk, cold,
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
type Key = (Position, PartitionId);

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
    index: Arc<PartitionIndex>,
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
        if let Some(index) = self.lock().hit((first, partition)) {
            return Ok(index);
        }
        let mut partitions = self.load(segment, end)?;
        let wanted = partitions.remove(&partition).unwrap_or_default();
        // Whoever reads one partition of a segment will hardly be the only one.
        self.keep(first, partitions);
        let wanted = Arc::new(wanted);
        self.lock().insert((first, partition), Arc::clone(&wanted), self.budget_bytes);
        Ok(wanted)
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
        self.lock().hit((segment.header.first, partition))
    }

    /// Takes over the indexes of a segment.
    pub(in crate::journal) fn keep(
        &self,
        segment: Position,
        partitions: impl IntoIterator<Item = (PartitionId, PartitionIndex)>,
    ) {
        let mut inner = self.lock();
        for (partition, index) in partitions {
            inner.insert((segment, partition), Arc::new(index), self.budget_bytes);
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

impl Inner {
    fn hit(&mut self, key: Key) -> Option<Arc<PartitionIndex>> {
        let entry = self.entries.get_mut(&key)?;
        self.order.remove(&entry.used);
        self.next_use += 1;
        entry.used = self.next_use;
        self.order.insert(entry.used, key);
        Some(Arc::clone(&entry.index))
    }

    fn insert(&mut self, key: Key, index: Arc<PartitionIndex>, budget_bytes: usize) {
        let bytes = index.heap_bytes() + ENTRY_OVERHEAD_BYTES;
        self.remove(key);
        self.next_use += 1;
        let used = self.next_use;
        self.order.insert(used, key);
        self.entries.insert(key, Entry { index, bytes, used });
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
