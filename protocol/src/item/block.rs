//! BLOCK: consecutive readings of one boot, each block decodable alone.

use super::{CHANNELS_MAX, Malformed};
use crate::wire::Reader;

/// Why [`BlockBuilder::push`] left a reading out: seal the block, then push it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// No room for another row.
    Full,
    /// Off the block's time grid by more than an eighth of the period, or the sequence number does not follow.
    Discontinuous,
    /// The number of codes is not the block's number of channels; sealing does not help.
    Channels,
}

/// Packs readings into the body of a BLOCK. `ROWS` bytes hold the packed rows, `CHANNELS` is the number of channels.
#[derive(Clone, Debug)]
pub struct BlockBuilder<const ROWS: usize, const CHANNELS: usize> {
    rows: [u8; ROWS],
    len: usize,
    previous: [i32; CHANNELS],
    first_seq: u64,
    first_tick: u64,
    last_tick: u64,
    period: u32,
    count: u16,
}

impl<const ROWS: usize, const CHANNELS: usize> BlockBuilder<ROWS, CHANNELS> {
    /// Longest body that `seal` can give, bytes.
    pub const LEN_MAX: usize = Block::HEAD_MAX + ROWS;

    /// An empty block. `period` in ticks, 0 = every reading carries its own tick.
    #[must_use]
    pub const fn new(period: u32) -> Self {
        Self {
            rows: [0; ROWS],
            len: 0,
            previous: [0; CHANNELS],
            first_seq: 0,
            first_tick: 0,
            last_tick: 0,
            period,
            count: 0,
        }
    }

    /// Adds a reading; codes may be [`super::MISSING`].
    ///
    /// # Errors
    /// [`NotTaken`], and the block is as it was.
    pub fn push(&mut self, seq: u64, tick: u64, codes: &[i32]) -> Result<(), NotTaken> {
        todo!("{seq} {tick} {codes:?}")
    }

    /// Writes the body to `out` and empties the builder. `None`: nothing to seal, or `out` is too short ([`Self::LEN_MAX`]
    /// suffices) and the builder is as it was.
    pub fn seal(&mut self, out: &mut [u8]) -> Option<usize> {
        todo!("{out:?}")
    }

    /// Number of readings in the block.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Number of the first reading in the block; meaningless when it is empty.
    #[must_use]
    pub const fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// Tick of the first reading in the block; meaningless when it is empty. The owner seals when this is `linger` ago.
    #[must_use]
    pub const fn first_tick(&self) -> u64 {
        self.first_tick
    }
}

/// A BLOCK's body, checked to its last byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// Number of the first reading within its boot.
    pub first_seq: u64,
    /// Tick of the first reading.
    pub first_tick: u64,
    /// Ticks between readings; 0 = rows carry their own.
    pub period: u32,
    /// Number of readings, not 0.
    pub count: u16,
    /// Number of channels, 1 to [`CHANNELS_MAX`].
    pub channels: u8,
    rows: &'a [u8],
}

/// Number and tick of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowHead {
    /// Number of the reading within its boot.
    pub seq: u64,
    /// When it was sampled, device ticks.
    pub tick: u64,
}

impl<'a> Block<'a> {
    /// Longest head, bytes: first seq, first tick, period, channels, count.
    pub const HEAD_MAX: usize = 10 + 10 + 5 + 1 + 3;

    /// Takes a body apart and checks every row.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        todo!("{body:?}")
    }

    /// The readings in order.
    #[must_use]
    pub const fn rows(&self) -> Rows<'a> {
        todo!()
    }
}

/// Walks the readings of a block.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    rest: Reader<'a>,
    previous: [i32; CHANNELS_MAX],
    codes: [i32; CHANNELS_MAX],
    next: RowHead,
    period: u32,
    channels: u8,
    left: u16,
}

impl Rows<'_> {
    /// The next reading: its number, tick, and one code per channel, [`super::MISSING`] where there is none.
    pub fn next_row(&mut self) -> Option<(RowHead, &[i32])> {
        let _ = (&self.rest, self.previous, self.next, self.period, self.channels, self.left);
        let _ = &self.codes;
        todo!()
    }
}
