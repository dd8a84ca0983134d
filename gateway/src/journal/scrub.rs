//! Reads what nobody reads, slowly, so that rot is known before somebody needs what it hit.
//!
//! Only segments that are not in use, and cold ones, from the medium and not from the page cache. Nothing is changed: what is found is
//! counted and logged, and reads of it answer with an error as they would have anyway.

use std::{
    io,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Position, ScrubStatus, cold,
    index::{Coverage, Findings},
    log::Readable,
    recovery::{ColdStep, End, Scanner, Step},
    shared::Shared,
};

/// Entries of a cold segment are small: so many bytes of them are one step.
const COLD_STEP_BYTES: u64 = 256 * 1024;

/// The thread that scrubs, and what it did.
#[derive(Debug, Default)]
pub(super) struct Scrubber {
    bytes: AtomicU64,
    passes: AtomicU64,
    damaged_ranges: AtomicU64,
    damaged_indexes: AtomicU64,
    stopping: Mutex<bool>,
    changed: Condvar,
}

/// How a segment was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// At its end, or because it is no longer part of the log.
    Done,
    /// The journal closes.
    Stopped,
}

impl Scrubber {
    /// Ends [`Scrubber::run`], at once.
    pub(super) fn stop(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    pub(super) fn status(&self) -> ScrubStatus {
        ScrubStatus {
            bytes: self.bytes.load(Ordering::Relaxed),
            passes: self.passes.load(Ordering::Relaxed),
            damaged_ranges: self.damaged_ranges.load(Ordering::Relaxed),
            damaged_indexes: self.damaged_indexes.load(Ordering::Relaxed),
        }
    }

    /// Makes pass after pass until stopped.
    pub(super) fn run(&self, shared: &Shared) {
        let settings = &shared.settings;
        let mut wait = settings.scrub_delay;
        while self.pause(wait) {
            let begun = Instant::now();
            if !self.pass(shared) {
                return;
            }
            self.passes.fetch_add(1, Ordering::Relaxed);
            wait = settings.scrub_interval.saturating_sub(begun.elapsed());
        }
    }

    /// One pass from the oldest segment to the newest that is not in use; false when told to stop.
    fn pass(&self, shared: &Shared) -> bool {
        // As they are when the pass begins: what is copied while it lasts is read again by the next one.
        let cold: Vec<_> = shared.log().cold().map(|cold| cold.first()).collect();
        for first in cold {
            let there = shared.log().readable(first).cloned();
            if there.is_some_and(|readable| self.look(shared, &readable) == Left::Stopped) {
                return false;
            }
        }
        let mut from = Position(0);
        loop {
            // Taken anew for each: what leaves the log meanwhile is no longer of interest.
            let Some(readable) = shared.log().left_at_or_after(from) else { return true };
            from = readable.segment.header.end();
            if self.look(shared, &readable) == Left::Stopped {
                return false;
            }
            self.index(shared, &readable);
        }
    }

    fn look(&self, shared: &Shared, readable: &Readable) -> Left {
        let segment = &readable.segment;
        let looked = if segment.header.first.is_cold() {
            self.cold(shared, readable)
        } else {
            self.segment(shared, readable)
        };
        looked.unwrap_or_else(|error| {
            let file = segment.file_name();
            tracing::warn!(%error, file, "the scrub cannot read this segment");
            Left::Done
        })
    }

    /// Reads a cold segment.
    fn cold(&self, shared: &Shared, readable: &Readable) -> io::Result<Left> {
        let segment = &readable.segment;
        segment.file.forget_cached(0, segment.header.length);
        if cold::index(segment, shared.seed, readable.end).is_err()
            && self.is_there(shared, readable)
        {
            self.damaged_indexes.fetch_add(1, Ordering::Relaxed);
        }
        let mut scanner = Scanner::new(segment, shared.seed, readable.end)?;
        let mut unread = 0;
        while let Some(step) = scanner.cold_step() {
            let (from, to, intact) = match step {
                ColdStep::Entry(entry) => (entry.position, scanner.position(), entry.intact),
                ColdStep::Damage { from, to } => (from, to, false),
            };
            if !intact {
                self.found(shared, readable, from, to.0 - from.0, "damaged range");
            }
            unread += to.0 - from.0;
            if unread >= COLD_STEP_BYTES {
                segment.file.forget_cached(segment.at(from), to.0 - from.0);
                if !self.read(shared, std::mem::take(&mut unread)) {
                    return Ok(Left::Stopped);
                }
                if !self.is_there(shared, readable) {
                    return Ok(Left::Done);
                }
            }
        }
        Ok(if self.read(shared, unread) { Left::Done } else { Left::Stopped })
    }

    /// Counts bytes, and waits as long as they take at the rate; false when told to stop.
    fn read(&self, shared: &Shared, bytes: u64) -> bool {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.pause(pace(bytes, shared.settings.scrub_bytes_per_s))
    }

    fn is_there(&self, shared: &Shared, readable: &Readable) -> bool {
        shared.log().readable(readable.segment.header.first).is_some()
    }

    /// Reads a segment; it is not used again as long as this holds it.
    fn segment(&self, shared: &Shared, readable: &Readable) -> io::Result<Left> {
        let segment = &readable.segment;
        let first = segment.header.first;
        let End::Known(end) = readable.end else { return Ok(Left::Done) };
        let file = &segment.file;
        // What is in memory proves nothing about the medium.
        file.forget_cached(0, end.0.saturating_sub(first.0));
        let mut scanner = Scanner::new(segment, shared.seed, readable.end)?;
        let mut crc = None;
        loop {
            let at = scanner.position();
            match scanner.step() {
                Step::Frame(frame) => {
                    if crc.is_some_and(|crc| crc != frame.header.previous_crc) {
                        self.found(shared, readable, at, 0, "frames before this are missing");
                    }
                    crc = Some(frame.crc);
                }
                Step::Damage(damage) => {
                    crc = None;
                    let length = damage.to.0 - damage.from.0;
                    self.found(shared, readable, damage.from, length, "damaged range");
                }
                Step::End(_) => return Ok(Left::Done),
            }
            let read = scanner.position().0 - at.0;
            file.forget_cached(segment.at(at), read);
            if !self.read(shared, read) {
                return Ok(Left::Stopped);
            }
            if !self.is_there(shared, readable) {
                return Ok(Left::Done);
            }
        }
    }

    fn found(
        &self,
        shared: &Shared,
        readable: &Readable,
        position: Position,
        length: u64,
        what: &str,
    ) {
        let segment = &readable.segment;
        if !self.is_there(shared, readable) || !shared.damage.note(position, length) {
            return;
        }
        self.damaged_ranges.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            file = segment.file_name(),
            at = segment.at(position),
            position = position.0,
            length,
            "rot: {what}; reads of it answer with an error"
        );
    }

    fn index(&self, shared: &Shared, readable: &Readable) {
        let mut found = Findings::default();
        let (disk, seed) = (shared.indexes.disk(), shared.seed);
        Coverage::find(disk, seed, &readable.segment, readable.end, 0, &mut found);
        if found.damaged + found.stale > 0 && self.is_there(shared, readable) {
            self.damaged_indexes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// False when told to stop.
    fn pause(&self, wait: Duration) -> bool {
        let (stopping, _) = self
            .changed
            .wait_timeout_while(self.lock(), wait, |stopping| !*stopping)
            .unwrap_or_else(PoisonError::into_inner);
        !*stopping
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to wait after so many bytes.
fn pace(bytes: u64, bytes_per_s: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / bytes_per_s.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Fact, Journal, JournalOptions, Offset, PartitionId, ReadError,
            disk::Disk,
            open,
            sim::SimDisk,
            tests::support::{append, batch, small_options},
        },
        *,
    };

    fn options(bytes_per_s: u64) -> JournalOptions {
        JournalOptions {
            scrub_bytes_per_s: bytes_per_s,
            scrub_delay: Duration::ZERO,
            scrub_interval: Duration::from_millis(1),
            tail_bytes: 0,
            ..small_options()
        }
    }

    fn filled(disk: &SimDisk) {
        let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
        while journal.status().segments < 4 {
            append(&journal, &mut state, &[(0, batch(&[&[7; 3000]]))], &[]).unwrap();
        }
        journal.close().unwrap();
    }

    fn until(journal: &Journal, reached: impl Fn(ScrubStatus) -> bool) -> ScrubStatus {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let status = journal.status().scrub;
            if reached(status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{status:?}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn rot_is_reported_before_a_reader_meets_it() {
        let disk = SimDisk::default();
        filled(&disk);
        let (journal, _) = open(disk.clone(), &options(u64::MAX)).unwrap();
        let first = until(&journal, |status| status.passes > 0);
        assert_eq!((first.damaged_ranges, journal.status().open_damage), (0, 0));
        assert!(first.bytes > 2 * 64 * 1024 - 4 * 4096, "{first:?}");

        // A bit flips in the middle of a sealed segment.
        let file = disk.open("journal/0000000000000002.seg").unwrap();
        let mut byte = [0];
        file.read_at(&mut byte, 17_384).unwrap();
        file.write_at(&[byte[0] ^ 4], 17_384).unwrap();
        until(&journal, |status| status.damaged_ranges > 0);
        let passes = journal.status().scrub.passes;
        let later = until(&journal, |status| status.passes > passes + 2);
        assert_eq!(later.damaged_ranges, 1, "one range is counted once");
        assert_eq!(journal.status().open_damage, 1);
        assert!(journal.status().open_damage_bytes >= 4096);

        let end = journal.durable_end(PartitionId(0)).0;
        let read = |offset| journal.read(PartitionId(0), Offset(offset), 1);
        let refused = (0..end).filter(|&it| matches!(read(it), Err(ReadError::Damaged { .. })));
        assert_eq!(refused.count(), 1, "everything else is served");
    }

    #[test]
    fn rot_of_a_cold_segment_is_reported_until_the_segment_goes() {
        let disk = SimDisk::default();
        filled(&disk);
        let (journal, mut state) = open(disk.clone(), &options(u64::MAX)).unwrap();
        append(&journal, &mut state, &[(1, batch(&[b"stays"]))], &[]).unwrap();
        while journal.status().segments < 8 {
            append(&journal, &mut state, &[(0, batch(&[&[7; 3000]]))], &[]).unwrap();
        }
        journal.clean_oldest().unwrap().unwrap();
        let clean = until(&journal, |status| status.passes > 0);
        assert_eq!((clean.damaged_ranges, clean.damaged_indexes), (0, 0));
        let file = disk.open("cold/0000000000000001.cold").unwrap();
        let mut byte = [0];
        file.read_at(&mut byte, 6000).unwrap();
        file.write_at(&[byte[0] ^ 4], 6000).unwrap();
        until(&journal, |status| status.damaged_ranges > 0);
        assert_eq!(journal.status().open_damage, 1);
        // Nobody misses what is below the log start, and the file goes with it.
        let end = state.partition(PartitionId(0)).log_end;
        let starts = [(0, end), (1, Offset(1))];
        let starts = starts.map(|(id, start)| Fact::log_start(PartitionId(id), start));
        append(&journal, &mut state, &[], &starts).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while journal.status().open_damage > 0 {
            journal.retire().unwrap();
            assert!(Instant::now() < deadline, "{:?}", journal.status());
        }
        assert_eq!(journal.status().cold_segments, 0);
    }

    #[test]
    fn a_close_does_not_wait_for_a_scrub_and_a_rate_is_kept() {
        let disk = SimDisk::default();
        filled(&disk);
        // A frame takes minutes at this rate.
        let (journal, _) = open(disk, &options(16)).unwrap();
        until(&journal, |status| status.bytes > 0);
        let begun = Instant::now();
        journal.close().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20));
        let status = journal.status().scrub;
        assert!(status.passes == 0 && status.bytes < 64 * 1024, "{status:?}");
        assert_eq!(pace(3 << 20, 1 << 20), Duration::from_secs(3));
    }
}
