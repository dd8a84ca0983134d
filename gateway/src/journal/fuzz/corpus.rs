//! Examples of everything that is stored: what a short life of a journal left on a disk, taken apart.

use std::time::Duration;

use super::ID;
use crate::{
    journal::{
        Append, BatchEntry, Fact, Journal, JournalOptions, Offset, PartitionId, Position, Space,
        State,
        format::{
            CHUNK_HEADER_BYTES, ChunkHeader, ENTRY_HEADER_BYTES, EntryHeader, EntryKind,
            FRAME_HEADER_BYTES, FrameHeader, SEGMENT_HEADER_BYTES, SegmentHeader, entry_size,
        },
        open,
        sim::{Files, SimDisk},
    },
    record::{Batch, BatchBuilder, Compression, TransactionMarker, TransactionOutcome},
};

/// Examples by what they are.
#[derive(Clone, Debug, Default)]
pub struct Corpus {
    pub(super) segment_headers: Vec<Vec<u8>>,
    pub(super) frame_headers: Vec<Vec<u8>>,
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) facts: Vec<Vec<u8>>,
    pub(super) slices: Vec<Vec<u8>>,
    pub(super) barriers: Vec<Vec<u8>>,
    pub(super) batches: Vec<Vec<u8>>,
    pub(super) markers: Vec<Vec<u8>>,
    pub(super) chunks: Vec<Vec<u8>>,
}

/// Short: every mutation of a long example changes less of it.
const APPENDS: u8 = 24;
const TIME_MS: i64 = 1_700_000_000_000;
const COMPRESSIONS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

impl Corpus {
    /// Runs a journal on a simulated disk and takes apart what it left.
    ///
    /// # Panics
    /// If the journal does not work.
    #[must_use]
    pub fn of_a_short_life() -> Self {
        let disk = SimDisk::default();
        // Twice, so that there is a barrier with something before it.
        for life in 0..2 {
            let (journal, mut state) = open(disk.clone(), &options()).expect("it opens");
            for number in 0..APPENDS {
                let next = next(&state, life * APPENDS + number);
                append(&journal, &mut state, next);
            }
            if life == 1 {
                journal.close().expect("it closes");
            }
        }
        let mut corpus = Self::default();
        corpus.take_apart(&disk.files());
        corpus
    }

    fn take_apart(&mut self, files: &Files) {
        for name in files.names() {
            let content = files.content(&name);
            if name.ends_with(".seg") {
                self.segment(content);
            } else if name.ends_with(".idx") {
                self.index(content);
            }
        }
    }

    fn segment(&mut self, content: &[u8]) {
        let Ok(header) = SegmentHeader::decode(content) else { return };
        self.segment_headers.push(content[..SEGMENT_HEADER_BYTES as usize].to_vec());
        let mut at = SEGMENT_HEADER_BYTES as usize;
        while let Some(bytes) =
            content.get(at..).and_then(<[u8]>::first_chunk::<FRAME_HEADER_BYTES>)
        {
            let position = header.first.plus(at as u64);
            let Some((frame, _)) = FrameHeader::decode(bytes, ID.seed(), position) else { break };
            self.frame_headers.push(with_place(position, bytes));
            let entries = &content[at + FRAME_HEADER_BYTES..];
            self.frame(&entries[..frame.entries_bytes as usize], position);
            at += frame.length() as usize;
        }
    }

    fn frame(&mut self, mut entries: &[u8], frame: Position) {
        let mut position = frame.plus(FRAME_HEADER_BYTES as u64);
        while let Some(header) = entries.first_chunk::<ENTRY_HEADER_BYTES>() {
            let header = EntryHeader::decode(header, ID.seed(), position).expect("it was written");
            let whole = &entries[..ENTRY_HEADER_BYTES + header.length as usize];
            self.entries.push(with_place(position, whole));
            let payload = whole[ENTRY_HEADER_BYTES..].to_vec();
            match header.kind {
                EntryKind::Batch => self.batch(payload),
                EntryKind::Fact => self.facts.push(payload),
                EntryKind::Slice => self.slices.push(payload),
                EntryKind::Barrier => self.barriers.push(payload),
                EntryKind::Close => {}
            }
            let size = entry_size(header.length as usize);
            position = position.plus(size as u64);
            entries = entries.get(size..).unwrap_or_default();
        }
    }

    fn batch(&mut self, payload: Vec<u8>) {
        match TransactionMarker::read(&payload) {
            Ok(Some(_)) => self.markers.push(payload),
            _ => self.batches.push(payload),
        }
    }

    fn index(&mut self, content: &[u8]) {
        let mut at = 0;
        while let Some(header) = content.get(at..).and_then(<[u8]>::first_chunk) {
            let Some(chunk) = ChunkHeader::decode(header, ID.seed(), at as u64) else { break };
            let length = CHUNK_HEADER_BYTES + chunk.payload_bytes as usize;
            self.chunks.push(content[at..at + length].to_vec());
            at += chunk.length() as usize;
        }
    }
}

/// Puts the place before bytes whose CRC covers it.
fn with_place(position: Position, bytes: &[u8]) -> Vec<u8> {
    [&position.0.to_le_bytes()[..], bytes].concat()
}

fn options() -> JournalOptions {
    JournalOptions {
        max_bytes: Some(8 << 20),
        segment_bytes: Some(64 << 10),
        space_retry: Duration::from_millis(1),
        retire: false,
        index_interval_bytes: 16 << 10,
        new_id: Some(ID),
        ..JournalOptions::default()
    }
}

/// The next append: batches of every codec, with and without producers and transactions, facts, log starts.
fn next(state: &State, number: u8) -> Append {
    let compression = COMPRESSIONS[usize::from(number) % COMPRESSIONS.len()];
    let mut builder = BatchBuilder::compressed(compression);
    for record in 0..=number % 3 {
        let value = [record; 24];
        builder.push(TIME_MS + i64::from(number), Some(b"key"), Some(&value), &[(b"name", b"is")]);
    }
    let batch = builder.finish().expect("not empty");
    let (producer, sequence) = (i64::from(number % 2) + 1, i32::from(number) * 10);
    let outcome =
        if number & 8 == 0 { TransactionOutcome::Commit } else { TransactionOutcome::Abort };
    let batch = match number % 6 {
        0 => Ok(batch),
        1 | 2 => batch.with_producer(producer, 0, sequence),
        3 | 4 => batch.with_producer(producer + 2, 0, sequence).and_then(|it| it.in_transaction()),
        _ => TransactionMarker { outcome, coordinator_epoch: 1 }.batch(producer + 2, 0, TIME_MS),
    };
    let batch: Batch = batch.expect("a batch as a broker takes it");
    let partition = PartitionId(u32::from(number / 6 % 3));
    let end = state.partition(partition).log_end;
    let entry =
        BatchEntry { partition, base_offset: end, leader_epoch: state.leader_epoch(), batch };
    let key = vec![b'k', number % 5].into();
    let value = (!number.is_multiple_of(4)).then(|| vec![number; 12].into());
    let mut facts = vec![Fact { space: Space(1 + number % 2), key, value }];
    if number % 7 == 6 {
        facts.push(Fact::log_start(partition, Offset(end.0 / 2)));
    }
    Append { batches: vec![entry], facts }
}

fn append(journal: &Journal, state: &mut State, append: Append) {
    let permit = loop {
        // Segments are prepared on another thread.
        match journal.admit(append.encoded_len()) {
            Ok(permit) => break permit,
            Err(_) => std::thread::yield_now(),
        }
    };
    state.apply_append(&append, 0);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(journal.append(permit, append)).expect("it becomes durable");
}
