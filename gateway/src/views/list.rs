//! Listing: the last records of all keys that begin with a prefix, page by page, in the order of the keys.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{Found, LookupError, MAX_BATCH_BYTES, StoreError, Views, follow};
use crate::{
    broker::{Isolation, Topic, partition_for_key},
    journal::{Offset, PartitionId, ReadError, Want},
    record::{Batch, Record},
};

/// Read of the log at once.
const READ_BYTES: usize = 1 << 20;
/// Keys, values and headers of a page together, but at least one record.
const MAX_PAGE_BYTES: usize = 1 << 20;

/// Which keys are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a> {
    /// What they begin with.
    pub prefix: &'a [u8],
    /// The key that the last page ended with.
    pub after: Option<&'a [u8]>,
    /// Most of them in a page.
    pub limit: usize,
}

/// Some of the keys.
#[derive(Debug, Default)]
pub struct Page {
    /// In the order of the keys. What cannot be read is told.
    pub found: Vec<(Bytes, Result<Found, ReadError>)>,
    /// More may come after this key.
    pub next: Option<Bytes>,
}

/// A key, and the places that may hold its last record: the likeliest one first.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    key: Bytes,
    places: Vec<(usize, Offset)>,
}

/// Where keys of a page are in the log.
struct Place<'a> {
    /// Of the key in the page.
    number: usize,
    key: &'a Bytes,
    partition: usize,
    offset: Offset,
}

/// Records of a page as they come, which is not the order of their keys.
#[derive(Debug, Default)]
struct Gathered {
    found: BTreeMap<usize, Result<Found, ReadError>>,
    bytes: usize,
    /// Keys from this one on have no room.
    cut: Option<usize>,
}

/// The batch that was decoded last: keys that were written together lie together.
#[derive(Debug)]
struct Decoded {
    partition: usize,
    end: i64,
    records: Vec<Record>,
}

impl Views {
    /// The last records of the keys that a listing wants, as the log has them. A key that nothing is found for is
    /// left out.
    pub async fn list(
        self: &Arc<Self>,
        topic: &str,
        listing: Listing<'_>,
    ) -> Result<Page, LookupError> {
        let known = self.viewed(topic)?;
        let (prefix, after) = (listing.prefix.to_vec(), listing.after.map(<[u8]>::to_vec));
        let (of, limit) = (Arc::clone(&known), listing.limit);
        let look = move |views: &Self| {
            let listing = Listing { prefix: &prefix, after: after.as_deref(), limit };
            views.candidates(&of, listing)
        };
        let (candidates, has_more) = follow::blocking(self, look).await?;
        let mut gathered = Gathered::default();
        self.gather(&known, &candidates, &mut gathered).await;
        self.gather_unlikely(&known, &candidates, &mut gathered).await?;
        let next = match gathered.cut {
            Some(cut) => cut.checked_sub(1).and_then(|last| candidates.get(last)),
            None => candidates.last().filter(|_| has_more),
        };
        let next = next.map(|candidate| candidate.key.clone());
        let key =
            |number: usize| candidates.get(number).map(|it| it.key.clone()).unwrap_or_default();
        let found = gathered.found.into_iter().map(|(number, found)| (key(number), found));
        Ok(Page { found: found.collect(), next })
    }

    /// The next keys, by the view alone, and whether there are more.
    fn candidates(
        &self,
        topic: &Topic,
        listing: Listing<'_>,
    ) -> Result<(Vec<Candidate>, bool), StoreError> {
        let Listing { prefix, after, limit } = listing;
        let mut heads = Vec::new();
        for partition in &topic.partitions {
            heads.push(self.store.keys(*partition, prefix, after)?.peekable());
        }
        let mut candidates = Vec::new();
        let mut bytes = 0;
        loop {
            let mut first: Option<Bytes> = None;
            for head in &mut heads {
                match head.peek() {
                    Some(Err(error)) => return Err(error.clone()),
                    Some(Ok((key, _))) if first.as_ref().is_none_or(|first| key < first) => {
                        first = Some(key.clone());
                    }
                    _ => {}
                }
            }
            let Some(key) = first else { break };
            if candidates.len() == limit || bytes > MAX_PAGE_BYTES {
                return Ok((candidates, true));
            }
            bytes += key.len();
            let mut places = Vec::new();
            for (index, head) in heads.iter_mut().enumerate() {
                let is_it = |next: &Result<(Bytes, Offset), _>| {
                    next.as_ref().map_or(true, |(other, _)| *other == key)
                };
                if let Some(next) = head.next_if(is_it) {
                    places.push((index, next?.1));
                }
            }
            let likely = partition_for_key(&key, topic.partitions.len());
            places.sort_by_key(|(index, _)| *index != likely);
            candidates.push(Candidate { key, places });
        }
        Ok((candidates, false))
    }

    /// Reads the likeliest place of each key, in one pass as far as there is memory for it.
    async fn gather(&self, topic: &Topic, candidates: &[Candidate], gathered: &mut Gathered) {
        let numbered = candidates.iter().enumerate();
        let mut places: Vec<_> = numbered.filter_map(|(number, it)| it.likely(number)).collect();
        places.sort_by_key(|place| (place.partition, place.offset));
        let mut rest = places.as_slice();
        let mut decoded = None;
        while let Some(place) = rest.first() {
            if gathered.take_from(decoded.as_ref(), place) || !gathered.has_room(place.number) {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let wants: Vec<_> = rest.iter().map_while(|place| place.want(topic)).collect();
            let read = self.broker.read_many_isolated(wants, READ_BYTES, Isolation::Uncommitted);
            let answers = read.await;
            let (now, later) = rest.split_at(answers.len().clamp(1, rest.len()));
            for (place, answer) in now.iter().zip(answers) {
                if gathered.take_from(decoded.as_ref(), place) {
                    continue;
                }
                match answer {
                    Ok(read) => decoded = Decoded::of(place.partition, read.batches.first()),
                    Err(ReadError::OutOfRange { .. }) => {}
                    Err(error) => gathered.put(place.number, Err(error)),
                }
                gathered.take_from(decoded.as_ref(), place);
            }
            rest = later;
        }
    }

    /// Looks further for keys that lie in several partitions, and are not where they should be.
    async fn gather_unlikely(
        &self,
        topic: &Topic,
        candidates: &[Candidate],
        gathered: &mut Gathered,
    ) -> Result<(), LookupError> {
        for (number, Candidate { key, places }) in candidates.iter().enumerate() {
            if gathered.found.contains_key(&number) {
                continue;
            }
            for &(partition, offset) in places.iter().skip(1) {
                let Some(id) = topic.partitions.get(partition) else { continue };
                if let Some(record) = self.record(*id, offset, key).await? {
                    gathered.put(number, Ok(Found { partition, record: owned(&record) }));
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Candidate {
    fn likely(&self, number: usize) -> Option<Place<'_>> {
        let &(partition, offset) = self.places.first()?;
        Some(Place { number, key: &self.key, partition, offset })
    }
}

impl Place<'_> {
    fn want(&self, topic: &Topic) -> Option<Want> {
        let partition: PartitionId = *topic.partitions.get(self.partition)?;
        Some(Want { partition, from: self.offset, max_bytes: 1 })
    }
}

impl Decoded {
    fn of(partition: usize, batch: Option<&Bytes>) -> Option<Self> {
        let batch = Batch::parse_stored(batch?.clone()).ok()?;
        let end = batch.header().last_offset() + 1;
        // One that cannot be decoded holds nothing for anybody.
        let records = batch.records(MAX_BATCH_BYTES).unwrap_or_default();
        Some(Self { partition, end, records })
    }
}

impl Gathered {
    fn has_room(&self, number: usize) -> bool {
        self.cut.is_none_or(|cut| number < cut)
    }

    /// Looks for a key in the batch at hand; false if it would be in another one.
    fn take_from(&mut self, decoded: Option<&Decoded>, place: &Place<'_>) -> bool {
        let of_it = |decoded: &&Decoded| {
            let first = decoded.records.first().map_or(i64::MAX, |record| record.offset);
            decoded.partition == place.partition && (first..decoded.end).contains(&place.offset.0)
        };
        let Some(decoded) = decoded.filter(of_it) else { return false };
        let records = &decoded.records;
        let at = records.binary_search_by_key(&place.offset.0, |record| record.offset);
        let record = at.ok().and_then(|at| records.get(at));
        if let Some(record) = record.filter(|it| it.key.as_ref() == Some(place.key)) {
            let found = Found { partition: place.partition, record: owned(record) };
            self.put(place.number, Ok(found));
        }
        true
    }

    /// Takes a record, and lets go of those of the last keys if there is no room for them any more.
    fn put(&mut self, number: usize, found: Result<Found, ReadError>) {
        if !self.has_room(number) {
            return;
        }
        self.bytes += size(&found);
        self.found.insert(number, found);
        while self.bytes > MAX_PAGE_BYTES && self.found.len() > 1 {
            let Some((number, gone)) = self.found.pop_last() else { break };
            self.bytes -= size(&gone);
            self.cut = Some(number);
        }
    }
}

fn size(found: &Result<Found, ReadError>) -> usize {
    let Ok(found) = found else { return 0 };
    let Record { key, value, headers, .. } = &found.record;
    let length = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
    let headers: usize = headers.iter().map(|(name, value)| name.len() + length(value)).sum();
    length(key) + length(value) + headers
}

/// A record that keeps nothing of the batch that it came with in memory.
fn owned(record: &Record) -> Record {
    let copy = |field: &Option<Bytes>| field.as_deref().map(Bytes::copy_from_slice);
    let headers = record.headers.iter();
    Record {
        offset: record.offset,
        timestamp: record.timestamp,
        key: copy(&record.key),
        value: copy(&record.value),
        headers: headers.map(|(name, value)| (Bytes::copy_from_slice(name), copy(value))).collect(),
    }
}
