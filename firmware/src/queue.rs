//! The items that are not yet durable at the gateway: a bounded log in RAM, in order, immutable
//! once sent.
//!
//! Bodies lie one after the other in one array, so that each is one slice; releasing and dropping
//! move the rest down. What overflow takes leaves a GAP in its place, and what the host may know of
//! stays untouched.

use headwater_protocol::{
    Item, ItemKind, ItemQueue, Position,
    item::{Boot, Channel, Gap, GapReason, Schema, SchemaHash},
};
use heapless::Vec;

/// Readings `first_seq .. first_seq + count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readings {
    pub(crate) first_seq: u64,
    pub(crate) count: u64,
}

/// What every boot says of itself before its readings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Introduction {
    pub(crate) boot: Boot,
    pub(crate) channels: &'static [Channel<'static>],
}

/// A queued item; its place follows from those before it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Item number minus that of the item before; more than 1 where dropped items lay between.
    step: u32,
    /// Readings in it, or that it says are gone.
    readings: u32,
    /// Bytes of the body.
    len: u16,
    kind: ItemKind,
}

/// The queue: `BYTES` of bodies, `ITEMS` items.
#[derive(Clone, Debug)]
pub(crate) struct Queue<const BYTES: usize, const ITEMS: usize> {
    introduction: Introduction,
    boot: u32,
    /// What the boot's first item says of the one before it.
    origin: Option<Position>,
    /// Number after the last released item.
    released: u64,
    /// Number that the next item takes.
    next: u64,
    /// First reading that is neither released nor in an item before the queue's first.
    first_seq: u64,
    entries: Vec<Entry, ITEMS>,
    bytes: [u8; BYTES],
    used: usize,
}

/// An entry with everything that follows from its place.
#[derive(Clone, Copy, Debug)]
struct Placed {
    index: usize,
    entry: Entry,
    item: u64,
    start: usize,
    first_seq: u64,
}

impl<const BYTES: usize, const ITEMS: usize> Queue<BYTES, ITEMS> {
    pub(crate) fn new(introduction: Introduction, boot: u32, origin: Option<Position>) -> Self {
        const { assert!(BYTES <= u16::MAX as usize && ITEMS >= 4) };
        Self {
            introduction,
            boot,
            origin,
            released: 0,
            next: 0,
            first_seq: 0,
            entries: Vec::new(),
            bytes: [0; BYTES],
            used: 0,
        }
    }

    /// Queues what is still missing of BOOT and SCHEMA; whether all of it is queued now.
    pub(crate) fn introduce(&mut self) -> bool {
        let introduction = self.introduction;
        while let Ok(index) = u8::try_from(self.next)
            && usize::from(index) <= introduction.channels.len()
        {
            let queued = self.push(0, |out| introduction.encode(index, out));
            if queued.is_none() {
                return false;
            }
        }
        true
    }

    /// Queues an item whose body `encode` writes to the free bytes, giving kind and length. Gives
    /// the item's number, or `None`, and nothing changed, when there is no room.
    pub(crate) fn push(
        &mut self,
        readings: u32,
        encode: impl FnOnce(&mut [u8]) -> Option<(ItemKind, usize)>,
    ) -> Option<u64> {
        if self.entries.is_full() {
            return None;
        }
        let (kind, len) = encode(self.bytes.get_mut(self.used..)?)?;
        let entry = Entry { step: 1, readings, len: u16::try_from(len).ok()?, kind };
        self.entries.push(entry).ok()?;
        self.used += len;
        let item = self.next;
        self.next += 1;
        Some(item)
    }

    /// Takes back the item queued last, which nobody has seen yet.
    pub(crate) fn pop(&mut self) {
        if let Some(entry) = self.entries.pop() {
            self.used -= usize::from(entry.len);
            self.next -= u64::from(entry.step);
        }
    }

    /// Drops the oldest BLOCK beyond `in_flight` and leaves a GAP in its place; gives the readings
    /// dropped, `None` when nothing may be dropped.
    pub(crate) fn drop_oldest(&mut self, in_flight: Position) -> Option<Readings> {
        let droppable = |placed: &Placed| Position::new(self.boot, placed.item) > in_flight;
        let block = self
            .placed()
            .find(|placed| droppable(placed) && placed.entry.kind == ItemKind::BLOCK)?;
        let before = block.index.checked_sub(1).and_then(|index| self.placed().nth(index));
        let dropped = Readings { first_seq: block.first_seq, count: block.entry.readings.into() };
        // A GAP before it that the host cannot know either grows, so that gaps do not use up the
        // items.
        let merged = before.filter(|gap| {
            droppable(gap)
                && gap.entry.kind == ItemKind::GAP
                && gap.entry.readings.checked_add(block.entry.readings).is_some()
        });
        let first = merged.unwrap_or(block);
        let readings = match merged {
            Some(gap) => gap.entry.readings.checked_add(block.entry.readings)?,
            None => block.entry.readings,
        };
        let gap = Gap {
            first_seq: first.first_seq,
            count: readings.into(),
            reason: GapReason::OverflowOldest,
        };
        let end = block.start + usize::from(block.entry.len);
        // Smaller than any BLOCK with the same first reading, so it fits where the block was.
        let len = gap.encode(self.bytes.get_mut(first.start..end)?)?;
        self.bytes.copy_within(end..self.used, first.start + len);
        self.used -= end - (first.start + len);
        let step = match merged {
            Some(gap) => gap.entry.step.saturating_add(block.entry.step),
            None => block.entry.step,
        };
        let slot = self.entries.get_mut(first.index)?;
        *slot = Entry { step, readings, len: len as u16, kind: ItemKind::GAP };
        if merged.is_some() {
            self.entries.remove(block.index);
        }
        Some(dropped)
    }

    /// The boot under which items are queued. To be changed only while nothing has been sent.
    pub(crate) fn set_boot(&mut self, boot: u32, origin: Option<Position>) {
        self.boot = boot;
        self.origin = origin;
    }

    /// Nothing came before this boot in its stream, for the stream is new.
    pub(crate) fn set_origin(&mut self, origin: Position) {
        self.origin = Some(origin);
    }

    pub(crate) const fn boot(&self) -> u32 {
        self.boot
    }

    pub(crate) const fn cause(&self) -> headwater_protocol::item::Cause {
        self.introduction.boot.cause
    }

    /// Items not yet durable at the gateway.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of their bodies.
    pub(crate) const fn used(&self) -> usize {
        self.used
    }

    fn placed(&self) -> impl Iterator<Item = Placed> {
        let (mut item, mut start, mut first_seq) = (self.released, 0, self.first_seq);
        self.entries.iter().enumerate().map(move |(index, entry)| {
            let placed = Placed {
                index,
                entry: *entry,
                item: item + u64::from(entry.step) - 1,
                start,
                first_seq,
            };
            item += u64::from(entry.step);
            start += usize::from(entry.len);
            first_seq += u64::from(entry.readings);
            placed
        })
    }
}

impl<const BYTES: usize, const ITEMS: usize> ItemQueue for Queue<BYTES, ITEMS> {
    fn next(&self) -> Position {
        Position::new(self.boot, self.next)
    }

    fn after(&self, position: Position) -> Option<Item<'_>> {
        let found =
            self.placed().find(|placed| Position::new(self.boot, placed.item) > position)?;
        let before = found.item.checked_sub(u64::from(found.entry.step));
        Some(Item {
            position: Position::new(self.boot, found.item),
            predecessor: before.map_or(self.origin, |item| Some(Position::new(self.boot, item))),
            kind: found.entry.kind,
            body: self.bytes.get(found.start..found.start + usize::from(found.entry.len))?,
        })
    }

    fn release(&mut self, position: Position) {
        let durable = |placed: &Placed| Position::new(self.boot, placed.item) <= position;
        let Some(last) = self.placed().take_while(durable).last() else { return };
        let end = last.start + usize::from(last.entry.len);
        self.released = last.item + 1;
        self.first_seq = last.first_seq + u64::from(last.entry.readings);
        self.bytes.copy_within(end..self.used, 0);
        self.used -= end;
        self.entries.drain(..=last.index);
    }

    fn describe(&self, index: u8, out: &mut [u8]) -> Option<(ItemKind, usize)> {
        self.introduction.encode(index, out)
    }
}

impl Introduction {
    pub(crate) fn new(mut boot: Boot, channels: &'static [Channel<'static>]) -> Self {
        boot.schema = SchemaHash::of(channels);
        Self { boot, channels }
    }

    /// BOOT at 0, then one SCHEMA per channel.
    fn encode(&self, index: u8, out: &mut [u8]) -> Option<(ItemKind, usize)> {
        let Some(index) = index.checked_sub(1) else {
            return Some((ItemKind::BOOT, self.boot.encode(out)?));
        };
        let schema = Schema {
            hash: self.boot.schema,
            index,
            count: self.channels.len() as u8,
            channel: *self.channels.get(usize::from(index))?,
        };
        Some((ItemKind::SCHEMA, schema.encode(out)?))
    }
}

#[cfg(test)]
mod tests;
