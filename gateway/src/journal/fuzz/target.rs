//! The targets. Each takes any bytes, and panics only where a decoder breaks a promise.

use bytes::Bytes;

use super::{Corpus, ID};
use crate::{
    journal::{
        Offset, Position, State,
        format::{
            Barrier, CHUNK_HEADER_BYTES, CHUNK_TRAILER_BYTES, ChunkHeader, ENTRY_HEADER_BYTES,
            EntryHeader, FRAME_HEADER_BYTES, FactRef, FrameHeader, Seed, SegmentHeader,
        },
        index::{Delta, RangeIndex},
        state::SnapshotReader,
    },
    record::{Batch, TransactionMarker},
};

/// A decoder under fuzzing.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, that of its folder of findings too.
    pub name: &'static str,
    /// Feeds it; whether it took the bytes.
    pub run: fn(&[u8]) -> bool,
    examples: fn(&Corpus) -> Vec<&[u8]>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "segment_header", run: segment_header, examples: |it| all(&it.segment_headers) },
    Target { name: "frame_header", run: frame_header, examples: |it| all(&it.frame_headers) },
    Target { name: "entry", run: entry, examples: |it| all(&it.entries) },
    Target { name: "fact", run: fact, examples: |it| all(&it.facts) },
    Target { name: "barrier", run: barrier, examples: |it| all(&it.barriers) },
    Target { name: "snapshot", run: snapshot, examples: |it| all(&it.slices) },
    Target { name: "index_chunk", run: index_chunk, examples: |it| all(&it.chunks) },
    Target { name: "state_delta", run: state_delta, examples: deltas },
    Target { name: "batch", run: batch, examples: |it| all(&it.batches) },
    Target { name: "control_record", run: control_record, examples: |it| all(&it.markers) },
];

impl Target {
    /// Inputs that it takes, with and without CRCs to be put right.
    #[must_use]
    pub fn corpus(&self, corpus: &Corpus) -> Vec<Vec<u8>> {
        let examples = (self.examples)(corpus);
        let inputs =
            examples.iter().flat_map(|bytes| [0, SEAL].map(|flags| [&[flags], *bytes].concat()));
        inputs.collect()
    }
}

/// Put CRCs and lengths right.
const SEAL: u8 = 1;
/// Most that records of one batch may take in memory.
const MOST_RECORDS_BYTES: usize = 64 * 1024;
/// Memory that decoded state may take for each byte that it was decoded from, and besides.
const STATE_BYTES_PER_BYTE: usize = 8;
const STATE_BYTES: usize = 64;
/// The same of an index: a run of batches takes a few more bytes in memory than in the file.
const INDEX_BYTES_PER_BYTE: usize = 4;
const INDEX_BYTES: usize = 256;

fn all(examples: &[Vec<u8>]) -> Vec<&[u8]> {
    examples.iter().map(Vec::as_slice).collect()
}

/// The state sections of the chunks.
fn deltas(corpus: &Corpus) -> Vec<&[u8]> {
    const STATE_SECTION: u8 = 4;
    let mut deltas = Vec::new();
    for chunk in &corpus.chunks {
        let mut payload = chunk.get(CHUNK_HEADER_BYTES..).unwrap_or_default();
        while let Some(&[kind, _, _, _, a, b, c, d]) = payload.first_chunk::<8>() {
            let end = 8 + u32::from_le_bytes([a, b, c, d]) as usize;
            let (section, rest) = payload.split_at_checked(end).unwrap_or_default();
            if kind == STATE_SECTION {
                deltas.extend(section.get(8..));
            }
            payload = rest;
        }
    }
    deltas
}

fn seed() -> Seed {
    ID.seed()
}

/// The rest of an input, and whether CRCs are to be put right.
fn parts(input: &[u8]) -> Option<(bool, Vec<u8>)> {
    let (flags, bytes) = input.split_first()?;
    Some((flags & SEAL != 0, bytes.to_vec()))
}

/// An input that begins with the place of its bytes in the log.
fn placed(input: &[u8]) -> Option<(bool, Position, Vec<u8>)> {
    let (seal, bytes) = parts(input)?;
    let (place, rest) = bytes.split_first_chunk()?;
    Some((seal, Position(u64::from_le_bytes(*place)), rest.to_vec()))
}

/// Stores a number, if there is room for it.
fn put(bytes: &mut [u8], at: usize, number: u32) {
    if let Some(field) = bytes.get_mut(at..at + 4) {
        field.copy_from_slice(&number.to_le_bytes());
    }
}

fn segment_header(input: &[u8]) -> bool {
    const COPY_CRC_AT: usize = 76;
    let Some((seal, mut bytes)) = parts(input) else { return false };
    if seal && bytes.len() >= COPY_CRC_AT {
        let id = bytes[16..32].try_into().map(crate::journal::JournalId).expect("16 bytes");
        let crc = id.seed().crc(&bytes[..COPY_CRC_AT]);
        put(&mut bytes, COPY_CRC_AT, crc);
    }
    let Ok(header) = SegmentHeader::decode(&bytes) else { return false };
    assert!(header.previous_end <= header.first && header.first < header.end());
    true
}

fn frame_header(input: &[u8]) -> bool {
    const CRC_AT: usize = FRAME_HEADER_BYTES - 4;
    let Some((seal, position, mut bytes)) = placed(input) else { return false };
    if seal && bytes.len() >= FRAME_HEADER_BYTES {
        let crc = seed().crc(&bytes[..CRC_AT]);
        put(&mut bytes, CRC_AT, crc);
    }
    let Some(header) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else { return false };
    FrameHeader::has_magic(header);
    FrameHeader::position_of(header);
    let Some((decoded, crc)) = FrameHeader::decode(header, seed(), position) else { return false };
    assert_eq!((decoded.position, crc), (position, FrameHeader::crc_of(header)));
    assert!(decoded.length() >= (FRAME_HEADER_BYTES as u64) + u64::from(decoded.entries_bytes));
    true
}

fn entry(input: &[u8]) -> bool {
    const HEADER_CRC_AT: usize = 24;
    let Some((seal, position, mut bytes)) = placed(input) else { return false };
    if seal && bytes.len() >= ENTRY_HEADER_BYTES {
        let crc = seed().crc_at(position, &bytes[..HEADER_CRC_AT]);
        put(&mut bytes, HEADER_CRC_AT, crc);
    }
    EntryHeader::verify(&bytes, seed(), position);
    let header = bytes.first_chunk().and_then(|it| EntryHeader::decode(it, seed(), position));
    let Some(header) = header else { return false };
    // Whoever asks for the end of the batch gets a place behind it.
    assert!(header.end_offset() >= header.base_offset);
    assert!(header.size() >= header.length as usize);
    true
}

fn fact(input: &[u8]) -> bool {
    let Some((_, bytes)) = parts(input) else { return false };
    let Some(fact) = FactRef::decode(&bytes) else { return false };
    assert!(fact.key.len() + fact.value.unwrap_or_default().len() <= bytes.len());
    let mut again = Vec::new();
    fact.encode(&mut again);
    assert_eq!(FactRef::decode(&again), Some(fact));
    true
}

fn barrier(input: &[u8]) -> bool {
    let Some((_, bytes)) = parts(input) else { return false };
    let Some(barrier) = Barrier::decode(&bytes) else { return false };
    let mut again = Vec::new();
    barrier.encode(&mut again);
    assert_eq!(Barrier::decode(&again), Some(barrier));
    true
}

fn snapshot(input: &[u8]) -> bool {
    let Some((_, bytes)) = parts(input) else { return false };
    let Some(state) = SnapshotReader::default().slice(0, 1, &bytes) else { return false };
    let most = STATE_BYTES_PER_BYTE * bytes.len() + STATE_BYTES;
    assert!(state.bytes() <= most, "{} from {}", state.bytes(), bytes.len());
    true
}

fn index_chunk(input: &[u8]) -> bool {
    const PAYLOAD_BYTES_AT: usize = 12;
    const PLACE_AT: usize = 16;
    const PAYLOAD_CRC_AT: usize = 68;
    const CRC_AT: usize = CHUNK_HEADER_BYTES - 4;
    let Some((seal, mut bytes)) = parts(input) else { return false };
    let Some(place) = bytes.get(PLACE_AT..).and_then(<[u8]>::first_chunk) else { return false };
    let place = u64::from_le_bytes(*place);
    if seal && bytes.len() >= CHUNK_HEADER_BYTES {
        let payload_crc = seed().crc_at(Position(place), &bytes[CHUNK_HEADER_BYTES..]);
        let payload_bytes = (bytes.len() - CHUNK_HEADER_BYTES) as u32;
        put(&mut bytes, PAYLOAD_BYTES_AT, payload_bytes);
        put(&mut bytes, PAYLOAD_CRC_AT, payload_crc);
        let crc = seed().crc(&bytes[..CRC_AT]);
        put(&mut bytes, CRC_AT, crc);
    }
    if let Some(trailer) = bytes.last_chunk::<CHUNK_TRAILER_BYTES>() {
        ChunkHeader::last_at(*trailer, seed(), bytes.len() as u64);
    }
    let Some((header, payload)) = bytes.split_first_chunk::<CHUNK_HEADER_BYTES>() else {
        return false;
    };
    let Some(chunk) = ChunkHeader::decode(header, seed(), place) else { return false };
    assert!(chunk.length() > u64::from(chunk.payload_bytes));
    let is_whole = chunk.payload_bytes as usize == payload.len()
        && chunk.payload_crc == seed().crc_at(Position(place), payload);
    is_whole && range_index(payload, chunk.first)
}

/// What a chunk says of its range.
fn range_index(payload: &[u8], segment: Position) -> bool {
    let Some((index, summary)) = RangeIndex::decode(payload, segment) else { return false };
    let mut heap_bytes = 0;
    for partition in index.partitions.values() {
        heap_bytes += partition.heap_bytes();
        let mut before = None;
        for location in partition.starting_at(Offset(i64::MIN)) {
            assert!(location.length as usize >= ENTRY_HEADER_BYTES);
            before = Some(location.base_offset);
        }
        if let Some(last) = before {
            assert!(partition.starting_at(last).next().is_some());
            partition.at_time(last, 0).count();
        }
        partition.span();
    }
    let most = INDEX_BYTES_PER_BYTE * payload.len() + INDEX_BYTES;
    assert!(heap_bytes <= most, "{heap_bytes} from {}", payload.len());
    index.delta.apply(&mut State::default());
    let again = index.encode(summary.as_ref());
    let (decoded, summary) = RangeIndex::decode(&again, segment).expect("it was encoded");
    assert_eq!(decoded.encode(summary.as_ref()), again, "what is read is what is written");
    true
}

fn state_delta(input: &[u8]) -> bool {
    let Some((_, bytes)) = parts(input) else { return false };
    let Some(delta) = Delta::decode(&bytes) else { return false };
    delta.hot_start();
    let mut state = State::default();
    delta.apply(&mut state);
    let most = STATE_BYTES_PER_BYTE * bytes.len() + STATE_BYTES;
    assert!(state.bytes() <= most, "{} from {}", state.bytes(), bytes.len());
    let again = Delta::decode(&delta.encode()).expect("it was encoded");
    assert_eq!(again, delta, "what is read is what is written");
    true
}

/// Puts length and CRC of a record batch right.
fn sealed_batch(seal: bool, mut bytes: Vec<u8>) -> Vec<u8> {
    const CHECKED_FROM: usize = 21;
    if seal && bytes.len() > CHECKED_FROM {
        let length = (bytes.len() - 12) as u32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[CHECKED_FROM..]);
        bytes[17..CHECKED_FROM].copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}

fn batch(input: &[u8]) -> bool {
    let Some((seal, bytes)) = parts(input) else { return false };
    let Ok((batch, rest)) = Batch::parse_first(Bytes::from(sealed_batch(seal, bytes.clone())))
    else {
        return false;
    };
    assert!(batch.len() + rest.len() == bytes.len());
    let Ok(records) = batch.iter(MOST_RECORDS_BYTES) else { return false };
    let bytes: usize = records
        .flatten()
        .map(|it| it.key.map_or(0, |key| key.len()) + it.value.map_or(0, |value| value.len()))
        .sum();
    assert!(bytes <= MOST_RECORDS_BYTES, "{bytes} bytes where {MOST_RECORDS_BYTES} are allowed");
    true
}

fn control_record(input: &[u8]) -> bool {
    let Some((seal, bytes)) = parts(input) else { return false };
    let bytes = sealed_batch(seal, bytes);
    // Recovery reads it from bytes whose entry is intact, whatever they are.
    let read = TransactionMarker::read(&bytes);
    if let Ok(batch) = Batch::parse_stored(Bytes::from(bytes)) {
        assert_eq!(batch.marker().ok(), read.as_ref().ok().copied());
    }
    matches!(read, Ok(Some(_)))
}
