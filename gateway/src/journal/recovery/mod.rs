//! Opening: from whatever files are there to state, index and the place where writing goes on (FORMAT.md, Recovery).
//!
//! Nothing is written here except copies into quarantine. What was cut off is made void by the header of the next
//! segment; until that is durable, another recovery sees exactly what this one saw.

mod carried;
mod chain;
mod leftovers;
mod quarantine;
mod replay;
mod scan;
mod survey;

use std::sync::Arc;

pub(super) use carried::Carried;
use chain::{Chain, Link};
pub(super) use leftovers::Leftovers;
use replay::{LogEnd, Replay};
use scan::{End, Scanner, Tail};
use survey::{SpareFile, Survey};

use super::{
    Disk, JournalId, OpenError, Position, RecoveryReport, State,
    format::{ALIGN, Barrier, Seed},
    log::Log,
    segment::{Prepared, QUARANTINE_FOLDER, SEGMENT_FOLDER, Segment},
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
    pub(super) open_ms: u64,
    /// `storage.max_bytes` that the newest segment was begun with.
    pub(super) max_bytes: Option<u64>,
    /// Files with space that can be used.
    pub(super) spares: Vec<Prepared>,
    pub(super) leftovers: Leftovers,
}

/// Reads everything there is.
pub(super) fn recover(disk: &dyn Disk) -> Result<Recovered, OpenError> {
    let mut survey = Survey::take(disk)?;
    let Some(journal) = survey.journal else {
        return Ok(Recovered::nothing(survey));
    };
    let seed = journal.seed();
    let chain = Chain::find(&mut survey, seed).map_err(OpenError::io("read a segment"))?;
    let snapshot = chain.snapshot(seed).map_err(OpenError::io("read a segment"))?;

    let mut replay = Replay::new(seed);
    let mut end = LogEnd::default();
    replay.report.missing_segments = chain.missing;
    let (from, state) = snapshot.map_or((0, None), |(from, state)| (from, Some(state)));
    let first = chain.links.first().map(|link| link.found.segment.header);
    // Nothing tells the state that the segments which are gone had built up.
    replay.state_damaged =
        state.is_none() && first.is_some_and(|header| header.previous_end > Position(0));
    replay.state = state.unwrap_or_default();
    for (index, link) in chain.links.iter().enumerate() {
        replay.into_state = index >= from;
        let last = index + 1 == chain.links.len();
        if last {
            end = replay.last(&link.found).map_err(OpenError::io("read a segment"))?;
        } else {
            replay.sealed(&link.found, link.end).map_err(OpenError::io("read a segment"))?;
        }
    }

    let mut leftovers = Leftovers {
        dead: chain.dead,
        misfits: std::mem::take(&mut survey.misfits),
        trim: Vec::new(),
        unused: end.unused(),
    };
    let quarantined = cut_off(disk, seed, &mut replay, &end, &chain.torn);
    let links = drop_empty_end(chain.links, &end, &mut leftovers);
    for Link { found, end: link_end } in links {
        let cut = match link_end {
            End::Known(limit) => Some(limit),
            End::Open => quarantined.then_some(end.cut),
        };
        leftovers.trim.extend(cut.map(|cut| (Arc::clone(&found.segment), cut)));
        replay.log.add_segment(found.segment);
    }
    Ok(conclude(journal, survey, replay, end, leftovers))
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
        let sequence = segment.header.sequence;
        tracing::warn!(
            segment = sequence,
            position = position.0,
            length,
            ?tail,
            "torn tail cut off"
        );
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
        leftovers.dead.push(link.found.into_dead());
    }
    links
}

fn conclude(
    journal: JournalId,
    survey: Survey,
    replay: Replay,
    end: LogEnd,
    mut leftovers: Leftovers,
) -> Recovered {
    let Replay { state, log, mut report, open_ms, state_damaged, .. } = replay;
    report.clean = end.closed && report.torn_tails == 0;
    report.carried_bytes = end.carried.as_ref().map_or(0, |carried| carried.length);
    let reused = report.torn_tails > 0 || state_damaged;
    let barrier = Barrier {
        incarnation: (state.incarnation() + u64::from(reused)).max(1),
        leader_epoch: state.leader_epoch() + i32::from(!report.clean),
    };
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
        open_ms,
        max_bytes: survey.max_bytes,
        spares: spares.into_iter().map(|(sequence, spare)| spare.prepared(sequence)).collect(),
        leftovers,
    }
}

impl Recovered {
    /// A journal that does not exist yet. Files without any header are of an opening that got nowhere.
    fn nothing(survey: Survey) -> Self {
        let dead = survey.spares.into_values().map(SpareFile::into_dead).collect();
        Self {
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
            open_ms: 0,
            max_bytes: None,
            spares: Vec::new(),
            leftovers: Leftovers { dead, ..Leftovers::default() },
        }
    }
}

/// Bytes of all files that the journal keeps.
pub(super) fn used_bytes(disk: &dyn Disk) -> std::io::Result<u64> {
    let mut bytes = 0;
    for folder in [SEGMENT_FOLDER, QUARANTINE_FOLDER] {
        for name in disk.list(folder)? {
            bytes += disk.open(&format!("{folder}/{name}"))?.len()?;
        }
    }
    Ok(bytes)
}

/// Whether a segment begins with a whole snapshot.
#[cfg(test)]
pub(super) fn has_snapshot(segment: &Segment, seed: Seed) -> bool {
    replay::snapshot(segment, seed, End::Open).is_ok_and(|state| state.is_some())
}
