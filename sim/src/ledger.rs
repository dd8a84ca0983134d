//! The test ledger: its lines, the file a device appends them to, and what a whole file says.
//!
//! The format is `tests/LEDGER.md`; boards write the same lines to their second UART.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `X`: the device started.
    Started {
        /// Persisted boot counter.
        boot: u64,
        /// `power`, `reset`, `watchdog`, `panic` or `unknown`.
        cause: String,
    },
    /// `S`: the device runs under this stream from here on.
    Stream {
        /// Boot counter.
        boot: u64,
        /// 64 random bits.
        stream: u64,
    },
    /// `R`: a reading was sampled.
    Reading {
        /// Boot counter.
        boot: u64,
        /// Number within the boot.
        seq: u64,
        /// One code per channel in schema order.
        codes: Codes,
    },
    /// `B`: readings were sealed into a BLOCK item.
    Block {
        /// Boot counter.
        boot: u64,
        /// Item number within the boot.
        item: u64,
        /// The readings.
        range: Range,
    },
    /// `G`: readings were dropped and a GAP item queued.
    Gap {
        /// Boot counter.
        boot: u64,
        /// The readings.
        range: Range,
        /// `overflow-oldest` or `overflow-newest`.
        reason: String,
    },
    /// `A`: everything up to and including this item is durable.
    Acknowledged {
        /// Boot counter.
        boot: u64,
        /// Item number within the boot.
        item: u64,
    },
}

/// Codes of a reading; `None` is a missing channel.
pub type Codes = Box<[Option<i64>]>;

/// Readings `first .. first + count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First `seq`.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Range {
    /// One past the last `seq`.
    #[must_use]
    pub fn end(self) -> u64 {
        self.first.saturating_add(self.count)
    }
}

impl Line {
    /// Reads one line; `None` for anything that is not a whole line of the format.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(' ');
        let kind = fields.next()?;
        let boot = fields.next()?.parse().ok()?;
        let mut number = || fields.next()?.parse::<u64>().ok();
        let line = match kind {
            "X" => Self::Started { boot, cause: word(fields.next()?)? },
            "S" => Self::Stream { boot, stream: parse_stream(fields.next()?)? },
            "R" => {
                let seq = number()?;
                let codes = fields.by_ref().map(parse_code).collect::<Option<Codes>>()?;
                Self::Reading { boot, seq, codes }
            }
            "B" => {
                let item = number()?;
                Self::Block { boot, item, range: Range { first: number()?, count: number()? } }
            }
            "G" => {
                let range = Range { first: number()?, count: number()? };
                Self::Gap { boot, range, reason: word(fields.next()?)? }
            }
            "A" => Self::Acknowledged { boot, item: number()? },
            _ => return None,
        };
        fields.next().is_none().then_some(line)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { boot, cause } => write!(f, "X {boot} {cause}"),
            Self::Stream { boot, stream } => write!(f, "S {boot} {stream:016x}"),
            Self::Reading { boot, seq, codes } => {
                write!(f, "R {boot} {seq}")?;
                codes.iter().try_for_each(|code| match code {
                    Some(code) => write!(f, " {code}"),
                    None => f.write_str(" -"),
                })
            }
            Self::Block { boot, item, range: Range { first, count } } => {
                write!(f, "B {boot} {item} {first} {count}")
            }
            Self::Gap { boot, range: Range { first, count }, reason } => {
                write!(f, "G {boot} {first} {count} {reason}")
            }
            Self::Acknowledged { boot, item } => write!(f, "A {boot} {item}"),
        }
    }
}

fn word(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    (!text.is_empty() && text.bytes().all(plain)).then(|| text.to_owned())
}

/// A stream as the ledger and the record header `stream` write it: 16 hex digits.
#[must_use]
pub fn parse_stream(text: &str) -> Option<u64> {
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok())?
}

fn parse_code(text: &str) -> Option<Option<i64>> {
    if text == "-" { Some(None) } else { text.parse().ok().map(Some) }
}

/// Appends lines to a device's file; what [`LedgerFile::flush`] was called for survives a kill.
#[derive(Debug)]
pub struct LedgerFile {
    file: File,
    pending: Vec<u8>,
}

impl LedgerFile {
    /// Opens for appending; a torn last line of a killed run is closed first, so that it never
    /// reads as a whole line with half a number.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut pending = Vec::new();
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                pending.extend_from_slice(TORN);
            }
        }
        Ok(Self { file, pending })
    }

    /// Notes a line in memory: a [`Line`], or an event of the firmware, which shows itself as one.
    pub fn push(&mut self, line: &impl fmt::Display) {
        // Writing to memory does not fail.
        let _ = writeln!(self.pending, "{line}");
    }

    /// Hands all lines to the operating system, in one write.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.file.write_all(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }
}

/// Everything one device said of itself.
#[derive(Clone, Debug, Default)]
pub struct DeviceLedger {
    /// Device id.
    pub device: String,
    /// Its starts, in order.
    pub runs: Vec<Run>,
}

/// One start of a device.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Boot counter.
    pub boot: u64,
    /// The streams it ran under: none if it never got one, several if the gateway gave it another.
    pub streams: Vec<u64>,
    /// Readings by `seq`.
    pub readings: BTreeMap<u64, Codes>,
    /// Blocks by item number.
    pub blocks: BTreeMap<u64, Range>,
    /// What was dropped.
    pub gaps: Vec<Range>,
    /// Last item that was acknowledged as durable.
    pub acknowledged: Option<u64>,
}

impl DeviceLedger {
    /// Reads a device's ledger file.
    pub fn read(device: &str, path: &Path) -> io::Result<Self> {
        // A serial line may have garbled a byte: such a line is ignored, not an error.
        Ok(Self::parse(device, &String::from_utf8_lossy(&std::fs::read(path)?)))
    }

    /// Reads the text of a ledger; unknown lines and a torn last line are ignored.
    #[must_use]
    pub fn parse(device: &str, text: &str) -> Self {
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or(""));
        let mut ledger = Self { device: device.to_owned(), runs: Vec::new() };
        for line in whole.lines().filter_map(Line::parse) {
            ledger.apply(line);
        }
        ledger
    }

    fn apply(&mut self, line: Line) {
        match line {
            // On a busy machine the first reading may be written before the start that it belongs to.
            Line::Started { boot, .. } if self.has_begun(boot) => {}
            Line::Started { boot, .. } => self.runs.push(Run { boot, ..Run::default() }),
            Line::Stream { boot, stream } => self.run(boot).streams.push(stream),
            Line::Reading { boot, seq, codes } => {
                self.run(boot).readings.insert(seq, codes);
            }
            Line::Block { boot, item, range } => {
                self.run(boot).blocks.insert(item, range);
            }
            Line::Gap { boot, range, .. } => self.run(boot).gaps.push(range),
            Line::Acknowledged { boot, item } => {
                let run = self.run(boot);
                run.acknowledged = run.acknowledged.max(Some(item));
            }
        }
    }

    /// Whether there are readings of this boot, of which nothing else is known yet.
    fn has_begun(&self, boot: u64) -> bool {
        let is_bare = |run: &Run| run.streams.is_empty() && run.blocks.is_empty();
        let began = |run: &Run| run.boot == boot && !run.readings.is_empty() && is_bare(run);
        self.runs.last().is_some_and(began)
    }

    /// The latest start with this boot counter.
    fn run(&mut self, boot: u64) -> &mut Run {
        let index = self.runs.iter().rposition(|run| run.boot == boot).unwrap_or_else(|| {
            self.runs.push(Run { boot, ..Run::default() });
            self.runs.len() - 1
        });
        &mut self.runs[index]
    }
}

/// Ends a torn line: no line of the format has such a field.
const TORN: &[u8] = b" ?\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_back_as_written() {
        for text in [
            "X 3 power",
            "S 3 00000000000000ff",
            "R 3 0 2150 -41 -",
            "R 3 1",
            "B 3 7 0 12",
            "G 3 12 5 overflow-oldest",
            "A 3 7",
        ] {
            let line = Line::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(line.to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_whole_line_is_ignored() {
        for text in [
            "",
            "X",
            "X 3",
            "X 3 ",
            "X 3 power 1",
            "S 3 ff",
            "S 3 zz000000000000ff",
            "R 3",
            "R 3 x",
            "R 3 1 2.5",
            "B 3 7 0",
            "B 3 7 0 1 2",
            "G 3 1 2",
            "A 3",
            "A -3 1",
            "Z 1 2",
            "R  3 1 2",
        ] {
            assert_eq!(Line::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_torn_last_line_is_no_line_and_the_next_run_starts_on_its_own() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("d.ledger");
        std::fs::write(&path, "X 1 power\nR 1 0 5\nR 1 1 66").expect("written");
        assert_eq!(DeviceLedger::read("d", &path).expect("read").runs[0].readings.len(), 1);

        let mut file = LedgerFile::open(&path).expect("opened");
        file.push(&Line::Started { boot: 2, cause: "reset".into() });
        file.flush().expect("flushed");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text, "X 1 power\nR 1 0 5\nR 1 1 66 ?\nX 2 reset\n");
        let ledger = DeviceLedger::read("d", &path).expect("read");
        assert_eq!(ledger.runs[0].readings.len(), 1);
    }

    #[test]
    fn a_ledger_is_its_starts() {
        let text = "X 1 power\nR 1 0 5\nS 1 00000000000000aa\nB 1 2 0 1\nnoise\nA 1 2\nA 1 1\n\
                    X 2 reset\nS 2 00000000000000aa\nR 2 0 6\nG 2 0 1 overflow-oldest\n";
        let ledger = DeviceLedger::parse("d", text);
        let [first, second] = &ledger.runs[..] else { panic!("{ledger:?}") };
        assert_eq!((first.boot, &first.streams[..], first.acknowledged), (1, &[0xaa][..], Some(2)));
        assert_eq!(first.blocks[&2], Range { first: 0, count: 1 });
        assert_eq!((second.boot, second.acknowledged), (2, None));
        assert_eq!(second.gaps, [Range { first: 0, count: 1 }]);
    }
}
