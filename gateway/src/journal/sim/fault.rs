//! Which call fails, and how.

use std::io;

/// Kinds of calls that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Any that changes something.
    Change,
    /// `create`.
    Create,
    /// `rename`.
    Rename,
    /// `remove`.
    Remove,
    /// `sync_folder`.
    SyncFolder,
    /// `write_at`.
    Write,
    /// `allocate` and `truncate`.
    Resize,
    /// `sync` of a file.
    Sync,
    /// `read_at`.
    Read,
    /// `list`, `open` and `len`.
    Look,
}

impl Call {
    /// Every kind but [`Call::Change`], which is most of them together.
    pub const KINDS: [Self; 9] = [
        Self::Create,
        Self::Rename,
        Self::Remove,
        Self::SyncFolder,
        Self::Write,
        Self::Resize,
        Self::Sync,
        Self::Read,
        Self::Look,
    ];

    /// Whether it changes something.
    #[must_use]
    pub fn changes(self) -> bool {
        !matches!(self, Self::Read | Self::Look)
    }
}

/// An error on request.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Calls that are counted.
    pub call: Call,
    /// Number of the one that fails, from 0.
    pub at: usize,
    /// The error.
    pub kind: io::ErrorKind,
    /// Whether all later ones fail too.
    pub sticky: bool,
}

impl Fault {
    /// An I/O error of one call.
    #[must_use]
    pub fn once(call: Call, at: usize) -> Self {
        Self { call, at, kind: io::ErrorKind::Other, sticky: false }
    }

    /// Whether it hits the call of this kind with this number.
    pub(super) fn hits(&self, call: Call, number: usize) -> bool {
        let counted = self.call == call || (self.call == Call::Change && call.changes());
        counted && (number == self.at || (self.sticky && number > self.at))
    }
}

/// How many calls there were of each kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    counts: [usize; Call::KINDS.len()],
    changes: usize,
}

impl Calls {
    /// Counts a call; whether the fault hits it.
    pub(super) fn count(&mut self, call: Call, fault: Option<&Fault>) -> Option<io::Error> {
        let number = self.of(call);
        let changes = self.changes;
        if let Some(slot) = Call::KINDS.iter().position(|kind| *kind == call) {
            self.counts[slot] += 1;
        }
        self.changes += usize::from(call.changes());
        let fault = fault?;
        let number = if fault.call == Call::Change { changes } else { number };
        fault
            .hits(call, number)
            .then(|| io::Error::new(fault.kind, format!("planned fault of {call:?} {number}")))
    }

    pub(super) fn of(&self, call: Call) -> usize {
        if call == Call::Change {
            return self.changes;
        }
        Call::KINDS.iter().position(|kind| *kind == call).map_or(0, |slot| self.counts[slot])
    }
}
