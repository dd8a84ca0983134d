//! What goes wrong with simulated devices, by their seed: damaged bytes, cut lines, resets, erased memories.

use std::time::Duration;

use tokio::time::Instant;

use crate::random::Random;

/// How much goes wrong; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Share of the bits on the line that are hit, in both directions: most are flipped, some take their byte with them, or
    /// bring another one.
    pub bit_errors: f64,
    /// Mean time between cuts of a device's line.
    pub cuts: Option<Duration>,
    /// Mean time between a device's resets: what is in its RAM is lost.
    pub resets: Option<Duration>,
    /// Share of the resets that erase the device's memory, too.
    pub erasures: f64,
}

/// The faults of one device.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    faults: Faults,
    random: Random,
    cut_at: Option<Instant>,
    reset_at: Option<Instant>,
}

impl Fate {
    pub(crate) fn new(faults: Faults, seed: u64, number: u64, now: Instant) -> Self {
        let random = Random::new(seed ^ 0x0066_6175_6c74_7300, number);
        let mut this = Self { faults, random, cut_at: None, reset_at: None };
        this.cut_at = this.after(now, faults.cuts);
        this.reset_at = this.after(now, faults.resets);
        this
    }

    /// When something is to happen if nothing else does.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.cut_at.into_iter().chain(self.reset_at).min()
    }

    /// Whether the line is cut now.
    pub(crate) fn cuts(&mut self, now: Instant) -> bool {
        let is_due = self.cut_at.is_some_and(|at| at <= now);
        if is_due {
            self.cut_at = self.after(now, self.faults.cuts);
        }
        is_due
    }

    /// Whether the device resets now.
    pub(crate) fn resets(&self, now: Instant) -> bool {
        self.reset_at.is_some_and(|at| at <= now)
    }

    /// Nothing more happens but damage on the line: sampling is over, and what is queued shall arrive.
    pub(crate) fn rest(&mut self) {
        (self.cut_at, self.reset_at) = (None, None);
    }

    /// After a reset; whether it took the memory, too.
    pub(crate) fn erases(&mut self, now: Instant) -> bool {
        self.reset_at = self.after(now, self.faults.resets);
        self.random.unit() < self.faults.erasures
    }

    /// Bytes as the line carries them.
    pub(crate) fn carry(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut carried = Vec::with_capacity(bytes.len() + 1);
        if self.faults.bit_errors <= 0.0 {
            carried.extend_from_slice(bytes);
            return carried;
        }
        // Of the eight bits of a byte at most one is hit: at the rates of a line two are not worth the draws.
        let share = (self.faults.bit_errors * 8.0).min(1.0);
        for &byte in bytes {
            if self.random.unit() >= share {
                carried.push(byte);
                continue;
            }
            let draw = self.random.next_u64();
            match draw >> 8 & 7 {
                0 => {}
                1 => carried.extend([byte, (draw >> 16) as u8]),
                _ => carried.push(byte ^ (1 << (draw & 7))),
            }
        }
        carried
    }

    /// An instant that is `mean` away on average.
    fn after(&mut self, now: Instant, mean: Option<Duration>) -> Option<Instant> {
        let wait = mean?.mul_f64(-(1.0 - self.random.unit()).ln());
        Some(now + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_has_its_rate_and_repeats_by_its_seed() {
        let faults = Faults { bit_errors: 1e-3, ..Faults::default() };
        let bytes = vec![0x55; 100_000];
        let carry = |number| Fate::new(faults, 1, number, Instant::now()).carry(&bytes);
        assert_eq!(carry(1), carry(1));
        assert_ne!(carry(1), carry(2));
        let intact = carry(1).iter().filter(|byte| **byte == 0x55).count();
        assert!((98_900..99_500).contains(&intact), "{intact}");
        assert_eq!(Fate::new(Faults::default(), 1, 1, Instant::now()).carry(&bytes), bytes);
    }

    #[test]
    fn cuts_and_resets_come_at_their_mean_until_the_end() {
        let second = Some(Duration::from_secs(1));
        let faults = Faults { cuts: second, resets: second, erasures: 0.5, ..Faults::default() };
        let mut now = Instant::now();
        let mut fate = Fate::new(faults, 1, 1, now);
        let (mut cuts, mut resets, mut erasures) = (0, 0, 0);
        for _ in 0..100_000 {
            now += Duration::from_millis(10);
            cuts += u32::from(fate.cuts(now));
            if fate.resets(now) {
                resets += 1;
                erasures += u32::from(fate.erases(now));
            }
        }
        for (count, expected) in [(cuts, 1000), (resets, 1000), (erasures, 500)] {
            assert!((expected - 150..expected + 150).contains(&count), "{count} for {expected}");
        }
        fate.rest();
        assert_eq!(fate.next(), None);
    }
}
