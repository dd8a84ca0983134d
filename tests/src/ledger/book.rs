//! The notes: one line per event, durable before the event counts.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use super::record::RecordId;

/// A run of a producer's records in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Partition.
    pub partition: i32,
    /// First record.
    pub first: RecordId,
    /// How many, of consecutive numbers.
    pub count: u64,
}

/// What is noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// About to be sent, for the first time.
    Sent(Run),
    /// The broker says that it is durable from this offset on.
    Acknowledged(Run, i64),
    /// The broker says that it did not take it.
    Refused(Run, i16),
    /// A consumer saw this record at this offset of a partition.
    Seen(i32, i64, RecordId),
    /// What must not happen, noticed while it happened.
    Broken(String),
}

/// A file of notes.
#[derive(Debug)]
pub struct Book {
    file: File,
    pending: String,
}

impl Book {
    /// A new file.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create_new(path)?, pending: String::new() })
    }

    /// Writes a line, not yet durable.
    pub fn note(&mut self, note: &Note) {
        let out = &mut self.pending;
        let run = |out: &mut String, kind: char, run: &Run, more: i64| {
            let Run { partition, first, count } = run;
            writeln!(out, "{kind} {partition} {} {} {count} {more}", first.producer, first.number)
        };
        let written = match note {
            Note::Sent(sent) => run(out, 'S', sent, 0),
            Note::Acknowledged(acked, offset) => run(out, 'A', acked, *offset),
            Note::Refused(refused, code) => run(out, 'R', refused, i64::from(*code)),
            Note::Seen(partition, offset, id) => {
                let seen = Run { partition: *partition, first: *id, count: 1 };
                run(out, 'V', &seen, *offset)
            }
            Note::Broken(what) => writeln!(out, "X {}", what.replace('\n', " ")),
        };
        written.expect("a string takes everything");
    }

    /// Hands the lines to the file.
    pub fn write(&mut self) -> io::Result<()> {
        self.file.write_all(self.pending.as_bytes())?;
        self.pending.clear();
        Ok(())
    }

    /// Makes the lines durable; what they say counts from here on.
    pub fn settle(&mut self) -> io::Result<()> {
        self.write()?;
        self.file.sync_data()
    }
}

/// All books of a folder.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Partition of each run that was sent, by its first record.
    pub sent: BTreeMap<RecordId, Run>,
    /// Acknowledged runs with their offsets.
    pub acknowledged: Vec<(Run, i64)>,
    /// Refused runs.
    pub refused: Vec<Run>,
    /// Seen by a consumer: partition, offset, record.
    pub seen: Vec<(i32, i64, RecordId)>,
    /// What must not happen and did.
    pub broken: Vec<String>,
}

impl Books {
    /// Reads every `.book` of a folder. A torn last line is no note.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut books = Self::default();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "book") {
                let text = fs::read_to_string(&path)?;
                let whole = text.rfind('\n').map_or("", |end| &text[..end]);
                for line in whole.lines() {
                    let note = parse(line).ok_or_else(|| io::Error::other(line.to_owned()))?;
                    books.add(note);
                }
            }
        }
        Ok(books)
    }

    /// Takes a note.
    pub fn add(&mut self, note: Note) {
        match note {
            Note::Sent(run) => {
                self.sent.insert(run.first, run);
            }
            Note::Acknowledged(run, offset) => self.acknowledged.push((run, offset)),
            Note::Refused(run, _) => self.refused.push(run),
            Note::Seen(partition, offset, id) => self.seen.push((partition, offset, id)),
            Note::Broken(what) => self.broken.push(what),
        }
    }

    /// The run that a record was sent in.
    #[must_use]
    pub fn run_of(&self, id: RecordId) -> Option<&Run> {
        let (_, run) = self.sent.range(..=id).next_back()?;
        let within = run.first.producer == id.producer && id.number < run.first.number + run.count;
        within.then_some(run)
    }
}

fn parse(line: &str) -> Option<Note> {
    let (kind, rest) = line.split_once(' ')?;
    if kind == "X" {
        return Some(Note::Broken(rest.to_owned()));
    }
    let mut fields = rest.split(' ');
    let partition = fields.next()?.parse().ok()?;
    let producer = fields.next()?.parse().ok()?;
    let number = fields.next()?.parse().ok()?;
    let count = fields.next()?.parse().ok()?;
    let more: i64 = fields.next()?.parse().ok()?;
    let first = RecordId { producer, number };
    let run = Run { partition, first, count };
    match kind {
        "S" => Some(Note::Sent(run)),
        "A" => Some(Note::Acknowledged(run, more)),
        "R" => Some(Note::Refused(run, i16::try_from(more).ok()?)),
        "V" => Some(Note::Seen(partition, more, first)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let run = Run { partition: 1, first: RecordId { producer: 2, number: 30 }, count: 4 };
        let mut book = Book::create(&folder.path().join("a.book")).unwrap();
        let notes = [
            Note::Sent(run),
            Note::Acknowledged(run, 77),
            Note::Refused(run, 19),
            Note::Seen(1, 78, RecordId { producer: 2, number: 31 }),
            Note::Broken("two\nlines".into()),
        ];
        notes.iter().for_each(|note| book.note(note));
        book.settle().unwrap();
        book.pending.push_str("A 1 2");
        book.write().unwrap();
        let books = Books::read(folder.path()).unwrap();
        assert_eq!(books.acknowledged, [(run, 77)]);
        assert_eq!((books.refused.len(), books.seen.len(), books.broken.len()), (1, 1, 1));
        assert_eq!(books.run_of(RecordId { producer: 2, number: 33 }), Some(&run));
        for number in [29, 34] {
            assert_eq!(books.run_of(RecordId { producer: 2, number }), None);
        }
    }
}
