//! Which command goes where next, and what became of it. No I/O.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use headwater_protocol::{CommandStatus, DeviceId, message::COMMAND_MAX};

use super::book::{Book, Sent};
use crate::{journal::PartitionId, record::Record};

/// How long a command waits for its device unless it says so itself, ms.
const TIMEOUT_MS: i64 = 60_000;
/// The longest that it may say, ms.
const TIMEOUT_MAX_MS: i64 = 3_600_000;
/// Of a command's header `id`, bytes.
const ID_MAX: usize = 256;

/// Where a command stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: PartitionId,
    /// Of the topic.
    pub(super) index: usize,
    pub(super) offset: i64,
}

/// A command that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) place: Place,
    pub(super) payload: Bytes,
    /// Unix ms.
    deadline_ms: i64,
    /// Its header `id`.
    pub(super) id: Option<Bytes>,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) status: &'static str,
    pub(super) boot: Option<u32>,
    pub(super) payload: Bytes,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Send it; `is_new`: not before the book is durable.
    Send { device: DeviceId, payload: Bytes, place: Place, sent: Sent, is_new: bool },
    /// Append its outcome; then [`Desk::settle`].
    Settle { key: Bytes, command: Command, outcome: Outcome },
}

/// A device that takes commands.
#[derive(Clone, Copy, Debug)]
struct Live {
    boot: u32,
    /// The one at the front is on its way.
    is_asked: bool,
}

/// Open commands by device, and the devices that are there.
#[derive(Debug, Default)]
pub(super) struct Desk {
    books: BTreeMap<PartitionId, Book>,
    waiting: BTreeMap<DeviceKey, VecDeque<Command>>,
    live: BTreeMap<DeviceKey, Live>,
    /// Settled but for the append.
    outcomes: VecDeque<(Bytes, Command, Outcome)>,
    last_id: u64,
}

type DeviceKey = String;

impl Desk {
    /// The commands of a partition.
    pub(super) fn book(&mut self, partition: PartitionId) -> &mut Book {
        self.books.entry(partition).or_default()
    }

    /// As an earlier run left it.
    pub(super) fn restore(&mut self, partition: PartitionId, book: Book) {
        self.books.insert(partition, book);
    }

    /// Forgets partitions that are no more.
    pub(super) fn keep(&mut self, partitions: &[PartitionId]) {
        self.books.retain(|partition, _| partitions.contains(partition));
        self.waiting.values_mut().for_each(|queue| {
            queue.retain(|command| partitions.contains(&command.place.partition));
        });
        self.waiting.retain(|_, queue| !queue.is_empty());
        self.outcomes.retain(|(_, command, _)| partitions.contains(&command.place.partition));
    }

    /// Takes a record of the topic.
    pub(super) fn take(&mut self, place: Place, record: &Record, now_ms: i64) {
        if !self.book(place.partition).read(place.offset) {
            return;
        }
        let header = |name: &str| {
            let found = record.headers.iter().find(|(key, _)| key[..] == *name.as_bytes());
            found.and_then(|(_, value)| value.clone())
        };
        let timeout_ms = header("timeout-ms")
            .and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok())
            .map_or(TIMEOUT_MS, |ms: i64| ms.clamp(0, TIMEOUT_MAX_MS));
        let command = Command {
            place,
            payload: record.value.clone().unwrap_or_default(),
            // Whose clock is ahead does not keep it open for longer.
            deadline_ms: record.timestamp.min(now_ms).saturating_add(timeout_ms),
            id: header("id").filter(|id| id.len() <= ID_MAX),
        };
        let key = record.key.clone().unwrap_or_default();
        let device = DeviceId::from_bytes(&key);
        match device.filter(|_| record.value.is_some() && command.payload.len() <= COMMAND_MAX) {
            Some(device) => {
                self.waiting.entry(device.to_string()).or_default().push_back(command);
            }
            None => {
                let outcome = Outcome { status: "refused", boot: None, payload: Bytes::new() };
                self.outcomes.push_back((key, command, outcome));
            }
        }
    }

    /// A device takes commands now, perhaps over another connection or in another boot than before.
    pub(super) fn in_session(&mut self, device: DeviceId, boot: u32) {
        self.live.insert(device.to_string(), Live { boot, is_asked: false });
    }

    /// A device's connection is gone.
    pub(super) fn gone(&mut self, device: DeviceId) {
        self.live.remove(device.as_str());
    }

    /// What a device said to a command.
    pub(super) fn result(
        &mut self,
        device: DeviceId,
        (id, boot): (u64, u32),
        status: CommandStatus,
        payload: Bytes,
    ) {
        let status = match status {
            CommandStatus::Done => "done",
            CommandStatus::Failed => "failed",
            CommandStatus::Unknown => "no-such-command",
            // It was sent under a boot that has ended since: whether before or after it was done, nobody knows.
            CommandStatus::OtherBoot => "unknown",
            CommandStatus::Other(_) => "failed",
        };
        self.end_front(device, id, Outcome { status, boot: Some(boot), payload });
    }

    /// The link did not take a command: it is too long for the device, or the session ended just now.
    pub(super) fn not_sent(&mut self, device: DeviceId, id: u64, is_too_long: bool) {
        if is_too_long {
            let outcome = Outcome { status: "refused", boot: None, payload: Bytes::new() };
            self.end_front(device, id, outcome);
        } else {
            // Its session has ended: it will say so when there is another.
            self.gone(device);
        }
    }

    /// A new command was not noted durably: nothing was sent, and it is tried again later.
    pub(super) fn withdraw(&mut self, device: DeviceId, place: Place) {
        self.book(place.partition).withdraw(place.offset);
        self.wait(device);
    }

    /// A command did not get to its connection: it is tried again later.
    pub(super) fn wait(&mut self, device: DeviceId) {
        if let Some(live) = self.live.get_mut(device.as_str()) {
            live.is_asked = false;
        }
    }

    fn end_front(&mut self, device: DeviceId, id: u64, outcome: Outcome) {
        let Some(front) = self.waiting.get(device.as_str()).and_then(VecDeque::front) else {
            return;
        };
        let Place { partition, offset, .. } = front.place;
        if self.book(partition).sent(offset).is_some_and(|sent| sent.id == id) {
            self.end(device.as_str(), outcome);
        }
    }

    /// The first command of a device has ended.
    fn end(&mut self, device: &str, outcome: Outcome) {
        let Some(queue) = self.waiting.get_mut(device) else { return };
        let Some(command) = queue.pop_front() else { return };
        if queue.is_empty() {
            self.waiting.remove(device);
        }
        if let Some(live) = self.live.get_mut(device) {
            live.is_asked = false;
        }
        self.outcomes.push_back((Bytes::copy_from_slice(device.as_bytes()), command, outcome));
    }

    /// What is to be done now, one at a time.
    pub(super) fn next(&mut self, now_ms: i64) -> Option<Action> {
        self.expire(now_ms);
        if let Some((key, command, outcome)) = self.outcomes.front().cloned() {
            return Some(Action::Settle { key, command, outcome });
        }
        for (name, queue) in &self.waiting {
            let Some(live) = self.live.get_mut(name).filter(|live| !live.is_asked) else {
                continue;
            };
            let Some((command, device)) = queue.front().zip(DeviceId::new(name)) else { continue };
            let Some(book) = self.books.get_mut(&command.place.partition) else { continue };
            let known = book.sent(command.place.offset);
            let sent = known.unwrap_or_else(|| {
                // Above all before it, also those of a run before: the wall clock counts on.
                self.last_id = (self.last_id + 1).max(now_ms.max(0) as u64);
                Sent { boot: live.boot, id: self.last_id }
            });
            book.send(command.place.offset, sent);
            live.is_asked = true;
            let (payload, place) = (command.payload.clone(), command.place);
            return Some(Action::Send { device, payload, place, sent, is_new: known.is_none() });
        }
        None
    }

    /// Ends what nobody can answer any more.
    fn expire(&mut self, now_ms: i64) {
        let ended = |this: &Self| {
            this.waiting.iter().find_map(|(name, queue)| {
                let outcome = this.ended(name, queue.front()?, now_ms)?;
                Some((name.clone(), outcome))
            })
        };
        while let Some((name, outcome)) = ended(self) {
            self.end(&name, outcome);
        }
    }

    fn ended(&self, name: &str, front: &Command, now_ms: i64) -> Option<Outcome> {
        let sent = self.books.get(&front.place.partition)?.sent(front.place.offset);
        let live = self.live.get(name);
        let is_stale = sent.zip(live).is_some_and(|(sent, live)| sent.boot != live.boot);
        let status = if sent.is_some() { "unknown" } else { "expired" };
        let outcome = Outcome { status, boot: sent.map(|sent| sent.boot), payload: Bytes::new() };
        (is_stale || front.deadline_ms <= now_ms).then_some(outcome)
    }

    /// The outcome that [`Self::next`] gave is durable.
    pub(super) fn settle(&mut self, place: Place) {
        self.outcomes.retain(|(_, command, _)| command.place != place);
        self.book(place.partition).settle(place.offset);
    }

    /// The book as it will be once that is settled.
    pub(super) fn book_after(&self, place: Place) -> Book {
        let mut book = self.books.get(&place.partition).cloned().unwrap_or_default();
        book.settle(place.offset);
        book
    }

    /// Whether any command waits for something.
    #[cfg(test)]
    pub(super) fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || !self.outcomes.is_empty()
    }
}

#[cfg(test)]
mod tests;
