//! What a device says beside its log: results of commands and lines of text.

use crate::message::{Command, CommandStatus, Log, Outcome};

/// Results and lines that wait to be sent, and the last command, so that none is done twice.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    /// Session and number of the last command taken, 0 = none yet.
    session: u32,
    id: u64,
    /// How it ended; none while it is being done.
    ended: Option<CommandStatus>,
    result: Text<RESULT_BYTES>,
    result_is_due: bool,
    /// A command for another boot, to be refused; 0 = none.
    refused: u64,
    line: Option<Line>,
    lines_lost: u32,
}

/// A line of log text.
#[derive(Clone, Debug)]
struct Line {
    tick: u64,
    severity: u8,
    text: Text<LINE_BYTES>,
}

/// The first `N` bytes of something.
#[derive(Clone, Debug)]
struct Text<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> Text<N> {
    const fn empty() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// Out of line: neither a line nor a result is in a hurry.
    #[inline(never)]
    fn set(&mut self, bytes: &[u8]) {
        let slots = self.bytes.iter_mut().zip(bytes);
        self.len = slots.map(|(slot, byte)| *slot = *byte).count() as u8;
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl Outbox {
    pub(super) const fn new() -> Self {
        Self {
            session: 0,
            id: 0,
            ended: None,
            result: Text::empty(),
            result_is_due: false,
            refused: 0,
            line: None,
            lines_lost: 0,
        }
    }

    /// Takes a command of the current session; gives whether it is to be done.
    pub(super) fn take(&mut self, command: &Command<'_>, boot: u32) -> bool {
        let is_again = command.id == self.id;
        if command.boot != boot {
            self.refused = command.id;
        } else if is_again {
            self.result_is_due = self.ended.is_some();
        } else if command.session != self.session || command.id > self.id {
            (self.session, self.id) = (command.session, command.id);
            self.ended = None;
            self.result_is_due = false;
            return true;
        }
        false
    }

    /// The command is done, or was not.
    pub(super) fn finish(&mut self, id: u64, status: CommandStatus, result: &[u8]) {
        if id != 0 && id == self.id && self.ended.is_none() {
            self.ended = Some(status);
            self.result.set(result);
            self.result_is_due = true;
        }
    }

    /// Keeps a line until it can be sent; one that comes while another waits is counted as lost.
    pub(super) fn log(&mut self, tick: u64, severity: u8, text: &[u8]) {
        if self.line.is_some() {
            self.lines_lost = self.lines_lost.saturating_add(1);
            return;
        }
        let line = self.line.insert(Line { tick, severity, text: Text::empty() });
        line.text.set(text);
    }

    /// A result that waits.
    pub(super) fn result(&self, boot: u32) -> Option<Outcome<'_>> {
        if self.refused != 0 {
            let status = CommandStatus::OtherBoot;
            return Some(Outcome { id: self.refused, boot, status, payload: &[] });
        }
        let status = self.ended.filter(|_| self.result_is_due)?;
        Some(Outcome { id: self.id, boot, status, payload: self.result.bytes() })
    }

    /// That result went out.
    pub(super) const fn result_sent(&mut self) {
        if self.refused != 0 {
            self.refused = 0;
        } else {
            self.result_is_due = false;
        }
    }

    /// A line that waits.
    pub(super) fn line(&self, boot: u32) -> Option<Log<'_>> {
        let Line { tick, severity, text } = self.line.as_ref()?;
        let (tick, severity, text) = (*tick, *severity, text.bytes());
        Some(Log { boot, tick, severity, lost: self.lines_lost, text })
    }

    /// That line went out.
    pub(super) fn line_sent(&mut self) {
        self.line = None;
        self.lines_lost = 0;
    }

    /// Whether anything waits.
    pub(super) const fn is_waiting(&self) -> bool {
        self.refused != 0 || (self.result_is_due && self.ended.is_some()) || self.line.is_some()
    }
}

/// Bytes of a result that a device keeps, so that it can say it again.
const RESULT_BYTES: usize = 32;
/// Bytes of a line that waits.
const LINE_BYTES: usize = 64;
