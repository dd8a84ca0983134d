//! Preallocates the next segment before it is needed, on a thread of its own.
//!
//! A prepared file has its space and its name, both durable; its header is written with its first frame.
//! Files that left the log are used again before new ones are created.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    Disk, OpenError,
    admission::Ledger,
    format::align_up,
    options::Settings,
    segment::{Prepared, SEGMENT_FOLDER, Spare, segment_name, spare_name},
};

/// Space kept ready: takes longer to fill than a segment takes to prepare, on any medium.
const READY_BYTES: u64 = 8 * 1024 * 1024;
/// Files kept ready at most.
const READY_SEGMENTS: u64 = 4;

/// Prepared segments, between the thread that makes them and the writer that uses them.
#[derive(Debug)]
pub(super) struct Preparer {
    disk: Arc<dyn Disk>,
    settings: Settings,
    ledger: Arc<Ledger>,
    used_bytes: Arc<AtomicU64>,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    ready: VecDeque<Prepared>,
    spares: Vec<Spare>,
    next_sequence: u64,
    /// Whether the last attempt to prepare a segment found no space.
    short: bool,
    stopping: bool,
}

/// Counts bytes as used before they are, if they stay within a limit: several threads create files.
pub(super) fn take_budget(used_bytes: &AtomicU64, bytes: u64, limit: u64) -> bool {
    let within = |used: u64| Some(used + bytes).filter(|&used| used <= limit);
    used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
}

impl Preparer {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        settings: Settings,
        ledger: Arc<Ledger>,
        used_bytes: Arc<AtomicU64>,
        next_sequence: u64,
    ) -> Self {
        let inner = Inner {
            ready: VecDeque::new(),
            spares: Vec::new(),
            next_sequence,
            short: false,
            stopping: false,
        };
        Self {
            disk,
            settings,
            ledger,
            used_bytes,
            inner: Mutex::new(inner),
            changed: Condvar::new(),
        }
    }

    /// Keeps segments ready until stopped. Failures are back-pressure, not the end: the files in
    /// use are not touched here.
    pub(super) fn run(&self) {
        let mut complained = false;
        loop {
            if !self.wait_until_wanted() {
                return;
            }
            match self.prepare() {
                Ok(true) => {
                    complained = false;
                    self.lock().short = false;
                }
                Ok(false) => {
                    self.found_no_space();
                    self.pause();
                }
                Err(error) => {
                    self.found_no_space();
                    if !std::mem::replace(&mut complained, true) {
                        tracing::warn!(%error, "cannot prepare the next segment, trying again");
                    }
                    self.pause();
                }
            }
        }
    }

    fn found_no_space(&self) {
        self.ledger.settle();
        self.lock().short = true;
    }

    /// Whether the budget and the disk have room for all of the reserve, when the opening has taken its segment.
    pub(super) fn can_fill_reserve(&self, free_bytes: u64) -> bool {
        let there = {
            let inner = self.lock();
            (inner.ready.len() + inner.spares.len()).saturating_sub(1) as u64
        };
        let missing = self.settings.reserve_segments().saturating_sub(there);
        let bytes = missing * self.settings.segment_bytes;
        let used = self.used_bytes.load(Ordering::Relaxed);
        bytes <= free_bytes && used + bytes <= self.settings.segments_max_bytes()
    }

    /// Segments that are missing for appends to go on: with the reserve one for them. 0 unless there is no space to
    /// prepare any.
    pub(super) fn missing(&self) -> u64 {
        let inner = self.lock();
        let there = (inner.ready.len() + inner.spares.len()) as u64;
        let wanted = self.settings.reserve_segments() + 1;
        if inner.short { wanted.saturating_sub(there) } else { 0 }
    }

    /// Has at least one segment ready for an opening that needs so many bytes. Where there is no
    /// space for a whole one a shorter one will do, and the shortest may go past the budget: what was
    /// acknowledged must be readable. False if the disk has no space even for that.
    pub(super) fn prepare_first(&self, needed: u64) -> Result<bool, OpenError> {
        if let Some(ready) = self.lock().ready.front() {
            debug_assert!(ready.length >= needed, "only such were adopted");
            return Ok(true);
        }
        if needed <= self.settings.segment_bytes {
            loop {
                let Some(spare) = self.lock().spares.pop() else { break };
                if self.reuse(spare).is_ok() {
                    return Ok(true);
                }
            }
        }
        let needed = align_up(needed);
        let mut length = self.settings.segment_bytes.max(needed);
        loop {
            let limit = if length > needed { self.settings.segments_max_bytes() } else { u64::MAX };
            let created = match take_budget(&self.used_bytes, length, limit) {
                true => self.create(length).map(|()| true),
                false => Ok(false),
            };
            match created {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
                Err(error) => return Err(OpenError::io("prepare a segment")(error)),
            }
            if length == needed {
                return Ok(false);
            }
            length = align_up(length / 2).max(needed);
        }
    }

    /// Prepares the next segment; false if the budget has no room for it.
    fn prepare(&self) -> io::Result<bool> {
        let spare = self.lock().spares.pop();
        match spare {
            Some(spare) if self.used_bytes.load(Ordering::Relaxed) <= self.settings.max_bytes => {
                self.reuse(spare)?;
                return Ok(true);
            }
            // The budget was lowered.
            Some(spare) => self.give_back(spare)?,
            None => {}
        }
        let length = self.settings.segment_bytes;
        // Index files are in use of the same budget, and never the last to get some of it.
        if !take_budget(&self.used_bytes, length, self.settings.segments_max_bytes()) {
            return Ok(false);
        }
        self.create(length).map(|()| true)
    }

    fn next_sequence(&self) -> u64 {
        let mut inner = self.lock();
        inner.next_sequence += 1;
        inner.next_sequence - 1
    }

    /// Takes over a file that holds nothing of the log any more. From now on it is a spare, or if it has another length
    /// than segments have, it is gone. After an error it stays what it is: found at the next opening.
    pub(super) fn recycle(&self, left: Spare, sequence: u64) -> io::Result<()> {
        if left.length != self.settings.segment_bytes {
            return self.give_back(left);
        }
        let name = spare_name(sequence);
        if left.name != name {
            self.disk.rename(&left.name, &name)?;
            // Before it has another name again: whoever finds it must not take it for what it was.
            self.disk.sync_folder(SEGMENT_FOLDER)?;
        }
        self.lock().spares.push(Spare { name, ..left });
        self.changed.notify_all();
        Ok(())
    }

    /// Removes a file.
    pub(super) fn give_back(&self, left: Spare) -> io::Result<()> {
        drop(left.file);
        self.disk.remove(&left.name)?;
        self.used_bytes.fetch_sub(left.length, Ordering::Relaxed);
        self.changed.notify_all();
        let folder = left.name.rsplit_once('/').map_or(SEGMENT_FOLDER, |(folder, _)| folder);
        self.disk.sync_folder(folder)
    }

    /// Makes the names of an earlier run's spares durable; after an error there are none to take over.
    ///
    /// That run may have ended between giving such a name and its sync. With another name on top, a power cut that
    /// loses the first one alone would leave one file under two names.
    pub(super) fn secured(&self, spares: Vec<Spare>) -> Vec<Spare> {
        if spares.is_empty() {
            return spares;
        }
        match self.disk.sync_folder(SEGMENT_FOLDER) {
            Ok(()) => spares,
            Err(error) => {
                tracing::warn!(%error, "cannot use spare files before a restart");
                Vec::new()
            }
        }
    }

    /// Takes over a spare of an earlier run; gives it back if it is of no use.
    pub(super) fn keep(&self, spare: Spare) -> Option<Spare> {
        if spare.length != self.settings.segment_bytes {
            return Some(spare);
        }
        self.lock().spares.push(spare);
        None
    }

    /// Gives a spare the name of the next segment. After an error it is left alone.
    fn reuse(&self, spare: Spare) -> io::Result<()> {
        let sequence = self.next_sequence();
        let renamed = self.disk.rename(&spare.name, &segment_name(sequence)).and_then(|()| {
            if planted!(ReuseUnsynced) { Ok(()) } else { self.disk.sync_folder(SEGMENT_FOLDER) }
        });
        if let Err(error) = renamed {
            tracing::warn!(%error, file = spare.name, "cannot use a spare file before a restart");
            return Err(error);
        }
        self.add(Prepared { file: spare.file, sequence, length: spare.length });
        Ok(())
    }

    /// Creates a file; its length is already counted as used.
    fn create(&self, length: u64) -> io::Result<()> {
        let created = self.create_counted(length);
        if created.is_err() {
            self.used_bytes.fetch_sub(length, Ordering::Relaxed);
        }
        created
    }

    fn create_counted(&self, length: u64) -> io::Result<()> {
        let sequence = self.next_sequence();
        let name = segment_name(sequence);
        let file = self.disk.create(&name)?;
        let allocated = file.allocate(length).and_then(|()| {
            if planted!(SkipFolderSync) { Ok(()) } else { self.disk.sync_folder(SEGMENT_FOLDER) }
        });
        if let Err(error) = allocated {
            drop(file);
            // Whatever is left of it is recognised as unused when the journal is opened.
            if let Err(error) = self.disk.remove(&name) {
                tracing::warn!(%error, file = name, "cannot remove a segment that was not completed");
            }
            return Err(error);
        }
        self.add(Prepared { file, sequence, length });
        Ok(())
    }

    /// Takes over a file that an earlier run prepared; gives it back if it is of no use, for the
    /// opening that needs so many bytes or at all.
    pub(super) fn adopt(&self, spare: Prepared, needed: u64) -> Option<Prepared> {
        if spare.length != self.settings.segment_bytes || spare.length < needed {
            return Some(spare);
        }
        // The run that made it may have ended before either was durable.
        let secured = spare.file.allocate(spare.length).and_then(|()| {
            if planted!(AdoptUnsynced) { Ok(()) } else { self.disk.sync_folder(SEGMENT_FOLDER) }
        });
        if let Err(error) = secured {
            tracing::warn!(%error, sequence = spare.sequence, "cannot use a prepared segment again");
            return Some(spare);
        }
        self.add(spare);
        None
    }

    fn add(&self, prepared: Prepared) {
        let usable = self.settings.usable(prepared.length);
        let mut inner = self.lock();
        inner.ready.push_back(prepared);
        // Before the writer can take it: what it takes has to be known.
        self.ledger.prepared(usable);
        drop(inner);
        self.changed.notify_all();
    }

    /// The next prepared segment, if there is one.
    pub(super) fn try_take(&self) -> Option<Prepared> {
        let taken = self.lock().ready.pop_front();
        if taken.is_some() {
            self.changed.notify_all();
        }
        taken
    }

    /// Waits for a prepared segment; none when told to stop.
    pub(super) fn take(&self) -> Option<Prepared> {
        let mut inner = self.lock();
        loop {
            if let Some(prepared) = inner.ready.pop_front() {
                self.changed.notify_all();
                return Some(prepared);
            }
            if inner.stopping {
                return None;
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A file for a cold segment: one that nobody needs, or else one of the reserve, if the others will do for what was
    /// admitted. The next file that is prepared takes its place.
    pub(super) fn lend(&self) -> Option<Spare> {
        let mut inner = self.lock();
        if let Some(spare) = inner.spares.pop() {
            return Some(spare);
        }
        if inner.ready.is_empty() || !self.ledger.lend() {
            return None;
        }
        let Prepared { file, sequence, length } = inner.ready.pop_back()?;
        drop(inner);
        self.changed.notify_all();
        Some(Spare { file, name: segment_name(sequence), length })
    }

    /// Bytes of files that are ready or can be made so.
    pub(super) fn idle_bytes(&self) -> u64 {
        let inner = self.lock();
        let ready: u64 = inner.ready.iter().map(|prepared| prepared.length).sum();
        ready + inner.spares.iter().map(|spare| spare.length).sum::<u64>()
    }

    /// Bytes of files that are to be ready.
    pub(super) fn wanted_bytes(&self) -> u64 {
        self.wanted() * self.settings.segment_bytes
    }

    fn wanted(&self) -> u64 {
        let ready = (READY_BYTES / self.settings.segment_bytes).clamp(1, READY_SEGMENTS);
        ready + self.settings.reserve_segments()
    }

    /// Ends [`Preparer::run`] and every wait.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.changed.notify_all();
    }

    /// False when told to stop.
    fn wait_until_wanted(&self) -> bool {
        let wanted = self.wanted();
        let mut inner = self.lock();
        while inner.ready.len() as u64 >= wanted && !inner.stopping {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        !inner.stopping
    }

    fn pause(&self) {
        let inner = self.lock();
        if !inner.stopping {
            drop(self.changed.wait_timeout(inner, self.settings.space_retry));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
