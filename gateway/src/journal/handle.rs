//! The journal as its users see it.

use std::{
    fmt,
    fs::File,
    io::Read,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::{
    AdmitError, Append, CleanError, Disk, JournalId, JournalOptions, JournalStatus, Offset,
    OpenError, PartitionId, Permit, Poisoned, State, StateLimits, Ticket,
    admission::{Ledger, Purpose, Reserve},
    cold::{self, Cleaned, Cleaner, Retain},
    damage::DamageMap,
    format::SEGMENT_HEADER_BYTES,
    index::IndexCache,
    indexer::Indexer,
    inspect::Accepted,
    log::Log,
    options::Settings,
    preparer::Preparer,
    queue::Queued,
    recovery::{self, Recovered},
    retire::{self, Retirer},
    scrub::Scrubber,
    shared::{Age, Parts, Shared},
    tail::Tail,
    waiters::Waiters,
    writer::{Opening, Start, Writer},
};

/// Handle on the open journal; cheap to clone. The last one to go closes the journal.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    threads: Arc<Threads>,
}

/// Where the log of a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionEnds {
    /// First offset that is still there.
    pub log_start: Offset,
    /// One past the last durable offset below which no transaction is open.
    pub stable: Offset,
    /// One past the last durable offset.
    pub durable: Offset,
}

/// The writer's, the preparer's and the indexer's thread; ended with the last handle.
struct Threads {
    shared: Arc<Shared>,
    running: Mutex<Vec<JoinHandle<()>>>,
    /// Ended behind the writer, so that it covers all that was written.
    indexing: Mutex<Option<JoinHandle<()>>>,
}

/// Opens the journal in a data folder, or creates it: replays what is there, writes what nothing
/// proved durable again, and starts the writing thread. Blocks.
///
/// The state is what the entries add up to, the ones that wait to be written again included.
pub fn open(
    disk: impl Disk + 'static,
    options: &JournalOptions,
) -> Result<(Journal, State), OpenError> {
    let (shared, writer, state) = recover(&(Arc::new(disk) as Arc<dyn Disk>), options)?;
    let threads = Threads::start(&shared, writer).map_err(OpenError::io("start a thread"))?;
    Ok((Journal { shared, threads: Arc::new(threads) }, state))
}

/// As [`open`], without the threads: everything can be read and nothing appended.
#[cfg(test)]
pub(super) fn open_idle(
    disk: impl Disk + 'static,
    options: &JournalOptions,
) -> Result<(Journal, State), OpenError> {
    let (shared, _, state) = recover(&(Arc::new(disk) as Arc<dyn Disk>), options)?;
    let threads = Threads::none(&shared);
    Ok((Journal { shared, threads: Arc::new(threads) }, state))
}

/// Recovery, up to the frame that begins the new segment, if there is space for one.
fn recover(
    disk: &Arc<dyn Disk>,
    options: &JournalOptions,
) -> Result<(Arc<Shared>, Writer, State), OpenError> {
    let recovered = recovery::recover(&**disk)?;
    let free = disk.free_bytes().map_err(OpenError::io("free space"))?;
    let settings = options.resolve(recovered.max_bytes, free, disk.medium())?;
    let journal = match recovered.journal.or(options.new_id) {
        Some(journal) => journal,
        None => random_id()?,
    };
    let used_bytes = recovery::used_bytes(&**disk).map_err(OpenError::io("measure the journal"))?;
    let (shared, mut writer, state) = assemble(disk, settings, journal, recovered, used_bytes);
    let needed = writer.opening_bytes();
    let mut ready = shared.preparer.prepare_first(needed)?;
    if !ready {
        writer.give_back_unused();
        ready = shared.preparer.prepare_first(needed)?;
    }
    if !ready && recovery::give_up_indexes(&**disk, &shared.used_bytes) > 0 {
        // Everything in them can be scanned again; what was acknowledged wants to be served.
        ready = shared.preparer.prepare_first(needed)?;
    }
    if !shared.preparer.can_fill_reserve(disk.free_bytes().map_err(OpenError::io("free space"))?) {
        // Nobody may use what is there before the thread that prepares finds that there is no more.
        shared.ledger.settle();
    }
    if ready && let Some(prepared) = shared.preparer.try_take() {
        writer.open(prepared).map_err(OpenError::io("begin a segment"))?;
    } else {
        tracing::warn!("no space for a segment: reading works, writing waits for space");
    }
    Ok((shared, writer, state))
}

fn assemble(
    disk: &Arc<dyn Disk>,
    settings: Settings,
    journal: JournalId,
    recovered: Recovered,
    used_bytes: u64,
) -> (Arc<Shared>, Writer, State) {
    let mut opening = Opening {
        carried: recovered.carried,
        barrier: recovered.barrier,
        leftovers: recovered.leftovers,
        state_whole: recovered.state_whole,
        disk: Arc::clone(disk),
    };
    let mut state = recovered.state.clone();
    opening.apply(&mut state);
    let mut log = recovered.log;
    log.adopt(&recovered.state);
    log.keep_aborted(settings.aborted_ranges);
    let needed = opening.needed_bytes(&settings, &recovered.state);
    let reserve = Reserve {
        segments: settings.reserve_segments(),
        usable_bytes: settings.usable(settings.segment_bytes),
        whole_bytes: settings.segment_bytes - SEGMENT_HEADER_BYTES,
    };
    let ledger = Ledger::new(settings.max_append_bytes, opening.held_bytes(), reserve);
    let used_bytes = Arc::new(AtomicU64::new(used_bytes));
    let preparer = Preparer::new(
        Arc::clone(disk),
        settings.clone(),
        Arc::clone(&ledger),
        Arc::clone(&used_bytes),
        recovered.next_sequence,
    );
    for spare in recovered.spares {
        opening.leftovers.extend(preparer.adopt(spare, needed));
    }
    let mut report = recovered.report;
    for spare in preparer.secured(recovered.recycled) {
        let misfit = preparer.keep(spare);
        if let Some(misfit) = &misfit {
            report.misfit_spares += 1;
            let (file, length) = (&misfit.name, misfit.length);
            tracing::info!(file, length, "a spare of another length than segments have is removed");
        }
        opening.leftovers.discard(misfit);
    }
    let seed = journal.seed();
    let backlog = recovered.uncovered;
    let tail = Arc::new(Tail::new(settings.tail_bytes));
    let indexer = Indexer::new(
        Arc::clone(disk),
        seed,
        &settings,
        Arc::clone(&used_bytes),
        Arc::clone(&tail),
        backlog,
    );
    let indexes = IndexCache::new(Arc::clone(disk), seed, settings.index_cache_bytes);
    let next_cold = recovered.next_cold;
    let cleaner = Cleaner::new(Arc::clone(disk), journal, &settings, next_cold);
    let opened_ms = settings.clock.now().monotonic_ms;
    let shared = Arc::new(Shared::new(Parts {
        seed,
        settings,
        damage: DamageMap::new(Accepted::of(&recovered.state), &report),
        scrubber: Scrubber::default(),
        recovery: report,
        ledger,
        preparer,
        tail,
        indexer,
        indexes,
        used_bytes,
        age: Age { before_ms: recovered.open_ms, opened_ms },
        log,
        retirer: Retirer::new(recovered.odd_names),
        cleaner,
    }));
    let start = Start {
        journal,
        state: recovered.state,
        end: recovered.end,
        last_crc: recovered.end_crc,
        next_first: recovered.next_first,
        opening,
    };
    let writer = Writer::new(Arc::clone(&shared), start);
    (shared, writer, state)
}

impl Journal {
    /// Sets aside space for an append whose batches and facts take `bytes`
    /// ([`Append::encoded_len`]); the only point where an append can be refused.
    pub fn admit(&self, bytes: usize) -> Result<Permit, AdmitError> {
        self.shared.admit(bytes, Purpose::Append)
    }

    /// As [`Journal::admit`], for an append that lets go of data: log starts, deleted topics, gap records. May use space of
    /// the reserve, so that a full journal can be emptied.
    pub fn admit_freeing(&self, bytes: usize) -> Result<Permit, AdmitError> {
        self.shared.admit(bytes, Purpose::Freeing)
    }

    /// Queues an admitted append; never blocks. Appends become durable in the order of these calls.
    pub fn append(&self, permit: Permit, append: Append) -> Ticket {
        let bytes = append.encoded_len();
        let reserved = permit.redeem(bytes);
        let (ticket, completion) = Ticket::new();
        self.shared.queue.push(Queued { append, bytes, reserved, completion });
        ticket
    }

    /// First offset that is still there.
    #[must_use]
    pub fn log_start(&self, partition: PartitionId) -> Offset {
        self.shared.log().log_start(partition)
    }

    /// One past the last durable offset.
    #[must_use]
    pub fn durable_end(&self, partition: PartitionId) -> Offset {
        self.shared.log().durable_end(partition)
    }

    /// One past the last durable offset below which no transaction is open; what comes before may be
    /// read as committed, but for [`Journal::aborted`] ranges and control batches.
    #[must_use]
    pub fn stable_end(&self, partition: PartitionId) -> Offset {
        self.shared.log().stable_end(partition)
    }

    /// Where the log of a partition stands, all at one moment.
    #[must_use]
    pub fn ends(&self, partition: PartitionId) -> PartitionEnds {
        let log = self.shared.log();
        PartitionEnds {
            log_start: log.log_start(partition),
            stable: log.stable_end(partition),
            durable: log.durable_end(partition),
        }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Resolves when any of the partitions has durable data past its offset (at once if it already has); cancel-safe.
    pub async fn wait_durable(&self, wants: &[(PartitionId, Offset)]) {
        self.wait(&self.shared.waiters, wants, Log::durable_end).await;
    }

    /// As [`Journal::wait_durable`], for stable data.
    pub async fn wait_stable(&self, wants: &[(PartitionId, Offset)]) {
        self.wait(&self.shared.stable_waiters, wants, Log::stable_end).await;
    }

    async fn wait(
        &self,
        waiters: &Waiters,
        wants: &[(PartitionId, Offset)],
        end: impl Fn(&Log, PartitionId) -> Offset,
    ) {
        let reached = || {
            let log = self.shared.log();
            wants.iter().any(|&(partition, past)| end(&log, partition) > past)
        };
        if reached() {
            return;
        }
        let registration = waiters.register(wants);
        // Once more, because it may have been reached before the registration was in place.
        if !reached() {
            registration.woken().await;
        }
    }

    /// Limits of the state, for [`State::room_for`].
    #[must_use]
    pub fn state_limits(&self) -> &StateLimits {
        &self.shared.settings.state
    }

    /// Largest append, in encoded bytes.
    #[must_use]
    pub fn max_append_bytes(&self) -> usize {
        self.shared.settings.max_append_bytes
    }

    /// Milliseconds that the journal has been open in all its life; producers expire by it.
    #[must_use]
    pub fn open_ms(&self) -> u64 {
        self.shared.open_ms()
    }

    /// Numbers for health, metrics and the page.
    #[must_use]
    pub fn status(&self) -> JournalStatus {
        let shared = &self.shared;
        let (sync_p50_us, sync_p99_us) = shared.stats.sync_percentiles();
        let (open_damage, open_damage_bytes) = shared.damage.open();
        let (segments, cold_segments, aborted_ranges) = {
            let log = shared.log();
            (log.segments() as u64, log.cold_segments() as u64, log.resident_aborted() as u64)
        };
        JournalStatus {
            used_bytes: shared.used_bytes.load(Ordering::Relaxed),
            max_bytes: shared.settings.max_bytes,
            segments,
            cold_segments,
            cleaned_segments: shared.cleaner.cleaned(),
            cleaner_copied_bytes: shared.cleaner.copied_bytes(),
            retired_segments: shared.retirer.retired(),
            pinned_segments: shared.retirer.pinned(),
            frames: shared.stats.frames.load(Ordering::Relaxed),
            written_bytes: shared.stats.written_bytes.load(Ordering::Relaxed),
            sync_p50_us,
            sync_p99_us,
            unindexed_bytes: shared.indexer.pending_bytes(),
            open_damage,
            open_damage_bytes,
            scrub: shared.scrubber.status(),
            damaged_reads: shared.stats.damaged_reads.load(Ordering::Relaxed),
            skipped_offsets: shared.stats.skipped_offsets.load(Ordering::Relaxed),
            index_errors: shared.indexer.errors(),
            index_damaged: shared.indexes.damaged(),
            tail_bytes: shared.tail.bytes() as u64,
            index_cache_bytes: shared.indexes.bytes() as u64,
            aborted_ranges,
            poisoned: shared.poison.get().map(|poisoned| poisoned.reason.to_string()),
            recovery: shared.recovery.clone(),
        }
    }

    /// Lets segments go that nothing needs any more, and frees those that readers let go of; how many left the log. The
    /// journal does so by itself unless [`JournalOptions::retire`] is off. Blocks.
    pub fn retire(&self) -> Result<u64, AdmitError> {
        retire::retire(&self.shared)
    }

    /// Copies what is live of the segments whose cleaning is cheapest into a cold one, if that takes at most so many copied
    /// bytes per freed byte; None if nothing does. The journal does so by itself unless [`JournalOptions::clean`] is
    /// off. Blocks.
    pub fn clean(&self, max_cost: f64) -> Result<Option<Cleaned>, CleanError> {
        cold::clean(&self.shared, max_cost)
    }

    /// Cleans as many of the oldest segments as fit into one, whatever it costs.
    #[cfg(test)]
    pub(super) fn clean_oldest(&self) -> Result<Option<Cleaned>, CleanError> {
        with_space(|| cold::clean_oldest(&self.shared))
    }

    /// Makes one of all cold segments.
    #[cfg(test)]
    pub(super) fn merge_cold(&self) -> Result<Option<Cleaned>, CleanError> {
        with_space(|| cold::merge_cold(&self.shared))
    }

    /// How a partition is cleaned. Kept in memory only: to be told again after an opening.
    pub fn retain(&self, partition: PartitionId, retain: Retain) {
        self.shared.cleaner.retain().set(partition, retain);
    }

    /// Writes what is queued, marks the end as orderly and ends the threads. Later appends are
    /// refused, reads go on. Blocks; may be called more than once.
    pub fn close(&self) -> Result<(), Poisoned> {
        self.threads.stop();
        self.shared.poison.get().map_or(Ok(()), |poisoned| Err(poisoned.clone()))
    }
}

impl Threads {
    fn none(shared: &Arc<Shared>) -> Self {
        let (running, indexing) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::clone(shared), running, indexing }
    }

    fn start(shared: &Arc<Shared>, writer: Writer) -> std::io::Result<Self> {
        let preparer = Arc::clone(shared);
        let mut threads = Self::none(shared);
        let running = threads.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        let named = |name: &str| thread::Builder::new().name(name.into());
        running.push(named("journal-writer").spawn(move || writer.run())?);
        running.push(named("journal-space").spawn(move || preparer.preparer.run())?);
        if shared.settings.retire {
            let retirer = Arc::clone(shared);
            running.push(named("journal-retire").spawn(move || retirer.retirer.run(&retirer))?);
        }
        if shared.settings.scrub_bytes_per_s > 0 {
            let scrubber = Arc::clone(shared);
            running.push(named("journal-scrub").spawn(move || scrubber.scrubber.run(&scrubber))?);
        }
        if shared.settings.clean {
            let cleaner = Arc::clone(shared);
            running.push(named("journal-clean").spawn(move || cleaner.cleaner.run(&cleaner))?);
        }
        let indexer = Arc::clone(shared);
        let indexing = named("journal-index").spawn(move || indexer.indexer.run())?;
        *threads.indexing.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(indexing);
        Ok(threads)
    }

    fn stop(&self) {
        // What was admitted needs no more than what is prepared already.
        self.shared.preparer.stop();
        self.shared.retirer.stop();
        self.shared.scrubber.stop();
        self.shared.cleaner.stop();
        self.shared.queue.close();
        let running =
            std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in running {
            if thread.join().is_err() {
                self.shared.poison("a thread of the journal panicked".into());
            }
        }
        self.shared.indexer.stop();
        let indexing = self.indexing.lock().unwrap_or_else(PoisonError::into_inner).take();
        if indexing.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the indexing thread panicked; the next start scans what it left");
        }
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Threads").finish_non_exhaustive()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
        self.shared.readers.stop();
    }
}

/// Cleans as the cleaner does: space may just be on its way, on another thread.
#[cfg(test)]
fn with_space<T>(clean: impl Fn() -> Result<T, CleanError>) -> Result<T, CleanError> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match clean() {
            Err(CleanError::NoSpace) if std::time::Instant::now() < deadline => thread::yield_now(),
            done => return done,
        }
    }
}

fn random_id() -> Result<JournalId, OpenError> {
    let mut id = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut id))
        .map_err(OpenError::io("draw a journal id"))?;
    Ok(JournalId(id))
}
