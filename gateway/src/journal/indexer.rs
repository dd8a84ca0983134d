//! Writes the index files, on a thread of its own, from the frames that are durable.
//!
//! The writer only says how far the log is durable. Frames are taken from the tail while they are in
//! memory, and are scanned like after a kill once they have left it: the writer is never waited for,
//! and no backlog needs memory. Nothing here can fail the journal: what is not covered is scanned at
//! the next opening.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Disk, Position,
    format::{ChunkHeader, FrameHeader, Seed},
    frame::WrittenFrame,
    index::{Coverage, Findings, IndexFile, RangeIndex, Summary, index_name},
    options::Settings,
    preparer::take_budget,
    recovery::{End, Scanner, Step},
    segment::Segment,
    tail::Tail,
};

/// A chunk is written when nothing was appended for so long,
const QUIET: Duration = Duration::from_secs(1);
/// but not more often than this: each costs a block and a sync.
const QUIET_INTERVAL: Duration = Duration::from_secs(10);
/// Frames are looked at once they are so many bytes, well before they leave the tail.
const TAKE_BYTES: u64 = 1024 * 1024;
/// Segments that wait to be covered; more stay uncovered until the next opening.
const MAX_BACKLOG: usize = 1024;
/// Segments that are still covered when the journal is closed.
const COVERED_AT_END: usize = 4;

/// Between the writer and the thread.
#[derive(Debug)]
pub(super) struct Indexer {
    disk: Arc<dyn Disk>,
    seed: Seed,
    interval_bytes: u64,
    max_bytes: u64,
    used_bytes: Arc<AtomicU64>,
    tail: Arc<Tail>,
    inner: Mutex<Inner>,
    wake: Condvar,
    errors: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    /// The last one may be the segment in use.
    segments: VecDeque<Task>,
    last_append: Option<Instant>,
    /// How far the first of them is covered, once that is known.
    covered: Option<Position>,
    stopping: bool,
    /// Whether nothing is to be written any more.
    abandoned: bool,
}

/// A segment to cover.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) segment: Arc<Segment>,
    /// How far it is durable.
    pub(super) end: Position,
    /// Whether nothing more comes.
    pub(super) left: bool,
}

/// What is worth waking up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Frames to take in while they are in memory.
    Frames,
    /// A chunk of everything that is durable.
    All,
}

/// The segment that is being covered.
#[derive(Debug)]
struct Work {
    segment: Arc<Segment>,
    file: Option<IndexFile>,
    at: u64,
    covered: Position,
    last: ChunkHeader,
    summary: Summary,
    /// What the next chunk says so far, and its header: from `covered` on.
    content: RangeIndex,
    next: ChunkHeader,
    /// Whether the rest is left uncovered.
    given_up: bool,
    done: bool,
}

impl ChunkHeader {
    /// Covers the next frame too.
    fn pass(&mut self, frame: &FrameHeader, crc: u32) {
        (self.last_frame, self.last_crc) = (frame.position, crc);
        self.to = frame.position.plus(frame.length());
        self.open_ms = self.open_ms.max(frame.open_ms);
    }
}

impl Indexer {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        seed: Seed,
        settings: &Settings,
        used_bytes: Arc<AtomicU64>,
        tail: Arc<Tail>,
        backlog: Vec<Task>,
    ) -> Self {
        let inner = Inner { segments: backlog.into(), ..Inner::default() };
        Self {
            disk,
            seed,
            interval_bytes: settings.index_interval_bytes,
            max_bytes: settings.max_bytes,
            used_bytes,
            tail,
            inner: Mutex::new(inner),
            wake: Condvar::new(),
            errors: AtomicU64::new(0),
        }
    }

    /// Notes that a frame is durable. Never blocks for longer than a few instructions.
    pub(super) fn durable(&self, segment: &Arc<Segment>, end: Position) {
        let mut inner = self.lock();
        let first = segment.header.first;
        let is_quiet = inner.last_append.replace(Instant::now()).is_none();
        let mut wake = is_quiet;
        let step = self.take_bytes();
        match inner.segments.back_mut() {
            Some(task) if task.segment.header.first == first => {
                wake |= task.end.0 / step != end.0 / step;
                task.end = end;
            }
            newest => {
                if let Some(task) = newest {
                    if !task.left {
                        task.end = task.end.max(segment.header.previous_end);
                    }
                    task.left = true;
                }
                let task = Task { segment: Arc::clone(segment), end, left: false };
                inner.segments.push_back(task);
                if inner.segments.len() > MAX_BACKLOG {
                    inner.segments.pop_front();
                }
                wake = true;
            }
        }
        drop(inner);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Removes the index file of a segment that left the log; nobody holds on to it, so nothing is being written.
    pub(super) fn retire(&self, sequence: u64) {
        let name = index_name(sequence);
        let Ok(length) = self.disk.open(&name).and_then(|file| file.len()) else { return };
        // One that stays has no segment, and is removed at the next opening.
        if self.disk.remove(&name).is_ok() {
            self.used_bytes.fetch_sub(length, Ordering::Relaxed);
        }
    }

    /// Asks the thread to cover what is there and to end.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_one();
    }

    /// Ends without covering anything more: the disk is not to be trusted.
    pub(super) fn abandon(&self) {
        self.lock().abandoned = true;
        self.wake.notify_one();
    }

    /// Bytes of log that a start after a kill would have to scan.
    pub(super) fn pending_bytes(&self) -> u64 {
        let inner = self.lock();
        let pending = inner.segments.iter().enumerate().map(|(index, task)| {
            let covered = inner.covered.filter(|_| index == 0);
            let from = covered.unwrap_or(task.segment.header.frames());
            task.end.0.saturating_sub(from.0)
        });
        pending.sum()
    }

    /// Index files that could not be written.
    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Writes chunks until stopped.
    pub(super) fn run(&self) {
        let mut work: Option<Work> = None;
        let mut last_chunk = Instant::now();
        while let Some((task, due)) = self.next(work.as_ref(), last_chunk) {
            let first = task.segment.header.first;
            let same = work.take().filter(|work| work.segment.header.first == first);
            let mut current = same.unwrap_or_else(|| self.resume(&task));
            let covered = current.covered;
            self.cover(&mut current, &task, due);
            if current.covered > covered || due == Due::All {
                last_chunk = Instant::now();
            }
            if task.left {
                self.finish(&task);
            } else {
                self.lock().covered = Some(current.covered);
                work = Some(current);
            }
        }
    }

    /// Waits for something to do; none once stopped and everything is covered.
    fn next(&self, work: Option<&Work>, last_chunk: Instant) -> Option<(Task, Due)> {
        let mut inner = self.lock();
        loop {
            if inner.abandoned {
                return None;
            }
            let stopping = inner.stopping;
            if stopping {
                // Nobody waits long for an end: the next opening goes on with the rest.
                let surplus = inner.segments.len().saturating_sub(COVERED_AT_END);
                inner.segments.drain(..surplus);
            }
            let task = inner.segments.front().cloned();
            let Some(task) = task else {
                if stopping {
                    return None;
                }
                inner = self.wait(inner, None);
                continue;
            };
            let same = work.filter(|work| work.segment.header.first == task.segment.header.first);
            let covered = same.map_or(task.segment.header.frames(), |work| work.covered);
            let taken = same.map_or(covered, |work| work.next.to);
            let pending = task.end.0.saturating_sub(covered.0);
            let given_up = same.is_some_and(|work| work.given_up);
            if task.left {
                return Some((task, Due::All));
            }
            if task.end.0.saturating_sub(taken.0) >= self.take_bytes() && !given_up {
                return Some((task, Due::Frames));
            }
            if stopping {
                // The segment in use is covered once more, and that is all.
                inner.segments.clear();
                return (pending > 0 && !given_up).then_some((task, Due::All));
            }
            if pending == 0 || given_up {
                inner.last_append = None;
                inner = self.wait(inner, None);
                continue;
            }
            let quiet_at = inner.last_append.map_or(last_chunk, |at| at + QUIET);
            let due = quiet_at.max(last_chunk + QUIET_INTERVAL);
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                inner.last_append = None;
                return Some((task, Due::All));
            }
            inner = self.wait(inner, Some(left));
        }
    }

    fn wait<'a>(
        &'a self,
        inner: MutexGuard<'a, Inner>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, Inner> {
        match timeout {
            None => self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                let waited = self.wake.wait_timeout(inner, timeout);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Goes on behind what the file already covers.
    fn resume(&self, task: &Task) -> Work {
        let header = task.segment.header;
        let fresh = ChunkHeader {
            sealed: false,
            data: false,
            payload_bytes: 0,
            at: 0,
            sequence: header.sequence,
            first: header.first,
            from: header.frames(),
            to: header.frames(),
            last_frame: header.frames(),
            last_crc: 0,
            payload_crc: 0,
            open_ms: 0,
        };
        let mut work = Work {
            segment: Arc::clone(&task.segment),
            file: None,
            at: 0,
            covered: header.frames(),
            last: fresh,
            summary: Summary::default(),
            content: RangeIndex::default(),
            next: fresh,
            given_up: false,
            done: false,
        };
        let (end, mut findings) = (End::Known(task.end), Findings::default());
        let disk = &*self.disk;
        let found = Coverage::find(disk, self.seed, &task.segment, end, 0, &mut findings);
        for (_, content) in &found.chunks {
            work.summary.extend(header.first, &content.partitions);
            work.summary.events.extend(&content.events);
        }
        if let Some(last) = found.last() {
            (work.at, work.covered, work.last) = (found.next_at(), last.to, *last);
            work.done = last.sealed && last.to == task.end;
            work.next = ChunkHeader { from: last.to, ..*last };
        }
        work
    }

    /// Takes in what is durable, and writes the chunks that are due.
    fn cover(&self, work: &mut Work, task: &Task, due: Due) {
        while !work.given_up && !work.done && (work.covered < task.end || task.left) {
            let whole = work.covered.plus(self.interval_bytes);
            let written = self.take_in(work, task, whole).and_then(|()| {
                let is_due = due == Due::All || work.next.to >= whole;
                if is_due { self.chunk(work, task).map(|()| true) } else { Ok(false) }
            });
            match written {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    work.given_up = true;
                    self.errors.fetch_add(1, Ordering::Relaxed);
                    let (file, at) = (index_name(work.segment.header.sequence), work.at);
                    let (position, length) = (work.covered.0, task.end.0 - work.covered.0);
                    tracing::warn!(
                        %error,
                        file,
                        at,
                        position,
                        length,
                        "index not written on: the rest of the segment is scanned at the next start"
                    );
                }
            }
        }
    }

    /// Adds frames to the next chunk, up to the first one that ends at or behind a place.
    fn take_in(&self, work: &mut Work, task: &Task, to: Position) -> io::Result<()> {
        let to = to.min(task.end);
        while work.next.to < to {
            let at = work.next.to;
            let Some(bytes) = self.tail.frame(at) else {
                return self.scan(work, task, to);
            };
            let frame = WrittenFrame::new(&bytes, self.seed, at);
            let Some(frame) = frame.filter(|frame| at.plus(frame.header.length()) <= task.end)
            else {
                return self.scan(work, task, to);
            };
            for (entry, position, payload) in frame.entries(self.seed) {
                work.content.add(&entry, position, Some(payload), frame.header.open_ms);
            }
            work.next.pass(&frame.header, frame.crc);
        }
        Ok(())
    }

    /// The same, from the file.
    fn scan(&self, work: &mut Work, task: &Task, to: Position) -> io::Result<()> {
        let segment = Arc::clone(&work.segment);
        let mut scanner = Scanner::resume(&segment, self.seed, End::Known(task.end), work.next.to)?;
        while scanner.position() < to {
            match scanner.step() {
                Step::Frame(frame) => {
                    for entry in &frame.entries {
                        work.content.add_found(&mut scanner, entry, frame.header.open_ms);
                    }
                    work.next.pass(&frame.header, frame.crc);
                }
                Step::Damage(damage) => {
                    work.given_up = true;
                    let (position, length) = (damage.from.0, damage.to.0 - damage.from.0);
                    let segment = segment.header.sequence;
                    tracing::error!(segment, position, length, "damaged range, not indexed");
                    break;
                }
                Step::End(_) => {
                    work.given_up = true;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Writes what was taken in.
    fn chunk(&self, work: &mut Work, task: &Task) -> io::Result<()> {
        let content = std::mem::take(&mut work.content);
        let mut header = work.next;
        header.data |= content.data;
        header.sealed = task.left && header.to == task.end;
        work.summary.extend(work.segment.header.first, &content.partitions);
        work.summary.events.extend(&content.events);
        if header.to > header.from || header.sealed {
            self.write(work, header, &content)?;
        }
        work.given_up |= header.to == header.from && !header.sealed;
        (work.covered, work.done) = (header.to, header.sealed);
        work.next = ChunkHeader { from: header.to, ..work.last };
        Ok(())
    }

    fn write(&self, work: &mut Work, header: ChunkHeader, content: &RangeIndex) -> io::Result<()> {
        if self.used_bytes.load(Ordering::Relaxed) >= self.max_bytes {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "storage.max_bytes is in use"));
        }
        let segment = &work.segment.header;
        let mut file = match work.file.take() {
            Some(file) => file,
            None => IndexFile::create(&*self.disk, self.seed, segment)?,
        };
        let freed = file.cut(work.at)?;
        self.used_bytes.fetch_sub(freed, Ordering::Relaxed);
        let summary = header.sealed.then_some(&work.summary);
        let take = |bytes| take_budget(&self.used_bytes, bytes, self.max_bytes);
        let chunk = file.add(header, content, summary, take)?;
        work.at = chunk.at + chunk.length();
        work.last = chunk;
        work.file = Some(file);
        Ok(())
    }

    /// Takes a segment that was left off the list.
    fn finish(&self, task: &Task) {
        let first = task.segment.header.first;
        let mut inner = self.lock();
        inner.segments.retain(|other| other.segment.header.first != first);
        inner.covered = None;
    }

    fn take_bytes(&self) -> u64 {
        self.interval_bytes.min(TAKE_BYTES)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
