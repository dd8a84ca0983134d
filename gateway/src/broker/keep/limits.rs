//! What retention takes of a partition. No clock, no file: everything is passed in.

use crate::{broker::TopicSettings, journal::Offset};

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// First offset still there.
    pub(super) start: Offset,
    /// One past the last durable offset before the first open transaction.
    pub(super) stable: Offset,
    /// What the centre does not hold begins here, where that matters.
    pub(super) protected_from: Option<Offset>,
    /// Everything below is older than `retention.ms`, if there is such a limit.
    pub(super) young_from: Option<Offset>,
    /// From here on a partition has `retention.bytes`, if there is such a limit.
    pub(super) fits_from: Option<Offset>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The log start moves here.
    pub(super) start: Option<Offset>,
    /// More would go, but the centre does not hold it.
    pub(super) is_held_back: bool,
}

impl View {
    /// How far the log start may go, whatever asks for it.
    pub(super) fn limit(&self) -> Offset {
        self.protected_from.map_or(self.stable, |protected| protected.min(self.stable))
    }

    pub(super) fn retain(&self) -> Verdict {
        let wanted = self.young_from.max(self.fits_from).unwrap_or(self.start);
        let unprotected = wanted.min(self.stable);
        let start = wanted.min(self.limit());
        Verdict {
            start: (start > self.start).then_some(start),
            is_held_back: unprotected > self.start.max(start),
        }
    }
}

/// Whether retention looks at a topic at all: Kafka's rule that a topic which is only compacted keeps its keys.
pub(super) fn applies(settings: &TopicSettings) -> bool {
    let limited = settings.retention_ms.is_some() || settings.retention_bytes.is_some();
    settings.cleanup.delete && limited
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_start_goes_as_far_as_the_limits_and_no_further() {
        // start, stable, protected, young, fits -> new start, held back
        let none = None::<i64>;
        for (start, stable, protected, young, fits, expect) in [
            (0, 100, none, none, none, (none, false)),
            (0, 100, none, Some(40), none, (Some(40), false)),
            (0, 100, none, none, Some(30), (Some(30), false)),
            (0, 100, none, Some(40), Some(60), (Some(60), false)),
            (50, 100, none, Some(40), Some(50), (none, false)),
            // All of it is old; the open transaction stays.
            (0, 80, none, Some(100), none, (Some(80), false)),
            (0, 100, Some(20), Some(40), none, (Some(20), true)),
            (0, 100, Some(0), Some(40), none, (none, true)),
            (0, 100, Some(40), Some(40), none, (Some(40), false)),
            (0, 100, Some(90), Some(40), none, (Some(40), false)),
            // The centre has less than was deleted here already.
            (50, 100, Some(10), Some(40), none, (none, false)),
            (50, 100, Some(10), Some(60), none, (none, true)),
            // The centre holds more than is stable, by its own account.
            (0, 30, Some(90), Some(100), none, (Some(30), false)),
        ] {
            let view = View {
                start: Offset(start),
                stable: Offset(stable),
                protected_from: protected.map(Offset),
                young_from: young.map(Offset),
                fits_from: fits.map(Offset),
            };
            let found = view.retain();
            let found = (found.start.map(|start| start.0), found.is_held_back);
            assert_eq!(found, expect, "{view:?}");
        }
    }
}
