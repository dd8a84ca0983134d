//! Reads the batches of one Fetch, partition by partition in the order of the request, under its
//! limits.

use bytes::Bytes;

use crate::{
    broker::{Broker, LogEnds},
    journal::{Journal, Offset, PartitionId, ReadError},
    kafka::error_code::ErrorCode,
    record::{BatchHeader, HEADER_BYTES},
};

use super::Topic;

/// What a consumer may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// Everything durable.
    Uncommitted,
    /// What lies before the first open transaction.
    Committed,
}

/// Limits of the whole response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_bytes: usize,
    pub(super) min_bytes: usize,
}

/// One partition of the request and what was read of it.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) index: i32,
    pub(super) code: ErrorCode,
    pub(super) ends: Option<LogEnds>,
    pub(super) batches: Vec<Bytes>,
    pub(super) bytes: usize,
    id: PartitionId,
    next: i64,
    max_bytes: usize,
    client_epoch: i32,
}

/// The state of one Fetch.
#[derive(Debug)]
pub(super) struct Collector {
    topics: Vec<Topic>,
    limits: Limits,
    isolation: Isolation,
    /// Whether data was left out because a limit was reached: waiting would not help.
    is_full: bool,
}

impl Partition {
    pub(super) fn new(
        index: i32,
        id: PartitionId,
        offset: i64,
        max_bytes: usize,
        client_epoch: i32,
    ) -> Self {
        Self {
            index,
            code: ErrorCode::NONE,
            ends: None,
            batches: Vec::new(),
            bytes: 0,
            id,
            next: offset,
            max_bytes,
            client_epoch,
        }
    }

    /// A partition that there is nothing to read of.
    pub(super) fn failed(index: i32, code: ErrorCode) -> Self {
        Self { code, ..Self::new(index, PartitionId(u32::MAX), 0, 0, -1) }
    }

    /// Looks where the log stands; says whether there is something to read.
    fn look(&mut self, broker: &Broker, isolation: Isolation) -> bool {
        if self.code.is_error() {
            return false;
        }
        let ends = broker.ends(self.id);
        self.ends = Some(ends);
        if let Err(code) = ErrorCode::of_epoch(self.client_epoch, ends.leader_epoch) {
            self.code = code;
        } else if self.next < ends.start.0 || self.next > ends.written.0 {
            self.code = ErrorCode::OFFSET_OUT_OF_RANGE;
        }
        !self.code.is_error() && self.next < self.end(isolation)
    }

    /// End of what the consumer may see, as of the last look.
    fn end(&self, isolation: Isolation) -> i64 {
        match (self.ends, isolation) {
            (Some(ends), Isolation::Uncommitted) => ends.durable.0,
            (Some(ends), Isolation::Committed) => ends.stable.0,
            (None, _) => 0,
        }
    }

    /// Takes at most `max_bytes` of what was read, but one batch of any size if `takes_oversize`; says whether data
    /// was left for the size.
    fn take(
        &mut self,
        answer: Result<Vec<Bytes>, ReadError>,
        isolation: Isolation,
        max_bytes: usize,
        takes_oversize: bool,
    ) -> bool {
        let batches = match answer {
            Ok(batches) => batches,
            Err(error) => {
                tracing::debug!(partition = self.id.0, offset = self.next, "not read: {error}");
                self.code = (&error).into();
                return false;
            }
        };
        let end = self.end(isolation);
        let mut room = max_bytes;
        for batch in batches {
            let Some(header) = batch.first_chunk::<HEADER_BYTES>().map(BatchHeader::read) else {
                self.code = ErrorCode::CORRUPT_MESSAGE;
                return false;
            };
            if header.base_offset >= end {
                return false;
            }
            let is_first = takes_oversize && room == max_bytes;
            if batch.len() > room && !is_first {
                return true;
            }
            room = room.saturating_sub(batch.len());
            self.bytes += batch.len();
            self.next = header.last_offset() + 1;
            self.batches.push(batch);
        }
        self.next < end
    }
}

impl Collector {
    pub(super) fn new(topics: Vec<Topic>, limits: Limits, isolation: Isolation) -> Self {
        Self { topics, limits, isolation, is_full: false }
    }

    /// Looks where all logs stand; says whether there is something to read.
    pub(super) fn look(&mut self, broker: &Broker) -> bool {
        let isolation = self.isolation;
        let mut has_data = false;
        for partition in self.partitions_mut() {
            has_data |= partition.look(broker, isolation);
        }
        has_data
    }

    /// Reads what there is, at most `room` bytes beyond what is there: fresh data at once, the rest
    /// where files may be read.
    pub(super) async fn read(mut self, journal: &Journal, room: usize) -> Self {
        let before = self.collected_bytes();
        let in_memory =
            |partition, from, max_bytes| journal.read_memory(partition, from, max_bytes);
        if self.read_with(room, in_memory) {
            return self;
        }
        let room = room.saturating_sub(self.collected_bytes() - before);
        let read = move |journal: &Journal| {
            self.read_with(room, |partition, from, max_bytes| {
                Some(journal.read(partition, from, max_bytes))
            });
            Ok(self)
        };
        // Without a thread that reads there is nothing to answer with; the connection ends.
        journal.off_worker(read).await.expect("the journal has threads that read")
    }

    /// Whether the response should go now.
    pub(super) fn is_done(&self) -> bool {
        self.is_full
            || self.collected_bytes() >= self.limits.min_bytes
            || self.partitions().any(|partition| partition.code.is_error())
    }

    /// Where new data would let this go on.
    pub(super) fn wants(&self) -> Vec<(PartitionId, Offset)> {
        self.partitions()
            .filter_map(|partition| Some((partition.id, partition.ends?.durable)))
            .collect()
    }

    pub(super) fn collected_bytes(&self) -> usize {
        self.partitions().map(|partition| partition.bytes).sum()
    }

    /// The most that could be read now.
    pub(super) fn wanted_bytes(&self) -> usize {
        let of_partitions: usize = self
            .partitions()
            .filter(|partition| partition.next < partition.end(self.isolation))
            .map(|partition| partition.max_bytes.saturating_sub(partition.bytes))
            .fold(0, usize::saturating_add);
        of_partitions.min(self.limits.max_bytes.saturating_sub(self.collected_bytes()))
    }

    pub(super) fn into_topics(self) -> Vec<Topic> {
        self.topics
    }

    /// Reads all partitions that there is room for; false if some of it was out of reach.
    fn read_with(
        &mut self,
        mut room: usize,
        mut read: impl FnMut(PartitionId, Offset, usize) -> Option<Result<Vec<Bytes>, ReadError>>,
    ) -> bool {
        let mut complete = true;
        let isolation = self.isolation;
        let mut collected = self.collected_bytes();
        let mut is_full = false;
        for partition in self.partitions_mut() {
            if partition.code.is_error() || partition.next >= partition.end(isolation) {
                continue;
            }
            let max_bytes = room.min(partition.max_bytes.saturating_sub(partition.bytes));
            let is_first = collected == 0;
            if max_bytes == 0 && !is_first {
                is_full = true;
                continue;
            }
            let before = partition.bytes;
            let Some(answer) = read(partition.id, Offset(partition.next), max_bytes) else {
                // The order of the request decides who gets the room.
                complete = false;
                break;
            };
            is_full |= partition.take(answer, isolation, max_bytes, is_first);
            let grown = partition.bytes - before;
            collected += grown;
            room = room.saturating_sub(grown);
        }
        self.is_full = is_full;
        complete
    }

    fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.topics.iter().flat_map(|topic| &topic.partitions)
    }

    fn partitions_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.topics.iter_mut().flat_map(|topic| &mut topic.partitions)
    }
}
