//! What was read of the local log and is not sent yet.
//!
//! All lanes are read together, in one pass through the journal, and further than the next transaction goes: it
//! takes some of the lanes only, and each read of those alone would pass through the same regions again.

use std::collections::BTreeMap;

use super::core::Read;
use crate::{
    broker::Fetched,
    journal::{Offset, PartitionId, ReadError, Want},
    record::{BatchHeader, HEADER_BYTES},
};

/// Held of all lanes together, but at least one batch. A small part of a transaction's records in memory, and enough
/// for a pass to be long: 20 KiB of each of a hundred lanes, which lie in 2 MiB of journal.
pub(super) const MAX_BYTES: usize = 2 * 1024 * 1024;

/// Batches of all lanes.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    lanes: BTreeMap<PartitionId, Held>,
    bytes: usize,
}

/// Batches of a lane.
#[derive(Debug)]
struct Held {
    /// The first offset that is not sent.
    from: Offset,
    /// One past the last offset of the batches.
    end: Offset,
    read: Result<Fetched, ReadError>,
}

impl Ahead {
    /// Lets go of everything that does not answer a read of the round: of lanes that stand still, or went back.
    pub(super) fn keep_for(&mut self, round: &[Read]) {
        let froms: BTreeMap<_, _> = round.iter().map(|it| (it.partition, it.slice.from)).collect();
        self.lanes.retain(|partition, held| froms.get(partition) == Some(&held.from));
        self.bytes = self.lanes.values().map(Held::bytes).sum();
    }

    /// Whether a read of the round can be answered.
    pub(super) fn holds(&self, read: &Read) -> bool {
        self.held(read).is_some()
    }

    /// What to read so that each of these is held, in equal shares. The first one is not held, and comes first.
    pub(super) fn wants(&self, round: &[Read]) -> Vec<Want> {
        let share = MAX_BYTES / round.len().max(1);
        let want = |read: &Read| {
            let partition = read.partition;
            let Some(held) = self.held(read) else {
                return Some(Want { partition, from: read.slice.from, max_bytes: share });
            };
            // Others that are about to run out are read along: lanes stay together.
            let max_bytes = share.saturating_sub(held.bytes());
            let is_due = held.read.is_ok() && held.end < read.slice.until && max_bytes * 2 > share;
            is_due.then_some(Want { partition, from: held.end, max_bytes })
        };
        round.iter().filter_map(want).collect()
    }

    /// How much may be read.
    pub(super) fn room(&self) -> usize {
        MAX_BYTES.saturating_sub(self.bytes)
    }

    /// Puts in what was read.
    pub(super) fn put(&mut self, wants: &[Want], answers: Vec<Result<Fetched, ReadError>>) {
        for (want, read) in wants.iter().zip(answers) {
            let held = self.take(want.partition).filter(|held| held.end == want.from);
            let held = match (held, read) {
                (None, read) => Held::of(want.from, read),
                (Some(held), Ok(more)) => held.with(more),
                // It comes again when its turn has come.
                (Some(held), Err(_)) => held,
            };
            self.insert(want.partition, held);
        }
    }

    /// Takes out what answers a read. What of it was not sent is given back.
    pub(super) fn take_for(&mut self, read: &Read) -> Option<Result<Fetched, ReadError>> {
        let held = self.take(read.partition)?;
        (held.from == read.slice.from).then_some(held.read)
    }

    /// Keeps what is not sent yet of batches that were taken out.
    pub(super) fn give_back(&mut self, partition: PartitionId, next: Offset, mut read: Fetched) {
        read.batches.retain(|batch| end_of(batch) > next);
        read.aborted.retain(|range| range.last >= next);
        if !read.batches.is_empty() {
            self.insert(partition, Held::of(next, Ok(read)));
        }
    }

    fn held(&self, read: &Read) -> Option<&Held> {
        self.lanes.get(&read.partition).filter(|held| held.from == read.slice.from)
    }

    fn take(&mut self, partition: PartitionId) -> Option<Held> {
        let held = self.lanes.remove(&partition)?;
        self.bytes -= held.bytes();
        Some(held)
    }

    fn insert(&mut self, partition: PartitionId, held: Held) {
        self.take(partition);
        self.bytes += held.bytes();
        self.lanes.insert(partition, held);
    }
}

impl Held {
    fn of(from: Offset, read: Result<Fetched, ReadError>) -> Self {
        let last = read.as_ref().ok().and_then(|fetched| fetched.batches.last());
        Self { from, end: last.map_or(from, |last| end_of(last)), read }
    }

    fn with(mut self, more: Fetched) -> Self {
        if let Ok(held) = &mut self.read {
            self.end = more.batches.last().map_or(self.end, |last| end_of(last));
            held.batches.extend(more.batches);
            held.aborted.extend(more.aborted);
        }
        self
    }

    fn bytes(&self) -> usize {
        self.read.as_ref().map_or(0, |read| read.batches.iter().map(bytes::Bytes::len).sum())
    }
}

/// One past the last offset of a stored batch.
fn end_of(batch: &[u8]) -> Offset {
    let header = batch.first_chunk::<HEADER_BYTES>().map(BatchHeader::read);
    Offset(header.map_or(i64::MAX, |header| header.last_offset().saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{record::BatchBuilder, uplink::decode::Slice};

    const LANES: u32 = 10;
    const END: Offset = Offset(100_000);

    /// A batch of one record.
    fn batch(offset: i64) -> Bytes {
        let mut builder = BatchBuilder::default();
        builder.push(0, None, Some(&[1; 900]), &[]);
        builder.finish().unwrap().stamped(offset, 0).bytes().clone()
    }

    fn read(lane: u32, from: i64) -> Read {
        let slice = Slice { from: Offset(from), until: END, max_bytes: 1, max_records: 1 };
        Read { partition: PartitionId(lane), slice }
    }

    /// What the log answers: of the first ones, as many as there is room for.
    fn answers(wants: &[Want], room: usize) -> Vec<Result<Fetched, ReadError>> {
        let mut bytes = 0;
        let mut answers = Vec::new();
        for want in wants {
            let length = batch(0).len();
            let count = (want.max_bytes / length).max(1).min((END.0 - want.from.0) as usize);
            bytes += count * length;
            if bytes > room && !answers.is_empty() {
                break;
            }
            let batches = (want.from.0..).take(count).map(batch).collect();
            answers.push(Ok(Fetched { batches, aborted: Vec::new() }));
        }
        answers
    }

    fn fill(ahead: &mut Ahead, round: &[Read]) -> usize {
        let wants = ahead.wants(round);
        let answers = answers(&wants, ahead.room());
        ahead.put(&wants, answers);
        assert!(ahead.bytes <= MAX_BYTES + batch(0).len(), "{}", ahead.bytes);
        wants.len()
    }

    #[test]
    fn lanes_that_are_sent_alike_are_read_together_again_and_again() {
        let mut ahead = Ahead::default();
        let mut next = vec![0; LANES as usize];
        let (mut reads, mut lanes) = (0, 0);
        while next[0] < 3000 {
            let round: Vec<_> = (0..LANES).map(|lane| read(lane, next[lane as usize])).collect();
            ahead.keep_for(&round);
            for (at, read) in round.iter().enumerate() {
                if !ahead.holds(read) {
                    reads += 1;
                    lanes += fill(&mut ahead, &round[at..]);
                }
                let fetched = ahead.take_for(read).unwrap().unwrap();
                let first = &fetched.batches[0];
                assert_eq!(first[..8], read.slice.from.0.to_be_bytes());
                // A transaction takes so much of each.
                let taken = fetched.batches.len().min(17) as i64;
                next[at] += taken;
                ahead.give_back(read.partition, Offset(next[at]), fetched);
            }
        }
        assert!(reads > 10, "{reads}");
        assert!(lanes > 8 * reads, "{lanes} lanes in {reads} reads");
    }

    #[test]
    fn what_does_not_fit_the_place_of_a_lane_is_not_used() {
        let mut ahead = Ahead::default();
        let round = [read(1, 0), read(2, 0)];
        fill(&mut ahead, &round);
        assert!(ahead.holds(&round[0]) && ahead.holds(&round[1]));
        // A session failed, and lane 1 goes back to where it was; lane 2 is left out.
        let fetched = ahead.take_for(&round[0]).unwrap().unwrap();
        ahead.give_back(PartitionId(1), Offset(5), fetched);
        assert!(ahead.holds(&read(1, 5)) && !ahead.holds(&read(1, 0)));
        let again = [read(1, 0)];
        ahead.keep_for(&again);
        assert_eq!((ahead.bytes, ahead.lanes.len()), (0, 0));
        fill(&mut ahead, &again);
        assert!(ahead.holds(&again[0]));
    }

    #[test]
    fn an_error_is_told_when_the_lane_has_its_turn_and_not_before() {
        let mut ahead = Ahead::default();
        let error = || Err(ReadError::Damaged { position: crate::journal::Position(0) });
        let round = [read(1, 0)];
        let wants = ahead.wants(&round);
        ahead.put(&wants, answers(&[Want { max_bytes: 1, ..wants[0] }], MAX_BYTES));
        let wants = ahead.wants(&round);
        assert_eq!(wants[0].from, Offset(1));
        ahead.put(&wants, vec![error()]);
        let fetched = ahead.take_for(&round[0]).unwrap().unwrap();
        ahead.give_back(PartitionId(1), Offset(1), fetched);
        let round = [read(1, 1)];
        assert!(!ahead.holds(&round[0]));
        let wants = ahead.wants(&round);
        ahead.put(&wants, vec![error()]);
        assert!(ahead.take_for(&round[0]).unwrap().is_err());
        assert!(ahead.take_for(&round[0]).is_none());
    }
}
