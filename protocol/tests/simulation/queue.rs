//! A device's queue of items: bounded, with gaps in the place of what it drops.

use std::collections::VecDeque;

use headwater_protocol::{
    Item, ItemKind, ItemQueue, Position,
    item::{Gap, GapReason},
};

use crate::{plant::Plant, truth::Place};

#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) position: Position,
    predecessor: Option<Position>,
    pub(crate) kind: ItemKind,
    pub(crate) body: Vec<u8>,
    /// First reading and number of readings, for BLOCK and GAP.
    pub(crate) readings: (u64, u64),
}

/// The items that are not acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) items: VecDeque<Stored>,
    /// Items released lately: a log in memory still holds them after a reset, because an
    /// acknowledgement writes nothing.
    released: VecDeque<Stored>,
    pub(crate) next: Position,
    /// The item queued last, if memory knows of one.
    pub(crate) last: Option<Position>,
    pub(crate) capacity: usize,
    /// BOOT, then SCHEMA by channel, of the running boot.
    pub(crate) descriptions: Vec<(ItemKind, Vec<u8>)>,
    /// [`Plant::StaleReceived`]: nothing up to here is given out.
    pub(crate) hidden: Position,
}

/// Items that a reset may bring back.
const RELEASED_MAX: usize = 8;

impl ItemQueue for Queue {
    fn next(&self) -> Position {
        self.next
    }

    fn after(&self, position: Position) -> Option<Item<'_>> {
        let position = position.max(self.hidden);
        let index = self.items.partition_point(|item| item.position <= position);
        self.items.get(index).map(|item| Item {
            position: item.position,
            predecessor: item.predecessor,
            kind: item.kind,
            body: &item.body,
        })
    }

    fn release(&mut self, position: Position) {
        while let Some(item) = self.items.pop_front_if(|item| item.position <= position) {
            self.released.push_back(item);
        }
        while self.released.len() > RELEASED_MAX {
            self.released.pop_front();
        }
    }

    fn describe(&self, index: u8, out: &mut [u8]) -> Option<(ItemKind, usize)> {
        let (kind, body) = self.descriptions.get(usize::from(index))?;
        out[..body.len()].copy_from_slice(body);
        Some((*kind, body.len()))
    }
}

impl Queue {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            items: VecDeque::new(),
            released: VecDeque::new(),
            next: Position::START,
            last: None,
            capacity,
            descriptions: Vec::new(),
            hidden: Position::START,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.released.clear();
        self.last = None;
    }

    /// A reset: some of what was released is there again.
    pub(crate) fn revive(&mut self, keep: u64) {
        for item in self.released.drain(..).rev().take(keep as usize) {
            self.items.push_front(item);
        }
    }

    pub(crate) fn released_len(&self) -> u64 {
        self.released.len() as u64
    }

    pub(crate) fn push(&mut self, kind: ItemKind, body: &[u8], readings: (u64, u64)) {
        let (position, predecessor) = (self.next, self.last);
        self.items.push_back(Stored { position, predecessor, kind, body: body.to_vec(), readings });
        self.last = Some(position);
        self.next.item += 1;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.body.len() + 8).sum()
    }

    /// For each boot in it, its first reading that is here.
    pub(crate) fn places(&self) -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        for item in &self.items {
            if places.last().is_none_or(|place| place.boot != item.position.boot) {
                places.push(Place { boot: item.position.boot, seq: item.readings.0 });
            }
        }
        places
    }

    /// Turns the oldest block beyond `in_flight` into a gap, joined with the gap before it if there
    /// is one. False: there is no such block.
    pub(crate) fn drop_oldest(&mut self, in_flight: Position, plant: Plant) -> bool {
        let found = self
            .items
            .iter()
            .position(|item| item.position > in_flight && item.kind == ItemKind::BLOCK);
        let Some(mut index) = found else { return false };
        if plant == Plant::GapOutsideOrder && index + 1 < self.items.len() {
            let Some(dropped) = self.items.remove(index) else { return false };
            self.items[index].predecessor = dropped.predecessor;
            let (first, count) = dropped.readings;
            self.push(ItemKind::GAP, &gap(first, count, GapReason::OverflowOldest), (first, count));
            return true;
        }
        let (mut first, mut count) = self.items[index].readings;
        if let Some(before) =
            index.checked_sub(1).map(|before| &self.items[before]).filter(|item| {
                item.kind == ItemKind::GAP
                    && item.position > in_flight
                    && item.position.boot == self.items[index].position.boot
            })
        {
            first = before.readings.0;
            count += before.readings.1;
            let predecessor = before.predecessor;
            index -= 1;
            self.items.remove(index);
            self.items[index].predecessor = predecessor;
        }
        let item = &mut self.items[index];
        item.kind = ItemKind::GAP;
        item.readings = (first, count);
        item.body = gap(first, count, GapReason::OverflowOldest);
        true
    }

    /// Records readings that found no room.
    pub(crate) fn drop_newest(&mut self, in_flight: Position, first: u64, count: u64) {
        let boot = self.next.boot;
        match self.items.back_mut() {
            Some(item)
                if item.kind == ItemKind::GAP
                    && item.position > in_flight
                    && item.position.boot == boot =>
            {
                item.readings.1 += count;
                item.body = gap(item.readings.0, item.readings.1, GapReason::OverflowNewest);
            }
            _ => {
                self.push(
                    ItemKind::GAP,
                    &gap(first, count, GapReason::OverflowNewest),
                    (first, count),
                );
            }
        }
    }
}

fn gap(first_seq: u64, count: u64, reason: GapReason) -> Vec<u8> {
    let mut body = [0; Gap::LEN_MAX];
    let len = Gap { first_seq, count, reason }.encode(&mut body).unwrap();
    body[..len].to_vec()
}
