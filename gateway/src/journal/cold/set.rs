//! The cold segments that are part of the log, in its order.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    super::{Position, append::Replaced, log::Readable, segment::Segment},
    ColdSegment,
};

/// By what they stand for.
#[derive(Debug, Default)]
pub(in crate::journal) struct ColdSet {
    /// By `from`.
    segments: BTreeMap<Position, ColdSegment>,
    /// `from` of those that are or were there since the journal was opened, by their own address.
    places: BTreeMap<Position, Position>,
    /// What facts tell of and no file holds.
    lost: Vec<Replaced>,
}

impl ColdSet {
    pub(in crate::journal) fn add(&mut self, cold: ColdSegment) {
        self.places.insert(cold.first(), cold.place.from);
        self.segments.insert(cold.place.from, cold);
    }

    pub(in crate::journal) fn add_lost(&mut self, place: Replaced) {
        self.lost.push(place);
    }

    /// Takes one out: new readers no longer find it.
    pub(in crate::journal) fn remove(&mut self, first: Position) -> Option<Arc<Segment>> {
        let from = self.by_first(first)?.place.from;
        self.segments.remove(&from).map(|cold| cold.readable.segment)
    }

    pub(in crate::journal) fn by_first(&self, first: Position) -> Option<&ColdSegment> {
        let from = self.places.get(&first)?;
        self.segments.get(from).filter(|cold| cold.first() == first)
    }

    /// The one that stands for a position of the log, or else the next one.
    pub(in crate::journal) fn at_or_after(&self, position: Position) -> Option<&ColdSegment> {
        let before = self.segments.range(..=position).next_back().map(|(_, cold)| cold);
        let after = || self.segments.range(position..).next().map(|(_, cold)| cold);
        before.filter(|cold| position < cold.place.to).or_else(after)
    }

    /// Where a pass goes on that stood in a cold segment which is no longer there: what replaced it holds all
    /// that it held. One that nobody knows: the beginning.
    pub(in crate::journal) fn place_of(&self, position: Position) -> Position {
        let first = Position::of_cold(position.cold_sequence());
        self.places.get(&first).copied().unwrap_or_default()
    }

    pub(in crate::journal) fn iter(&self) -> impl DoubleEndedIterator<Item = &ColdSegment> {
        self.segments.values()
    }

    pub(in crate::journal) fn readable(&self, first: Position) -> Option<&Readable> {
        self.by_first(first).map(|cold| &cold.readable)
    }

    pub(in crate::journal) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether something between two of them is lost.
    pub(in crate::journal) fn is_lost_within(&self, place: Replaced) -> bool {
        self.lost.iter().any(|lost| lost.overlaps(place))
    }
}
