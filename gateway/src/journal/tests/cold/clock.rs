//! A clock that moves when it is told to.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::journal::{ClockQuality, Moment};

#[derive(Debug, Default)]
pub(super) struct Clock {
    ms: AtomicU64,
}

impl Clock {
    pub(super) fn pass(&self, ms: u64) {
        self.ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl crate::journal::Clock for Clock {
    fn now(&self) -> Moment {
        let monotonic_ms = self.ms.load(Ordering::Relaxed);
        let unix_ms = 1_800_000_000_000 + monotonic_ms.cast_signed();
        Moment { unix_ms, quality: ClockQuality::Unknown, monotonic_ms }
    }
}
