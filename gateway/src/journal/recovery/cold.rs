//! Which cold segments are part of the log, and what is wrong with them (FORMAT.md, Recovery).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        Disk, Fact, Position, RecoveryReport, Space, State,
        append::{LAST_COLD_KEY, Replaced, decode_cold_key},
        cold::{ColdError, ColdSegment},
        format::{COLD_HEADER_BYTES, ColdHeader, EntryHeader, EntryKind, FactRef, JournalId},
        index::Summary,
        segment::{COLD_FOLDER, cold_name, cold_sequence_of},
    },
    Carried, Recovered,
    leftovers::DeadFile,
};

/// What facts and files tell.
#[derive(Debug, Default)]
struct Cold {
    /// By sequence.
    facts: BTreeMap<u64, Replaced>,
    /// Lengths of the files, by the sequence in their names.
    files: BTreeMap<u64, u64>,
    /// Before what is carried.
    proven: BTreeSet<u64>,
    last_sequence: u64,
    found: Vec<(ColdSegment, Summary)>,
    lost: Vec<(u64, Replaced)>,
}

/// Adds the cold segments to what was recovered.
pub(super) fn add(disk: &dyn Disk, recovered: &mut Recovered) -> std::io::Result<()> {
    let mut cold = Cold::default();
    for name in disk.list(COLD_FOLDER)? {
        let Some(sequence) = cold_sequence_of(&name) else {
            tracing::warn!(file = name, "not a cold segment, left alone");
            continue;
        };
        let length = disk.open(&cold_name(sequence)).and_then(|file| file.len());
        cold.files.insert(sequence, length.unwrap_or(0));
    }
    let Some(journal) = recovered.journal else {
        recovered.next_cold = cold.next_sequence();
        return Ok(());
    };
    cold.read_facts(&recovered.state, recovered.carried.as_ref());
    recovered.next_cold = cold.next_sequence();
    cold.open(disk, journal, &mut recovered.report);
    if !recovered.state_whole {
        let adopted = cold.adopt(disk, journal, recovered.log.oldest(), &mut recovered.report);
        note(&mut recovered.carried, &adopted, recovered.open_ms);
    }
    for (sequence, place) in &cold.lost {
        recovered.report.cold_lost += 1;
        recovered.report.note(Position::of_cold(*sequence), 0);
        let (file, from, to) = (cold_name(*sequence), place.from.0, place.to.0);
        tracing::error!(file, from, to, "a cold segment is lost: its offsets answer with an error");
        recovered.log.lose_cold(*place);
    }
    let leftovers = cold.leftovers();
    recovered.report.cold_leftover = leftovers.len() as u64;
    if recovered.state_whole {
        // What the last frame takes out may still be needed, should that be lost.
        let named = |dead: &DeadFile| cold.proven.iter().any(|&it| cold_name(it) == dead.name);
        let (dead, unswitched) = leftovers.into_iter().partition(named);
        let leftovers = &mut recovered.leftovers;
        leftovers.dead.extend::<Vec<_>>(dead);
        leftovers.unswitched = unswitched;
    }
    #[cfg(test)]
    if planted!(ColdIntoState) {
        cold.put_into_state(journal, &mut recovered.state, recovered.open_ms);
    }
    let (state, whole) = (&recovered.state, recovered.state_whole);
    cold.found.sort_by_key(|(cold, _)| cold.place.from);
    for (cold, summary) in cold.found {
        let sequence = cold.sequence();
        let doubled = recovered.log.add_cold(cold, &summary, |id| !whole || state.knows(id));
        if doubled > 0 {
            recovered.report.damaged_ranges += doubled;
            tracing::error!(cold = sequence, doubled, "offsets stored twice");
        }
    }
    Ok(())
}

impl Cold {
    fn next_sequence(&self) -> u64 {
        let named = self.files.keys().chain(self.facts.keys()).max().copied().unwrap_or(0);
        named.max(self.last_sequence) + 1
    }

    /// What is carried counts like the rest: the hot start that came with it does, too.
    fn read_facts(&mut self, state: &State, carried: Option<&Carried>) {
        for (key, value) in state.facts(Space::JOURNAL) {
            self.fact(key, Some(value));
        }
        self.proven = self.facts.keys().copied().collect();
        for (header, payload) in carried.iter().flat_map(|carried| carried.entries()) {
            if header.kind == EntryKind::Fact
                && let Some(fact) = FactRef::decode(payload)
                && fact.space == Space::JOURNAL
            {
                self.fact(fact.key, fact.value);
            }
        }
    }

    fn fact(&mut self, key: &[u8], value: Option<&[u8]>) {
        if key == LAST_COLD_KEY {
            let last = value.and_then(|value| value.try_into().ok()).map(u64::from_be_bytes);
            self.last_sequence = self.last_sequence.max(last.unwrap_or(0));
        }
        let Some(sequence) = decode_cold_key(key) else { return };
        match value.and_then(Replaced::decode) {
            Some(place) => self.facts.insert(sequence, place),
            None => self.facts.remove(&sequence),
        };
    }

    fn open(&mut self, disk: &dyn Disk, journal: JournalId, report: &mut RecoveryReport) {
        for (&sequence, &place) in &self.facts {
            match ColdSegment::open(disk, journal, sequence, place) {
                Ok((cold, summary, damaged)) => {
                    if damaged {
                        let file = cold_name(sequence);
                        tracing::error!(file, "a part is damaged that can be done without");
                        report.cold_damaged += 1;
                    }
                    self.found.push((cold, summary));
                }
                Err(error) => {
                    if let ColdError::Io(error) = error {
                        tracing::error!(%error, cold = sequence, "cannot be read");
                    }
                    self.lost.push((sequence, place));
                }
            }
        }
    }

    /// Files whose facts damage may have taken: each stands for positions that nothing else holds. What to note of them.
    fn adopt(
        &mut self,
        disk: &dyn Disk,
        journal: JournalId,
        oldest: Option<Position>,
        report: &mut RecoveryReport,
    ) -> Vec<Fact> {
        let mut notes = Vec::new();
        let unknown: Vec<_> = self.leftovers().into_iter().map(|dead| dead.name).collect();
        // The newest first: what it was merged from may still be there.
        for name in unknown.iter().rev() {
            let sequence = name.rsplit('/').next().and_then(cold_sequence_of);
            let Some((sequence, place)) = sequence.and_then(|it| Some((it, told(disk, it)?)))
            else {
                continue;
            };
            let known = self.found.iter().any(|(cold, _)| cold.place.overlaps(place));
            if known || oldest.is_none_or(|oldest| place.to > oldest) {
                continue;
            }
            let Ok((cold, summary, _)) = ColdSegment::open(disk, journal, sequence, place) else {
                continue;
            };
            tracing::error!(file = name, "its fact was lost to damage: it counts");
            report.cold_adopted += 1;
            notes.push(Fact::cold(sequence, Some(place)));
            // That went with the fact. Nothing of the log is before it, or the file would not count.
            notes.push(Fact::hot_start(place.to));
            self.facts.insert(sequence, place);
            self.found.push((cold, summary));
            let covered = self
                .lost
                .extract_if(.., |(_, lost)| place.from <= lost.from && lost.to <= place.to);
            notes.extend(covered.map(|(lost, _)| Fact::cold(lost, None)));
        }
        notes
    }

    /// Files without a fact.
    fn leftovers(&self) -> Vec<DeadFile> {
        let unknown = self.files.iter().filter(|(sequence, _)| !self.facts.contains_key(sequence));
        let dead = |(&sequence, &length)| DeadFile { name: cold_name(sequence), length };
        unknown.map(dead).collect()
    }

    /// The planted bug of that name.
    #[cfg(test)]
    fn put_into_state(&self, journal: JournalId, state: &mut State, open_ms: u64) {
        use super::{ColdStep, Scanner, replay};
        for (cold, _) in &self.found {
            let readable = &cold.readable;
            let scanner = Scanner::new(&readable.segment, journal.seed(), readable.end);
            let Ok(mut scanner) = scanner else { continue };
            while let Some(step) = scanner.cold_step() {
                let ColdStep::Entry(entry) = step else { continue };
                let payload = scanner.payload(&entry);
                replay::apply(state, &entry.header, Some(payload), open_ms);
            }
        }
    }
}

/// What a file's header says that it stands for.
fn told(disk: &dyn Disk, sequence: u64) -> Option<Replaced> {
    let file = disk.open(&cold_name(sequence)).ok()?;
    let mut block = vec![0; COLD_HEADER_BYTES as usize];
    file.read_at(&mut block, 0).ok()?;
    let ColdHeader { from, to, .. } = ColdHeader::decode(&block)?;
    Some(Replaced { from, to })
}

/// Adds facts to what the opening writes.
fn note(carried: &mut Option<Carried>, facts: &[Fact], open_ms: u64) {
    if facts.is_empty() {
        return;
    }
    let nothing = Carried { entries: Vec::new(), payloads: Vec::new(), open_ms, length: 0 };
    let carried = carried.get_or_insert(nothing);
    for fact in facts {
        let from = carried.payloads.len();
        let fact = FactRef { space: fact.space, key: &fact.key, value: fact.value.as_deref() };
        fact.encode(&mut carried.payloads);
        let length = (carried.payloads.len() - from) as u32;
        let header = EntryHeader::plain(EntryKind::Fact, length);
        carried.entries.push((header, from..carried.payloads.len()));
    }
}
