//! A disk in memory that keeps application, page cache and medium apart and logs every operation.
//!
//! From the log any moment can be rebuilt, and from a moment the images that a kill or a power cut leaves. Small
//! on purpose: one block size, no latency.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use super::super::{Disk, DiskFile};

const BLOCK: usize = 4096;

/// What the disk was asked to do, or what the test noted in between.
#[derive(Clone)]
pub(super) enum Event {
    Create(String),
    Rename(String, String),
    Remove(String),
    SyncFolder(String),
    Write {
        inode: u64,
        at: usize,
        bytes: Vec<u8>,
    },
    /// Allocation or truncation.
    Resize {
        inode: u64,
        length: usize,
    },
    Sync(u64),
    /// A sync that reported an error: what was pending never reaches the medium, but stays readable.
    FailedSync(u64),
    /// So many appends of the workload were acknowledged.
    Acked(usize),
}

impl fmt::Debug for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(name) => write!(out, "create {name}"),
            Self::Rename(from, to) => write!(out, "rename {from} {to}"),
            Self::Remove(name) => write!(out, "remove {name}"),
            Self::SyncFolder(name) => write!(out, "sync folder {name}"),
            Self::Write { inode, at, bytes } => write!(out, "write #{inode} {at}+{}", bytes.len()),
            Self::Resize { inode, length } => write!(out, "resize #{inode} {length}"),
            Self::Sync(inode) => write!(out, "sync #{inode}"),
            Self::FailedSync(inode) => write!(out, "failed sync #{inode}"),
            Self::Acked(count) => write!(out, "acked {count}"),
        }
    }
}

/// Files, names and what of them the medium holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending_names: Vec<Event>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    cache: Vec<u8>,
    medium: Vec<u8>,
    pending: Vec<Event>,
}

/// What survives of the pending operations when the power goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// Nothing.
    Nothing,
    /// Everything.
    Everything,
    /// Of the last write only its first block.
    FirstBlock,
    /// Of the last write everything but its first block.
    LostFirstBlock,
    /// Any blocks, drawn from a seed; names too.
    Some(u64),
    /// As before, and one of the blocks under write is garbage.
    Garbled(u64),
}

/// Which operation fails, counted over all that change something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) kind: io::ErrorKind,
    /// Whether all later ones fail too.
    pub(super) sticky: bool,
}

/// The disk.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryDisk {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Condvar>,
}

#[derive(Debug, Default)]
struct Inner {
    files: Files,
    log: Vec<Event>,
    operations: usize,
    fault: Option<Fault>,
    capacity: Option<u64>,
    refused_suffix: Option<&'static str>,
    refused: usize,
    /// Blocks that fail to be read.
    unreadable: BTreeSet<(u64, usize)>,
    syncs_held: bool,
    /// Syncs that wait.
    waiting: usize,
}

#[derive(Debug)]
struct MemoryFile {
    disk: Arc<Mutex<Inner>>,
    changed: Arc<Condvar>,
    inode: u64,
}

impl MemoryDisk {
    pub(super) fn new(files: Files) -> Self {
        let inner = Inner { files, ..Inner::default() };
        Self { inner: Arc::new(Mutex::new(inner)), changed: Arc::default() }
    }

    pub(super) fn with_fault(self, fault: Fault) -> Self {
        self.lock().fault = Some(fault);
        self
    }

    /// Bytes of all files together; none: without end.
    pub(super) fn set_capacity(&self, capacity: Option<u64>) {
        self.lock().capacity = capacity;
    }

    /// Creating files whose names end so fails from now on.
    pub(super) fn refuse_to_create(&self, suffix: &'static str) {
        self.lock().refused_suffix = Some(suffix);
    }

    /// Allocations that did not fit.
    pub(super) fn refused(&self) -> usize {
        self.lock().refused
    }

    /// Files' syncs wait until they are let go.
    pub(super) fn hold_syncs(&self) {
        self.lock().syncs_held = true;
    }

    pub(super) fn let_syncs_go(&self) {
        self.lock().syncs_held = false;
        self.changed.notify_all();
    }

    /// Returns once a sync waits.
    pub(super) fn until_a_sync_waits(&self) {
        let inner = self.lock();
        let timeout = Duration::from_secs(30);
        let (inner, result) =
            self.changed.wait_timeout_while(inner, timeout, |inner| inner.waiting == 0).unwrap();
        assert!(!result.timed_out());
        drop(inner);
    }

    /// From now on the block at this place of a file cannot be read.
    pub(super) fn make_unreadable(&self, name: &str, at: usize) {
        let mut inner = self.lock();
        let inode = inner.files.names[name];
        inner.unreadable.insert((inode, at / BLOCK));
    }

    /// Who holds the disk or a file of it, this one included.
    pub(super) fn handles(&self) -> usize {
        Arc::strong_count(&self.inner)
    }

    pub(super) fn note(&self, event: Event) {
        self.lock().log.push(event);
    }

    pub(super) fn log(&self) -> Vec<Event> {
        self.lock().log.clone()
    }

    pub(super) fn operations(&self) -> usize {
        self.lock().operations
    }

    pub(super) fn files(&self) -> Files {
        self.lock().files.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

impl Inner {
    /// Counts an operation, fails it if it is its turn, else performs and logs it.
    fn perform(&mut self, event: Event) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        if let (Event::Create(name), Some(suffix)) = (&event, self.refused_suffix)
            && name.ends_with(suffix)
        {
            return Err(io::Error::other("refused"));
        }
        if let Some(fault) = self.fault
            && (number == fault.at || (fault.sticky && number > fault.at))
        {
            if let Event::Sync(inode) = event {
                let failed = Event::FailedSync(inode);
                self.files.apply(&failed);
                self.log.push(failed);
            }
            return Err(io::Error::new(fault.kind, format!("planned fault of operation {number}")));
        }
        if let (Event::Resize { inode, length }, Some(capacity)) = (&event, self.capacity) {
            let others: usize = self
                .files
                .inodes
                .iter()
                .filter(|(id, _)| {
                    **id != *inode && self.files.names.values().any(|used| used == *id)
                })
                .map(|(_, inode)| inode.cache.len())
                .sum();
            if (others + length) as u64 > capacity {
                self.refused += 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        self.files.apply(&event);
        self.log.push(event);
        Ok(())
    }
}

impl Files {
    pub(super) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    pub(super) fn content(&self, name: &str) -> &[u8] {
        &self.inodes[&self.names[name]].cache
    }

    /// Changes a file behind everyone's back, on the medium and in the cache.
    pub(super) fn damage(&mut self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let inode = self.inodes.get_mut(&self.names[name]).unwrap();
        change(&mut inode.cache);
        inode.medium.clone_from(&inode.cache);
    }

    /// Adds a file behind everyone's back.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) {
        let (cache, medium) = (content.to_vec(), content.to_vec());
        self.inodes.insert(self.next_inode, Inode { cache, medium, pending: Vec::new() });
        self.names.insert(name.to_owned(), self.next_inode);
        self.durable_names.clone_from(&self.names);
        self.next_inode += 1;
    }

    /// Adds, renames or removes a name behind everyone's back.
    pub(super) fn rewire(&mut self, change: impl FnOnce(&mut BTreeMap<String, u64>)) {
        change(&mut self.names);
        self.durable_names.clone_from(&self.names);
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Create(_) | Event::Rename(..) | Event::Remove(_) => {
                if matches!(event, Event::Create(_)) {
                    self.inodes.insert(self.next_inode, Inode::default());
                    self.next_inode += 1;
                }
                apply_name(&mut self.names, event, self.next_inode);
                self.pending_names.push(with_inode(event, self.next_inode));
            }
            Event::SyncFolder(folder) => self.sync_folder(folder),
            Event::Write { inode, .. } | Event::Resize { inode, .. } => {
                let inode = self.inodes.get_mut(inode).unwrap();
                apply_content(&mut inode.cache, event);
                inode.pending.push(event.clone());
            }
            Event::Sync(inode) => {
                let inode = self.inodes.get_mut(inode).unwrap();
                for event in inode.pending.drain(..) {
                    apply_content(&mut inode.medium, &event);
                }
            }
            Event::FailedSync(inode) => self.inodes.get_mut(inode).unwrap().pending.clear(),
            Event::Acked(_) => {}
        }
    }

    fn sync_folder(&mut self, folder: &str) {
        let prefix = format!("{folder}/");
        let durable = &mut self.durable_names;
        self.pending_names.retain(|event| {
            let here = match event {
                Event::Rename(from, to) => from.starts_with(&prefix) || to.starts_with(&prefix),
                Event::Create(name) | Event::Remove(name) => name.starts_with(&prefix),
                _ => false,
            };
            if here {
                apply_durable_name(durable, event);
            }
            !here
        });
    }

    /// What is found after the power came back.
    pub(super) fn after(&self, cut: Cut) -> Self {
        let mut random = Random(match cut {
            Cut::Some(seed) | Cut::Garbled(seed) => seed,
            _ => 0,
        });
        let mut files = self.clone();
        for inode in files.inodes.values_mut() {
            let pending = std::mem::take(&mut inode.pending);
            let last = pending.len().saturating_sub(1);
            for (index, event) in pending.iter().enumerate() {
                survive(&mut inode.medium, event, cut, index == last, &mut random);
            }
            inode.cache.clone_from(&inode.medium);
        }
        for event in std::mem::take(&mut files.pending_names) {
            let kept = match cut {
                Cut::Nothing => false,
                Cut::Some(_) | Cut::Garbled(_) => random.coin(),
                Cut::Everything | Cut::FirstBlock | Cut::LostFirstBlock => true,
            };
            if kept {
                apply_durable_name(&mut files.durable_names, &event);
            }
        }
        files.names.clone_from(&files.durable_names);
        files
    }
}

fn survive(medium: &mut Vec<u8>, event: &Event, cut: Cut, last: bool, random: &mut Random) {
    let Event::Write { inode, at, bytes } = event else {
        let kept = match cut {
            Cut::Nothing => false,
            Cut::Some(_) | Cut::Garbled(_) => random.coin(),
            _ => true,
        };
        if kept {
            apply_content(medium, event);
        }
        return;
    };
    let mut garbled = !matches!(cut, Cut::Garbled(_));
    for (index, block) in bytes.chunks(BLOCK).enumerate() {
        let mut block = block.to_vec();
        let kept = match cut {
            Cut::Nothing => false,
            Cut::Everything => true,
            Cut::FirstBlock => !last || index == 0,
            Cut::LostFirstBlock => !last || index > 0,
            Cut::Some(_) | Cut::Garbled(_) => random.coin(),
        };
        if !garbled && random.coin() {
            garbled = true;
            block.iter_mut().for_each(|byte| *byte = random.next() as u8);
        } else if !kept {
            continue;
        }
        let at = at + index * BLOCK;
        apply_content(medium, &Event::Write { inode: *inode, at, bytes: block });
    }
}

fn apply_content(content: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Write { at, bytes, .. } => {
            if content.len() < at + bytes.len() {
                content.resize(at + bytes.len(), 0);
            }
            content[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        Event::Resize { length, .. } => content.resize(*length, 0),
        _ => unreachable!("not about content"),
    }
}

/// A created name carries its inode, so that it can be made durable later and in any order.
fn with_inode(event: &Event, next_inode: u64) -> Event {
    match event {
        Event::Create(name) => Event::Create(format!("{name}\n{}", next_inode - 1)),
        other => other.clone(),
    }
}

fn apply_name(names: &mut BTreeMap<String, u64>, event: &Event, next_inode: u64) {
    apply_durable_name(names, &with_inode(event, next_inode));
}

fn apply_durable_name(names: &mut BTreeMap<String, u64>, event: &Event) {
    match event {
        Event::Create(name) => {
            let (name, inode) = name.split_once('\n').unwrap();
            names.insert(name.to_owned(), inode.parse().unwrap());
        }
        Event::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        Event::Remove(name) => {
            names.remove(name);
        }
        _ => unreachable!("not about names"),
    }
}

impl Disk for MemoryDisk {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{folder}/");
        let names = self.lock().files.names();
        Ok(names.iter().filter_map(|name| name.strip_prefix(&prefix)).map(Into::into).collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.lock();
        let inode = *inner.files.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let changed = Arc::clone(&self.changed);
        Ok(Arc::new(MemoryFile { disk: Arc::clone(&self.inner), changed, inode }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        if inner.files.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inner.perform(Event::Create(name.to_owned()))?;
        drop(inner);
        self.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.lock().perform(Event::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.lock().perform(Event::Remove(name.to_owned()))
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.lock().perform(Event::SyncFolder(folder.to_owned()))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(1 << 30)
    }
}

impl MemoryFile {
    fn perform(&self, event: Event) -> io::Result<()> {
        self.disk.lock().unwrap().perform(event)
    }
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().unwrap().files.inodes[&self.inode].cache.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let inner = self.disk.lock().unwrap();
        let content = &inner.files.inodes[&self.inode].cache;
        let at = at as usize;
        let mut blocks = at / BLOCK..=(at + buffer.len().max(1) - 1) / BLOCK;
        if blocks.any(|block| inner.unreadable.contains(&(self.inode, block))) {
            return Err(io::Error::other("planned bad block"));
        }
        let bytes = content.get(at..at + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn next_data(&self, at: u64) -> io::Result<Option<u64>> {
        let inner = self.disk.lock().unwrap();
        let content = &inner.files.inodes[&self.inode].cache;
        let rest = content.get(at as usize..).unwrap_or_default();
        Ok(rest.iter().position(|&byte| byte != 0).map(|found| at + found as u64))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.perform(Event::Write { inode: self.inode, at: at as usize, bytes: bytes.to_vec() })
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.perform(Event::Resize { inode: self.inode, length: length as usize })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.perform(Event::Resize { inode: self.inode, length: length as usize })
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.lock().unwrap();
        inner.waiting += 1;
        self.changed.notify_all();
        let mut inner = self.changed.wait_while(inner, |inner| inner.syncs_held).unwrap();
        inner.waiting -= 1;
        inner.perform(Event::Sync(self.inode))
    }
}

/// xorshift: enough to draw subsets, and the same everywhere.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
