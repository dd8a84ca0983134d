//! Reads all of a journal and lists what is wrong. It believes nothing but the frames themselves: no index file, no state.

use std::{collections::BTreeMap, io};

use super::{
    Finding, FindingKind, Lost,
    accepted::Accepted,
    cold::{self, ColdPass},
};
use crate::journal::{
    Disk, JournalId, Offset, OpenError, PartitionId, Position, State,
    format::{ALIGN, EntryKind, SEGMENT_HEADER_BYTES, Seed, SegmentHeader},
    index::{Coverage, Findings, index_name},
    recovery::{self, Damage, End, FoundEntry, Laid, Layout, Scanner, Step, Tail},
    segment::Segment,
};

/// Findings listed; more of them are counted.
pub const MAX_FINDINGS: usize = 10_000;

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes looked at.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// What a verification found.
#[derive(Debug)]
pub struct Verdict {
    /// Which journal it is.
    pub journal: JournalId,
    /// Segments of the log.
    pub segments: u64,
    /// Cold segments of the log.
    pub cold_segments: u64,
    /// Intact frames.
    pub frames: u64,
    /// Intact batches, those in damaged frames included.
    pub batches: u64,
    /// Intact entries of any kind.
    pub entries: u64,
    /// Bytes of log.
    pub bytes: u64,
    /// Whether the journal was closed in order.
    pub closed: bool,
    /// What is wrong, in the order of the log.
    pub findings: Vec<Finding>,
    /// Findings that were too many to list.
    pub unlisted: u64,
    /// What the entries add up to, as far as they can be read.
    pub state: State,
}

impl Verdict {
    /// Whether nothing is damaged but what was accepted.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.unlisted == 0 && !self.findings.iter().any(Finding::is_open)
    }
}

/// Verifies the journal in a data folder. None: there is none.
pub fn verify(
    disk: &dyn Disk,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Verdict>, OpenError> {
    let Some(layout) = Layout::find(disk)? else { return Ok(None) };
    let mut pass = Pass::new(&layout);
    for (from, to) in &layout.missing {
        let behind = layout.links.iter().find(|link| link.segment.header.first >= *to);
        let file = behind.map_or("journal", |link| &link.name);
        let length = to.0 - from.0;
        pass.missing.push(Finding::new(FindingKind::MissingSegment, file, 0, *from, length));
    }
    let cold = cold::files(disk).map_err(OpenError::io("list the cold segments"))?;
    let total_bytes = layout.links.iter().map(length_of).sum::<u64>()
        + cold.iter().map(|(_, length)| length).sum::<u64>();
    let mut done_bytes = 0;
    for (index, link) in layout.links.iter().enumerate() {
        let is_last = index + 1 == layout.links.len();
        let mut passed = |bytes: u64| {
            let done_bytes = (done_bytes + bytes).min(total_bytes);
            progress(Progress { done_bytes, total_bytes });
        };
        pass.segment(disk, link, is_last, &mut passed)
            .map_err(OpenError::io(format!("read {}", link.name)))?;
        done_bytes += length_of(link);
    }
    let mut passed = |bytes: u64| {
        done_bytes = (done_bytes + bytes).min(total_bytes);
        progress(Progress { done_bytes, total_bytes });
    };
    pass.cold(disk, &mut passed).map_err(OpenError::io("read a cold segment"))?;
    progress(Progress { done_bytes: total_bytes, total_bytes });
    Ok(Some(pass.conclude(&layout)))
}

/// Bytes of a segment that are part of the log, as far as they can be told before it was read.
fn length_of(link: &Laid) -> u64 {
    let header = link.segment.header;
    match link.end {
        End::Known(end) => end.0.saturating_sub(header.first.0),
        End::Open => link.segment.file.len().unwrap_or(header.length),
    }
}

/// One way through the log.
struct Pass {
    seed: Seed,
    journal: JournalId,
    state: State,
    /// One past the last offset seen of each partition; none where nothing tells.
    ends: BTreeMap<PartitionId, Offset>,
    /// First offset seen of each partition: what is before it is in cold segments.
    firsts: BTreeMap<PartitionId, Offset>,
    /// Whether a partition that is not in `ends` has had no batch before.
    knows_all: bool,
    last_crc: Option<u32>,
    closed: bool,
    cold_segments: u64,
    frames: u64,
    batches: u64,
    entries: u64,
    bytes: u64,
    findings: Vec<Finding>,
    /// Segments that are missing, until what lies behind them was looked at.
    missing: Vec<Finding>,
    unlisted: u64,
}

impl Pass {
    fn new(layout: &Layout) -> Self {
        let first = layout.links.first().map(|link| link.segment.header);
        Self {
            seed: layout.seed(),
            journal: layout.journal,
            state: State::default(),
            ends: BTreeMap::new(),
            firsts: BTreeMap::new(),
            cold_segments: 0,
            knows_all: first.is_some_and(|first| first.previous_end == Position(0)),
            last_crc: None,
            closed: false,
            frames: 0,
            batches: 0,
            entries: 0,
            bytes: 0,
            findings: Vec::new(),
            missing: Vec::new(),
            unlisted: 0,
        }
    }

    fn segment(
        &mut self,
        disk: &dyn Disk,
        link: &Laid,
        is_last: bool,
        passed: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        let segment = &*link.segment;
        let first = segment.header.first;
        while self.missing.first().is_some_and(|missing| missing.position < first) {
            let missing = self.missing.remove(0);
            self.add(missing);
        }
        let before = self.findings.len();
        self.enter(link);
        self.adopt_snapshot(link)?;
        let mut scanner = Scanner::new(segment, self.seed, link.end)?;
        loop {
            let at = scanner.position();
            let mut step = scanner.step();
            if matches!(step, Step::Damage(_)) {
                // Once more: a gateway may be writing here, and some errors pass.
                scanner = Scanner::resume(segment, self.seed, link.end, at)?;
                step = scanner.step();
            }
            match step {
                Step::Frame(frame) => {
                    self.chain(link, at, frame.header.previous_crc);
                    self.last_crc = Some(frame.crc);
                    self.frames += 1;
                    self.closed =
                        frame.entries.iter().any(|entry| entry.header.kind == EntryKind::Close);
                    self.take(link, &mut scanner, &frame.entries, frame.header.open_ms);
                }
                Step::Damage(damage) => self.damage(link, &mut scanner, &damage),
                Step::End(tail) => {
                    if is_last {
                        self.tail(&link.name, segment, at, tail);
                    }
                    self.bytes += at.0 - first.0;
                    break;
                }
            }
            passed(scanner.position().0 - first.0);
        }
        if was_used_again(segment) && !is_last {
            // It left the log while it was being read; what was found is not of this log.
            self.findings.truncate(before);
        }
        self.index(disk, link, is_last);
        Ok(())
    }

    fn enter(&mut self, link: &Laid) {
        let segment = &link.segment;
        let first = segment.header.first;
        if !link.header_intact {
            let kind = FindingKind::Header;
            self.add(Finding::new(kind, &link.name, 0, first, SEGMENT_HEADER_BYTES));
            self.last_crc = None;
            return;
        }
        self.chain(link, first, segment.header.previous_crc);
        self.last_crc = self.last_crc.map(|_| segment.header.previous_crc);
    }

    fn chain(&mut self, link: &Laid, at: Position, previous_crc: u32) {
        if self.last_crc.is_some_and(|crc| crc != previous_crc) {
            let place = link.segment.at(at);
            self.add(Finding::new(FindingKind::BrokenChain, &link.name, place, at, 0));
        }
    }

    /// The snapshot knows better than entries that cannot be read.
    fn adopt_snapshot(&mut self, link: &Laid) -> io::Result<()> {
        let found = recovery::snapshot(&link.segment, self.seed, link.end, &Coverage::default())?;
        let Some(state) = found.whole() else { return Ok(()) };
        let is_first = self.bytes == 0;
        for (partition, known) in state.partitions() {
            let seen = self.ends.get(&partition).copied().unwrap_or_default();
            if !is_first && seen < known.log_end {
                self.lose(link, link.segment.header.first, partition, (seen, known.log_end));
            }
            self.ends.insert(partition, seen.max(known.log_end));
        }
        self.knows_all = true;
        self.state = state;
        Ok(())
    }

    fn take(
        &mut self,
        link: &Laid,
        scanner: &mut Scanner<'_>,
        entries: &[FoundEntry],
        open_ms: u64,
    ) {
        for entry in entries {
            if entry.header.kind == EntryKind::Batch {
                self.batch(link, entry);
            }
            self.entries += u64::from(entry.intact);
            let payload = entry.intact.then(|| scanner.payload(entry));
            recovery::apply(&mut self.state, &entry.header, payload, open_ms);
        }
    }

    fn batch(&mut self, link: &Laid, entry: &FoundEntry) {
        let (partition, from, to) =
            (entry.header.partition, entry.header.base_offset, entry.header.end_offset());
        self.firsts.entry(partition).or_insert(from);
        let known = self.ends.get(&partition).copied();
        let known = known.or(self.knows_all.then_some(Offset(0))).unwrap_or(from);
        if from < known {
            let length = entry.header.size() as u64;
            let place = link.segment.at(entry.position);
            let kind = FindingKind::DoubledOffsets;
            let mut finding = Finding::new(kind, &link.name, place, entry.position, length);
            finding.survivors = u64::from(entry.intact);
            self.add(finding);
            return;
        }
        if known < from {
            self.lose(link, entry.position, partition, (known, from));
        }
        self.ends.insert(partition, to);
        self.batches += u64::from(entry.intact);
        if !entry.intact {
            self.lose(link, entry.position, partition, (from, to));
        }
    }

    fn damage(&mut self, link: &Laid, scanner: &mut Scanner<'_>, damage: &Damage) {
        let place = link.segment.at(damage.from);
        let length = damage.to.0 - damage.from.0;
        let kind = FindingKind::Damage;
        let mut finding = Finding::new(kind, &link.name, place, damage.from, length);
        let intact = damage.survivors.iter().filter(|entry| entry.intact).count();
        finding.survivors = intact as u64;
        finding.damaged_entries = (damage.survivors.len() - intact) as u64;
        self.add(finding);
        self.take(link, scanner, &damage.survivors, 0);
        self.last_crc = None;
        self.closed = false;
    }

    /// Notes that offsets are gone, with the damage that took them.
    fn lose(&mut self, link: &Laid, at: Position, partition: PartitionId, lost: (Offset, Offset)) {
        let lost = Lost { partition, from: lost.0, to: lost.1 };
        let cause = self.findings.iter_mut().rev().find(|finding| {
            !matches!(finding.kind, FindingKind::IndexMissing | FindingKind::IndexDamaged)
        });
        if let Some(cause) = cause.filter(|cause| cause.kind != FindingKind::DoubledOffsets) {
            cause.lose(lost);
            return;
        }
        let place = link.segment.at(at);
        let mut finding = Finding::new(FindingKind::MissingOffsets, &link.name, place, at, 0);
        finding.lose(lost);
        self.add(finding);
    }

    fn tail(&mut self, name: &str, segment: &Segment, at: Position, tail: Tail) {
        let length = match tail {
            Tail::Clean => return,
            Tail::Torn { length } => length,
            Tail::Unreadable => ALIGN,
        };
        self.add(Finding::new(FindingKind::TornTail, name, segment.at(at), at, length));
    }

    fn index(&mut self, disk: &dyn Disk, link: &Laid, is_last: bool) {
        let segment = &link.segment;
        let mut found = Findings::default();
        let coverage =
            Coverage::find(disk, self.seed, segment, link.end, link.next_crc, &mut found);
        let kind = match found {
            Findings { missing: 0, damaged: 0, stale: 0, .. } => return,
            Findings { missing: 0, .. } => FindingKind::IndexDamaged,
            // Of the segment in use it may not be there yet.
            _ if is_last => return,
            _ => FindingKind::IndexMissing,
        };
        let file = index_name(segment.header.sequence);
        let length = disk.open(&file).and_then(|file| file.len()).unwrap_or(0);
        let at = coverage.next_at().min(length);
        let position = coverage.end().unwrap_or(segment.header.frames());
        self.add(Finding::new(kind, &file, at, position, length - at));
    }

    /// What the state says is there besides; it was built from all others by now.
    fn cold(&mut self, disk: &dyn Disk, passed: &mut dyn FnMut(u64)) -> io::Result<()> {
        let found = ColdPass::run(disk, self.journal, &self.state, &self.firsts, passed)?;
        self.cold_segments = found.segments;
        self.batches += found.batches;
        self.entries += found.batches;
        self.bytes += found.bytes;
        // They hold what is oldest.
        let hot = std::mem::take(&mut self.findings);
        found.findings.into_iter().chain(hot).for_each(|finding| self.add(finding));
        Ok(())
    }

    fn add(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.unlisted += 1;
        }
    }

    fn conclude(mut self, layout: &Layout) -> Verdict {
        for missing in std::mem::take(&mut self.missing) {
            self.add(missing);
        }
        for (segment, tail) in &layout.torn {
            let name = crate::journal::segment::segment_name(segment.header.sequence);
            self.tail(&name, segment, segment.header.frames(), *tail);
        }
        for name in &layout.doubles {
            self.add(Finding::new(FindingKind::DoubledFile, name, 0, Position(0), 0));
        }
        let Self { state, mut findings, .. } = self;
        let accepted = Accepted::of(&state);
        for finding in &mut findings {
            finding.lost.retain_mut(|lost| still_wanted(&state, lost));
            finding.accepted_ms = accepted.when(finding);
        }
        // What was lost of a partition that nobody has any more is no loss.
        findings.retain(|it| it.kind != FindingKind::MissingOffsets || !it.lost.is_empty());
        Verdict {
            journal: self.journal,
            segments: layout.links.len() as u64,
            cold_segments: self.cold_segments,
            frames: self.frames,
            batches: self.batches,
            entries: self.entries,
            bytes: self.bytes,
            closed: self.closed,
            findings,
            unlisted: self.unlisted,
            state,
        }
    }
}

/// Offsets below a log start, and of a deleted partition, are no loss.
fn still_wanted(state: &State, lost: &mut Lost) -> bool {
    let start = state.partition(lost.partition).log_start;
    lost.from = lost.from.max(start);
    state.knows(lost.partition) && lost.from < lost.to
}

/// Whether the file holds another segment by now.
fn was_used_again(segment: &Segment) -> bool {
    let mut block = [0; SEGMENT_HEADER_BYTES as usize];
    let header =
        segment.file.read_at(&mut block, 0).ok().and_then(|()| SegmentHeader::decode(&block).ok());
    header.is_some_and(|header| header.first != segment.header.first)
}
