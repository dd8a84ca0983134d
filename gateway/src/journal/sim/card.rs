//! An SD card's time: how long each operation takes, drawn from a seed.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::Random;

/// Rates and latencies of a medium.
#[derive(Clone, Copy, Debug)]
pub struct CardTiming {
    /// Bytes a second to the medium.
    pub write_bytes_per_s: u64,
    /// Bytes a second from the medium.
    pub read_bytes_per_s: u64,
    /// Median of a sync beside the bytes that it writes.
    pub sync_p50: Duration,
    /// 99th percentile of it.
    pub sync_p99: Duration,
    /// Requests a second.
    pub requests_per_s: u64,
}

impl CardTiming {
    /// A plain card of class 10 that is no longer new.
    pub const CARD: Self = Self {
        write_bytes_per_s: 8_000_000,
        read_bytes_per_s: 20_000_000,
        sync_p50: Duration::from_millis(20),
        sync_p99: Duration::from_millis(500),
        requests_per_s: 1500,
    };

    /// A latency of the log-normal distribution through both percentiles.
    pub(super) fn sync_latency(&self, random: &mut Random) -> Duration {
        // Twelve uniform numbers add up to a normal one.
        let sum: f64 = (0..12).map(|_| random.below(1 << 32) as f64 / (1u64 << 32) as f64).sum();
        let ratio = self.sync_p99.as_secs_f64() / self.sync_p50.as_secs_f64();
        let factor = (ratio.ln() / NORMAL_P99 * (sum - 6.0)).exp();
        self.sync_p50.mul_f64(factor).min(LONGEST)
    }
}

/// Where the standard normal distribution has its 99th percentile.
const NORMAL_P99: f64 = 2.326_348;
/// No card that still works takes longer.
const LONGEST: Duration = Duration::from_secs(3);
/// Read at once: what the kernel reads ahead.
const READ_AHEAD_BYTES: u64 = 128 * 1024;

/// One medium with one queue.
#[derive(Debug)]
pub(super) struct Card {
    timing: CardTiming,
    random: Random,
    free_at: Instant,
    /// All that it took so far.
    worked: Duration,
    /// Bytes of each file that wait for its sync.
    dirty: Vec<(u64, u64)>,
    /// Parts of files that are in the page cache.
    cached: HashSet<(u64, u64)>,
}

impl Card {
    pub(super) fn new(timing: CardTiming, seed: u64) -> Self {
        Self {
            timing,
            random: Random(seed),
            free_at: Instant::now(),
            worked: Duration::ZERO,
            dirty: Vec::new(),
            cached: HashSet::new(),
        }
    }

    /// Time that its operations took so far, without the waiting for each other.
    pub(super) fn worked(&self) -> Duration {
        self.worked
    }

    /// When a read will be done; none if the page cache has it.
    pub(super) fn read(&mut self, inode: u64, at: u64, length: u64) -> Option<Instant> {
        let parts = at / READ_AHEAD_BYTES..=(at + length.max(1) - 1) / READ_AHEAD_BYTES;
        let cold = parts.filter(|&part| self.cached.insert((inode, part))).count() as u64;
        (cold > 0).then(|| {
            let bytes = cold * READ_AHEAD_BYTES;
            self.busy(cold, bytes, self.timing.read_bytes_per_s, Duration::ZERO)
        })
    }

    /// Notes what a sync will have to write.
    pub(super) fn write(&mut self, inode: u64, at: u64, length: u64) {
        let parts = at / READ_AHEAD_BYTES..=(at + length.max(1) - 1) / READ_AHEAD_BYTES;
        self.cached.extend(parts.map(|part| (inode, part)));
        match self.dirty.iter_mut().find(|(known, _)| *known == inode) {
            Some((_, bytes)) => *bytes += length,
            None => self.dirty.push((inode, length)),
        }
    }

    /// When a file's or a folder's sync will be done.
    pub(super) fn sync(&mut self, inode: Option<u64>) -> Instant {
        let dirty = self.dirty.iter().position(|(known, _)| Some(*known) == inode);
        let bytes = dirty.map_or(0, |slot| self.dirty.swap_remove(slot).1);
        let latency = self.timing.sync_latency(&mut self.random);
        self.busy(1 + bytes / READ_AHEAD_BYTES, bytes, self.timing.write_bytes_per_s, latency)
    }

    fn busy(&mut self, requests: u64, bytes: u64, rate: u64, latency: Duration) -> Instant {
        let transfer = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let requests = Duration::from_secs_f64(requests as f64 / self.timing.requests_per_s as f64);
        let takes = latency + transfer.max(requests);
        self.worked += takes;
        self.free_at = self.free_at.max(Instant::now()) + takes;
        self.free_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_their_percentiles() {
        let mut random = Random(1);
        let mut drawn: Vec<_> =
            (0..10_000).map(|_| CardTiming::CARD.sync_latency(&mut random)).collect();
        drawn.sort();
        let within = |found: Duration, wanted: u64| {
            let found = found.as_millis() as u64;
            assert!((wanted * 8 / 10..=wanted * 12 / 10).contains(&found), "{found} ms");
        };
        within(drawn[5000], 20);
        within(drawn[9900], 500);
    }

    #[test]
    fn one_queue_at_the_medium_s_rate() {
        let timing = CardTiming {
            sync_p50: Duration::from_nanos(1),
            sync_p99: Duration::from_nanos(2),
            ..CardTiming::CARD
        };
        let mut card = Card::new(timing, 1);
        let began = Instant::now();
        card.write(1, 0, 8_000_000);
        assert!(card.sync(Some(1)).duration_since(began) >= Duration::from_secs(1));
        assert!(card.worked() >= Duration::from_secs(1));
        // The queue: a cold read waits for the sync, what was written is not read from the medium.
        assert!(card.read(2, 0, 10).unwrap().duration_since(began) > Duration::from_secs(1));
        assert!(card.read(1, 4096, 4096).is_none());
        assert!(card.read(2, 4096, 10).is_none(), "read ahead");
    }
}
