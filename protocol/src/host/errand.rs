//! A command on its way to the device: sent again until its result comes, or its owner gives up.

use crate::message::{COMMAND_MAX, Command};

/// One command.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    id: u64,
    boot: u32,
    payload: [u8; COMMAND_MAX],
    len: usize,
    due: u64,
}

impl Errand {
    /// `None` when the payload is too long.
    pub(super) fn new(now: u64, id: u64, boot: u32, payload: &[u8]) -> Option<Self> {
        let mut this = Self { id, boot, payload: [0; COMMAND_MAX], len: payload.len(), due: now };
        this.payload.get_mut(..payload.len())?.copy_from_slice(payload);
        Some(this)
    }

    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    /// When it is to be sent next.
    pub(super) const fn due(&self) -> u64 {
        self.due
    }

    /// It is being sent.
    pub(super) const fn sent(&mut self, now: u64) {
        self.due = now + REPEAT_US;
    }

    /// A session begins: sent at once.
    pub(super) const fn renew(&mut self, now: u64) {
        self.due = now;
    }

    pub(super) fn message(&self, session: u32) -> Command<'_> {
        let payload = self.payload.get(..self.len).unwrap_or_default();
        Command { session, boot: self.boot, id: self.id, payload }
    }
}

/// A command without a result is sent again after this time.
const REPEAT_US: u64 = 1_000_000;
