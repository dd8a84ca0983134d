//! Reads entries from their files and believes none that fails its CRC.

use std::{io, slice};

use bytes::Bytes;

use super::{
    Offset, Position, ReadError,
    format::{ENTRY_ALIGN, ENTRY_HEADER_BYTES, EntryHeader, EntryKind, Seed},
    log::Source,
    shared::Shared,
    tail::Tail,
};
use crate::record::{BatchHeader, HEADER_BYTES};

/// Other partitions' entries between two wanted ones are read through up to this: cheaper than another call.
const MAX_GAP_BYTES: u64 = 16 * 1024;
/// Most read at once, unless one entry is larger.
const MAX_RUN_BYTES: u64 = 1024 * 1024;

/// A stored batch, verified.
#[derive(Debug)]
pub(super) struct StoredBatch {
    pub(super) header: EntryHeader,
    pub(super) bytes: Bytes,
}

/// Reads the sources in order. Fails if the first one does; a later failure ends the answer before it.
pub(super) fn read_batches(
    shared: &Shared,
    sources: &[Source],
) -> Result<Vec<StoredBatch>, ReadError> {
    let seed = shared.seed;
    let mut batches = Vec::with_capacity(sources.len());
    let mut rest = sources;
    while let Some(first) = rest.first() {
        if let Some(batch) = in_memory(seed, &shared.tail, first) {
            batches.push(batch);
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        let (run, remaining) = rest.split_at(run_length(rest));
        rest = remaining;
        if let Err(error) = read_run(seed, run, &mut batches) {
            if batches.is_empty() {
                return Err(error);
            }
            break;
        }
    }
    Ok(batches)
}

/// The batches, if all of them are in memory.
pub(super) fn batches_in_memory(shared: &Shared, sources: &[Source]) -> Option<Vec<StoredBatch>> {
    sources.iter().map(|source| in_memory(shared.seed, &shared.tail, source)).collect()
}

/// A batch of a recent frame. It was in memory all the time, so its payload is not verified.
fn in_memory(seed: Seed, tail: &Tail, source: &Source) -> Option<StoredBatch> {
    let location = source.location;
    let entry = tail.get(location.position, location.length as usize)?;
    let header = EntryHeader::decode(entry.first_chunk()?, seed, location.position)?;
    Some(StoredBatch { header, bytes: entry.slice(ENTRY_HEADER_BYTES..) })
}

/// How many of the sources lie close enough to be read at once.
fn run_length(sources: &[Source]) -> usize {
    let Some(first) = sources.first() else {
        return 0;
    };
    let mut end = end_of(first);
    let near = |source: &&Source| {
        let gap = source.location.position.0.checked_sub(end.0);
        let length = end_of(source).0.saturating_sub(first.location.position.0);
        let joins = source.segment.header.first == first.segment.header.first
            && gap.is_some_and(|gap| gap <= MAX_GAP_BYTES)
            && length <= MAX_RUN_BYTES;
        end = end_of(source);
        joins
    };
    1 + sources.iter().skip(1).take_while(near).count()
}

fn end_of(source: &Source) -> Position {
    source.location.position.plus(u64::from(source.location.length))
}

fn read_run(seed: Seed, run: &[Source], out: &mut Vec<StoredBatch>) -> Result<(), ReadError> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return Ok(());
    };
    let start = first.location.position;
    let length = usize::try_from(end_of(last).0 - start.0).map_err(|_| damaged(start))?;
    let mut buffer = vec![0; length];
    match first.segment.file.read_at(&mut buffer, first.segment.at(start)) {
        Ok(()) => {}
        // A bad block, or a file cut short, need not be everyone's.
        Err(_) if run.len() > 1 => {
            return run.iter().try_for_each(|source| read_run(seed, slice::from_ref(source), out));
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged(start)),
        Err(error) => return Err(error.into()),
    }
    let buffer = Bytes::from(buffer);
    for source in run {
        let at = (source.location.position.0 - start.0) as usize;
        let entry = buffer.slice(at..at + source.location.length as usize);
        out.push(verify(seed, source, &entry)?);
    }
    Ok(())
}

/// The entry is what was written here, and what the index took it for.
fn verify(seed: Seed, source: &Source, entry: &Bytes) -> Result<StoredBatch, ReadError> {
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
