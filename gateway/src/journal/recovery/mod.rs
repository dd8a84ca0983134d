//! Opening: from whatever files are there to state, index and the place where writing goes on (FORMAT.md, Recovery).
//!
//! Nothing is written here except copies into quarantine. What was cut off is made void by the header of the next
//! segment; until that is durable, another recovery sees exactly what this one saw.

mod carried;
mod chain;
mod cold;
mod layout;
mod leftovers;
mod quarantine;
mod replay;
mod scan;
mod survey;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub(super) use carried::Carried;
use chain::{Chain, Link};
pub(super) use layout::{Laid, Layout};
use leftovers::DeadFile;
pub(super) use leftovers::Leftovers;
use replay::{LogEnd, Replay};
pub(super) use replay::{apply, marker, snapshot};
pub(super) use scan::{ColdStep, Damage, End, FoundEntry, Scanner, Step, Tail};
use survey::{Found, SpareFile, Survey};

use super::{
    Disk, JournalId, OpenError, Position, RecoveryReport, State,
    format::{ALIGN, Barrier, Seed, SegmentHeader},
    index::{Coverage, Findings, index_name, segment_of_index},
    indexer::Task,
    log::Log,
    segment::{
        COLD_FOLDER, Prepared, QUARANTINE_FOLDER, SEGMENT_FOLDER, Segment, Spare, segment_name,
    },
};

/// What recovery found.
#[derive(Debug)]
pub(super) struct Recovered {
    /// None: there is no journal yet.
    pub(super) journal: Option<JournalId>,
    /// State without what is carried.
    pub(super) state: State,
    pub(super) log: Log,
    pub(super) report: RecoveryReport,
    pub(super) carried: Option<Carried>,
    pub(super) barrier: Barrier,
    /// Where the log ends, and the CRC of its last frame.
    pub(super) end: Position,
    pub(super) end_crc: u32,
    /// First address and sequence that were never used.
    pub(super) next_first: Position,
    pub(super) next_sequence: u64,
    /// First sequence of a cold segment that was never used.
    pub(super) next_cold: u64,
    pub(super) open_ms: u64,
    /// `storage.max_bytes` that the newest segment was begun with.
    pub(super) max_bytes: Option<u64>,
    /// Files with space that can be used.
    pub(super) spares: Vec<Prepared>,
    /// Files that left the log.
    pub(super) recycled: Vec<Spare>,
    pub(super) leftovers: Leftovers,
    /// Names of segments of the log that are not what their sequence says.
    pub(super) odd_names: BTreeMap<u64, String>,
    /// Whether nothing that the state is made of was damaged or missing.
    pub(super) state_whole: bool,
    /// Segments that their index files do not cover to the end.
    pub(super) uncovered: Vec<Task>,
}

/// Reads everything there is.
pub(super) fn recover(disk: &dyn Disk) -> Result<Recovered, OpenError> {
    let mut recovered = recover_segments(disk)?;
    cold::add(disk, &mut recovered).map_err(OpenError::io("list the cold segments"))?;
    Ok(recovered)
}

fn recover_segments(disk: &dyn Disk) -> Result<Recovered, OpenError> {
    let mut survey = Survey::take(disk)?;
    let Some(journal) = survey.journal else {
        return Ok(Recovered::nothing(survey));
    };
    let seed = journal.seed();
    let mut chain = Chain::find(&mut survey, seed).map_err(OpenError::io("read a segment"))?;
    let mut findings = Findings::default();
    let snapshot =
        chain.snapshot(disk, seed, &mut findings).map_err(OpenError::io("read a segment"))?;

    let mut replay = Replay::new(seed);
    let (from, state) = snapshot.map_or((0, None), |(from, state)| (from, Some(state)));
    let moved = chain.hot_start(from, seed).map_err(OpenError::io("read a segment"))?;
    let hot_start = state.as_ref().map_or(moved, |state| moved.max(state.hot_start()));
    let (retired, missing) = chain.begin_at(hot_start, from);
    let from = from - retired.len();
    replay.report.missing_segments = missing.len() as u64;
    missing.iter().for_each(|&last| replay.report.note(last, 1));
    let begin = chain.links.get(from).filter(|_| state.is_some());
    let snapshot = begin.map(|link| link.found.segment.header.first);
    let first = chain.links.first().map(|link| link.found.segment.header);
    // Nothing tells the state that the segments which are gone had built up.
    replay.state_damaged =
        state.is_none() && first.is_some_and(|header| header.previous_end > Position(0));
    if replay.state_damaged {
        replay.report.lost_states = 1;
        let (file, position) = first.map_or_else(Default::default, |header| {
            (segment_name(header.sequence), header.first.0)
        });
        tracing::error!(
            file,
            position,
            "no snapshot of the state is whole: what was before this segment is lost"
        );
    }
    if from > 0 {
        begin_earlier(disk, seed, &chain, &mut replay).map_err(OpenError::io("read a segment"))?;
    }
    let (end, uncovered) =
        replay_links(disk, &mut replay, &mut chain, (from, state), &mut findings)
            .map_err(OpenError::io("read a segment"))?;
    (replay.report.index_missing, replay.report.index_damaged) =
        (findings.missing, findings.damaged);
    replay.report.index_stale = findings.stale;
    replay.report.damaged_snapshots = findings.snapshots;
    replay.report.quarantined_files = survey.misfits.len() as u64;
    replay.report.reused_files = retired.len() as u64;

    let mut leftovers = Leftovers {
        dead: chain.dead.into_iter().map(void).collect(),
        retired: retired.into_iter().map(reused).collect(),
        misfits: std::mem::take(&mut survey.misfits),
        trim: Vec::new(),
        unswitched: Vec::new(),
        unused: end.unused(),
    };
    let quarantined = cut_off(disk, seed, &mut replay, &end, &chain.torn);
    let last = chain.links.last().map(|link| link.found.segment.header.first);
    let links = drop_empty_end(chain.links, &end, &mut leftovers);
    replay.report.void_files = leftovers.dead.len() as u64;
    let snapshot =
        kept_snapshot(disk, seed, &links, snapshot).map_err(OpenError::io("read a segment"))?;
    let owned = |sequence| links.iter().any(|link| link.found.segment.header.sequence == sequence);
    let unowned = survey.unowned_indexes(owned);
    replay.report.index_leftover = unowned.len() as u64;
    leftovers.dead.extend(unowned);
    let mut odd_names = BTreeMap::new();
    for Link { found, end: link_end, .. } in links {
        let SegmentHeader { first, sequence, .. } = found.segment.header;
        if found.name != segment_name(sequence) {
            odd_names.insert(sequence, found.name);
        }
        if Some(first) == snapshot {
            replay.log.snapshot_complete(first);
        }
        if let End::Known(cut) = link_end
            && (last != Some(first) || quarantined)
        {
            leftovers.trim.push((Arc::clone(&found.segment), cut));
        }
    }
    Ok(Recovered { uncovered, odd_names, ..conclude(journal, survey, replay, end, leftovers) })
}

/// Which transactions were open where the oldest segment begins: entries before the newest snapshot tell
/// which ones were aborted, but not when they began.
fn begin_earlier(
    disk: &dyn Disk,
    seed: Seed,
    chain: &Chain,
    replay: &mut Replay,
) -> std::io::Result<()> {
    let Some(oldest) = chain.links.first() else { return Ok(()) };
    let (segment, next_crc) = (&oldest.found.segment, oldest.next_crc);
    // It is looked at again, and counted, with all others.
    let mut uncounted = Findings::default();
    let coverage = Coverage::find(disk, seed, segment, oldest.end, next_crc, &mut uncounted);
    if let Some(state) = snapshot(segment, seed, oldest.end, &coverage)?.whole() {
        replay.begin_with(&state);
    }
    Ok(())
}

/// Goes through all segments, with their index files as far as these go; entries change the state from the
/// given link on. Where the log ends, and what the index files lack.
fn replay_links(
    disk: &dyn Disk,
    replay: &mut Replay,
    chain: &mut Chain,
    (from, mut state): (usize, Option<State>),
    findings: &mut Findings,
) -> std::io::Result<(LogEnd, Vec<Task>)> {
    let mut end = LogEnd::default();
    let mut uncovered = Vec::new();
    let count = chain.links.len();
    for (index, link) in chain.links.iter_mut().enumerate() {
        if index == from {
            replay.enter_state(state.take().unwrap_or_default());
        }
        let found = &link.found;
        if index < from && replay.summarised(disk, found, link.end, link.next_crc) {
            continue;
        }
        let coverage = link.coverage.take().unwrap_or_else(|| {
            replay.coverage(disk, &found.segment, link.end, link.next_crc, findings)
        });
        let is_sealed = coverage.last().is_some_and(|chunk| chunk.sealed);
        let covered = coverage.end();
        if index + 1 == count {
            end = replay.last(found, coverage)?;
            link.end = End::Known(end.cut);
        } else {
            replay.left(found, link.end, &coverage)?;
        }
        if let End::Known(end) = link.end
            && !(is_sealed && covered == Some(end))
            && end > found.segment.header.first
        {
            uncovered.push(Task { segment: Arc::clone(&found.segment), end, left: true });
        }
    }
    Ok((end, uncovered))
}

/// Copies what lies behind the last frame of the log, and counts it. False if a copy failed:
/// then nothing is trimmed.
fn cut_off(
    disk: &dyn Disk,
    seed: Seed,
    replay: &mut Replay,
    end: &LogEnd,
    openings: &[(Arc<Segment>, Tail)],
) -> bool {
    let mut copied = true;
    let last = end.tail.iter().map(|(segment, at, tail)| (segment, *at, *tail));
    let openings = openings.iter().map(|(segment, tail)| (segment, segment.header.frames(), *tail));
    for (segment, position, tail) in last.chain(openings) {
        let length = match tail {
            Tail::Clean => continue,
            Tail::Torn { length } => length,
            Tail::Unreadable => ALIGN,
        };
        replay.report.torn_tails += 1;
        replay.report.torn_bytes += length;
        tracing::warn!(
            file = segment_name(segment.header.sequence),
            position = position.0,
            length,
            ?tail,
            "torn tail cut off"
        );
        if tail == Tail::Unreadable {
            continue;
        }
        let copy = Scanner::new(segment, seed, End::Open).and_then(|mut scanner| {
            quarantine::copy(disk, position, scanner.raw(position, length))
        });
        if let Err(error) = copy {
            tracing::warn!(%error, "could not copy the torn tail, it stays in its file");
            copied = false;
        }
    }
    copied
}

/// Without a live frame the last segment is not part of the log: the header of the next one goes
/// past it.
fn drop_empty_end(mut links: Vec<Link>, end: &LogEnd, leftovers: &mut Leftovers) -> Vec<Link> {
    if let Some(link) = links.pop_if(|link| end.cut <= link.found.segment.header.first) {
        leftovers.dead.push(void(link.found));
    }
    links
}

/// A file that holds nothing of the log.
fn void(found: Found) -> DeadFile {
    let position = found.segment.header.first.0;
    let dead = found.into_dead();
    let (file, length) = (&dead.name, dead.length);
    tracing::info!(file, position, length, "void: nothing in it is part of the log, it goes");
    dead
}

/// A segment below the hot start.
fn reused(found: Found) -> (u64, Spare) {
    let position = found.segment.header.first.0;
    let (number, spare) = found.into_spare();
    let (file, length) = (&spare.name, spare.length);
    tracing::info!(file, position, length, "it left the log before: its space is used again");
    (number, spare)
}

/// The newest complete snapshot among the segments that stay: an opening without data takes its own along.
fn kept_snapshot(
    disk: &dyn Disk,
    seed: Seed,
    links: &[Link],
    replayed: Option<Position>,
) -> std::io::Result<Option<Position>> {
    let stays = |first| links.iter().any(|link| link.found.segment.header.first == first);
    if replayed.is_none_or(stays) {
        return Ok(replayed);
    }
    for link in links.iter().rev() {
        let segment = &link.found.segment;
        // They were counted when the state was replayed.
        let mut uncounted = Findings::default();
        let coverage = Coverage::find(disk, seed, segment, link.end, link.next_crc, &mut uncounted);
        if snapshot(segment, seed, link.end, &coverage)?.whole().is_some() {
            return Ok(Some(segment.header.first));
        }
    }
    Ok(None)
}

fn conclude(
    journal: JournalId,
    survey: Survey,
    replay: Replay,
    end: LogEnd,
    mut leftovers: Leftovers,
) -> Recovered {
    let Replay { state, mut log, mut report, open_ms, state_damaged, held_barrier: held, .. } =
        replay;
    if !state_damaged {
        log.forget_unknown(&state);
    }
    report.clean = end.closed && report.torn_tails == 0;
    report.carried_bytes = end.carried.as_ref().map_or(0, |carried| carried.length);
    if let (Some(carried), Some((segment, _, _))) = (&end.carried, &end.tail) {
        tracing::info!(
            file = segment_name(segment.header.sequence),
            position = end.cut.0,
            length = carried.length,
            "nothing proves the last frame durable: it is written again"
        );
    }
    let known = Barrier {
        incarnation: state.incarnation().max(held.incarnation),
        leader_epoch: state.leader_epoch().max(held.leader_epoch),
    };
    let cut = report.torn_tails > 0 || state_damaged;
    let mut barrier = Barrier {
        incarnation: (known.incarnation + u64::from(cut)).max(1),
        leader_epoch: known.leader_epoch + i32::from(!report.clean),
    };
    if state_damaged {
        barrier = above_all_before(barrier, survey.next_first);
    }
    let newest = survey.newest_sequence;
    let (spares, stale): (Vec<_>, Vec<_>) =
        survey.spares.into_iter().partition(|(sequence, _)| *sequence > newest);
    leftovers.dead.extend(stale.into_iter().map(|(_, spare)| spare.into_dead()));
    Recovered {
        journal: Some(journal),
        state,
        log,
        report,
        carried: end.carried,
        barrier,
        end: end.cut,
        end_crc: end.cut_crc,
        next_first: if planted!(PositionsReused) { end.cut } else { survey.next_first },
        next_sequence: survey.last_sequence + 1,
        next_cold: 0,
        open_ms,
        max_bytes: survey.max_bytes,
        spares: spares.into_iter().map(|(sequence, spare)| spare.prepared(sequence)).collect(),
        recycled: survey.recycled,
        leftovers,
        odd_names: BTreeMap::new(),
        state_whole: !state_damaged,
        uncovered: Vec::new(),
    }
}

/// A barrier may be among what is lost, and no number of it must come again. Each opening takes two blocks at least:
/// there were fewer of them, and so lower numbers, than there are blocks before the first unused one.
fn above_all_before(barrier: Barrier, unused: Position) -> Barrier {
    let blocks = unused.0 / ALIGN;
    let epochs = i32::try_from(blocks).unwrap_or(i32::MAX).min(i32::MAX / 2);
    Barrier {
        incarnation: barrier.incarnation.max(blocks + 1),
        leader_epoch: barrier.leader_epoch.max(epochs),
    }
}

impl Recovered {
    /// A journal that does not exist yet. Files without any header are of an opening that got nowhere.
    fn nothing(mut survey: Survey) -> Self {
        let mut dead = survey.unowned_indexes(|_| false);
        dead.extend(survey.spares.into_values().map(SpareFile::into_dead));
        Self {
            recycled: survey.recycled,
            odd_names: BTreeMap::new(),
            state_whole: true,
            journal: None,
            state: State::default(),
            log: Log::default(),
            report: RecoveryReport { clean: true, ..RecoveryReport::default() },
            carried: None,
            barrier: Barrier { incarnation: 1, leader_epoch: 0 },
            end: Position(0),
            end_crc: 0,
            next_first: Position(0),
            next_sequence: survey.last_sequence + 1,
            next_cold: 0,
            open_ms: 0,
            max_bytes: None,
            spares: Vec::new(),
            leftovers: Leftovers { dead, ..Leftovers::default() },
            uncovered: Vec::new(),
        }
    }
}

/// Removes all index files; how many bytes that freed.
pub(super) fn give_up_indexes(disk: &dyn Disk, used_bytes: &AtomicU64) -> u64 {
    let names = disk.list(SEGMENT_FOLDER).unwrap_or_default();
    let indexes = names.iter().filter_map(|name| segment_of_index(name));
    let freed = indexes.map(|sequence| {
        let name = index_name(sequence);
        let length = disk.open(&name).and_then(|file| file.len()).unwrap_or(0);
        disk.remove(&name).map_or(0, |()| length)
    });
    let freed = freed.sum();
    used_bytes.fetch_sub(freed, Ordering::Relaxed);
    freed
}

/// Bytes of all files that the journal keeps.
pub(super) fn used_bytes(disk: &dyn Disk) -> std::io::Result<u64> {
    let mut bytes = 0;
    for folder in [SEGMENT_FOLDER, COLD_FOLDER, QUARANTINE_FOLDER] {
        for name in disk.list(folder)? {
            bytes += disk.open(&format!("{folder}/{name}"))?.len()?;
        }
    }
    Ok(bytes)
}

/// Whether a segment begins with a whole snapshot.
#[cfg(test)]
pub(super) fn has_snapshot(segment: &Segment, seed: Seed) -> bool {
    let coverage = Coverage::default();
    snapshot(segment, seed, End::Open, &coverage).is_ok_and(|state| state.whole().is_some())
}
