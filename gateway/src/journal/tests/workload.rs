//! What is done to a journal in the crash tests: steps, carried out with the model kept alongside.
//!
//! A new feature of the journal gets a variant of [`Step`] with one arm in [`Run::take`], and workloads in
//! `workloads.rs` that use it; the drivers need not know.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};

use super::{
    disk::{Cut, Event, MemoryDisk, Random},
    model::{Model, random_append, random_transactional_append},
    support::{admit, batch, block_on, fact, next_append, small_options},
};
use crate::{
    journal::{
        AdmitError, Append, Clock, ClockQuality, Fact, Journal, JournalOptions, Moment, Offset,
        PartitionId, State, open,
    },
    record::Batch,
};

/// A name and what is done.
pub(super) type Workload = (&'static str, &'static [Step]);

/// One thing that is done to the journal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Slices of at most so many bytes of a state of at most so many, in segments of 128 KiB.
    Slices(usize, usize),
    /// Opens; everything acknowledged has to be there.
    Open,
    /// Closes in order.
    Close,
    /// The process goes, the page cache stays. Opens again.
    Kill,
    /// The power goes. Opens again.
    PowerCut(Cut),
    /// Random appends one after the other, with values up to so many bytes.
    Appends(usize, usize),
    /// Random appends with transactions among them.
    Transactions(usize, usize),
    /// Random appends, all queued before the first one is waited for.
    Burst(usize, usize),
    /// One batch of one record of so many bytes in a partition.
    Batch(u32, usize),
    /// The largest append there may be.
    Largest,
    /// A batch of so many bytes; while its sync takes its time, nobody may see it.
    Held(usize),
    /// Sets a fact to a value of so many bytes.
    Set(u8, usize),
    /// Deletes a fact.
    Delete(u8),
    /// One append of a batch and the fact that belongs to it, so many times.
    BatchesWithFact(usize, u8),
    /// Moves a partition's log start to so many offsets before its end.
    LogStart(u32, i64),
    /// A batch of an idempotent producer.
    Produce { producer: i64, epoch: i16, sequence: i32 },
    /// A partition is deleted.
    Forget(u32),
    /// A budget of so many segments of 64 KiB.
    Budget(u64),
    /// What may leave the log does.
    RetireAny,
    /// So many hours pass.
    Hours(u64),
    /// The disk has room for so many bytes.
    Capacity(u64),
    /// The disk has room without end.
    Unlimited,
    /// Appends until the disk is full.
    Fill,
    /// Appends until another segment is begun.
    Roll,
}

/// A journal, its disk and its model.
pub(super) struct Run {
    pub(super) disk: MemoryDisk,
    pub(super) options: JournalOptions,
    pub(super) model: Model,
    clock: Arc<SetClock>,
    journal: Option<Journal>,
    random: Random,
}

/// A clock that moves when it is told to.
#[derive(Debug, Default)]
struct SetClock {
    ms: AtomicU64,
}

impl Clock for SetClock {
    fn now(&self) -> Moment {
        let monotonic_ms = self.ms.load(Ordering::Relaxed);
        let unix_ms = 1_800_000_000_000 + monotonic_ms.cast_signed();
        Moment { unix_ms, quality: ClockQuality::Unknown, monotonic_ms }
    }
}

const HOUR_MS: u64 = 60 * 60 * 1000;
const DEADLINE: Duration = Duration::from_secs(30);

impl Run {
    /// A journal that goes on from what a disk holds.
    pub(super) fn on(disk: MemoryDisk, model: Model, seed: u64) -> Self {
        let clock = Arc::<SetClock>::default();
        let options = JournalOptions { clock: clock.clone(), ..small_options() };
        Self { disk, options, model, clock, journal: None, random: Random(seed) }
    }

    /// Goes on with a journal that is open already.
    pub(super) fn with_open(mut self, journal: Journal, state: &State) -> Self {
        self.model.reopened(state);
        self.journal = Some(journal);
        self
    }

    /// Carries out a workload on an empty disk.
    pub(super) fn record((name, steps): Workload) -> Self {
        let seed = u64::from(crc32c::crc32c(name.as_bytes()));
        let mut run = Self::on(MemoryDisk::default(), Model::new(), seed);
        for step in steps {
            run.take(*step);
        }
        run
    }

    /// Options for recovering an image of this run: time has not gone on.
    pub(super) fn recovery_options(&self) -> JournalOptions {
        JournalOptions { clock: Arc::new(SetClock::default()), ..self.options.clone() }
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Slices(bytes, state_max_bytes) => {
                self.options.slice_bytes = bytes;
                self.options.state_max_bytes = Some(state_max_bytes);
                self.options.segment_bytes = Some(128 << 10);
            }
            Step::Open => self.open(),
            Step::Close => {
                let journal = self.journal.take().expect("an open journal");
                journal.close().unwrap();
            }
            Step::Kill => self.restart(None),
            Step::PowerCut(cut) => self.restart(Some(cut)),
            Step::Appends(count, largest) => {
                for _ in 0..count {
                    let append = random_append(self.model.last(), &mut self.random, largest);
                    self.append(append);
                }
            }
            Step::Transactions(count, largest) => {
                for _ in 0..count {
                    let state = self.model.last();
                    let append = random_transactional_append(state, &mut self.random, largest);
                    self.append(append);
                }
            }
            Step::Burst(count, largest) => self.burst(count, largest),
            Step::Batch(partition, bytes) => self.one(&[(partition, self.value(bytes))], &[]),
            Step::Largest => {
                let limit = self.journal().max_append_bytes();
                let overhead = Append::batch_len(batch(&[&[0; 20_000]]).len()) - 20_000;
                self.one(&[(0, self.value(limit - overhead - 8))], &[]);
            }
            Step::Held(bytes) => self.held(bytes),
            Step::Set(key, bytes) => self.one(&[], &[fact(&[key], Some(&vec![key; bytes]))]),
            Step::Delete(key) => self.one(&[], &[fact(&[key], None)]),
            Step::BatchesWithFact(count, key) => {
                for n in 0..count {
                    let value = (n as u64).to_be_bytes();
                    self.one(&[(1, batch(&[&value]))], &[fact(&[key], Some(&value))]);
                }
            }
            Step::LogStart(partition, before_end) => {
                let partition = PartitionId(partition);
                let end = self.model.last().partition(partition).log_end.0;
                self.one(&[], &[Fact::log_start(partition, Offset((end - before_end).max(0)))]);
            }
            Step::Forget(partition) => {
                self.one(&[], &[Fact::forget_partition(PartitionId(partition))]);
            }
            Step::Budget(segments) => self.options.max_bytes = Some(segments * (64 << 10)),
            Step::RetireAny => self.retire(),
            Step::Produce { producer, epoch, sequence } => {
                let batch = batch(&[b"idempotent"]).with_producer(producer, epoch, sequence);
                self.one(&[(2, batch.unwrap())], &[]);
            }
            Step::Hours(hours) => {
                self.clock.ms.fetch_add(hours * HOUR_MS, Ordering::Relaxed);
            }
            Step::Capacity(bytes) => self.disk.set_capacity(Some(bytes)),
            Step::Unlimited => self.disk.set_capacity(None),
            Step::Fill => self.fill(),
            Step::Roll => {
                let segments = self.journal().status().segments;
                while self.journal().status().segments == segments {
                    self.one(&[(3, self.value(9000))], &[]);
                }
            }
        }
    }

    fn journal(&self) -> &Journal {
        self.journal.as_ref().expect("the workload opens first")
    }

    fn open(&mut self) {
        let (journal, state) = open(self.disk.clone(), &self.options).unwrap();
        self.model.check(&journal, &state, self.model.len());
        self.model.reopened(&state);
        self.journal = Some(journal);
    }

    fn restart(&mut self, cut: Option<Cut>) {
        self.disk = self.disk.restarted(cut);
        self.journal = None;
        self.open();
    }

    fn value(&self, bytes: usize) -> Batch {
        batch(&[&vec![self.model.len() as u8; bytes]])
    }

    fn one(&mut self, batches: &[(u32, Batch)], facts: &[Fact]) {
        let append = next_append(self.model.last(), batches, facts);
        self.append(append);
    }

    fn append(&mut self, append: Append) {
        let permit = admit(self.journal(), append.encoded_len());
        self.model.push_at(append.clone(), self.journal().open_ms());
        block_on(self.journal().append(permit, append)).unwrap();
        self.disk.note(Event::Acked(self.model.len()));
    }

    fn held(&mut self, bytes: usize) {
        const P: PartitionId = PartitionId(0);
        let append = next_append(self.model.last(), &[(P.0, self.value(bytes))], &[]);
        let permit = admit(self.journal(), append.encoded_len());
        let end = self.journal().durable_end(P);
        assert_eq!(end, self.model.last().partition(P).log_end);
        self.disk.hold_syncs();
        self.model.push_at(append.clone(), self.journal().open_ms());
        let mut ticket = pin!(self.journal().append(permit, append));
        self.disk.until_a_sync_waits();
        let context = &mut Context::from_waker(Waker::noop());
        let pending = ticket.as_mut().poll(context).is_pending();
        let seen = self.journal().durable_end(P);
        // Before anything can fail: the journal ends only when its writer does.
        self.disk.let_syncs_go();
        assert!(pending, "acknowledged before its sync");
        assert_eq!(seen, end, "seen before its sync");
        block_on(ticket).unwrap();
        self.disk.note(Event::Acked(self.model.len()));
    }

    fn burst(&mut self, count: usize, largest: usize) {
        let mut tickets = Vec::new();
        // Some gather behind the first one, however fast the disk is. Large ones may need the writer to go on.
        if largest <= 100 {
            self.disk.hold_syncs();
        }
        for n in 0..count {
            if n == 4 {
                self.disk.let_syncs_go();
            }
            let append = random_append(self.model.last(), &mut self.random, largest);
            let permit = admit(self.journal(), append.encoded_len());
            self.model.push_at(append.clone(), self.journal().open_ms());
            tickets.push(self.journal().append(permit, append));
        }
        self.disk.let_syncs_go();
        for ticket in tickets {
            block_on(ticket).unwrap();
        }
        self.disk.note(Event::Acked(self.model.len()));
    }

    /// Until no thread of the journal holds on to what left the log.
    fn retire(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.journal().retire().unwrap();
            if self.journal().status().pinned_segments == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "a segment stays pinned");
            std::thread::yield_now();
        }
    }

    fn fill(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        let value = self.value(3000);
        let bytes = Append::batch_len(value.len());
        let mut refused = None;
        loop {
            assert!(Instant::now() < deadline, "the disk does not get full");
            match self.journal().admit(bytes) {
                Ok(permit) => {
                    drop(permit);
                    self.one(&[(0, value.clone())], &[]);
                    refused = None;
                }
                // Two more refusals from now on: the next segment is not just on its way.
                Err(AdmitError::Full) => {
                    let enough = *refused.get_or_insert(self.disk.refused() + 2);
                    if self.disk.refused() >= enough {
                        return;
                    }
                    std::thread::yield_now();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}
