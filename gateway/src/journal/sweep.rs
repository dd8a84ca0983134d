//! Entries for one reader or for many, in the order that they lie in: a region is read once, whoever wants parts of it.

use std::{io, mem, ops::Range, slice};

use bytes::Bytes;

use super::{
    Position, ReadError,
    disk::aligned,
    format::ALIGN,
    log::Source,
    reader::{self, StoredBatch},
    shared::Shared,
};

/// What nobody wants between two wanted entries is read through up to this: cheaper than another call.
const MAX_GAP_BYTES: u64 = 16 * 1024;
/// Most read at once, unless one entry is larger.
const MAX_RUN_BYTES: u64 = 1024 * 1024;

/// Reads what each reader wants: its batches in its own order, up to the first one that fails; the error, if that
/// is the very first.
pub(super) fn sweep(
    shared: &Shared,
    wanted: &[&[Source]],
) -> Vec<Result<Vec<StoredBatch>, ReadError>> {
    let mut pieces = Vec::new();
    for (reader, sources) in wanted.iter().enumerate() {
        let of_reader = sources.iter().enumerate();
        pieces.extend(of_reader.map(|(place, source)| Piece { source, reader, place }));
    }
    pieces.sort_by_key(Piece::position);
    let answers = wanted.iter().map(|sources| Answer::of(sources.len())).collect();
    let mut sweep = Sweep { shared, answers, scratch: Vec::new() };
    let mut rest = pieces.as_slice();
    while let Some(first) = rest.first() {
        let is_known = sweep.take_from_memory(first);
        let (run, remaining) = rest.split_at(if is_known { 1 } else { run_length(rest) });
        if !is_known {
            sweep.read_run(run);
        }
        rest = remaining;
    }
    sweep.answers.into_iter().map(Answer::finish).collect()
}

/// An entry that a reader wants.
#[derive(Debug)]
struct Piece<'a> {
    source: &'a Source,
    reader: usize,
    /// Among all that the reader wants.
    place: usize,
}

#[derive(Debug)]
struct Sweep<'a> {
    shared: &'a Shared,
    answers: Vec<Answer>,
    /// For what is read only to be copied from.
    scratch: Vec<u8>,
}

/// What one reader gets.
#[derive(Debug)]
struct Answer {
    found: Vec<Option<StoredBatch>>,
    /// The first place that failed.
    failed: Option<(usize, ReadError)>,
}

impl Sweep<'_> {
    /// True if the entry was there.
    fn take_from_memory(&mut self, piece: &Piece<'_>) -> bool {
        let found = reader::in_memory(self.shared.seed, &self.shared.tail, piece.source);
        let is_known = found.is_some();
        if let Some(batch) = found {
            self.put(piece, Ok(batch));
        }
        is_known
    }

    fn read_run(&mut self, run: &[Piece<'_>]) {
        let Some(first) = run.first().filter(|_| run.iter().any(|piece| self.wants(piece))) else {
            return;
        };
        // From a whole block on, as disks have them.
        let segment = &first.source.segment;
        let from = Position(first.position().0 / ALIGN * ALIGN);
        let end = run.iter().map(Piece::end).max().unwrap_or_default();
        let length = (end.0 - from.0) as usize;
        let (file, at) = (&segment.file, segment.at(from));
        let is_kept = is_worth_keeping(run, length);
        let mut memory = if is_kept { Vec::new() } else { mem::take(&mut self.scratch) };
        let origin = aligned(&mut memory, length);
        memory.resize(origin + length, 0);
        let read = file.read_at(memory.get_mut(origin..).unwrap_or_default(), at);
        let read = if is_kept {
            let buffer = Bytes::from(memory).slice(origin..);
            read.map(|()| self.put_run(run, from, |range| buffer.slice(range)))
        } else {
            let content = memory.get(origin..).unwrap_or_default();
            let part = |range| Bytes::copy_from_slice(content.get(range).unwrap_or_default());
            let read = read.map(|()| self.put_run(run, from, part));
            self.scratch = memory;
            read
        };
        match (read, run) {
            (Ok(()), _) => {}
            (Err(error), [piece]) => self.put(piece, Err(failed(error, piece.position()))),
            // What cannot be read may be somebody else's, or nobody's: each for itself.
            (Err(_), run) => run.iter().for_each(|piece| self.read_run(slice::from_ref(piece))),
        }
    }

    /// Gives out what was read of a run, from a place on.
    fn put_run(&mut self, run: &[Piece<'_>], from: Position, part: impl Fn(Range<usize>) -> Bytes) {
        let mut last: Option<(Position, StoredBatch)> = None;
        for piece in run {
            let again = last.as_ref().filter(|(position, _)| *position == piece.position());
            let batch = if let Some((_, batch)) = again {
                Ok(batch.clone())
            } else {
                let at = (piece.position().0 - from.0) as usize;
                let entry = part(at..at + piece.source.location.length as usize);
                reader::verify(self.shared.seed, piece.source, &entry)
            };
            if let Ok(batch) = &batch {
                last = Some((piece.position(), batch.clone()));
            }
            self.put(piece, batch);
        }
    }

    fn put(&mut self, piece: &Piece<'_>, batch: Result<StoredBatch, ReadError>) {
        let is_wanted = self.wants(piece);
        let Some(answer) = self.answers.get_mut(piece.reader).filter(|_| is_wanted) else { return };
        match batch {
            Err(error) => answer.failed = Some((piece.place, error)),
            Ok(batch) => answer.found[piece.place] = Some(batch),
        }
    }

    /// Whether an entry is of use: nothing is, behind one that failed.
    fn wants(&self, piece: &Piece<'_>) -> bool {
        let failed = self.answers.get(piece.reader).and_then(|answer| answer.failed.as_ref());
        failed.is_none_or(|(place, _)| piece.place < *place)
    }
}

impl Piece<'_> {
    fn position(&self) -> Position {
        self.source.location.position
    }

    fn end(&self) -> Position {
        self.position().plus(u64::from(self.source.location.length))
    }
}

impl Answer {
    fn of(places: usize) -> Self {
        let found = (0..places).map(|_| None).collect();
        Self { found, failed: None }
    }

    fn finish(self) -> Result<Vec<StoredBatch>, ReadError> {
        match self.failed {
            Some((0, error)) => Err(error),
            failed => {
                let places = failed.map_or(self.found.len(), |(place, _)| place);
                Ok(self.found.into_iter().take(places).flatten().collect())
            }
        }
    }
}

/// How many of the pieces lie close enough to be read at once.
fn run_length(pieces: &[Piece<'_>]) -> usize {
    let Some(first) = pieces.first() else {
        return 0;
    };
    let mut end = first.end();
    let near = |piece: &&Piece<'_>| {
        // Two readers may want the same one.
        let gap = piece.position().0.saturating_sub(end.0);
        end = end.max(piece.end());
        piece.source.segment.header.first == first.source.segment.header.first
            && gap <= MAX_GAP_BYTES
            && end.0 - first.position().0 <= MAX_RUN_BYTES
    };
    1 + pieces.iter().skip(1).take_while(near).count()
}

/// A batch that is a part of what was read keeps all of it in memory. That is fine where most of it is the same
/// reader's; elsewhere a reader would hold many times of what it asked for.
fn is_worth_keeping(run: &[Piece<'_>], length: usize) -> bool {
    let is_ones = run.iter().all(|piece| Some(piece.reader) == run.first().map(|it| it.reader));
    let wanted: usize = run.iter().map(|piece| piece.source.location.length as usize).sum();
    is_ones && wanted * 2 >= length
}

fn failed(error: io::Error, position: Position) -> ReadError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Damaged { position },
        _ => error.into(),
    }
}
