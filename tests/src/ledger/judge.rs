//! The verdict: the notes against what the log holds in the end.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt, io,
    net::SocketAddr,
};

use super::{
    book::{Books, Run},
    record::RecordId,
};
use crate::{batch, wire::Wire};

/// Examples of defects that are told.
const EXAMPLES: usize = 12;

/// What a partition holds, from its first offset on.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    /// Offset of the first record that is there.
    pub log_start: i64,
    /// One past the last offset.
    pub end: i64,
    /// Offset and record, as they were read; none: not a record of the ledger.
    pub records: Vec<(i64, Option<RecordId>)>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Of those, records below a log start that moved on.
    pub deleted: u64,
    /// Records in the log.
    pub present: u64,
    /// Records in the log whose acknowledgement nobody heard.
    pub unheard: u64,
    /// Records that a consumer saw while the gateway lived and died.
    pub seen: u64,
    /// Acknowledged, or seen by a consumer, and not at that offset.
    pub lost: u64,
    /// One offset for two records, or one record at two offsets.
    pub doubled: u64,
    /// Records that a producer had sent earlier than one before them in its partition.
    pub disordered: u64,
    /// Records that nobody sent, that were refused, or whose bytes are not what was sent; offsets left out.
    pub strange: u64,
    /// What the ledger saw happen that must not.
    pub broken: u64,
    /// The first defects.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Everything that must not be.
    #[must_use]
    pub fn defects(&self) -> u64 {
        self.lost + self.doubled + self.disordered + self.strange + self.broken
    }

    fn blame(&mut self, which: impl FnOnce(&mut Self) -> &mut u64, what: impl FnOnce() -> String) {
        *which(self) += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(what());
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} records acknowledged ({} deleted since), {} in the log, {} of them unheard, {} seen by a consumer; {} \
             lost, {} doubled, {} disordered, {} strange, {} broken",
            self.acknowledged,
            self.deleted,
            self.present,
            self.unheard,
            self.seen,
            self.lost,
            self.doubled,
            self.disordered,
            self.strange,
            self.broken
        )
    }
}

/// Compares the notes with the log.
#[must_use]
pub fn judge(books: &Books, log: &BTreeMap<i32, Partition>) -> Verdict {
    let mut verdict = Verdict::default();
    for what in &books.broken {
        verdict.blame(|it| &mut it.broken, || what.clone());
    }
    let places = read_log(books, log, &mut verdict);
    let at = |partition: i32, offset: i64| {
        let found = log.get(&partition)?;
        let first = found.records.first()?.0;
        let index = usize::try_from(offset - first).ok()?;
        found.records.get(index).filter(|record| record.0 == offset)?.1
    };
    let is_deleted = |partition: i32, offset: i64| {
        log.get(&partition).is_some_and(|found| offset < found.log_start)
    };
    let mut claimed = HashSet::new();
    let mut heard = 0;
    for (run, base) in &books.acknowledged {
        for (id, offset) in ids(run).zip(*base..) {
            verdict.acknowledged += 1;
            if !claimed.insert((run.partition, offset)) {
                let what = || format!("{id}: offset {offset} of {} is another's", run.partition);
                verdict.blame(|it| &mut it.doubled, what);
            }
            if is_deleted(run.partition, offset) {
                verdict.deleted += 1;
            } else if at(run.partition, offset) != Some(id) {
                let place = places.get(&id);
                let what =
                    || format!("{id} acknowledged at {}:{offset}, found {place:?}", run.partition);
                verdict.blame(|it| &mut it.lost, what);
            } else {
                heard += 1;
            }
        }
    }
    for &(partition, offset, id) in &books.seen {
        verdict.seen += 1;
        if !is_deleted(partition, offset) && at(partition, offset) != Some(id) {
            let place = places.get(&id);
            let what = || format!("{id} was seen at {partition}:{offset}, found {place:?}");
            verdict.blame(|it| &mut it.lost, what);
        }
    }
    for id in books.refused.iter().flat_map(ids) {
        if let Some(place) = places.get(&id) {
            verdict.blame(|it| &mut it.strange, || format!("{id} was refused, found {place:?}"));
        }
    }
    verdict.unheard = verdict.present.saturating_sub(heard);
    verdict
}

/// What can be told of the log without what was acknowledged; the place of each record.
fn read_log(
    books: &Books,
    log: &BTreeMap<i32, Partition>,
    verdict: &mut Verdict,
) -> HashMap<RecordId, (i32, i64)> {
    let mut places = HashMap::new();
    for (&partition, found) in log {
        let mut next = found.log_start;
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        for &(offset, id) in &found.records {
            if offset != next {
                let what = || format!("{partition}: offset {offset} where {next} is due");
                verdict.blame(|it| &mut it.strange, what);
            }
            next = offset + 1;
            let Some(id) = id else {
                verdict
                    .blame(|it| &mut it.strange, || format!("{partition}:{offset} is no record"));
                continue;
            };
            verdict.present += 1;
            if let Some(other) = places.insert(id, (partition, offset)) {
                let what = || format!("{id} at {partition}:{offset} and at {other:?}");
                verdict.blame(|it| &mut it.doubled, what);
            }
            if books.run_of(id).is_none_or(|run| run.partition != partition) {
                verdict.blame(|it| &mut it.strange, || format!("{id} was not sent to {partition}"));
            }
            let before = last.insert(id.producer, id.number);
            if before.is_some_and(|before| before > id.number) {
                verdict.blame(|it| &mut it.disordered, || format!("{id} behind {before:?}"));
            }
        }
        if next != found.end {
            let what = || format!("{partition} ends at {} and holds up to {next}", found.end);
            verdict.blame(|it| &mut it.strange, what);
        }
    }
    places
}

fn ids(run: &Run) -> impl Iterator<Item = RecordId> {
    let RecordId { producer, number } = run.first;
    (number..number + run.count).map(move |number| RecordId { producer, number })
}

/// Everything that a topic holds now.
///
/// # Errors
/// If the broker does not serve it, or serves what is no batch.
pub fn read_topic(
    broker: SocketAddr,
    topic: &str,
    partitions: i32,
) -> io::Result<BTreeMap<i32, Partition>> {
    let mut wire = Wire::connect(broker)?;
    let mut log = BTreeMap::new();
    for partition in 0..partitions {
        let (log_start, end) = wire.ends(topic, partition)?;
        let mut found = Partition { log_start, end, records: Vec::new() };
        let mut next = log_start;
        while next < end {
            let fetched = wire.fetch(topic, &[(partition, next)], 1000)?.into_iter().next();
            let fetched = fetched.ok_or(io::ErrorKind::UnexpectedEof)?;
            if fetched.code != 0 {
                return Err(io::Error::other(format!("{partition}:{next}: code {}", fetched.code)));
            }
            let before = next;
            for batch in batch::decode(&fetched.records).map_err(io::Error::other)? {
                for (value, offset) in batch.values.iter().zip(batch.base_offset..) {
                    // A batch may begin before the offset that was asked for.
                    if offset >= log_start && offset >= before {
                        found.records.push((offset, RecordId::of(value)));
                    }
                }
                next = next.max(batch.base_offset + batch.values.len() as i64);
            }
            if next == before {
                let what = format!("nothing at {partition}:{next} below {end}");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
            }
        }
        log.insert(partition, found);
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::book::Note;

    fn id(number: u64) -> RecordId {
        RecordId { producer: 1, number }
    }

    fn run(number: u64, count: u64) -> Run {
        Run { partition: 0, first: id(number), count }
    }

    /// Records 0 to 5 sent in twos; the first four acknowledged, and one of them seen.
    fn books() -> Books {
        let mut books = Books::default();
        for number in [0, 2, 4] {
            books.add(Note::Sent(run(number, 2)));
        }
        books.add(Note::Acknowledged(run(0, 2), 10));
        books.add(Note::Acknowledged(run(2, 2), 12));
        books.add(Note::Seen(0, 11, id(1)));
        books
    }

    fn log(records: &[u64]) -> BTreeMap<i32, Partition> {
        let records: Vec<_> =
            (10..).zip(records).map(|(at, &number)| (at, Some(id(number)))).collect();
        let end = 10 + records.len() as i64;
        BTreeMap::from([(0, Partition { log_start: 10, end, records })])
    }

    fn counts(books: &Books, log: &BTreeMap<i32, Partition>) -> [u64; 5] {
        let verdict = judge(books, log);
        [verdict.lost, verdict.doubled, verdict.disordered, verdict.strange, verdict.broken]
    }

    #[test]
    fn what_was_sent_and_not_acknowledged_may_be_there_or_not() {
        for (records, unheard) in [(&[0, 1, 2, 3][..], 0), (&[0, 1, 2, 3, 4, 5], 2)] {
            let verdict = judge(&books(), &log(records));
            assert_eq!((verdict.defects(), verdict.acknowledged), (0, 4), "{verdict}");
            assert_eq!((verdict.unheard, verdict.seen), (unheard, 1));
        }
    }

    #[test]
    fn each_defect_is_found() {
        let lost_and_seen = [0, 1, 2];
        let cases: [(&[u64], [u64; 5]); 5] = [
            (&lost_and_seen, [1, 0, 0, 0, 0]),
            (&[0, 2, 3], [4, 0, 0, 0, 0]),
            (&[0, 1, 2, 3, 3], [0, 1, 0, 0, 0]),
            (&[0, 1, 2, 3, 5, 4], [0, 0, 1, 0, 0]),
            (&[0, 1, 2, 3, 9], [0, 0, 0, 1, 0]),
        ];
        for (records, expect) in cases {
            assert_eq!(counts(&books(), &log(records)), expect, "{records:?}");
        }
        let mut refused = books();
        refused.add(Note::Refused(run(4, 2), 19));
        assert_eq!(counts(&refused, &log(&[0, 1, 2, 3, 4])), [0, 0, 0, 1, 0]);
        let mut twice = books();
        twice.add(Note::Acknowledged(run(4, 1), 12));
        assert_eq!(counts(&twice, &log(&[0, 1, 2, 3])), [1, 1, 0, 0, 0]);
        let mut broken = books();
        broken.add(Note::Broken("seen".into()));
        assert_eq!(counts(&broken, &log(&[0, 1, 2, 3])), [0, 0, 0, 0, 1]);
        let mut short = log(&[0, 1, 2, 3]);
        short.get_mut(&0).unwrap().end = 15;
        assert_eq!(counts(&books(), &short), [0, 0, 0, 1, 0]);
        let mut foreign = log(&[0, 1, 2, 3]);
        foreign.get_mut(&0).unwrap().records[3].1 = None;
        assert_eq!(counts(&books(), &foreign), [1, 0, 0, 1, 0]);
    }

    #[test]
    fn what_lies_below_the_log_start_was_deleted() {
        let mut log = log(&[0, 1, 2, 3]);
        let partition = log.get_mut(&0).unwrap();
        partition.records.drain(..2);
        partition.log_start = 12;
        let verdict = judge(&books(), &log);
        assert_eq!((verdict.defects(), verdict.deleted), (0, 2), "{verdict}");
    }
}
