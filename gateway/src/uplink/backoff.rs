//! How long to wait before the next attempt.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use super::centre::Severity;

/// First and longest wait after an error of the line or the cluster. The longest bounds how late
/// the backlog starts to move once the line is back.
const TRANSIENT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));
/// First and longest wait when another process took over, or the centre refuses.
const REFUSED: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// Counts failed attempts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Notes a failure and gives the wait: doubled from the last, of which `jitter` (0 to 1) takes
    /// away up to half, so that the gateways of a site do not come back in step.
    pub(super) fn after(&mut self, severity: Severity, jitter: f64) -> Duration {
        let (first, longest) = match severity {
            Severity::Transient => TRANSIENT,
            Severity::Fenced | Severity::Refused => REFUSED,
        };
        let wait = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0))
    }

    /// Notes a success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A number from 0 to 1 that differs between processes; for jitter only.
pub(super) fn jitter() -> f64 {
    f64::from(RandomState::new().hash_one(0_u8) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> =
            (0..10).map(|_| backoff.after(Severity::Transient, 0.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000]);
        backoff.reset();
        assert_eq!(backoff.after(Severity::Transient, 1.0).as_millis(), 50);
        assert_eq!(backoff.after(Severity::Refused, 0.0).as_secs(), 10);
        for _ in 0..100 {
            assert!(backoff.after(Severity::Fenced, jitter()).as_secs() <= 60);
        }
    }
}
