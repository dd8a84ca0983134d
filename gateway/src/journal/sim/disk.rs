//! The disk as the journal uses it.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Call, CardTiming, Cut, Event, Fault, Files, SIM_BLOCK_BYTES, card::Card, fault::Calls,
};
use crate::journal::{Disk, DiskFile, Medium};

/// The disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    files: Files,
    log: Vec<Event>,
    /// A disk that runs for long keeps no log.
    unlogged: bool,
    calls: Calls,
    read_bytes: u64,
    fault: Option<Fault>,
    /// The file or folder that the fault has hit.
    hit: Option<String>,
    capacity: Option<u64>,
    refused: usize,
    /// Names that end so cannot be created.
    refused_suffix: Option<&'static str>,
    /// Blocks that fail to be read.
    unreadable: BTreeSet<(u64, usize)>,
    /// Blocks that a sync fails to write.
    unwritable: BTreeSet<(u64, usize)>,
    syncs_held: bool,
    /// Syncs that wait.
    waiting: usize,
    card: Option<Card>,
}

#[derive(Debug)]
struct SimFile {
    shared: Arc<Shared>,
    inode: u64,
}

/// Long enough for any thread of a test to get there.
const DEADLINE: Duration = Duration::from_secs(30);

impl SimDisk {
    /// A disk that holds these files, all of them as the image says.
    #[must_use]
    pub fn new(files: Files) -> Self {
        let inner = Inner { files, ..Inner::default() };
        Self { shared: Arc::new(Shared { inner: Mutex::new(inner), changed: Condvar::new() }) }
    }

    /// An empty disk that takes its time.
    #[must_use]
    pub fn card(timing: CardTiming, seed: u64) -> Self {
        Self::new(Files::default()).with_timing(timing, seed)
    }

    /// The disk with delays; its page cache is cold, and it keeps no log.
    #[must_use]
    pub fn with_timing(self, timing: CardTiming, seed: u64) -> Self {
        let mut inner = self.lock();
        inner.card = Some(Card::new(timing, seed));
        inner.unlogged = true;
        drop(inner);
        self
    }

    /// Time that the medium has worked so far; 0 on a disk without delays.
    #[must_use]
    pub fn worked(&self) -> Duration {
        self.lock().card.as_ref().map_or(Duration::ZERO, Card::worked)
    }

    /// The disk with an error planned.
    #[must_use]
    pub fn with_fault(self, fault: Fault) -> Self {
        self.lock().fault = Some(fault);
        self
    }

    /// Whether the planned error has happened.
    #[must_use]
    pub fn was_hit(&self) -> bool {
        self.lock().hit.is_some()
    }

    /// The file or folder that it happened to last.
    #[must_use]
    pub fn hit_name(&self) -> Option<String> {
        self.lock().hit.clone()
    }

    /// Bytes of all files together; none: without end.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.lock().capacity = capacity;
    }

    /// Allocations that did not fit.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.lock().refused
    }

    /// Creating files whose names end so fails from now on.
    pub fn refuse_to_create(&self, suffix: &'static str) {
        self.lock().refused_suffix = Some(suffix);
    }

    /// Who holds the disk or a file of it, this one included.
    #[must_use]
    pub fn handles(&self) -> usize {
        Arc::strong_count(&self.shared)
    }

    /// Files' syncs wait until they are let go.
    pub fn hold_syncs(&self) {
        self.lock().syncs_held = true;
    }

    /// Ends [`SimDisk::hold_syncs`].
    pub fn let_syncs_go(&self) {
        self.lock().syncs_held = false;
        self.shared.changed.notify_all();
    }

    /// Returns once a sync waits.
    ///
    /// # Panics
    /// If none does for half a minute.
    pub fn until_a_sync_waits(&self) {
        let inner = self.lock();
        let (inner, result) = self
            .shared
            .changed
            .wait_timeout_while(inner, DEADLINE, |inner| inner.waiting == 0)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!result.timed_out(), "nothing was synced");
        drop(inner);
    }

    /// From now on the block at this place of a file cannot be read.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn make_unreadable(&self, name: &str, at: usize) {
        let mut inner = self.lock();
        let inode = inner.files.inode(name).expect("the file is there");
        inner.unreadable.insert((inode, at / SIM_BLOCK_BYTES));
    }

    /// From now on a sync that has to write the block at this place of a file fails.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn make_unwritable(&self, name: &str, at: usize) {
        let mut inner = self.lock();
        let inode = inner.files.inode(name).expect("the file is there");
        inner.unwritable.insert((inode, at / SIM_BLOCK_BYTES));
    }

    /// Puts a note into the log.
    pub fn note(&self, event: Event) {
        self.lock().record(event);
    }

    /// Everything that was done, in order; what failed without an effect is not in it.
    #[must_use]
    pub fn log(&self) -> Vec<Event> {
        self.lock().log.clone()
    }

    /// Calls that would change something, failed ones too.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.calls(Call::Change)
    }

    /// Calls of a kind.
    #[must_use]
    pub fn calls(&self, call: Call) -> usize {
        self.lock().calls.of(call)
    }

    /// Bytes that were read from files.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.lock().read_bytes
    }

    /// This moment.
    #[must_use]
    pub fn files(&self) -> Files {
        self.lock().files.clone()
    }

    /// The disk after a kill, and after a power cut if one is given: what still has the old one open can no
    /// longer change it. The log goes on.
    #[must_use]
    pub fn restarted(&self, cut: Option<Cut>) -> Self {
        let inner = self.lock();
        let next = Inner {
            files: inner.files.clone(),
            log: inner.log.clone(),
            capacity: inner.capacity,
            unreadable: inner.unreadable.clone(),
            unwritable: inner.unwritable.clone(),
            ..Inner::default()
        };
        drop(inner);
        let next =
            Self { shared: Arc::new(Shared { inner: Mutex::new(next), ..Shared::default() }) };
        if let Some(cut) = cut {
            let mut inner = next.lock();
            inner.files.apply(&Event::PowerCut(cut));
            inner.record(Event::PowerCut(cut));
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Counts a call, and fails it if it is its turn.
    fn call(&mut self, call: Call, name: &str) -> io::Result<()> {
        match self.calls.count(call, self.fault.as_ref()) {
            None => Ok(()),
            Some(error) => {
                self.hit = Some(name.to_owned());
                Err(error)
            }
        }
    }

    fn file_call(&mut self, call: Call, inode: u64) -> io::Result<()> {
        let result = self.call(call, "");
        if result.is_err() {
            let name = self.files.names.iter().find(|(_, known)| **known == inode);
            self.hit = Some(name.map_or_else(String::new, |(name, _)| name.clone()));
        }
        result
    }

    fn perform(&mut self, event: Event) {
        self.files.apply(&event);
        self.record(event);
    }

    fn record(&mut self, event: Event) {
        if !self.unlogged {
            self.log.push(event);
        }
    }

    fn is_bad(bad: &BTreeSet<(u64, usize)>, inode: u64, at: usize, length: usize) -> bool {
        let blocks = at / SIM_BLOCK_BYTES..=(at + length.max(1) - 1) / SIM_BLOCK_BYTES;
        !bad.is_empty()
            && bad.range((inode, *blocks.start())..=(inode, *blocks.end())).next().is_some()
    }

    fn allocate(&mut self, inode: u64, length: usize) -> io::Result<()> {
        self.file_call(Call::Resize, inode)?;
        // Space is added, never taken away.
        let length = length.max(self.files.inodes.get(&inode).map_or(0, |inode| inode.cache.len()));
        if self
            .capacity
            .is_some_and(|capacity| (self.files.bytes_beside(inode) + length) as u64 > capacity)
        {
            self.refused += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.perform(Event::Resize { inode, length });
        Ok(())
    }

    fn sync(&mut self, inode: u64) -> io::Result<()> {
        let mut result = self.file_call(Call::Sync, inode);
        if result.is_ok() && self.has_unwritable(inode) {
            result = Err(io::Error::other("planned bad block"));
        }
        let done = if result.is_ok() { Event::Sync(inode) } else { Event::FailedSync(inode) };
        self.perform(done);
        result
    }

    fn has_unwritable(&self, inode: u64) -> bool {
        let pending = self.files.inodes.get(&inode).map(|inode| inode.pending.as_slice());
        pending.unwrap_or_default().iter().any(|(_, event)| match event {
            Event::Write { at, bytes, .. } => {
                Self::is_bad(&self.unwritable, inode, *at, bytes.len())
            }
            _ => false,
        })
    }
}

fn until(moment: Option<Instant>) {
    if let Some(moment) = moment {
        thread::sleep(moment.saturating_duration_since(Instant::now()));
    }
}

impl Disk for SimDisk {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut inner = self.lock();
        inner.call(Call::Look, folder)?;
        let prefix = format!("{folder}/");
        let names = inner.files.names.keys();
        Ok(names.filter_map(|name| name.strip_prefix(&prefix)).map(Into::into).collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        inner.call(Call::Look, name)?;
        let inode = inner.files.inode(name).ok_or(io::ErrorKind::NotFound)?;
        drop(inner);
        Ok(Arc::new(SimFile { shared: Arc::clone(&self.shared), inode }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        inner.call(Call::Create, name)?;
        if inner.refused_suffix.is_some_and(|suffix| name.ends_with(suffix)) {
            return Err(io::Error::other("refused"));
        }
        if inner.files.inode(name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inner.perform(Event::Create(name.to_owned()));
        let inode = inner.files.inode(name).ok_or(io::ErrorKind::NotFound)?;
        drop(inner);
        Ok(Arc::new(SimFile { shared: Arc::clone(&self.shared), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.call(Call::Rename, from)?;
        inner.files.inode(from).ok_or(io::ErrorKind::NotFound)?;
        inner.perform(Event::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.call(Call::Remove, name)?;
        inner.files.inode(name).ok_or(io::ErrorKind::NotFound)?;
        inner.perform(Event::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.call(Call::SyncFolder, folder)?;
        inner.perform(Event::SyncFolder(folder.to_owned()));
        let done = inner.card.as_mut().map(|card| card.sync(None));
        drop(inner);
        until(done);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let inner = self.lock();
        let used = inner.files.bytes_beside(u64::MAX) as u64;
        Ok(inner.capacity.map_or(UNLIMITED_BYTES, |capacity| capacity.saturating_sub(used)))
    }

    fn medium(&self) -> Medium {
        if self.lock().card.is_some() { Medium::Card } else { Medium::Ssd }
    }
}

/// What a disk without end says is free.
const UNLIMITED_BYTES: u64 = 1 << 30;

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut inner = self.shared.lock();
        inner.file_call(Call::Look, self.inode)?;
        Ok(inner.files.inodes.get(&self.inode).map_or(0, |inode| inode.cache.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let mut inner = self.shared.lock();
        inner.file_call(Call::Read, self.inode)?;
        let place = usize::try_from(at).map_err(io::Error::other)?;
        if Inner::is_bad(&inner.unreadable, self.inode, place, buffer.len()) {
            return Err(io::Error::other("planned bad block"));
        }
        let inode = inner.files.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let bytes =
            inode.cache.get(place..place + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        let length = buffer.len() as u64;
        inner.read_bytes += length;
        let done = inner.card.as_mut().and_then(|card| card.read(self.inode, at, length));
        drop(inner);
        until(done);
        Ok(())
    }

    fn next_data(&self, at: u64) -> io::Result<Option<u64>> {
        let inner = self.shared.lock();
        let inode = inner.files.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let rest = usize::try_from(at).ok().and_then(|at| inode.cache.get(at..));
        Ok(first_data(rest.unwrap_or_default()).map(|found| at + found as u64))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut inner = self.shared.lock();
        inner.file_call(Call::Write, self.inode)?;
        if let Some(card) = &mut inner.card {
            card.write(self.inode, at, bytes.len() as u64);
        }
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let bytes = Bytes::copy_from_slice(bytes);
        inner.perform(Event::Write { inode: self.inode, at, bytes });
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.shared.lock().allocate(self.inode, length)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut inner = self.shared.lock();
        inner.file_call(Call::Resize, self.inode)?;
        inner.perform(Event::Resize { inode: self.inode, length });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.shared.lock();
        inner.waiting += 1;
        self.shared.changed.notify_all();
        let mut inner = self
            .shared
            .changed
            .wait_while(inner, |inner| inner.syncs_held)
            .unwrap_or_else(PoisonError::into_inner);
        inner.waiting -= 1;
        let done = inner.card.as_mut().map(|card| card.sync(Some(self.inode)));
        if done.is_none() {
            return inner.sync(self.inode);
        }
        drop(inner);
        until(done);
        self.shared.lock().sync(self.inode)
    }
}

/// The first byte that is not zero. Nearly all that is asked about is unused space: a block at once.
fn first_data(bytes: &[u8]) -> Option<usize> {
    const ZEROS: [u8; SIM_BLOCK_BYTES] = [0; SIM_BLOCK_BYTES];
    let is_data = |block: &&[u8]| ZEROS.get(..block.len()) != Some(block);
    let (index, block) =
        bytes.chunks(SIM_BLOCK_BYTES).enumerate().find(|(_, block)| is_data(block))?;
    let within = block.iter().position(|&byte| byte != 0)?;
    Some(index * SIM_BLOCK_BYTES + within)
}
