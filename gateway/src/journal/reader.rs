//! Stored entries, of which none is believed that fails its CRC, and the batches that a reader gets of them.

use std::slice;

use bytes::Bytes;

use super::{
    Offset, Position, ReadError,
    format::{ENTRY_ALIGN, ENTRY_HEADER_BYTES, EntryHeader, EntryKind, Seed},
    log::Source,
    shared::Shared,
    sweep::sweep,
    tail::Tail,
};
use crate::record::{BatchHeader, HEADER_BYTES};

/// A stored batch, verified.
#[derive(Clone, Debug)]
pub(super) struct StoredBatch {
    pub(super) header: EntryHeader,
    pub(super) bytes: Bytes,
}

/// Reads the sources in order. Fails if the first one does; a later failure ends the answer before it.
pub(super) fn read_batches(
    shared: &Shared,
    sources: &[Source],
) -> Result<Vec<StoredBatch>, ReadError> {
    sweep(shared, &[sources]).pop().unwrap_or_else(|| Ok(Vec::new()))
}

/// The batches, if all of them are in memory.
pub(super) fn batches_in_memory(shared: &Shared, sources: &[Source]) -> Option<Vec<StoredBatch>> {
    sources.iter().map(|source| in_memory(shared.seed, &shared.tail, source)).collect()
}

/// A batch of a recent frame. It was in memory all the time, so its payload is not verified.
pub(super) fn in_memory(seed: Seed, tail: &Tail, source: &Source) -> Option<StoredBatch> {
    let location = source.location;
    let entry = tail.get(location.position, location.length as usize)?;
    let header = EntryHeader::decode(entry.first_chunk()?, seed, location.position)?;
    Some(StoredBatch { header, bytes: entry.slice(ENTRY_HEADER_BYTES..) })
}

/// The entry is what was written here, and what the index took it for.
pub(super) fn verify(seed: Seed, source: &Source, entry: &Bytes) -> Result<StoredBatch, ReadError> {
    let location = source.location;
    let header = entry
        .first_chunk::<ENTRY_HEADER_BYTES>()
        .and_then(|header| EntryHeader::decode(header, seed, location.position))
        .filter(|header| {
            header.kind == EntryKind::Batch
                && header.base_offset == location.base_offset
                && header.length as usize + ENTRY_HEADER_BYTES == entry.len()
        })
        .filter(|_| EntryHeader::verify(entry, seed, location.position))
        .ok_or_else(|| damaged(location.position))?;
    Ok(StoredBatch { header, bytes: entry.slice(ENTRY_HEADER_BYTES..) })
}

/// Drops batches after a hole: between them offsets are missing that were once there. Where it was cleaned, offsets
/// may be missing, and batches before the first one that counts may be there.
pub(super) fn without_holes(
    batches: Vec<StoredBatch>,
    cleaned: &[(Offset, Offset)],
    from: Offset,
    max_bytes: usize,
) -> Result<Vec<Bytes>, ReadError> {
    let mut next = from;
    let mut served = Vec::with_capacity(batches.len());
    let mut bytes = 0;
    let within = |offset: Offset| {
        cleaned.iter().find(|&&(first, end)| first <= offset && offset < end).map(|&(_, end)| end)
    };
    for batch in batches {
        let (base_offset, end_offset) = (batch.header.base_offset, batch.header.end_offset());
        if end_offset <= next && within(base_offset).is_some() {
            continue;
        }
        while next < base_offset {
            let Some(end) = within(next) else { break };
            next = end.min(base_offset);
        }
        let reaches = base_offset <= next && next < end_offset;
        bytes += batch.bytes.len();
        if !served.is_empty() && bytes > max_bytes {
            break;
        }
        if !reaches {
            if served.is_empty() {
                let position = Position(0);
                return Err(ReadError::Damaged { position });
            }
            break;
        }
        next = end_offset;
        served.push(batch.bytes);
    }
    Ok(served)
}

/// The first batch among candidates with a timestamp this late. A damaged one is passed over.
pub(super) fn first_at_time(
    shared: &Shared,
    candidates: &[Source],
    timestamp_ms: i64,
    log_start: Offset,
) -> Result<Option<Bytes>, ReadError> {
    for candidate in candidates {
        if peek(&shared.tail, candidate).is_some_and(|header| header.max_timestamp < timestamp_ms) {
            continue;
        }
        match read_batches(shared, slice::from_ref(candidate)) {
            Ok(batches) => {
                let late = batches.into_iter().find(|batch| {
                    batch.header.end_offset() > log_start
                        && batch_header(&batch.bytes)
                            .is_some_and(|header| header.max_timestamp >= timestamp_ms)
                });
                if let Some(batch) = late {
                    return Ok(Some(batch.bytes));
                }
            }
            Err(ReadError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The header of a batch without its records, unverified: good for passing it over, no more.
fn peek(tail: &Tail, source: &Source) -> Option<BatchHeader> {
    let position = source.location.position.plus(ENTRY_HEADER_BYTES as u64);
    if let Some(header) = tail.get(position, HEADER_BYTES) {
        return batch_header(&header);
    }
    let mut header = [0; HEADER_BYTES];
    let at = source.segment.at(source.location.position) + ENTRY_HEADER_BYTES as u64;
    source.segment.file.read_at(&mut header, at).ok()?;
    Some(BatchHeader::read(&header))
}

/// The header of stored batch bytes.
pub(super) fn batch_header(bytes: &[u8]) -> Option<BatchHeader> {
    bytes.first_chunk::<HEADER_BYTES>().map(BatchHeader::read)
}

fn damaged(position: Position) -> ReadError {
    ReadError::Damaged { position }
}

const _: () = assert!(ENTRY_HEADER_BYTES.is_multiple_of(ENTRY_ALIGN));
