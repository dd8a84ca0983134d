//! Which items a host takes: only the next of the stream, only within the window.

use super::Loss;
use crate::{Item, Position};

/// The end of a stream as this link sees it: what was taken and what of it is durable.
#[derive(Clone, Debug)]
pub(super) struct Intake {
    durable: Position,
    taken: Position,
    /// The device's oldest item when it said HELLO: while it lies beyond `taken`, the one that may
    /// come out of chain.
    oldest: Position,
    window: u32,
    /// Bytes of item bodies taken, ever.
    taken_bytes: u64,
    /// Of those, the ones known to be durable.
    durable_bytes: u64,
    marks: [Mark; MARKS],
    marks_len: usize,
}

/// `bytes` of item bodies had been taken with the item at `position`.
#[derive(Clone, Copy, Debug)]
struct Mark {
    position: Position,
    bytes: u64,
}

/// What becomes of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Taken(Option<Loss>),
    /// It had been taken before.
    Duplicate,
    Refused(NotTaken),
}

/// Why an item was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// The window has no room for it.
    Window,
    /// It does not follow the one taken last.
    OutOfTurn,
}

impl Intake {
    pub(super) const fn new(durable: Position) -> Self {
        Self {
            durable,
            taken: durable,
            oldest: Position::START,
            window: 0,
            taken_bytes: 0,
            durable_bytes: 0,
            marks: [Mark { position: Position::START, bytes: 0 }; MARKS],
            marks_len: 0,
        }
    }

    /// The device begins anew: its oldest item may follow although the chain does not lead there.
    pub(super) const fn expect_oldest(&mut self, oldest: Position) {
        self.oldest = oldest;
    }

    pub(super) fn take(&mut self, item: &Item<'_>) -> Turn {
        if item.position <= self.taken {
            return Turn::Duplicate;
        }
        let len = item.body.len() as u64;
        if self.window == 0 || (self.pending() > 0 && self.pending() + len > u64::from(self.window))
        {
            return Turn::Refused(NotTaken::Window);
        }
        let follows = item.predecessor == Some(self.taken);
        if !follows && !self.begins(item) {
            return Turn::Refused(NotTaken::OutOfTurn);
        }
        let loss = self.loss_before(item);
        self.taken = item.position;
        self.taken_bytes += len;
        self.mark();
        Turn::Taken(loss)
    }

    /// Everything up to `position` is durable; gives whether that is news.
    pub(super) fn set_durable(&mut self, position: Position) -> bool {
        let position = position.min(self.taken);
        if position <= self.durable {
            return false;
        }
        self.durable = position;
        let passed = self.marks().iter().take_while(|mark| mark.position <= position).count();
        if let Some(mark) = passed.checked_sub(1).and_then(|last| self.marks.get(last)) {
            self.durable_bytes = mark.bytes;
        }
        // Not copy_within, whose check of the range stays in an image as a panic.
        for (to, from) in (passed..self.marks_len).enumerate() {
            if let Some(mark) = self.marks.get(from).copied()
                && let Some(slot) = self.marks.get_mut(to)
            {
                *slot = mark;
            }
        }
        self.marks_len -= passed;
        true
    }

    pub(super) const fn set_window(&mut self, bytes: u32) {
        self.window = bytes;
    }

    pub(super) const fn durable(&self) -> Position {
        self.durable
    }

    pub(super) const fn taken(&self) -> Position {
        self.taken
    }

    pub(super) const fn window(&self) -> u32 {
        self.window
    }

    /// Whether everything taken is durable.
    pub(super) fn settled(&self) -> bool {
        self.durable >= self.taken
    }

    const fn pending(&self) -> u64 {
        self.taken_bytes - self.durable_bytes
    }

    /// Whether `item` is the one with which a device's log begins beyond what was taken.
    fn begins(&self, item: &Item<'_>) -> bool {
        self.taken < self.oldest
            && self.oldest <= item.position
            && item.predecessor.is_none_or(|predecessor| predecessor < self.oldest)
    }

    fn loss_before(&self, item: &Item<'_>) -> Option<Loss> {
        let lost = match item.predecessor {
            // Nothing is known of a stream that begins here with a device that remembers nothing.
            None => self.taken > Position::START,
            Some(predecessor) => predecessor > self.taken,
        };
        lost.then_some(Loss {
            after: self.taken,
            before: item.position,
            last_lost: item.predecessor,
        })
    }

    /// Remembers where the item just taken ends. With no room left the last mark moves: its bytes
    /// then count as pending for longer.
    fn mark(&mut self) {
        let mark = Mark { position: self.taken, bytes: self.taken_bytes };
        let at = self.marks_len.min(MARKS - 1);
        if let Some(slot) = self.marks.get_mut(at) {
            *slot = mark;
            self.marks_len = at + 1;
        }
    }

    fn marks(&self) -> &[Mark] {
        self.marks.get(..self.marks_len).unwrap_or_default()
    }
}

/// Items whose ends are remembered between taken and durable.
const MARKS: usize = 64;
