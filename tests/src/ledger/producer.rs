//! A producer that outlives the gateway: it notes, sends, notes what was acknowledged, and connects again.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    book::{Book, Note, Run},
    record::RecordId,
};
use crate::{
    batch::{self, Numbered},
    random::Random,
    wire::Wire,
};

/// Batches without an answer; more than these an idempotent producer may not have (Kafka's rule).
const IN_FLIGHT: usize = 5;
/// A gateway that is away comes back soon.
const RETRY: Duration = Duration::from_millis(5);
/// How often a producer that gets nowhere says why.
const TOLD_AFTER: Duration = Duration::from_secs(3);
/// Most records of a batch.
const BATCH_RECORDS: u64 = 8;

/// Errors of Kafka that ask for another try.
const RETRIABLE: [i16; 5] = [3, 5, 6, 7, 19];
/// The producer is not known any more, or its epoch is an old one.
const FENCED: [i16; 2] = [47, 59];

/// How a producer works.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Broker.
    pub broker: SocketAddr,
    /// Topic.
    pub topic: String,
    /// Partitions of the topic, all of which are written to.
    pub partitions: i32,
    /// Number of the producer.
    pub producer: u32,
    /// Whether it numbers its batches and sends them again until they are acknowledged.
    pub is_idempotent: bool,
    /// Least time between two batches.
    pub pause: Duration,
}

struct Batch {
    run: Run,
    sequence: i32,
}

struct Producer<'a> {
    plan: &'a Plan,
    book: Book,
    random: Random,
    /// Id and epoch, once there are some.
    id: Option<(i64, i16)>,
    sequences: Vec<i32>,
    next_number: u64,
    /// Not yet acknowledged; the first `sent` of them have been sent on this connection.
    open: VecDeque<Batch>,
    sent: usize,
}

/// Produces until `stop`, and then until nothing is open any more.
///
/// # Errors
/// If the notes cannot be written.
pub fn run(plan: &Plan, book: Book, random: Random, stop: &AtomicBool) -> io::Result<()> {
    let sequences = vec![0; plan.partitions as usize];
    let open = VecDeque::new();
    let mut producer =
        Producer { plan, book, random, id: None, sequences, next_number: 0, open, sent: 0 };
    let mut tried = Instant::now();
    while !stop.load(Ordering::Relaxed) || !producer.open.is_empty() {
        let connected = Wire::connect(plan.broker);
        let Err(failure) = connected.and_then(|wire| producer.work(wire, stop)) else { continue };
        let is_away = failure.kind() == io::ErrorKind::ConnectionRefused;
        if tried.elapsed() > TOLD_AFTER && !is_away {
            tried = Instant::now();
            println!("producer {}: {failure}, {} batches open", plan.producer, producer.open.len());
        }
        producer.disconnected();
        // Only the notes' own file fails like this; connections fail in other ways.
        if failure.kind() == io::ErrorKind::StorageFull {
            return Err(failure);
        }
        thread::sleep(RETRY);
    }
    producer.book.settle()
}

impl Producer<'_> {
    /// Works on one connection until it fails or there is nothing left to do.
    fn work(&mut self, mut wire: Wire, stop: &AtomicBool) -> io::Result<()> {
        if self.plan.is_idempotent && self.id.is_none() {
            match wire.init_producer_id()? {
                (0, id, epoch) => self.id = Some((id, epoch)),
                (code, ..) => return Err(io::Error::other(format!("no producer id: {code}"))),
            }
        }
        loop {
            let is_stopping = stop.load(Ordering::Relaxed);
            while self.sent < self.open.len() || (!is_stopping && self.sent < IN_FLIGHT) {
                if self.sent == self.open.len() {
                    thread::sleep(self.plan.pause);
                    self.next_batch()?;
                }
                self.send(&mut wire)?;
            }
            if self.sent == 0 {
                return Ok(());
            }
            let answer = wire.produced()?;
            self.sent -= 1;
            self.answered(answer.code, answer.base_offset)?;
        }
    }

    fn next_batch(&mut self) -> io::Result<()> {
        let partition = self.random.below(self.plan.partitions as u64) as i32;
        let count = 1 + self.random.below(BATCH_RECORDS);
        let first = RecordId { producer: self.plan.producer, number: self.next_number };
        let run = Run { partition, first, count };
        self.next_number += count;
        self.book.note(&Note::Sent(run));
        self.book.write()?;
        let sequence = self.sequences[partition as usize];
        self.sequences[partition as usize] += count as i32;
        self.open.push_back(Batch { run, sequence });
        Ok(())
    }

    fn send(&mut self, wire: &mut Wire) -> io::Result<()> {
        let Batch { run, sequence, .. } = &self.open[self.sent];
        let first = run.first;
        let numbers = first.number..first.number + run.count;
        let values: Vec<Vec<u8>> =
            numbers.map(|number| RecordId { number, ..first }.value()).collect();
        let by = self.id.map_or(Numbered::NOT, |(producer_id, epoch)| Numbered {
            producer_id,
            epoch,
            sequence: *sequence,
        });
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
        self.sent += 1;
        wire.produce(&self.plan.topic, run.partition, &batch::encode(&values, now, by))
    }

    /// Takes the answer to the oldest batch.
    fn answered(&mut self, code: i16, base_offset: i64) -> io::Result<()> {
        let Some(batch) = self.open.front() else {
            return Err(io::Error::other("an answer to nothing"));
        };
        let run = batch.run;
        if code == 0 && base_offset >= 0 {
            self.book.note(&Note::Acknowledged(run, base_offset));
            self.book.settle()?;
            self.open.pop_front();
            return Ok(());
        }
        if !self.plan.is_idempotent {
            if !RETRIABLE.contains(&code) {
                self.book.note(&Note::Broken(format!("{} was refused: code {code}", run.first)));
            }
            self.book.note(&Note::Refused(run, code));
            self.book.write()?;
            self.open.pop_front();
            return Ok(());
        }
        if FENCED.contains(&code) {
            self.forget_id();
        } else if !RETRIABLE.contains(&code) {
            // All that came before it in its partition is acknowledged, so a gap in the sequence is a loss.
            let what = format!("{} (sequence {}): code {code}", run.first, batch.sequence);
            self.book.note(&Note::Broken(what));
            self.book.write()?;
            self.forget_id();
        }
        // On a new connection everything open is sent again, in order.
        Err(io::Error::other(format!("code {code}")))
    }

    /// What became of the open batches will not be known: a new producer goes on behind them.
    fn forget_id(&mut self) {
        self.id = None;
        self.open.clear();
        self.sequences.fill(0);
    }

    fn disconnected(&mut self) {
        self.sent = 0;
        if !self.plan.is_idempotent {
            // They may be in the log or not; to send them again might double them.
            self.open.clear();
        }
    }
}
