//! When something is to be done.

/// A tick, or never. Both in one number: as an `Option` of 64 bits each use would cost a Cortex-M0 a comparison more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due(u64);

impl Due {
    pub(super) const NEVER: Self = Self(u64::MAX);

    /// At a tick, which a counter that begins anew with each boot never brings to its end.
    pub(super) const fn at(tick: u64) -> Self {
        Self(tick)
    }

    pub(super) const fn is_past(self, now: u64) -> bool {
        self.0 <= now
    }

    pub(super) fn is_never(self) -> bool {
        self == Self::NEVER
    }

    pub(super) fn tick(self) -> Option<u64> {
        (!self.is_never()).then_some(self.0)
    }
}
