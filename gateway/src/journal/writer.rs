//! The one thread that writes: builds a frame, writes it, syncs it, and only then lets anyone know.
//!
//! Frame N+1 is never written before N is durable, so a valid frame proves all before it. The first
//! error on the file in use ends the writer; nothing is retried.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Instant,
};

use super::{
    AbortedRange, Change, Disk, Fact, JournalId, Offset, PartitionId, Poisoned, Position, State,
    format::{
        BARRIER_BYTES, Barrier, ENTRY_HEADER_BYTES, FRAME_HEADER_BYTES, FrameHeader, FrameKind,
        SEGMENT_HEADER_BYTES, SegmentHeader, entry_size,
    },
    frame::FrameBuilder,
    options::Settings,
    queue::{Queued, Room, Take},
    recovery::{Carried, Leftovers},
    segment::{Prepared, Segment, segment_name},
    shared::Shared,
};

/// State of the writing thread.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    journal: JournalId,
    state: State,
    frame: FrameBuilder,
    segment: Option<Active>,
    /// Where the log ends, and the CRC that the next frame names.
    end: Position,
    last_crc: u32,
    /// First address that no segment has used.
    next_first: Position,
    snapshot: Snapshot,
    taken: Vec<Queued>,
    /// Still to be written before anything else.
    opening: Option<Opening>,
}

/// The first frame of an opening.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) carried: Option<Carried>,
    pub(super) barrier: Barrier,
    /// Cleaned up once the frame is durable.
    pub(super) leftovers: Leftovers,
    /// Whether the state misses nothing: only then what it does not know was deleted.
    pub(super) state_whole: bool,
    pub(super) disk: Arc<dyn Disk>,
}

/// The segment in use.
#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    /// Written with the first frame, so that a header always has one behind it.
    header_due: bool,
    /// Address of the next frame.
    at: Position,
}

/// What is still to be written of the state at the start of the segment in use.
#[derive(Debug, Default)]
struct Snapshot {
    slices: VecDeque<Vec<u8>>,
    written: u32,
    total: u32,
}

/// Where the log stands when a writer takes it over.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) journal: JournalId,
    pub(super) state: State,
    pub(super) end: Position,
    pub(super) last_crc: u32,
    pub(super) next_first: Position,
    pub(super) opening: Opening,
}

impl Opening {
    /// Bytes of the frame: set aside from the start, so that no append is admitted against them.
    pub(super) fn held_bytes(&self) -> u64 {
        FrameHeader::length_for(self.entries_bytes())
    }

    fn entries_bytes(&self) -> usize {
        let carried = self.carried.as_ref().map_or(0, Carried::entries_bytes);
        carried + entry_size(BARRIER_BYTES)
    }

    /// Bytes that the segment of the frame needs at least: with its header and the snapshot.
    pub(super) fn needed_bytes(&self, settings: &Settings, state: &State) -> u64 {
        SEGMENT_HEADER_BYTES + self.held_bytes() + settings.snapshot_bytes(state.bytes())
    }

    /// What the frame does to the state; gives the transactions that it aborts.
    pub(super) fn apply(&self, state: &mut State) -> Vec<(PartitionId, AbortedRange)> {
        let carried = self.carried.as_ref();
        let mut aborted = carried.map_or_else(Vec::new, |carried| carried.apply(state));
        let Barrier { incarnation, leader_epoch } = self.barrier;
        aborted.append(&mut state.apply(Change::Barrier { incarnation, leader_epoch }, 0));
        aborted
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, start: Start) -> Self {
        Self {
            frame: FrameBuilder::new(shared.seed),
            shared,
            journal: start.journal,
            state: start.state,
            segment: None,
            end: start.end,
            last_crc: start.last_crc,
            next_first: start.next_first,
            snapshot: Snapshot::default(),
            taken: Vec::new(),
            opening: Some(start.opening),
        }
    }

    /// Begins a segment with the opening frame: what nothing proved durable, then the barrier.
    /// Readers see it once it is durable.
    pub(super) fn open(&mut self, prepared: Prepared) -> io::Result<()> {
        let Some(opening) = self.opening.take() else {
            return Ok(());
        };
        self.begin_segment(prepared);
        self.begin_frame(opening.entries_bytes());
        for (header, payload) in opening.carried.iter().flat_map(Carried::entries) {
            if !planted!(CarriedDropped) {
                self.frame.carried(header, payload);
            }
        }
        self.frame.barrier(opening.barrier);
        self.commit(FrameKind::Opening)?;
        self.shared.ledger.spent(self.left_in_segment(), opening.held_bytes());
        let aborted = opening.apply(&mut self.state);
        self.publish(aborted);
        self.shared.log_mut().adopt(&self.state);
        if opening.state_whole {
            // What the carried entries deleted, too.
            self.shared.log_mut().forget_unknown(&self.state);
        }
        let freed = opening.leftovers.clean_up(&*opening.disk);
        self.shared.used_bytes.fetch_sub(freed, Ordering::Relaxed);
        opening.leftovers.recycle(&self.shared.preparer);
        Ok(())
    }

    /// Bytes that the first segment needs at least.
    pub(super) fn opening_bytes(&self) -> u64 {
        let opening = self.opening.as_ref();
        opening.map_or(0, |opening| opening.needed_bytes(&self.shared.settings, &self.state))
    }

    /// Space that the last segment of the earlier run did not use, given back before there is a new one.
    pub(super) fn give_back_unused(&mut self) {
        if let Some(opening) = &mut self.opening {
            let mut freed = opening.leftovers.give_back_unused();
            freed += opening.leftovers.give_back_unswitched(&*opening.disk);
            self.shared.used_bytes.fetch_sub(freed, Ordering::Relaxed);
        }
    }

    /// Writes what is queued until asked to close or until the disk fails.
    pub(super) fn run(mut self) {
        let reason = match self.serve() {
            Ok(()) => {
                let closed = || Poisoned { reason: "the journal was closed".into() };
                self.shared.ended.get_or_init(closed).clone()
            }
            Err(error) => self.shared.poison(format!("{error}; fix the disk and restart")),
        };
        self.refuse_all(&reason);
    }

    fn refuse_all(&mut self, reason: &Poisoned) {
        for queued in self.taken.drain(..).chain(self.shared.queue.end(reason)) {
            queued.completion.complete(Err(reason.clone()));
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        if self.opening.is_some() {
            let Some(prepared) = self.shared.preparer.take() else {
                return Ok(());
            };
            self.open(prepared)?;
        }
        loop {
            match self.shared.queue.take(self.room(), &mut self.taken) {
                Take::Commit => self.commit_taken()?,
                Take::NoRoom => {
                    if !self.roll()? {
                        return Ok(());
                    }
                }
                Take::Idle => self.frame.shrink(),
                Take::Close => return self.close(),
            }
        }
    }

    fn commit_taken(&mut self) -> io::Result<()> {
        #[cfg(test)]
        self.write_ahead()?;
        let slice = self.snapshot.slices.front().map_or(0, |slice| entry_size(slice.len()));
        self.begin_frame(slice + self.taken.iter().map(|queued| queued.bytes).sum::<usize>());
        self.next_slice();
        for queued in &self.taken {
            self.frame.append(&queued.append);
        }
        if planted!(ServeUnsynced) {
            self.show(self.end, Vec::new());
        }
        if planted!(AcknowledgeEarly) {
            self.taken.drain(..).for_each(|queued| queued.completion.complete(Ok(())));
        }
        self.commit(FrameKind::Commit)?;
        let open_ms = self.open_ms();
        self.note_snapshot();
        let mut reserved = 0;
        let mut aborted = Vec::new();
        for queued in &self.taken {
            aborted.append(&mut self.state.apply_append(&queued.append, open_ms));
            reserved += queued.reserved;
        }
        self.shared.ledger.spent(self.left_in_segment(), reserved);
        if !planted!(ServeUnsynced) {
            self.publish(aborted);
        }
        for queued in self.taken.drain(..) {
            queued.completion.complete(Ok(()));
        }
        Ok(())
    }

    /// The planted bug of that name: the first append in a frame of its own, which the sync of the
    /// next frame is to cover too.
    #[cfg(test)]
    fn write_ahead(&mut self) -> io::Result<()> {
        let active = self.segment.as_mut().expect("a segment is begun before a frame");
        let room = active.segment.header.end().0 - active.at.0;
        let needed: usize = self.taken.iter().map(|queued| queued.bytes).sum();
        let fits = room > needed as u64 + 3 * SEGMENT_HEADER_BYTES;
        if !planted!(WriteAhead) || self.taken.len() < 2 || active.header_due || !fits {
            return Ok(());
        }
        let first = self.taken.remove(0);
        let segment = Arc::clone(&active.segment);
        self.begin_frame(first.bytes);
        self.frame.append(&first.append);
        let now = self.shared.settings.clock.now();
        let at = self.segment.as_ref().map_or(self.end, |active| active.at);
        let (bytes, crc) = self.frame.finish(FrameKind::Commit, self.last_crc, now, 0);
        segment.file.write_at(bytes, segment.at(at))?;
        self.end = at.plus(bytes.len() as u64);
        self.last_crc = crc;
        if let Some(active) = &mut self.segment {
            active.at = self.end;
        }
        self.state.apply_append(&first.append, 0);
        self.shared.ledger.spent(self.left_in_segment(), first.reserved);
        self.publish(Vec::new());
        first.completion.complete(Ok(()));
        Ok(())
    }

    /// Lets the durable frame be read and indexed.
    fn publish(&mut self, aborted: Vec<(PartitionId, AbortedRange)>) {
        // Before anyone can ask for it.
        let position = self.frame.position();
        let spare = self.shared.tail.push(position, self.frame.take());
        self.frame.reuse(spare);
        let mut durable = self.end;
        if let Some(active) = &self.segment {
            self.shared.indexer.durable(&active.segment, active.at);
            durable = active.at;
        }
        self.show(durable, aborted);
    }

    /// Makes the frame's batches readable and wakes who waits for them. The state has them already:
    /// what is readable, what is stable and what was aborted change in one step.
    fn show(&mut self, durable: Position, aborted: Vec<(PartitionId, AbortedRange)>) {
        let facts = || self.taken.iter().flat_map(|queued| &queued.append.facts);
        let moved = facts().filter_map(Fact::as_log_start).collect::<Vec<_>>();
        let forgotten = facts().filter_map(Fact::as_forgotten).collect::<Vec<_>>();
        let may_retire = !moved.is_empty() || !forgotten.is_empty();
        let mut ends: Vec<(PartitionId, Offset)> = Vec::new();
        let mut stable_ends = Vec::new();
        // Not before the frame's own time: nothing counts as older than it is.
        let open_ms = self.open_ms();
        {
            let mut log = self.shared.log_mut();
            log.set_durable(durable);
            log.note_age(durable, open_ms);
            for (partition, placed) in self.frame.batches() {
                if !log.insert(*partition, placed) {
                    tracing::error!(
                        ?partition,
                        ?placed,
                        "a batch was appended at offsets that are taken"
                    );
                    debug_assert!(false, "offsets appended twice");
                }
                match ends.last_mut() {
                    Some((last, end)) if last == partition => *end = placed.end,
                    _ => ends.push((*partition, placed.end)),
                }
            }
            for (partition, start) in moved {
                log.move_log_start(partition, start);
            }
            let touched = ends.iter().map(|&(partition, _)| partition);
            for partition in touched.chain(aborted.iter().map(|&(partition, _)| partition)) {
                log.set_first_open(partition, self.state.first_open(partition));
                stable_ends.push((partition, log.stable_end(partition)));
            }
            for (partition, range) in aborted {
                log.add_aborted(partition, range);
            }
            for partition in forgotten {
                log.forget(partition);
            }
        }
        self.shared.waiters.wake(ends);
        self.shared.stable_waiters.wake(stable_ends);
        if may_retire {
            self.shared.retirer.wake();
            self.shared.cleaner.wake();
        }
    }

    /// Switches to a prepared segment; false if asked to stop while waiting for one.
    fn roll(&mut self) -> io::Result<bool> {
        // A segment that is left must hold its whole snapshot: replay may have to begin there.
        while !self.snapshot.slices.is_empty() {
            self.commit_taken()?;
        }
        let Some(prepared) = self.shared.preparer.take() else {
            return Ok(false);
        };
        self.begin_segment(prepared);
        Ok(true)
    }

    fn close(&mut self) -> io::Result<()> {
        while !self.snapshot.slices.is_empty() {
            self.commit_taken()?;
        }
        // Without room for it the next opening takes this end for an unclean one, which costs an epoch.
        if self.left_in_segment() >= FrameHeader::length_for(ENTRY_HEADER_BYTES) {
            self.begin_frame(ENTRY_HEADER_BYTES);
            self.frame.close();
            self.commit(FrameKind::Commit)?;
        }
        Ok(())
    }

    fn begin_segment(&mut self, prepared: Prepared) {
        let header = SegmentHeader {
            journal: self.journal,
            sequence: prepared.sequence,
            first: self.next_first,
            length: prepared.length,
            previous_end: self.end,
            previous_crc: self.last_crc,
            max_bytes: self.shared.settings.max_bytes,
        };
        self.next_first = header.end();
        let segment = Arc::new(Segment { file: prepared.file, header });
        let at = header.frames();
        self.segment = Some(Active { segment, header_due: true, at });
        self.state.expire_producers(self.open_ms());
        let slices = self.state.encode(self.shared.settings.slice_bytes);
        let total = u32::try_from(slices.len()).expect("the state is a few MiB");
        self.snapshot = Snapshot { slices, written: 0, total };
        self.shared.ledger.rolled(self.left_in_segment());
    }

    fn begin_frame(&mut self, entries_bytes: usize) {
        let active = self.segment.as_ref().expect("a segment is begun before a frame");
        let header = active.header_due.then_some(&active.segment.header);
        self.frame.begin(active.at, header, entries_bytes);
    }

    fn next_slice(&mut self) {
        if let Some(mut slice) = self.snapshot.slices.pop_front() {
            if planted!(SnapshotLate) {
                let mut now = self.state.encode(self.shared.settings.slice_bytes);
                slice = now.remove(self.snapshot.written as usize).unwrap_or(slice);
            }
            self.frame.slice(self.snapshot.written, self.snapshot.total, &slice);
            self.snapshot.written += 1;
        }
    }

    /// With its last slice durable the snapshot stands for everything before it.
    fn note_snapshot(&mut self) {
        let complete = self.snapshot.written > 0 && self.snapshot.slices.is_empty();
        if let Some(active) = self.segment.as_ref().filter(|_| complete) {
            self.shared.log_mut().snapshot_complete(active.segment.header.first);
            self.snapshot.written = 0;
            self.shared.retirer.wake();
            self.shared.cleaner.wake();
        }
    }

    /// Writes and syncs the frame that was built. After an error nothing more may be written.
    fn commit(&mut self, kind: FrameKind) -> io::Result<()> {
        let now = self.shared.settings.clock.now();
        let open_ms = self.shared.age.at(now.monotonic_ms);
        let (bytes, crc) = self.frame.finish(kind, self.last_crc, now, open_ms);
        let active = self.segment.as_mut().expect("a segment is begun before a frame");
        let (segment, header) = (&active.segment, active.segment.header);
        let at = if active.header_due { 0 } else { segment.at(active.at) };
        segment.file.write_at(bytes, at).map_err(|error| describe("write", header, at, &error))?;
        let began = Instant::now();
        let mut synced = if planted!(SkipSync) { Ok(()) } else { segment.file.sync() };
        if planted!(RetrySync) {
            synced = synced.or_else(|_| segment.file.sync());
        }
        if !planted!(IgnoreFailedSync) {
            synced.map_err(|error| describe("sync", header, at, &error))?;
        }
        self.shared.stats.committed(bytes.len(), began.elapsed());
        if std::mem::replace(&mut active.header_due, false) {
            let left = self.shared.log_mut().begin_segment(Arc::clone(segment));
            if let Some((left, indexes)) = left {
                self.shared.indexes.keep(left, indexes);
            }
        }
        active.at = header.first.plus(at + bytes.len() as u64);
        self.end = active.at;
        self.last_crc = crc;
        Ok(())
    }

    /// Bytes of the segment in use that its snapshot does not need.
    fn left_in_segment(&self) -> u64 {
        let Some(active) = &self.segment else {
            return 0;
        };
        let pending: u64 = self
            .snapshot
            .slices
            .iter()
            .map(|slice| FrameHeader::length_for(entry_size(slice.len())))
            .sum();
        (active.segment.header.end().0 - active.at.0).saturating_sub(pending)
    }

    fn room(&self) -> Room {
        let settings = &self.shared.settings;
        let left = usize::try_from(self.left_in_segment()).unwrap_or(usize::MAX);
        Room {
            target: settings.frame_bytes,
            segment: left.saturating_sub(FRAME_HEADER_BYTES),
            linger: settings.linger,
            busy: !self.snapshot.slices.is_empty(),
            swollen: self.frame.is_swollen(),
        }
    }

    fn open_ms(&self) -> u64 {
        self.shared.open_ms()
    }
}

impl Drop for Writer {
    /// A broken invariant ends the writer like an error of the disk: nobody waits for ever.
    fn drop(&mut self) {
        if thread::panicking() {
            let reason = self.shared.poison("the writer panicked; restart, and report it".into());
            self.refuse_all(&reason);
        }
    }
}

fn describe(what: &str, header: SegmentHeader, at: u64, error: &io::Error) -> io::Error {
    let name = segment_name(header.sequence);
    io::Error::new(error.kind(), format!("{what} of {name} at byte {at}: {error}"))
}
