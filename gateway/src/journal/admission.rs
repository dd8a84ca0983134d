//! Admission: space is set aside before anything is assigned, against files that already have it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{AdmitError, format::FrameHeader};

/// Space that was set aside for one append. Dropping it gives the space back.
#[derive(Debug)]
#[must_use = "a permit that is dropped gives its space back"]
pub struct Permit {
    ledger: Arc<Ledger>,
    /// Encoded entries that it is for.
    bytes: usize,
    /// A frame of its own would take so much; 0 once the queue has taken it over.
    reserved: u64,
}

/// What is free in the segment in use and in those prepared, and what of it is spoken for.
#[derive(Debug)]
pub(super) struct Ledger {
    max_append_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Left in the segment in use, what its snapshot still needs taken off.
    current: u64,
    /// Usable in each prepared segment.
    prepared: VecDeque<u64>,
    /// Set aside, by permits and by queued appends.
    reserved: u64,
    /// Largest single one of them since nothing was set aside: what the end of a segment may waste.
    largest: u64,
}

impl Ledger {
    /// `held` is set aside from the start, for the frame of the opening.
    pub(super) fn new(max_append_bytes: usize, held: u64) -> Arc<Self> {
        let inner = Inner { reserved: held, largest: held, ..Inner::default() };
        Arc::new(Self { max_append_bytes, inner: Mutex::new(inner) })
    }

    /// Sets space aside. Every append is reckoned as a frame of its own, and every switch to a
    /// prepared segment as wasting the largest append: whatever the order, it will fit.
    pub(super) fn admit(self: &Arc<Self>, bytes: usize) -> Result<Permit, AdmitError> {
        if bytes > self.max_append_bytes {
            return Err(AdmitError::TooLarge { bytes, limit: self.max_append_bytes });
        }
        let wanted = FrameHeader::length_for(bytes);
        let mut inner = self.lock();
        let largest = inner.largest.max(wanted);
        if inner.reserved + wanted > inner.certain(largest) {
            return Err(AdmitError::Full);
        }
        inner.reserved += wanted;
        inner.largest = largest;
        drop(inner);
        Ok(Permit { ledger: Arc::clone(self), bytes, reserved: wanted })
    }

    /// A prepared segment is ready.
    pub(super) fn prepared(&self, usable: u64) {
        self.lock().prepared.push_back(usable);
    }

    /// The writer took the oldest prepared segment into use.
    pub(super) fn rolled(&self, current: u64) {
        let mut inner = self.lock();
        inner.prepared.pop_front();
        inner.current = current;
    }

    /// A frame was written: what is left now, and what its appends had set aside.
    pub(super) fn spent(&self, current: u64, reserved: u64) {
        let mut inner = self.lock();
        inner.current = current;
        inner.release(reserved);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Space that appends of at most this size will find, whatever their order: each segment but the last may
    /// end with less than one of them unused, and no segment can waste more than it has.
    fn certain(&self, largest: u64) -> u64 {
        let segments = std::iter::once(self.current).chain(self.prepared.iter().copied());
        let wasted = |space: u64| space.min(largest);
        let left: u64 = segments.map(|space| space - wasted(space)).sum();
        left + wasted(*self.prepared.back().unwrap_or(&self.current))
    }

    fn release(&mut self, reserved: u64) {
        self.reserved -= reserved;
        if self.reserved == 0 {
            self.largest = 0;
        }
    }
}

impl Permit {
    /// Hands the space over to the queue. An append that is larger than what was asked for takes the
    /// difference without asking: too late to refuse.
    pub(super) fn redeem(mut self, bytes: usize) -> u64 {
        debug_assert!(bytes <= self.bytes, "asked for {} bytes, appended {bytes}", self.bytes);
        let reserved = std::mem::take(&mut self.reserved);
        let needed = FrameHeader::length_for(bytes);
        if needed <= reserved {
            return reserved;
        }
        let mut inner = self.ledger.lock();
        inner.reserved += needed - reserved;
        inner.largest = inner.largest.max(needed);
        needed
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.reserved > 0 {
            self.ledger.lock().release(self.reserved);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 4096;

    fn ledger(current_blocks: u64) -> Arc<Ledger> {
        let ledger = Ledger::new(100_000, 0);
        ledger.prepared(0);
        ledger.rolled(current_blocks * BLOCK);
        ledger
    }

    fn is_full(result: &Result<Permit, AdmitError>) -> bool {
        matches!(result, Err(AdmitError::Full))
    }

    #[test]
    fn a_permit_holds_whole_blocks_until_it_is_dropped() {
        let ledger = ledger(3);
        let first = ledger.admit(1).unwrap();
        let second = ledger.admit(4096 - 64).unwrap();
        let third = ledger.admit(1).unwrap();
        assert!(is_full(&ledger.admit(1)));
        drop(second);
        assert!(is_full(&ledger.admit(4096 - 63)), "two blocks");
        let _again = ledger.admit(1).unwrap();
        drop((first, third));
    }

    #[test]
    fn what_is_written_is_no_longer_reserved() {
        let ledger = ledger(2);
        let reserved: u64 = [ledger.admit(10).unwrap(), ledger.admit(10).unwrap()]
            .map(|permit| permit.redeem(10))
            .iter()
            .sum();
        assert!(is_full(&ledger.admit(1)));
        // Both went into one frame of one block.
        ledger.spent(BLOCK, reserved);
        assert!(ledger.admit(1).is_ok());
    }

    #[test]
    fn a_prepared_segment_counts_without_what_the_roll_may_waste() {
        let ledger = ledger(2);
        let large = ledger.admit(2 * 4096 - 64).unwrap();
        assert!(is_full(&ledger.admit(1)));
        ledger.prepared(4 * BLOCK);
        // Six blocks are there; two are taken, and two more may be lost at the end of the segment.
        let _small = [ledger.admit(1).unwrap(), ledger.admit(1).unwrap()];
        assert!(is_full(&ledger.admit(1)));
        drop(large);
    }

    #[test]
    fn the_end_of_a_segment_wastes_no_more_than_it_has() {
        let ledger = ledger(4);
        let largest = 8 * 4096 - 64;
        for _ in 0..4 {
            ledger.prepared(9 * BLOCK);
        }
        // It does not fit into the four blocks that are left, but into the next segment, and the next.
        let permits = [ledger.admit(largest).unwrap(), ledger.admit(largest / 8).unwrap()];
        drop(permits);
        let filled: Vec<_> = (0..).map_while(|_| ledger.admit(largest).ok()).collect();
        assert_eq!(filled.len(), 1, "of each of the others only one block is certain");
    }

    #[test]
    fn an_append_over_the_limit_is_told_so_even_if_there_is_space() {
        let ledger = ledger(1000);
        assert!(ledger.admit(100_000).is_ok());
        let refused = ledger.admit(100_001);
        assert!(matches!(refused, Err(AdmitError::TooLarge { bytes: 100_001, limit: 100_000 })));
    }

    #[test]
    fn the_frame_of_the_opening_is_held_back() {
        let ledger = Ledger::new(100_000, 2 * BLOCK);
        ledger.prepared(0);
        ledger.rolled(3 * BLOCK);
        let _one = ledger.admit(1).unwrap();
        assert!(is_full(&ledger.admit(1)));
        ledger.spent(BLOCK, 2 * BLOCK);
        assert!(is_full(&ledger.admit(1)), "the opening took what was held");
    }
}
