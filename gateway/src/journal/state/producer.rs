//! Windows of idempotent producers: the last five batches per partition and producer, and Kafka's rules over them.

use std::collections::{BTreeMap, VecDeque};

use super::{Offset, PartitionId};
use crate::record::BatchHeader;

/// Batches remembered per partition and producer: a client keeps at most five in flight.
pub(super) const WINDOW_BATCHES: usize = 5;

/// A producer that was silent for so long is forgotten; Kafka's `producer.id.expiration.ms`.
pub(super) const EXPIRATION_MS: u64 = 24 * 60 * 60 * 1000;

/// What an idempotent producer's batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProducerCheck {
    /// The next one, from nobody in particular, or from a producer of which nothing is remembered.
    New,
    /// Already in the log.
    Duplicate {
        /// Offset of the first record of the original.
        base_offset: Offset,
    },
    /// Already in the log, but older than what is remembered.
    Forgotten,
    /// Not the next one.
    OutOfOrder {
        /// Sequence that was due.
        expected: i32,
    },
    /// Of an epoch that a newer one has replaced.
    Fenced {
        /// Epoch known.
        current: i16,
    },
    /// In order, but not part of the transaction that its producer has open here.
    InTransaction {
        /// Where the transaction began.
        first: Offset,
    },
}

/// What is remembered of an idempotent producer in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownProducer {
    /// Producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of its last record.
    pub last_sequence: Option<i32>,
    /// Offset of the first record of its last batch.
    pub last_batch: Option<Offset>,
}

/// All windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Producers {
    windows: BTreeMap<(PartitionId, i64), Window>,
}

/// What is remembered of one producer in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) epoch: i16,
    /// Age of the journal at the last batch.
    pub(super) seen_open_ms: u64,
    /// Oldest first.
    pub(super) batches: VecDeque<WindowBatch>,
}

/// One remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowBatch {
    pub(super) first_sequence: i32,
    pub(super) last_sequence: i32,
    pub(super) base_offset: Offset,
}

impl Producers {
    /// As Kafka's `ProducerStateEntry.findDuplicateBatch`, `checkProducerEpoch` and `checkSequence`.
    pub(super) fn check(&self, partition: PartitionId, header: &BatchHeader) -> ProducerCheck {
        if !header.has_producer() {
            return ProducerCheck::New;
        }
        match self.windows.get(&(partition, header.producer_id)) {
            // Kafka accepts any sequence where it remembers nothing.
            None => ProducerCheck::New,
            Some(window) => window.check(header),
        }
    }

    /// Takes note of a batch that is in the log.
    pub(super) fn record(
        &mut self,
        partition: PartitionId,
        base_offset: Offset,
        header: &BatchHeader,
        open_ms: u64,
    ) {
        if !header.has_producer() {
            return;
        }
        let window = self
            .windows
            .entry((partition, header.producer_id))
            .or_insert_with(|| Window::new(header.producer_epoch, open_ms));
        window.record(base_offset, header, open_ms);
    }

    pub(super) fn restore(&mut self, partition: PartitionId, producer_id: i64, window: Window) {
        self.windows.insert((partition, producer_id), window);
    }

    /// Forgets those that were silent for too long, but for those that are still needed.
    pub(super) fn expire(&mut self, open_ms: u64, is_needed: impl Fn(PartitionId, i64) -> bool) {
        self.windows.retain(|&(partition, producer_id), window| {
            !window.is_expired(open_ms) || is_needed(partition, producer_id)
        });
    }

    /// Refuses a producer's batches from now on until it has a higher epoch.
    pub(super) fn fence(&mut self, partition: PartitionId, producer_id: i64) {
        if let Some(window) = self.windows.get_mut(&(partition, producer_id)) {
            window.epoch = window.epoch.saturating_add(1);
            window.batches.clear();
        }
    }

    /// Forgets all producers of a partition.
    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.windows.retain(|&(of, _), _| of != partition);
    }

    pub(super) fn contains(&self, partition: PartitionId, producer_id: i64) -> bool {
        self.windows.contains_key(&(partition, producer_id))
    }

    pub(super) fn len(&self) -> usize {
        self.windows.len()
    }

    pub(super) fn len_in(&self, partition: PartitionId) -> usize {
        self.windows.range((partition, i64::MIN)..=(partition, i64::MAX)).count()
    }

    /// Those of a partition, by id.
    pub(super) fn of(&self, partition: PartitionId) -> impl Iterator<Item = KnownProducer> {
        let windows = self.windows.range((partition, i64::MIN)..=(partition, i64::MAX));
        windows.map(|(&(_, producer_id), window)| KnownProducer {
            producer_id,
            epoch: window.epoch,
            last_sequence: window.batches.back().map(|batch| batch.last_sequence),
            last_batch: window.batches.back().map(|batch| batch.base_offset),
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PartitionId, i64, &Window)> {
        self.windows.iter().map(|(&(partition, id), window)| (partition, id, window))
    }
}

impl Window {
    pub(super) fn new(epoch: i16, seen_open_ms: u64) -> Self {
        Self { epoch, seen_open_ms, batches: VecDeque::new() }
    }

    pub(super) fn is_expired(&self, open_ms: u64) -> bool {
        open_ms.saturating_sub(self.seen_open_ms) >= EXPIRATION_MS
    }

    fn check(&self, header: &BatchHeader) -> ProducerCheck {
        if header.producer_epoch < self.epoch {
            return ProducerCheck::Fenced { current: self.epoch };
        }
        if header.is_control() {
            return ProducerCheck::New;
        }
        if header.producer_epoch > self.epoch {
            return in_order(header.base_sequence, 0);
        }
        let (first, last) = (header.base_sequence, header.last_sequence());
        let same =
            |known: &&WindowBatch| known.first_sequence == first && known.last_sequence == last;
        if let Some(original) = self.batches.iter().find(same) {
            return ProducerCheck::Duplicate { base_offset: original.base_offset };
        }
        let (Some(oldest), Some(newest)) = (self.batches.front(), self.batches.back()) else {
            return in_order(first, 0);
        };
        if precedes(last, oldest.first_sequence) {
            return ProducerCheck::Forgotten;
        }
        in_order(first, next_sequence(newest.last_sequence))
    }

    fn record(&mut self, base_offset: Offset, header: &BatchHeader, open_ms: u64) {
        if header.producer_epoch != self.epoch {
            self.epoch = self.epoch.max(header.producer_epoch);
            self.batches.clear();
        }
        self.seen_open_ms = self.seen_open_ms.max(open_ms);
        if header.is_control() {
            return;
        }
        if self.batches.len() == WINDOW_BATCHES {
            self.batches.pop_front();
        }
        self.batches.push_back(WindowBatch {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset,
        });
    }
}

fn in_order(got: i32, expected: i32) -> ProducerCheck {
    if got == expected { ProducerCheck::New } else { ProducerCheck::OutOfOrder { expected } }
}

/// Sequences run from 0 to 2^31 - 1 and start again at 0.
fn next_sequence(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

/// Whether `last` lies in the half circle of sequences before `first`.
fn precedes(last: i32, first: i32) -> bool {
    let distance = (i64::from(first) - i64::from(last)) & i64::from(i32::MAX);
    distance != 0 && distance <= 1 << 30
}
