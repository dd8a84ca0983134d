//! Items: what a device's log consists of. Bodies of BOOT, SCHEMA, BLOCK and GAP, built without
//! allocation and taken apart totally: any bytes give a value or an error.

mod block;
mod boot;
mod gap;
mod head;
mod rice;
mod schema;

pub use block::{Block, BlockBuilder, NotTaken, RowHead, Rows};
pub use boot::{Boot, Cause};
pub use gap::{Gap, GapReason};
pub use schema::{Channel, Schema, SchemaHash};

use crate::Position;

/// A channel's code where the sensor gave none.
pub const MISSING: i32 = i32::MIN;

/// Most channels that one device may have.
pub const CHANNELS_MAX: usize = 32;

/// Most bytes of an item's body.
pub const ITEM_BODY_MAX: usize = 600;

/// Head byte, a kind of its own, position and explicit predecessor at their longest.
const HEAD_MAX: usize = 1 + 1 + 15 + 15;

const _: () = assert!(
    ITEM_BODY_MAX + HEAD_MAX <= crate::frame::BODY_MAX,
    "any item fits a host's receive maximum"
);

/// The kind of an item. Kinds that a host does not know are acknowledged like the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ItemKind(pub u8);

impl ItemKind {
    /// A boot began.
    pub const BOOT: Self = Self(1);
    /// One channel of the schema.
    pub const SCHEMA: Self = Self(2);
    /// Readings.
    pub const BLOCK: Self = Self(3);
    /// Readings that were dropped.
    pub const GAP: Self = Self(4);
}

/// An immutable item of a device's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its place.
    pub position: Position,
    /// The item before it, [`Position::START`] for the first of a stream, `None` when the device
    /// does not know (its memory did not outlive a reset), which only the first item of a boot may
    /// say.
    pub predecessor: Option<Position>,
    /// What the body is.
    pub kind: ItemKind,
    /// At most [`ITEM_BODY_MAX`] bytes.
    pub body: &'a [u8],
}

/// The meaning of an item's body.
#[derive(Clone, Debug)]
pub enum Content<'a> {
    /// BOOT.
    Boot(Boot),
    /// SCHEMA.
    Schema(Schema<'a>),
    /// BLOCK.
    Block(Block<'a>),
    /// GAP.
    Gap(Gap),
    /// A kind of a newer version.
    Unknown(ItemKind),
}

/// The body does not follow the format of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Content<'a> {
    /// Takes a body apart and checks all of it.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not a body of that kind.
    pub fn decode(kind: ItemKind, body: &'a [u8]) -> Result<Self, Malformed> {
        match kind {
            ItemKind::BOOT => Boot::decode(body).map(Self::Boot),
            ItemKind::SCHEMA => Schema::decode(body).map(Self::Schema),
            ItemKind::BLOCK => Block::decode(body).map(Self::Block),
            ItemKind::GAP => Gap::decode(body).map(Self::Gap),
            other => Ok(Self::Unknown(other)),
        }
    }
}
