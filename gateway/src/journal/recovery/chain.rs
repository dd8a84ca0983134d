//! Which segments make up the log, and where each of them ends.

use std::{io, sync::Arc};

use super::{
    super::{Position, State, format::Seed, segment::Segment},
    leftovers::DeadFile,
    replay,
    scan::{End, Scanner, Step, Tail},
    survey::{Found, Survey},
};

/// Segments of the log in order.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) links: Vec<Link>,
    /// Files without an address that is part of the log.
    pub(super) dead: Vec<DeadFile>,
    /// Openings that did not get as far as one whole frame, with what is there instead.
    pub(super) torn: Vec<(Arc<Segment>, Tail)>,
    /// Places where at least one segment is missing.
    pub(super) missing: u64,
}

/// A segment of the log.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) found: Found,
    pub(super) end: End,
}

impl Chain {
    /// From the newest segment down: each header says where the log before it ends, and all
    /// addresses from there to its own first are void.
    pub(super) fn find(survey: &mut Survey, seed: Seed) -> io::Result<Self> {
        let mut chain = Self::default();
        // None until the newest segment is found, then where the next older one ends, if that is known.
        let mut limit: Option<Option<Position>> = None;
        while let Some((_, found)) = survey.segments.pop_last() {
            let header = found.segment.header;
            let end = match limit {
                None => match Scanner::new(&found.segment, seed, End::Open)?.step() {
                    Step::End(tail) => {
                        // A header whose first frame is not whole: nothing in it was acknowledged.
                        chain.torn.push((Arc::clone(&found.segment), tail));
                        chain.dead.push(found.into_dead());
                        continue;
                    }
                    Step::Frame(_) | Step::Damage(_) => End::Open,
                },
                Some(Some(limit)) if header.first >= limit => {
                    chain.dead.push(found.into_dead());
                    continue;
                }
                Some(Some(limit)) if limit <= header.end() && planted!(VoidServed) => End::Open,
                Some(Some(limit)) if limit <= header.end() => End::Known(limit),
                Some(Some(_)) => {
                    tracing::error!(after = found.name, "segments are missing");
                    chain.missing += 1;
                    End::Open
                }
                Some(None) => End::Open,
            };
            limit = Some(found.header_intact.then_some(header.previous_end));
            chain.links.push(Link { found, end });
        }
        chain.links.reverse();
        Ok(chain)
    }

    /// The newest complete snapshot, and the link that begins with it.
    pub(super) fn snapshot(&self, seed: Seed) -> io::Result<Option<(usize, State)>> {
        for (index, link) in self.links.iter().enumerate().rev() {
            if let Some(state) = replay::snapshot(&link.found.segment, seed, link.end)? {
                return Ok(Some((index, state)));
            }
        }
        Ok(None)
    }
}
