//! Reads the batches of one Fetch, partition by partition in the order of the request, under its
//! limits.

use bytes::Bytes;

use crate::{
    broker::{Broker, DamagePolicy, EpochEnd, Isolation, LogEnds},
    journal::{AbortedRange, Journal, Offset, PartitionId, ReadError, Want},
    kafka::{error_code::ErrorCode, fetch_sessions::Told},
    record::{BatchHeader, HEADER_BYTES},
};

use super::Topic;

/// What consumers say that compare no epochs.
const NO_EPOCH: i32 = -1;

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
    /// Aborted transactions among the batches, if the consumer wants committed data alone; else there is no list.
    pub(super) aborted: Option<Vec<AbortedRange>>,
    /// Where what the consumer read before and the log part: nothing is read then.
    pub(super) diverging: Option<EpochEnd>,
    pub(super) id: PartitionId,
    pub(super) next: i64,
    pub(super) client_epoch: i32,
    /// Of what the consumer read last; negative if it does not say.
    pub(super) last_epoch: i32,
    damage: DamagePolicy,
    /// Where the consumer goes on.
    start: i64,
    from: i64,
    max_bytes: usize,
    /// [`Journal::forgotten`] when its batches were read.
    forgotten: u64,
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
            aborted: None,
            diverging: None,
            id,
            next: offset,
            client_epoch,
            last_epoch: NO_EPOCH,
            damage: DamagePolicy::Error,
            start: offset,
            from: offset,
            max_bytes,
            forgotten: 0,
        }
    }

    /// With what its topic says of damage.
    pub(super) fn with_damage(mut self, policy: DamagePolicy) -> Self {
        self.damage = policy;
        self
    }

    /// With the epoch of what the consumer read last.
    pub(super) fn after(mut self, last_epoch: i32) -> Self {
        self.last_epoch = last_epoch;
        self
    }

    /// A partition that there is nothing to read of.
    pub(super) fn failed(index: i32, code: ErrorCode) -> Self {
        let aborted = Some(Vec::new());
        Self { code, aborted, ..Self::new(index, PartitionId(u32::MAX), 0, 0, -1) }
    }

    /// What an answer would tell of it.
    pub(super) fn told(&self) -> Told {
        let ends = self.ends.filter(|_| !self.code.is_error());
        let is_diverging = self.diverging.is_some();
        Told {
            has_records: self.bytes > 0,
            is_diverging,
            ends: ends.map(|ends| (ends.durable.0, ends.start.0)),
        }
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
        } else if self.diverging.is_some() {
            return false;
        } else if self.next < ends.start.0 || self.next > ends.written.0 {
            self.code = ErrorCode::OFFSET_OUT_OF_RANGE;
        }
        if isolation == Isolation::Committed && !self.code.is_error() {
            self.aborted.get_or_insert_default();
        }
        self.is_unread(isolation)
    }

    /// Whether there is something that the consumer may see and has not got.
    fn is_unread(&self, isolation: Isolation) -> bool {
        !self.code.is_error() && self.diverging.is_none() && self.next < self.end(isolation)
    }

    fn want(&self, room: usize) -> Want {
        let max_bytes = room.min(self.max_bytes.saturating_sub(self.bytes));
        Want { partition: self.id, from: Offset(self.next), max_bytes }
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
    /// was left although the consumer may see it.
    fn take(
        &mut self,
        journal: &Journal,
        answer: Result<Vec<Bytes>, ReadError>,
        isolation: Isolation,
        max_bytes: usize,
        takes_oversize: bool,
    ) -> bool {
        let was_left = self.take_batches(journal, answer, isolation, max_bytes, takes_oversize);
        if isolation == Isolation::Committed && !self.batches.is_empty() {
            match journal.aborted(self.id, Offset(self.from), Offset(self.next)) {
                Ok(ranges) => self.aborted = Some(ranges),
                Err(error) => {
                    // Nobody could tell which of them are committed.
                    tracing::debug!(partition = self.id.0, offset = self.from, "aborted: {error}");
                    self.code = (&error).into();
                    (self.batches, self.bytes) = (Vec::new(), 0);
                    return false;
                }
            }
            if journal.forgotten(self.id) != self.forgotten {
                // Cleaned in between: batches and ranges may not fit together. The consumer asks again.
                self.begin_again();
                return true;
            }
        }
        was_left
    }

    /// Before batches are read; those of an earlier look go if some of them may be gone by now.
    fn prepare(&mut self, journal: &Journal) {
        let forgotten = journal.forgotten(self.id);
        if forgotten != self.forgotten && !self.batches.is_empty() {
            self.begin_again();
        }
        self.forgotten = forgotten;
    }

    fn begin_again(&mut self) {
        (self.batches, self.bytes) = (Vec::new(), 0);
        (self.from, self.next) = (self.start, self.start);
        self.aborted = Some(Vec::new());
    }

    /// Whether no file has to be read to tell which of these batches are committed.
    fn knows_aborted(&self, journal: &Journal, batches: &[Bytes], isolation: Isolation) -> bool {
        let last = batches.last().and_then(|batch| batch.first_chunk::<HEADER_BYTES>());
        let Some(last) = last.filter(|_| isolation == Isolation::Committed) else { return true };
        let to = Offset(BatchHeader::read(last).last_offset().saturating_add(1));
        journal.aborted_in_memory(self.id, Offset(self.from), to).is_some()
    }

    fn take_batches(
        &mut self,
        journal: &Journal,
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
        let mut cut = None;
        let mut room = max_bytes;
        for batch in batches {
            let Some(header) = batch.first_chunk::<HEADER_BYTES>().map(BatchHeader::read) else {
                self.code = ErrorCode::CORRUPT_MESSAGE;
                return false;
            };
            if header.base_offset >= end {
                return false;
            }
            if self.batches.is_empty() {
                // Offsets before it are gone: what was aborted there is of no interest.
                self.from = self.from.max(header.base_offset);
            }
            let cut = *cut.get_or_insert_with(|| self.end_of_unmarked(journal, isolation));
            if header.base_offset >= cut {
                return true;
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

    /// Where an answer has to end, because an aborted transaction without a marker does: a consumer passes over
    /// the producer's data until it sees the marker, or until the answer ends.
    fn end_of_unmarked(&self, journal: &Journal, isolation: Isolation) -> i64 {
        let (from, to) = (Offset(self.from), Offset(self.end(isolation)));
        if isolation == Isolation::Uncommitted {
            return i64::MAX;
        }
        let unmarked = journal.aborted_without_marker(self.id, from, to).into_iter();
        unmarked.map(|range| range.last.0 + 1).min().unwrap_or(i64::MAX)
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
        let isolation = self.isolation;
        if isolation == Isolation::Committed {
            let unread = self.partitions_mut().filter(|partition| partition.is_unread(isolation));
            unread.for_each(|partition| partition.prepare(journal));
        }
        let before = self.collected_bytes();
        let in_memory = |partition: &Partition, from, max_bytes| {
            let answer = journal.read_memory(partition.id, from, max_bytes);
            answer.filter(|answer| match answer {
                Ok(batches) => partition.knows_aborted(journal, batches, isolation),
                // What lies behind damage has to be looked for in files.
                Err(ReadError::Damaged { .. }) => partition.damage != DamagePolicy::Skip,
                Err(_) => true,
            })
        };
        if self.read_with(journal, room, in_memory) {
            return self;
        }
        let room = room.saturating_sub(self.collected_bytes() - before);
        let read = move |journal: &Journal| {
            let wants = self.wants(room);
            // All in one pass: what several partitions hold lies mixed in the files.
            let mut answers = wants.iter().zip(journal.read_many(&wants, room));
            let complete = self.read_with(journal, room, |partition, from, max_bytes| {
                let is_asked = |want: &Want| (want.partition, want.from) == (partition.id, from);
                match answers.find(|(want, _)| is_asked(want))?.1 {
                    Err(ReadError::Damaged { .. }) if partition.damage == DamagePolicy::Skip => {
                        Some(journal.read_past_damage(partition.id, from, max_bytes))
                    }
                    answer => Some(answer),
                }
            });
            // What was not asked for found no room behind the others.
            self.is_full |= !complete;
            Ok(self)
        };
        // Without a thread that reads there is nothing to answer with; the connection ends.
        journal.off_worker(read).await.expect("the journal has threads that read")
    }

    /// Whether the response should go now.
    pub(super) fn is_done(&self) -> bool {
        self.is_full
            || self.collected_bytes() >= self.limits.min_bytes
            || self.partitions().any(|it| it.code.is_error() || it.diverging.is_some())
    }

    /// Waits until new data lets this go on.
    pub(super) async fn wait(&self, broker: &Broker) {
        let end = |ends: LogEnds| match self.isolation {
            Isolation::Uncommitted => ends.durable,
            Isolation::Committed => ends.stable,
        };
        let wants = self
            .partitions()
            .filter_map(|partition| Some((partition.id, end(partition.ends?))))
            .collect::<Vec<_>>();
        match self.isolation {
            Isolation::Uncommitted => broker.wait_durable(&wants).await,
            Isolation::Committed => broker.wait_stable(&wants).await,
        }
    }

    pub(super) fn collected_bytes(&self) -> usize {
        self.partitions().map(|partition| partition.bytes).sum()
    }

    /// The most that could be read now.
    pub(super) fn wanted_bytes(&self) -> usize {
        let of_partitions: usize = self
            .partitions()
            .filter(|partition| partition.is_unread(self.isolation))
            .map(|partition| partition.max_bytes.saturating_sub(partition.bytes))
            .fold(0, usize::saturating_add);
        of_partitions.min(self.limits.max_bytes.saturating_sub(self.collected_bytes()))
    }

    pub(super) fn into_topics(self) -> Vec<Topic> {
        self.topics
    }

    /// What is to be read, in the order of the request.
    fn wants(&self, room: usize) -> Vec<Want> {
        let unread = self.partitions().filter(|partition| partition.is_unread(self.isolation));
        unread.map(|partition| partition.want(room)).collect()
    }

    /// Reads all partitions that there is room for; false if some of it was out of reach.
    fn read_with(
        &mut self,
        journal: &Journal,
        mut room: usize,
        mut read: impl FnMut(&Partition, Offset, usize) -> Option<Result<Vec<Bytes>, ReadError>>,
    ) -> bool {
        let mut complete = true;
        let isolation = self.isolation;
        let mut collected = self.collected_bytes();
        let mut is_full = false;
        for partition in self.partitions_mut() {
            if !partition.is_unread(isolation) {
                continue;
            }
            let max_bytes = partition.want(room).max_bytes;
            let is_first = collected == 0;
            if max_bytes == 0 && !is_first {
                is_full = true;
                continue;
            }
            let before = partition.bytes;
            let Some(answer) = read(partition, Offset(partition.next), max_bytes) else {
                // The order of the request decides who gets the room.
                complete = false;
                break;
            };
            is_full |= partition.take(journal, answer, isolation, max_bytes, is_first);
            let grown = partition.bytes.saturating_sub(before);
            collected += grown;
            room = room.saturating_sub(grown);
        }
        self.is_full = is_full;
        complete
    }

    fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.topics.iter().flat_map(|topic| &topic.partitions)
    }

    pub(super) fn partitions_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.topics.iter_mut().flat_map(|topic| &mut topic.partitions)
    }
}
