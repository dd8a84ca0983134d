//! Decoders against bytes that nobody wrote: mutated ones, with and without a CRC that fits, and noise.

use bytes::Bytes;

use super::{
    disk::{MemoryDisk, Random},
    effort::Effort,
    model::random_append,
    support::{admit, batch, block_on, fact, small_options},
};
use crate::{
    journal::{
        BatchEntry, JournalId, Offset, PartitionId, Position, State,
        format::{
            Barrier, ENTRY_HEADER_BYTES, EntryHeader, EntryKind, FRAME_HEADER_BYTES, FactRef,
            FrameHeader, FrameKind, Seed, SegmentHeader,
        },
        handle::open_idle,
        open,
        state::SnapshotReader,
    },
    record::{Batch, BatchBuilder, Compression},
};

const ID: JournalId = JournalId(*b"headwater-tests!");
const AT: Position = Position(8192);
/// Tries of each decoder in a normal run.
const TRIES: usize = 200_000;

/// Changes a copy of valid bytes, or makes noise.
fn mutated(valid: &[u8], random: &mut Random) -> Vec<u8> {
    if random.below(16) == 0 {
        return (0..random.below(300)).map(|_| random.next() as u8).collect();
    }
    let mut bytes = valid.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.extend((0..random.below(40)).map(|_| random.next() as u8)),
            2 => {
                let end = (at + random.below(40) as usize).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len() as u64 + 1) as usize;
                bytes.splice(to..to, copy);
            }
            // Lengths and counts that promise too much.
            3 => {
                let end = (at + 4).min(bytes.len());
                let value: u8 = [0, 0xff, 0x7f, 0x80][random.below(4) as usize];
                bytes[at..end].fill(value);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    bytes
}

/// Puts a CRC that fits over the bytes before it, every other time.
fn resealed(
    mut bytes: Vec<u8>,
    at: usize,
    crc: impl Fn(&[u8]) -> u32,
    random: &mut Random,
) -> Vec<u8> {
    if random.coin() && bytes.len() >= at + 4 {
        let crc = crc(&bytes[..at]).to_le_bytes();
        bytes[at..at + 4].copy_from_slice(&crc);
    }
    bytes
}

/// Feeds a decoder; gives how often it took the bytes.
fn feed(valid: &[u8], seed: u64, mut decode: impl FnMut(Vec<u8>, &mut Random) -> bool) -> usize {
    let mut random = Random(seed);
    let tries = Effort::of_this_run().times(TRIES);
    let taken = (0..tries)
        .filter(|_| {
            let bytes = mutated(valid, &mut random);
            decode(bytes, &mut random)
        })
        .count();
    println!("{taken} of {tries} taken");
    taken
}

fn seed() -> Seed {
    ID.seed()
}

#[test]
fn segment_headers() {
    let header = SegmentHeader {
        journal: ID,
        sequence: 7,
        first: Position(1 << 20),
        length: 1 << 16,
        previous_end: Position(1 << 19),
        previous_crc: 5,
        max_bytes: 1 << 30,
    };
    let valid = header.encode();
    feed(&valid[..80], 1, |bytes, random| {
        let journal = bytes.get(16..32).and_then(|id| id.try_into().ok()).map(JournalId);
        let crc = |bytes: &[u8]| journal.map_or(0, |id| id.seed().crc(bytes));
        let Ok(header) = SegmentHeader::decode(&resealed(bytes, 76, crc, random)) else {
            return false;
        };
        assert!(header.previous_end <= header.first && header.first < header.end());
        true
    });
}

#[test]
fn frame_headers() {
    let header = FrameHeader {
        kind: FrameKind::Commit,
        entries_bytes: 5000,
        position: AT,
        previous_crc: 1,
        entry_count: 3,
        entries_crc: 2,
        append_time_ms: 3,
        clock_quality: crate::journal::ClockQuality::Unknown,
        open_ms: 4,
    };
    let taken = feed(&header.encode(seed()), 2, |bytes, random| {
        let bytes = resealed(bytes, 60, |bytes| seed().crc(bytes), random);
        let Some(header) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
            return false;
        };
        let Some((decoded, _)) = FrameHeader::decode(header, seed(), AT) else {
            return false;
        };
        assert_eq!(decoded.position, AT);
        true
    });
    assert!(taken > 0, "the CRC is put right often enough to get further");
}

#[test]
fn entries() {
    let payload = b"payload of an entry";
    let mut valid = vec![0; ENTRY_HEADER_BYTES];
    valid.extend_from_slice(payload);
    let header = EntryHeader {
        partition: PartitionId(3),
        count: 2,
        base_offset: Offset(9),
        ..EntryHeader::plain(EntryKind::Batch, payload.len() as u32)
    };
    header.seal(&mut valid, seed(), AT);
    feed(&valid, 3, |bytes, random| {
        let bytes = resealed(bytes, 24, |bytes| seed().crc_at(AT, bytes), random);
        EntryHeader::verify(&bytes, seed(), AT);
        let header = bytes.first_chunk().and_then(|header| EntryHeader::decode(header, seed(), AT));
        // Whoever asks for the end of the batch gets a number.
        header.is_some_and(|header| header.end_offset() >= header.base_offset)
    });
}

#[test]
fn facts_and_barriers() {
    let mut valid = Vec::new();
    FactRef { space: crate::journal::Space(1), key: b"some key", value: Some(b"some value") }
        .encode(&mut valid);
    feed(&valid, 4, |bytes, _| {
        Barrier::decode(&bytes);
        let Some(fact) = FactRef::decode(&bytes) else {
            return false;
        };
        assert!(fact.key.len() + fact.value.unwrap_or_default().len() <= bytes.len());
        true
    });
}

fn some_state() -> State {
    let mut state = State::default();
    let mut random = Random(8);
    for _ in 0..12 {
        let append = random_append(&state, &mut random, 20);
        state.apply_append(&append, 0);
    }
    state
}

#[test]
fn snapshot_slices() {
    let slices = some_state().encode(usize::MAX);
    let taken = feed(&slices[0], 5, |bytes, _| {
        let length = bytes.len();
        let Some(state) = SnapshotReader::default().slice(0, 1, &bytes) else {
            return false;
        };
        assert!(state.bytes() <= 8 * length + 64, "{} from {length}", state.bytes());
        true
    });
    assert!(taken > 0);
}

#[test]
fn record_batches() {
    const MOST: usize = 64 * 1024;
    for compression in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut builder = BatchBuilder::compressed(compression);
        for n in 0..4u8 {
            builder.push(i64::from(n), Some(b"key"), Some(&[n; 40]), &[(b"header", b"value")]);
        }
        let valid = builder.finish().unwrap().with_producer(1, 0, 0).unwrap();
        let seed = 6 + u64::from(u16::from_be_bytes([valid.bytes()[21], valid.bytes()[22]]));
        let taken = feed(valid.bytes(), seed, |mut bytes, random| {
            if random.coin() && bytes.len() > 21 {
                let length = (bytes.len() - 12) as u32;
                bytes[8..12].copy_from_slice(&length.to_be_bytes());
                let crc = crc32c::crc32c(&bytes[21..]);
                bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            }
            let Ok((batch, _)) = Batch::parse_first(Bytes::from(bytes)) else {
                return false;
            };
            let Ok(records) = batch.iter(MOST) else {
                return false;
            };
            let bytes: usize = records
                .flatten()
                .map(|record| {
                    record.key.map_or(0, |key| key.len())
                        + record.value.map_or(0, |value| value.len())
                })
                .sum();
            assert!(bytes <= MOST, "{bytes} bytes of records where {MOST} are allowed");
            true
        });
        assert!(taken > 0);
    }
}

/// Whole folders: whatever is in them, the journal opens or says why not, and serves nothing that was not written.
#[test]
fn folders() {
    let disk = MemoryDisk::default();
    let (journal, mut state) = open(disk.clone(), &small_options()).unwrap();
    let mut known: Vec<BatchEntry> = Vec::new();
    let mut random = Random(9);
    for n in 0..14u8 {
        let mut append = random_append(&state, &mut random, 1500);
        append.facts.push(fact(&[n], Some(&[n])));
        if n == 0 {
            append = super::support::next_append(&state, &[(9, batch(&[b"first"]))], &[]);
        }
        let permit = admit(&journal, append.encoded_len());
        state.apply_append(&append, 0);
        known.extend(append.batches.iter().cloned());
        block_on(journal.append(permit, append)).unwrap();
    }
    journal.close().unwrap();
    let files = disk.files();
    let names = files.names();
    let (mut opened, mut refused) = (0, 0);
    for n in 0..Effort::of_this_run().times(TRIES / 20) as u64 {
        let mut random = Random(n);
        let mut image = files.clone();
        for _ in 0..=random.below(3) {
            let name = &names[random.below(names.len() as u64) as usize];
            image.damage(name, |content| *content = mutated(content, &mut random));
        }
        let Ok((journal, state)) = open_idle(MemoryDisk::new(image), &small_options()) else {
            refused += 1;
            continue;
        };
        opened += 1;
        for (partition, _) in state.partitions() {
            let mut from = journal.log_start(partition);
            while from < journal.durable_end(partition) {
                let Ok(batches) = journal.read(partition, from, 1 << 20) else {
                    from = Offset(from.0 + 1);
                    continue;
                };
                for bytes in batches {
                    let stored = Batch::parse_stored(bytes).unwrap();
                    let base = Offset(stored.header().base_offset);
                    let written = known
                        .iter()
                        .find(|entry| (entry.partition, entry.base_offset) == (partition, base));
                    let same = written
                        .is_some_and(|entry| entry.batch.bytes()[16..] == stored.bytes()[16..]);
                    assert!(same, "seed {n}: {partition:?} {base:?} was not written like that");
                    from = Offset(stored.header().last_offset() + 1);
                }
            }
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened > 0);
}
