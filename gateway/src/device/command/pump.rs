//! The task that reads commands, hands them to connections and appends what became of them.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use headwater_protocol::DeviceId;
use tokio::{sync::mpsc, time::sleep};

use super::{
    Report,
    book::{self, Book},
    desk::{Action, Command, Desk, Outcome, Place},
};
use crate::{
    Shutdown,
    broker::{AppendRequest, Broker, Isolation, Topic, partition_for_key, space},
    device::hub::{Control, Hub},
    journal::{Offset, PartitionId},
    record::{Batch, BatchBuilder},
};

/// Deadlines and refused appends are looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// Read at once, and most that a batch may hold decompressed, bytes.
const READ_BYTES: usize = 64 * 1024;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Names of the two topics.
#[derive(Clone, Debug)]
pub(in crate::device) struct Topics {
    pub(in crate::device) commands: String,
    pub(in crate::device) results: String,
}

/// Serves until shutdown.
pub(in crate::device) async fn run(
    topics: Topics,
    hub: Hub,
    mut reports: mpsc::Receiver<Report>,
    shutdown: Shutdown,
) {
    let mut pump = Pump {
        topics,
        hub,
        desk: Desk::default(),
        controls: BTreeMap::new(),
        partitions: Vec::new(),
        is_stuck: false,
    };
    loop {
        pump.step().await;
        tokio::select! {
            () = shutdown.requested() => return,
            report = reports.recv() => match report {
                Some(report) => pump.heard(report).await,
                None => return,
            },
            () = pump.more() => {}
            () = sleep(TICK) => {}
        }
    }
}

struct Pump {
    topics: Topics,
    hub: Hub,
    desk: Desk,
    controls: BTreeMap<String, mpsc::Sender<Control>>,
    /// Of the topic of the commands, as last seen.
    partitions: Vec<PartitionId>,
    /// Something is there and could not be read: not before the next tick again.
    is_stuck: bool,
}

impl Pump {
    fn broker(&self) -> &Broker {
        self.hub.broker()
    }

    async fn heard(&mut self, report: Report) {
        match report {
            Report::InSession { device, boot, control } => {
                // Before anybody can want to send one, or wait for what becomes of it.
                for topic in [&self.topics.commands, &self.topics.results] {
                    if let Err(error) = self.broker().ensure_topic(topic).await {
                        tracing::debug!(%topic, %error, "not there yet");
                    }
                }
                self.controls.insert(device.to_string(), control);
                self.desk.in_session(device, boot);
            }
            Report::Result { device, id, boot, status, payload } => {
                self.desk.result(device, (id, boot), status, payload);
            }
            Report::NotSent { device, id, is_too_long } => {
                self.desk.not_sent(device, id, is_too_long);
            }
        }
    }

    /// Resolves when there is something to read.
    async fn more(&mut self) {
        let wants: Vec<_> = self
            .partitions
            .iter()
            .filter_map(|&partition| {
                let book = self.desk.book(partition);
                book.has_room().then(|| (partition, Offset(book.next())))
            })
            .collect();
        if wants.is_empty() || self.is_stuck {
            return std::future::pending().await;
        }
        self.hub.broker().wait_stable(&wants).await;
    }

    /// Reads what there is and does what follows from it, as far as storage takes it.
    async fn step(&mut self) {
        self.look();
        self.is_stuck = false;
        for index in 0..self.partitions.len() {
            self.read(index).await;
        }
        while let Some(action) = self.desk.next(self.hub.now().wall_ms) {
            let done = match action {
                Action::Send { device, payload, place, sent, is_new } => {
                    let control = Control::Command { boot: sent.boot, id: sent.id, payload };
                    if is_new && !self.note(place.partition).await {
                        self.desk.withdraw(device, place);
                        false
                    } else {
                        self.send(device, control)
                    }
                }
                Action::Settle { key, command, outcome } => {
                    self.settle(&key, &command, &outcome).await
                }
            };
            if !done {
                return;
            }
        }
    }

    /// Follows what became of the topic.
    fn look(&mut self) {
        let topic = self.broker().topic(&self.topics.commands);
        let partitions = topic.map(|topic| topic.partitions.clone()).unwrap_or_default();
        if partitions == self.partitions {
            return;
        }
        self.desk.keep(&partitions);
        for &partition in partitions.iter().filter(|it| !self.partitions.contains(it)) {
            let fact = self.broker().fact(space::DEVICE_COMMAND, &book::key(partition));
            match fact.map(|value| Book::read_fact(&value)) {
                None => {}
                Some(Some(book)) => self.desk.restore(partition, book),
                Some(None) => {
                    // Going on from the start would do again what was done.
                    tracing::error!(
                        partition = partition.0,
                        "what is settled of the commands is not readable"
                    );
                    let end = self.broker().ends(partition).stable;
                    self.desk.book(partition).pass(end.0);
                }
            }
        }
        self.partitions = partitions;
    }

    async fn read(&mut self, index: usize) {
        let Some(&partition) = self.partitions.get(index) else { return };
        loop {
            let ends = self.broker().ends(partition);
            let book = self.desk.book(partition);
            book.begin_at(ends.start.0);
            let from = Offset(book.next());
            if !book.has_room() || from >= ends.stable {
                return;
            }
            let read =
                self.hub.broker().read_isolated(partition, from, READ_BYTES, Isolation::Committed);
            let fetched = match read.await {
                Ok(fetched) => fetched,
                Err(error) => {
                    tracing::warn!(partition = partition.0, offset = from.0, %error, "commands are not readable");
                    self.is_stuck = true;
                    return;
                }
            };
            if fetched.batches.is_empty() {
                self.is_stuck = true;
                return;
            }
            let now_ms = self.hub.now().wall_ms;
            for bytes in &fetched.batches {
                let Ok(batch) = Batch::parse_stored(bytes.clone()) else { continue };
                let header = batch.header();
                let records = batch.records(BATCH_BYTES).unwrap_or_else(|error| {
                    let offset = header.base_offset;
                    tracing::warn!(partition = partition.0, offset, %error, "commands are passed over");
                    Vec::new()
                });
                for record in records.iter().filter(|record| record.offset >= from.0) {
                    if !self.desk.book(partition).has_room() {
                        return;
                    }
                    if fetched.is_visible(&header) {
                        let place = Place { partition, index, offset: record.offset };
                        self.desk.take(place, record, now_ms);
                    }
                }
                self.desk.book(partition).pass(header.last_offset() + 1);
            }
        }
    }

    /// Makes the book of a partition durable.
    async fn note(&mut self, partition: PartitionId) -> bool {
        let fact = self.desk.book(partition).fact(partition);
        self.append(AppendRequest { batches: Vec::new(), facts: vec![fact] }).await
    }

    fn send(&mut self, device: DeviceId, control: Control) -> bool {
        let name = device.as_str();
        let sent = self.controls.get(name).map(|connection| connection.try_send(control));
        match sent {
            Some(Ok(())) => true,
            Some(Err(mpsc::error::TrySendError::Full(_))) => {
                self.desk.wait(device);
                false
            }
            Some(Err(mpsc::error::TrySendError::Closed(_))) | None => {
                self.controls.remove(name);
                self.desk.gone(device);
                true
            }
        }
    }

    /// Appends an outcome, and that its command is settled.
    async fn settle(&mut self, key: &Bytes, command: &Command, outcome: &Outcome) -> bool {
        let Some(topic) = self.results().await else { return false };
        let index = partition_for_key(key, topic.partitions.len());
        let Some(&partition) = topic.partitions.get(index) else { return false };
        let Some(batch) = record(key, command, outcome, self.hub.now().wall_ms) else {
            return false;
        };
        let place = command.place;
        let fact = self.desk.book_after(place).fact(place.partition);
        let request = AppendRequest { batches: vec![(partition, batch)], facts: vec![fact] };
        if !self.append(request).await {
            return false;
        }
        self.desk.settle(place);
        tracing::info!(
            device = %key.escape_ascii(), offset = place.offset, status = outcome.status, "command"
        );
        true
    }

    async fn results(&self) -> Option<std::sync::Arc<Topic>> {
        match self.broker().ensure_topic(&self.topics.results).await {
            Ok(topic) => Some(topic),
            Err(error) => {
                tracing::warn!(topic = %self.topics.results, %error, "results of commands wait");
                None
            }
        }
    }

    /// What storage refuses is tried again later.
    async fn append(&self, request: AppendRequest) -> bool {
        match self.broker().append_kept(request) {
            Ok(commit) => commit.durable().await.is_ok(),
            Err(error) => {
                tracing::warn!(%error, "commands wait for storage");
                false
            }
        }
    }
}

/// The record of a result.
fn record(key: &Bytes, command: &Command, outcome: &Outcome, now_ms: i64) -> Option<Batch> {
    let place = format!("{}/{}", command.place.index, command.place.offset);
    let boot = outcome.boot.map(|boot| boot.to_string());
    let mut headers: Vec<(&[u8], &[u8])> =
        vec![(b"command", place.as_bytes()), (b"status", outcome.status.as_bytes())];
    headers.extend(boot.as_ref().map(|boot| (&b"boot"[..], boot.as_bytes())));
    headers.extend(command.id.as_ref().map(|id| (&b"id"[..], &id[..])));
    let mut builder = BatchBuilder::default();
    builder.push(now_ms, Some(key), Some(&outcome.payload), &headers);
    builder.finish()
}
