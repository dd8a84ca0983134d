//! Which segments make up the log, and where each of them ends.

use std::{io, sync::Arc};

use super::{
    super::{
        Disk, Position, Space, State,
        append::decode_hot_start,
        format::{EntryKind, FactRef, Seed},
        index::{Coverage, Findings},
        segment::Segment,
    },
    replay::{self, FoundSnapshot},
    scan::{End, Scanner, Step, Tail},
    survey::{Found, Survey},
};

/// Segments of the log in order.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) links: Vec<Link>,
    /// Files without an address that is part of the log.
    pub(super) dead: Vec<Found>,
    /// Openings that did not get as far as one whole frame, with what is there instead.
    pub(super) torn: Vec<(Arc<Segment>, Tail)>,
    /// Where a segment begins whose predecessor is missing.
    gaps: Vec<Position>,
}

/// A segment of the log.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) found: Found,
    pub(super) end: End,
    /// The CRC of the last frame in it, as the next segment names it; 0 if it names none.
    pub(super) next_crc: u32,
    /// What its index file covers, once that was needed.
    pub(super) coverage: Option<Coverage>,
}

impl Chain {
    /// From the newest segment down: each header says where the log before it ends, and all
    /// addresses from there to its own first are void.
    pub(super) fn find(survey: &mut Survey, seed: Seed) -> io::Result<Self> {
        let mut chain = Self::default();
        // None until the newest segment is found, then where the next older one ends, if that is known.
        let mut limit: Option<Option<Position>> = None;
        let mut next_crc = 0;
        while let Some((_, found)) = survey.segments.pop_last() {
            let header = found.segment.header;
            let end = match limit {
                None => match Scanner::new(&found.segment, seed, End::Open)?.step() {
                    Step::End(tail) => {
                        // A header whose first frame is not whole: nothing in it was acknowledged.
                        chain.torn.push((Arc::clone(&found.segment), tail));
                        chain.dead.push(found);
                        continue;
                    }
                    Step::Frame(_) | Step::Damage(_) => End::Open,
                },
                Some(Some(limit)) if header.first >= limit => {
                    chain.dead.push(found);
                    continue;
                }
                Some(Some(limit)) if limit <= header.end() && planted!(VoidServed) => End::Open,
                Some(Some(limit)) if limit <= header.end() => End::Known(limit),
                Some(Some(_)) => {
                    // Those below the hot start may well be gone.
                    chain.gaps.extend(
                        chain.links.last().map(|next: &Link| next.found.segment.header.first),
                    );
                    End::Open
                }
                Some(None) => End::Open,
            };
            let known = if matches!(end, End::Known(_)) { next_crc } else { 0 };
            limit = Some(found.header_intact.then_some(header.previous_end));
            next_crc = if found.header_intact { header.previous_crc } else { 0 };
            chain.links.push(Link { found, end, next_crc: known, coverage: None });
        }
        chain.links.reverse();
        Ok(chain)
    }

    /// Where the log begins, as the entries from a link on have it; 0 if they say nothing. The last frame counts: what it
    /// took out of the log may have been used again, and it is written again before anything is served.
    pub(super) fn hot_start(&self, from: usize, seed: Seed) -> io::Result<Position> {
        let mut start = Position(0);
        for link in self.links.iter().skip(from) {
            let segment = &link.found.segment;
            let covered = link.coverage.iter().flat_map(|coverage| &coverage.chunks);
            let moved = covered.filter_map(|(_, content)| content.delta.hot_start());
            start = moved.fold(start, Position::max);
            let covered = link.coverage.as_ref().and_then(Coverage::end);
            let mut scanner = Scanner::behind(segment, seed, link.end, covered)?;
            loop {
                let entries = match scanner.step() {
                    Step::Frame(frame) => frame.entries,
                    Step::Damage(damage) => damage.survivors,
                    Step::End(_) => break,
                };
                let facts = entries.iter().filter(|entry| entry.intact);
                for entry in facts.filter(|entry| entry.header.kind == EntryKind::Fact) {
                    let moved = FactRef::decode(scanner.payload(entry))
                        .filter(|fact| fact.space == Space::JOURNAL)
                        .and_then(|fact| decode_hot_start(fact.key, fact.value));
                    start = start.max(moved.unwrap_or_default());
                }
            }
        }
        Ok(start)
    }

    /// Takes out the links that lie before a position, but none from `from` on; the last positions of what is
    /// missing among the others.
    pub(super) fn begin_at(&mut self, start: Position, from: usize) -> (Vec<Found>, Vec<Position>) {
        let below = |link: &Link| link.found.segment.header.first < start;
        let retired = self.links.iter().take(from).take_while(|link| below(link)).count();
        let retired = self.links.drain(..retired).map(|link| link.found).collect();
        let first = self.links.first().filter(|link| link.found.header_intact);
        let first = first.map(|link| link.found.segment.header);
        // The log before the oldest one ended behind the place where it is to begin.
        let cut = first.filter(|first| first.previous_end > start);
        let gaps = self.gaps.iter().filter(|&&gap| first.is_none_or(|first| gap > first.first));
        let gaps = gaps.copied().chain(cut.map(|cut| cut.first)).collect::<Vec<_>>();
        let missing = gaps.iter().map(|gap| {
            let next = self.links.iter().map(|link| &link.found).find(|next| next.is_at(*gap));
            let file = next.map_or("", |next| &next.name);
            let position = next.map_or(*gap, |next| next.segment.header.previous_end);
            tracing::error!(
                file,
                position = position.0,
                hot_start = start.0,
                "segments before this one are missing"
            );
            Position(position.0.saturating_sub(1))
        });
        let missing = missing.collect();
        (retired, missing)
    }

    /// The newest complete snapshot, and the link that begins with it.
    pub(super) fn snapshot(
        &mut self,
        disk: &dyn Disk,
        seed: Seed,
        findings: &mut Findings,
    ) -> io::Result<Option<(usize, State)>> {
        for (index, link) in self.links.iter_mut().enumerate().rev() {
            let (segment, next_crc) = (&link.found.segment, link.next_crc);
            let coverage = link
                .coverage
                .insert(Coverage::find(disk, seed, segment, link.end, next_crc, findings));
            match replay::snapshot(segment, seed, link.end, coverage)? {
                FoundSnapshot::Whole(state) => return Ok(Some((index, *state))),
                FoundSnapshot::Unfinished => {}
                FoundSnapshot::Damaged { position, length } => {
                    findings.snapshots += 1;
                    tracing::error!(
                        file = link.found.name,
                        position = position.0,
                        length,
                        "a slice of the state is damaged: replay begins at an earlier snapshot"
                    );
                }
            }
        }
        Ok(None)
    }
}
