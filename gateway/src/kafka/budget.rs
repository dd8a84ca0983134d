//! The memory that all connections together may hold in requests.
//!
//! Whoever needs more than is left waits without reading its socket, so TCP carries the
//! back-pressure to the client.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Granularity of the accounting.
const UNIT_BYTES: usize = 1024;

/// A shared allowance in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    free_units: Arc<Semaphore>,
    total_units: usize,
    waiting: Arc<AtomicUsize>,
}

/// What one request holds of the budget; given back on drop.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// An allowance of so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let total_units = bytes.div_ceil(UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self {
            free_units: Arc::new(Semaphore::new(total_units)),
            total_units,
            waiting: Arc::default(),
        }
    }

    /// Bytes nobody holds.
    #[cfg(test)]
    pub(crate) fn free_bytes(&self) -> usize {
        self.free_units.available_permits() * UNIT_BYTES
    }

    /// Whether somebody waits for memory.
    pub(crate) fn is_contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Raises a charge to `bytes` (at most everything there is), waiting until that is free;
    /// cancel-safe.
    pub(crate) async fn raise(&self, charge: &mut Charge, bytes: usize) {
        let missing = self.missing(charge, bytes);
        if missing == 0 || self.take(charge, missing) {
            return;
        }
        let _waiting = Waiting::new(&self.waiting);
        if let Ok(more) = Arc::clone(&self.free_units).acquire_many_owned(missing).await {
            charge.add(more);
        }
    }

    /// Raises a charge to `bytes` if that is free now; says whether it holds them.
    pub(crate) fn try_raise(&self, charge: &mut Charge, bytes: usize) -> bool {
        let missing = self.missing(charge, bytes);
        missing == 0 || self.take(charge, missing)
    }

    fn take(&self, charge: &mut Charge, units: u32) -> bool {
        match Arc::clone(&self.free_units).try_acquire_many_owned(units) {
            Ok(more) => {
                charge.add(more);
                true
            }
            Err(_) => false,
        }
    }

    fn missing(&self, charge: &Charge, bytes: usize) -> u32 {
        let wanted = bytes.div_ceil(UNIT_BYTES).min(self.total_units);
        u32::try_from(wanted.saturating_sub(charge.units())).unwrap_or(u32::MAX)
    }
}

impl Charge {
    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.units() == 0
    }

    /// Gives back what lies above `bytes`.
    pub(crate) fn lower(&mut self, bytes: usize) {
        let keep = bytes.div_ceil(UNIT_BYTES);
        let surplus = self.units().saturating_sub(keep);
        if let Some(permit) = &mut self.permit {
            drop(permit.split(surplus));
        }
    }

    fn units(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    fn add(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
    }
}

/// Counts somebody as waiting for as long as it lives, also when the wait is cancelled.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_is_lent_and_given_back() {
        let budget = Budget::new(10 * UNIT_BYTES);
        let mut first = Charge::default();
        budget.raise(&mut first, 6 * UNIT_BYTES).await;
        assert_eq!(budget.free_bytes(), 4 * UNIT_BYTES);

        let mut second = Charge::default();
        assert!(!budget.try_raise(&mut second, 5 * UNIT_BYTES));
        assert!(budget.try_raise(&mut second, 4 * UNIT_BYTES));

        first.lower(UNIT_BYTES);
        assert_eq!(budget.free_bytes(), 5 * UNIT_BYTES);
        drop((first, second));
        assert_eq!(budget.free_bytes(), 10 * UNIT_BYTES);
    }

    #[tokio::test]
    async fn whoever_asks_for_more_than_is_left_waits() {
        let budget = Budget::new(4 * UNIT_BYTES);
        let mut first = Charge::default();
        budget.raise(&mut first, 4 * UNIT_BYTES).await;
        assert!(!budget.is_contended());

        let waiter = tokio::spawn({
            let budget = budget.clone();
            async move {
                let mut second = Charge::default();
                budget.raise(&mut second, 2 * UNIT_BYTES).await;
            }
        });
        while !budget.is_contended() {
            tokio::task::yield_now().await;
        }
        first.lower(2 * UNIT_BYTES);
        waiter.await.expect("the waiter ends");
        assert!(!budget.is_contended());
    }

    #[tokio::test]
    async fn a_request_larger_than_the_budget_takes_it_whole() {
        let budget = Budget::new(4 * UNIT_BYTES);
        let mut charge = Charge::default();
        budget.raise(&mut charge, 1 << 40).await;
        assert_eq!(budget.free_bytes(), 0);
    }
}
