//! Which files make up the log, for whoever only wants to look: recovery's first steps, without any consequence.

use std::sync::Arc;

use super::{
    super::{
        Disk, JournalId, OpenError, Position,
        format::Seed,
        index::Findings,
        segment::{Segment, segment_name},
    },
    chain::Chain,
    scan::{End, Tail},
    survey::Survey,
};

/// The files of a journal, sorted out.
#[derive(Debug)]
pub(in crate::journal) struct Layout {
    pub(in crate::journal) journal: JournalId,
    /// The log, in order.
    pub(in crate::journal) links: Vec<Laid>,
    /// Ranges of the log whose segments are missing.
    pub(in crate::journal) missing: Vec<(Position, Position)>,
    /// Openings that did not get as far as one whole frame, with what is there instead.
    pub(in crate::journal) torn: Vec<(Arc<Segment>, Tail)>,
    /// Second files of a segment.
    pub(in crate::journal) doubles: Vec<String>,
    /// Files without any address that is part of the log, with what they are.
    pub(in crate::journal) others: Vec<(String, &'static str)>,
}

/// A segment of the log.
#[derive(Debug)]
pub(in crate::journal) struct Laid {
    pub(in crate::journal) name: String,
    pub(in crate::journal) segment: Arc<Segment>,
    pub(in crate::journal) end: End,
    /// The CRC of the last frame in it, as the next segment names it; 0 if it names none.
    pub(in crate::journal) next_crc: u32,
    /// Whether the header was intact; if not, it was put together from the frames.
    pub(in crate::journal) header_intact: bool,
}

impl Layout {
    /// None: there is no journal.
    pub(in crate::journal) fn find(disk: &dyn Disk) -> Result<Option<Self>, OpenError> {
        let mut survey = Survey::take(disk)?;
        let Some(journal) = survey.journal else { return Ok(None) };
        let seed = journal.seed();
        let failed = || OpenError::io("read a segment");
        let mut chain = Chain::find(&mut survey, seed).map_err(failed())?;
        let hot_start = hot_start(disk, &mut chain, seed).map_err(failed())?;
        let (retired, _) = chain.begin_at(hot_start.0, hot_start.1);
        let missing = missing(&chain, hot_start.0);
        let named = |what: &'static str| move |name: String| (name, what);
        let mut others: Vec<_> = Vec::new();
        others.extend(retired.into_iter().map(|it| it.name).map(named("left the log")));
        others.extend(chain.dead.into_iter().map(|it| it.name).map(named("void")));
        others.extend(survey.spares.into_values().map(|it| it.name).map(named("prepared space")));
        others.extend(survey.recycled.into_iter().map(|it| it.name).map(named("spare")));
        let links = chain.links.into_iter().map(|link| Laid {
            name: link.found.name,
            segment: link.found.segment,
            end: link.end,
            next_crc: link.next_crc,
            header_intact: link.found.header_intact,
        });
        Ok(Some(Self {
            journal,
            links: links.collect(),
            missing,
            torn: chain.torn,
            doubles: survey.misfits,
            others,
        }))
    }

    pub(in crate::journal) fn seed(&self) -> Seed {
        self.journal.seed()
    }
}

impl Laid {
    /// Whether its file has the name that its sequence says.
    pub(in crate::journal) fn is_rightly_named(&self) -> bool {
        self.name == segment_name(self.segment.header.sequence)
    }
}

/// Where the log begins, and the link with the newest complete snapshot.
fn hot_start(disk: &dyn Disk, chain: &mut Chain, seed: Seed) -> std::io::Result<(Position, usize)> {
    let snapshot = chain.snapshot(disk, seed, &mut Findings::default())?;
    let (from, state) = snapshot.map_or((0, None), |(from, state)| (from, Some(state)));
    let moved = chain.hot_start(from, seed)?;
    Ok((state.map_or(moved, |state| moved.max(state.hot_start())), from))
}

fn missing(chain: &Chain, hot_start: Position) -> Vec<(Position, Position)> {
    let mut missing = Vec::new();
    let first = chain.links.first().filter(|link| link.found.header_intact);
    let before = first.map(|link| link.found.segment.header.previous_end);
    missing.extend(before.filter(|&before| before > hot_start).map(|before| (hot_start, before)));
    for (link, next) in chain.links.iter().zip(chain.links.iter().skip(1)) {
        let (end, before) =
            (link.found.segment.header.end(), next.found.segment.header.previous_end);
        if next.found.header_intact && matches!(link.end, End::Open) && end < before {
            missing.push((end, before));
        }
    }
    missing
}
