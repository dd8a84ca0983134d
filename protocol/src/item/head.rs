//! The ITEM message: what goes before an item's body on the wire.

use super::{ITEM_BODY_MAX, Item, ItemKind};
use crate::{
    message::TRANSMISSION_MAX,
    wire::{Reader, Writer},
};

/// The first byte of an item: bits 0 to 2 its kind, 3 and 4 how it names its predecessor, 5 to 7
/// the transmission count.
mod item_head {
    /// In place of the kind: a byte with the kind follows.
    pub(super) const LONG_KIND: u8 = 0;
    pub(super) const KIND_MASK: u8 = 7;
    pub(super) const PREDECESSOR_SHIFT: u8 = 3;
    pub(super) const TRANSMISSION_SHIFT: u8 = 5;
    /// The same boot's item before it.
    pub(super) const ADJACENT: u8 = 0;
    /// Not known; only for the first item of a boot.
    pub(super) const UNKNOWN: u8 = 1;
    /// A position follows.
    pub(super) const EXPLICIT: u8 = 2;
}

impl<'a> Item<'a> {
    /// Transmission count and item.
    pub(crate) fn read(mut body: Reader<'a>) -> Option<(u8, Self)> {
        let head = body.u8();
        let transmission = head >> item_head::TRANSMISSION_SHIFT;
        let kind = match head & item_head::KIND_MASK {
            item_head::LONG_KIND => {
                let kind = body.u8();
                body.require(kind > item_head::KIND_MASK);
                kind
            }
            kind => kind,
        };
        let position = body.position();
        body.require(position.boot > 0 && transmission > 0);
        let predecessor = match head >> item_head::PREDECESSOR_SHIFT & 3 {
            item_head::ADJACENT => Some(position.adjacent()?),
            item_head::UNKNOWN if position.item == 0 => None,
            item_head::EXPLICIT => {
                let named = body.position();
                body.require(named < position && position.adjacent() != Some(named));
                Some(named)
            }
            _ => return None,
        };
        let content = body.rest(ITEM_BODY_MAX);
        let item = Self { position, predecessor, kind: ItemKind(kind), body: content };
        body.finish((transmission, item))
    }

    /// All but the body.
    pub(crate) fn write_head(&self, transmission: u8, out: &mut Writer<'_>) {
        let (form, named) = match self.predecessor {
            None => (item_head::UNKNOWN, None),
            adjacent if self.position.adjacent() == adjacent => (item_head::ADJACENT, None),
            Some(named) => (item_head::EXPLICIT, Some(named)),
        };
        let kind = self.kind.0;
        let is_short = kind != item_head::LONG_KIND && kind <= item_head::KIND_MASK;
        let short_kind = if is_short { kind } else { item_head::LONG_KIND };
        let transmission = transmission.min(TRANSMISSION_MAX) << item_head::TRANSMISSION_SHIFT;
        out.u8(transmission | form << item_head::PREDECESSOR_SHIFT | short_kind);
        if !is_short {
            out.u8(kind);
        }
        out.position(self.position);
        if let Some(named) = named {
            out.position(named);
        }
    }
}
