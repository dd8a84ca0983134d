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
    reserve: Reserve,
    inner: Mutex<Inner>,
}

/// What an append is for: who frees space may use space that others may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Data and facts.
    Append,
    /// What may let segments go: log starts, deleted topics, gap records.
    Freeing,
    /// What lets segments go: the cleaner's own facts, which nobody outside can ask for often.
    Cleaning,
    /// The switch to a cold segment, which gives at least one file back: the last one may be used for it, too.
    Switching,
}

/// Prepared segments that are not for appends, so that a full journal can still be cleaned and opened again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reserve {
    /// How many.
    pub(super) segments: u64,
    /// What each of them holds at least.
    pub(super) usable_bytes: u64,
    /// What each of them holds at most, with a state that is small.
    pub(super) whole_bytes: u64,
}

impl Reserve {
    /// Segments that may not be used, and bytes of the others. One stays for the next opening whatever happens.
    fn withheld(self, purpose: Purpose) -> (u64, u64) {
        let for_opening = self.segments.saturating_sub(1);
        match purpose {
            Purpose::Append => (self.segments, 0),
            Purpose::Freeing if self.segments > 0 => (for_opening, self.usable_bytes / 4),
            Purpose::Freeing | Purpose::Cleaning => (for_opening, 0),
            Purpose::Switching => (0, 0),
        }
    }
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
    /// Whether the opening has its segment: what is prepared before is not all for the reserve.
    opened: bool,
    /// Whether the reserve was complete once, or there is no space to complete it. Until then it is on its way,
    /// and a gateway that starts does not wait for it.
    settled: bool,
}

impl Ledger {
    /// `held` is set aside from the start, for the frame of the opening.
    pub(super) fn new(max_append_bytes: usize, held: u64, reserve: Reserve) -> Arc<Self> {
        let inner = Inner { reserved: held, largest: held, ..Inner::default() };
        Arc::new(Self { max_append_bytes, reserve, inner: Mutex::new(inner) })
    }

    /// Sets space aside. Every append is reckoned as a frame of its own, and every switch to a
    /// prepared segment as wasting the largest append: whatever the order, it will fit.
    pub(super) fn admit(
        self: &Arc<Self>,
        bytes: usize,
        purpose: Purpose,
    ) -> Result<Permit, AdmitError> {
        if bytes > self.max_append_bytes {
            return Err(AdmitError::TooLarge { bytes, limit: self.max_append_bytes });
        }
        let wanted = FrameHeader::length_for(bytes);
        let mut inner = self.lock();
        let largest = inner.largest.max(wanted);
        let (segments, more) = self.reserve.withheld(purpose);
        let (segments, missing) = inner.kept(segments);
        // One that is missing may be the one in use, which holds all that the state leaves. Who frees space brings it
        // back, and nobody else does.
        let missing = if purpose == Purpose::Append { missing } else { 0 };
        let withheld = missing * self.reserve.whole_bytes + more;
        if inner.reserved + wanted + withheld > inner.certain(largest, segments) {
            return Err(AdmitError::Full);
        }
        inner.reserved += wanted;
        inner.largest = largest;
        drop(inner);
        Ok(Permit { ledger: Arc::clone(self), bytes, reserved: wanted })
    }

    /// A prepared segment is ready.
    pub(super) fn prepared(&self, usable: u64) {
        let mut inner = self.lock();
        inner.prepared.push_back(usable);
        inner.look_at(self.reserve);
    }

    /// Gives the newest prepared segment away, if what was set aside fits without it.
    pub(super) fn lend(&self) -> bool {
        let mut inner = self.lock();
        let Some(lent) = inner.prepared.pop_back() else { return false };
        let fits = inner.reserved <= inner.certain(inner.largest, 0);
        if !fits {
            inner.prepared.push_back(lent);
        }
        fits
    }

    /// There is no space for another one at the moment.
    pub(super) fn settle(&self) {
        self.lock().settled = true;
    }

    /// The writer took the oldest prepared segment into use.
    pub(super) fn rolled(&self, current: u64) {
        let mut inner = self.lock();
        inner.prepared.pop_front();
        inner.current = current;
        inner.opened = true;
        inner.look_at(self.reserve);
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
    /// Notes whether the reserve is complete.
    fn look_at(&mut self, reserve: Reserve) {
        self.settled |= self.opened && self.prepared.len() as u64 >= reserve.segments;
    }

    /// How many prepared segments are there of so many that are not to be used, and how many are missing.
    fn kept(&self, segments: u64) -> (usize, u64) {
        let there = self.prepared.len();
        let kept = usize::try_from(segments).map_or(there, |segments| segments.min(there));
        let missing = if self.settled { segments - kept as u64 } else { 0 };
        (kept, missing)
    }

    /// Space that appends of at most this size will find, whatever their order: each segment but the last may
    /// end with less than one of them unused, and no segment can waste more than it has. The newest prepared
    /// ones are kept back.
    fn certain(&self, largest: u64, kept: usize) -> u64 {
        let prepared = self.prepared.iter().copied().take(self.prepared.len() - kept);
        let wasted = |space: u64| space.min(largest);
        let (mut left, mut last) = (0, self.current);
        for next in prepared {
            left += last - wasted(last);
            last = next;
        }
        left + last
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
        let ledger = Ledger::new(100_000, 0, Reserve::default());
        ledger.prepared(0);
        ledger.rolled(current_blocks * BLOCK);
        ledger
    }

    fn admit(ledger: &Arc<Ledger>, bytes: usize) -> Result<Permit, AdmitError> {
        ledger.admit(bytes, Purpose::Append)
    }

    fn is_full(result: &Result<Permit, AdmitError>) -> bool {
        matches!(result, Err(AdmitError::Full))
    }

    #[test]
    fn a_permit_holds_whole_blocks_until_it_is_dropped() {
        let ledger = ledger(3);
        let first = admit(&ledger, 1).unwrap();
        let second = admit(&ledger, 4096 - 64).unwrap();
        let third = admit(&ledger, 1).unwrap();
        assert!(is_full(&admit(&ledger, 1)));
        drop(second);
        assert!(is_full(&admit(&ledger, 4096 - 63)), "two blocks");
        let _again = admit(&ledger, 1).unwrap();
        drop((first, third));
    }

    #[test]
    fn what_is_written_is_no_longer_reserved() {
        let ledger = ledger(2);
        let reserved: u64 = [admit(&ledger, 10).unwrap(), admit(&ledger, 10).unwrap()]
            .map(|permit| permit.redeem(10))
            .iter()
            .sum();
        assert!(is_full(&admit(&ledger, 1)));
        // Both went into one frame of one block.
        ledger.spent(BLOCK, reserved);
        assert!(admit(&ledger, 1).is_ok());
    }

    #[test]
    fn a_prepared_segment_counts_without_what_the_roll_may_waste() {
        let ledger = ledger(2);
        let large = admit(&ledger, 2 * 4096 - 64).unwrap();
        assert!(is_full(&admit(&ledger, 1)));
        ledger.prepared(4 * BLOCK);
        // Six blocks are there; two are taken, and two more may be lost at the end of the segment.
        let _small = [admit(&ledger, 1).unwrap(), admit(&ledger, 1).unwrap()];
        assert!(is_full(&admit(&ledger, 1)));
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
        let permits = [admit(&ledger, largest).unwrap(), admit(&ledger, largest / 8).unwrap()];
        drop(permits);
        let filled: Vec<_> = (0..).map_while(|_| admit(&ledger, largest).ok()).collect();
        assert_eq!(filled.len(), 1, "of each of the others only one block is certain");
    }

    #[test]
    fn an_append_over_the_limit_is_told_so_even_if_there_is_space() {
        let ledger = ledger(1000);
        assert!(admit(&ledger, 100_000).is_ok());
        let refused = admit(&ledger, 100_001);
        assert!(matches!(refused, Err(AdmitError::TooLarge { bytes: 100_001, limit: 100_000 })));
    }

    #[test]
    fn the_frame_of_the_opening_is_held_back() {
        let ledger = Ledger::new(100_000, 2 * BLOCK, Reserve::default());
        ledger.prepared(0);
        ledger.rolled(3 * BLOCK);
        let _one = admit(&ledger, 1).unwrap();
        assert!(is_full(&admit(&ledger, 1)));
        ledger.spent(BLOCK, 2 * BLOCK);
        assert!(is_full(&admit(&ledger, 1)), "the opening took what was held");
    }

    #[test]
    fn a_file_is_lent_if_the_others_will_do() {
        let ledger = Ledger::new(
            100_000,
            0,
            Reserve { segments: 2, usable_bytes: 8 * BLOCK, whole_bytes: 8 * BLOCK },
        );
        for usable in [0, 8 * BLOCK, 8 * BLOCK] {
            ledger.prepared(usable);
        }
        ledger.rolled(0);
        // The switch fits into the other one; without it nobody else gets any.
        let permit = ledger.admit(1, Purpose::Cleaning).unwrap();
        assert!(ledger.lend());
        assert!(!ledger.lend(), "the switch is to go there");
        assert!(is_full(&admit(&ledger, 1)));
        drop(permit);
        ledger.prepared(8 * BLOCK);
        let freeing: Vec<_> =
            std::iter::from_fn(|| ledger.admit(1, Purpose::Cleaning).ok()).take(8).collect();
        assert_eq!(freeing.len(), 8);
        assert!(ledger.lend());
    }

    #[test]
    fn the_reserve_is_for_who_frees_space() {
        const USABLE: u64 = 8 * BLOCK;
        const WHOLE: u64 = 11 * BLOCK;
        let reserve = Reserve { segments: 2, usable_bytes: USABLE, whole_bytes: WHOLE };
        let ledger = Ledger::new(100_000, 0, reserve);
        for usable in [0, USABLE, USABLE] {
            ledger.prepared(usable);
        }
        ledger.rolled(2 * BLOCK);
        let permits = [admit(&ledger, 1).unwrap(), admit(&ledger, 1).unwrap()];
        assert!(is_full(&admit(&ledger, 1)), "what is left is the reserve");
        // A block may be lost at the switch, a quarter is for the cleaner alone.
        let freeing: Vec<_> =
            std::iter::from_fn(|| ledger.admit(1, Purpose::Freeing).ok()).take(99).collect();
        assert_eq!(freeing.len(), 5);
        let cleaning: Vec<_> =
            std::iter::from_fn(|| ledger.admit(1, Purpose::Cleaning).ok()).take(99).collect();
        assert_eq!(cleaning.len(), 2, "the other segment is for the next opening");
        drop((permits, freeing, cleaning));
        // One of the two was used: it is filled up again before anyone else gets any.
        ledger.rolled(WHOLE);
        assert!(is_full(&admit(&ledger, 1)));
        ledger.prepared(USABLE);
        assert!(admit(&ledger, 1).is_ok());
    }

    #[test]
    fn a_start_does_not_wait_for_the_reserve() {
        let reserve = Reserve { segments: 2, usable_bytes: 8 * BLOCK, whole_bytes: 11 * BLOCK };
        let ledger = Ledger::new(100_000, 0, reserve);
        // Two that the run before had prepared, one of them for the opening.
        ledger.prepared(8 * BLOCK);
        ledger.prepared(8 * BLOCK);
        ledger.rolled(10 * BLOCK);
        assert!(admit(&ledger, 1).is_ok());
        ledger.prepared(8 * BLOCK);
        ledger.rolled(10 * BLOCK);
        assert!(is_full(&admit(&ledger, 1)), "it was complete once");
    }

    #[test]
    fn without_a_reserve_what_is_in_use_is_for_who_frees_space() {
        const WHOLE: u64 = 11 * BLOCK;
        let reserve = Reserve { segments: 2, usable_bytes: 8 * BLOCK, whole_bytes: WHOLE };
        let ledger = Ledger::new(100_000, 0, reserve);
        ledger.prepared(8 * BLOCK);
        ledger.rolled(WHOLE);
        ledger.settle();
        assert!(is_full(&admit(&ledger, 1)));
        let permits = |purpose| -> Vec<_> {
            std::iter::from_fn(|| ledger.admit(1, purpose).ok()).take(99).collect()
        };
        let freeing = permits(Purpose::Freeing);
        assert_eq!((freeing.len(), permits(Purpose::Cleaning).len()), (9, 2));
    }
}
