//! Cold segments as a verification sees them: each fact has its file, and each batch of its index is there.

use std::{collections::BTreeMap, io};

use super::{Finding, FindingKind, Lost};
use crate::journal::{
    Disk, JournalId, Offset, PartitionId, Position, Space, State,
    append::{Replaced, decode_cold_key},
    cold::{self, ColdError, ColdSegment},
    format::{ColdHeader, Seed},
    index::{PartitionIndex, Summary},
    recovery::{ColdStep, Scanner},
    segment::{COLD_FOLDER, cold_name, cold_sequence_of},
};

/// What was found in cold segments.
#[derive(Debug, Default)]
pub(super) struct ColdPass {
    /// Cold segments that are part of the log.
    pub(super) segments: u64,
    pub(super) batches: u64,
    pub(super) bytes: u64,
    pub(super) findings: Vec<Finding>,
    /// Which offsets they stand for, those that were cleaned away included.
    covered: BTreeMap<PartitionId, Vec<(Offset, Offset)>>,
}

/// Names and lengths of all files of cold segments.
pub(super) fn files(disk: &dyn Disk) -> io::Result<Vec<(u64, u64)>> {
    let names = disk.list(COLD_FOLDER)?;
    let sequences = names.iter().filter_map(|name| cold_sequence_of(name));
    let length = |sequence| disk.open(&cold_name(sequence)).and_then(|file| file.len());
    Ok(sequences.map(|sequence| (sequence, length(sequence).unwrap_or(0))).collect())
}

/// The header of a cold segment's file, if it is intact.
pub(super) fn header(disk: &dyn Disk, sequence: u64) -> Option<ColdHeader> {
    let mut block = vec![0; crate::journal::format::COLD_HEADER_BYTES as usize];
    disk.open(&cold_name(sequence)).ok()?.read_at(&mut block, 0).ok()?;
    ColdHeader::decode(&block)
}

impl ColdPass {
    /// Reads every cold segment that the state names. `first_hot` tells where a partition begins in the other segments.
    pub(super) fn run(
        disk: &dyn Disk,
        journal: JournalId,
        state: &State,
        first_hot: &BTreeMap<PartitionId, Offset>,
        passed: &mut dyn FnMut(u64),
    ) -> io::Result<Self> {
        let mut pass = Self::default();
        let mut lost = Vec::new();
        for (key, value) in state.facts(Space::JOURNAL) {
            let named = decode_cold_key(key).zip(Replaced::decode(value));
            let Some((sequence, place)) = named else { continue };
            match ColdSegment::open(disk, journal, sequence, place) {
                Ok((cold, summary, is_damaged)) => {
                    pass.segment(&cold, &summary, journal.seed(), is_damaged, passed)?;
                }
                Err(ColdError::Io(error)) => return Err(error),
                Err(ColdError::Missing | ColdError::Damaged | ColdError::Foreign) => {
                    let (name, first) = (cold_name(sequence), Position::of_cold(sequence));
                    lost.push(Finding::new(FindingKind::ColdSegment, &name, 0, first, 0));
                }
            }
        }
        if let Some(finding) = lost.first_mut() {
            pass.holes(state, first_hot).into_iter().for_each(|lost| finding.lose(lost));
        }
        pass.findings.splice(0..0, lost);
        Ok(pass)
    }

    fn segment(
        &mut self,
        cold: &ColdSegment,
        summary: &Summary,
        seed: Seed,
        is_damaged: bool,
        passed: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        let (segment, end) = (&cold.readable.segment, cold.readable.end);
        let (name, first) = (cold_name(cold.sequence()), cold.first());
        self.segments += 1;
        if is_damaged {
            self.findings.push(Finding::new(FindingKind::IndexDamaged, &name, 0, first, 0));
        }
        for (partition, run) in summary.runs() {
            self.covered.entry(partition).or_default().push((run.first, run.end));
        }
        // Without it nothing tells what was where an entry cannot be read.
        let index = cold::index(segment, seed, end).unwrap_or_default();
        let mut scanner = Scanner::new(segment, seed, end)?;
        while let Some(step) = scanner.cold_step() {
            let (from, to, intact) = match step {
                ColdStep::Entry(entry) => {
                    let to = entry.position.plus(entry.header.size() as u64);
                    (entry.position, to, entry.intact)
                }
                ColdStep::Damage { from, to } => (from, to, false),
            };
            self.bytes += to.0 - from.0;
            self.batches += u64::from(intact);
            passed(to.0 - from.0);
            if !intact {
                let (at, length) = (segment.at(from), to.0 - from.0);
                let mut finding = Finding::new(FindingKind::Damage, &name, at, from, length);
                lost(&index, summary, from, to).into_iter().for_each(|lost| finding.lose(lost));
                self.findings.push(finding);
            }
        }
        Ok(())
    }

    /// Offsets between the log starts and the other segments that no cold segment stands for.
    fn holes(&self, state: &State, first_hot: &BTreeMap<PartitionId, Offset>) -> Vec<Lost> {
        let mut holes = Vec::new();
        for (partition, known) in state.partitions() {
            let end = first_hot.get(&partition).copied().unwrap_or(known.log_end);
            let mut covered = self.covered.get(&partition).cloned().unwrap_or_default();
            covered.push((end, end));
            covered.sort();
            let mut from = known.log_start;
            for (first, behind) in covered {
                if from < first {
                    holes.push(Lost { partition, from, to: first });
                }
                from = from.max(behind);
            }
        }
        holes
    }
}

/// Offsets of the batches that the index has in a range: each up to the next one, as nothing else tells where it ends.
fn lost(
    index: &BTreeMap<PartitionId, PartitionIndex>,
    summary: &Summary,
    from: Position,
    to: Position,
) -> Vec<Lost> {
    let mut lost = Vec::new();
    for (&partition, index) in index {
        let mut batches = index.starting_at(Offset(i64::MIN)).peekable();
        while let Some(batch) = batches.next() {
            if batch.position < to && from < batch.position.plus(u64::from(batch.length)) {
                let next = batches.peek().map(|next| next.base_offset);
                let end = next.or(summary.end(partition)).unwrap_or(index.end());
                lost.push(Lost { partition, from: batch.base_offset, to: end });
            }
        }
    }
    lost
}
