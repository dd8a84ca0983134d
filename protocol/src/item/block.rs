//! BLOCK: consecutive readings of one boot, each block decodable alone.

use super::{CHANNELS_MAX, MISSING, Malformed};
use crate::{
    varint::{unzigzag, zigzag},
    wire::{Reader, Writer},
};

/// Why [`BlockBuilder::push`] left a reading out: seal the block, then push it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// No room for another row.
    Full,
    /// Off the block's time grid by more than an eighth of the period, or the sequence number does
    /// not follow.
    Discontinuous,
    /// The number of codes is not the block's number of channels; sealing does not help.
    Channels,
}

/// Packs readings into the body of a BLOCK. `ROWS` bytes hold the packed rows, `CHANNELS` is the
/// number of channels.
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
        const { assert!(CHANNELS >= 1 && CHANNELS <= CHANNELS_MAX) };
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
        if codes.len() != CHANNELS {
            return Err(NotTaken::Channels);
        }
        if self.count == 0 {
            self.first_seq = seq;
            self.first_tick = tick;
            self.last_tick = tick;
        } else if !self.continues(seq, tick) {
            return Err(NotTaken::Discontinuous);
        } else if self.count == u16::MAX {
            return Err(NotTaken::Full);
        }
        let mut row = Writer::new(self.rows.get_mut(self.len..).unwrap_or_default());
        if self.period == 0 && self.count > 0 {
            row.varint(tick - self.last_tick);
        }
        for (code, previous) in codes.iter().zip(&self.previous) {
            row.varint(token(*code, *previous));
        }
        self.len += row.finish().ok_or(NotTaken::Full)?;
        self.count += 1;
        self.last_tick = tick;
        for (code, previous) in codes.iter().zip(&mut self.previous) {
            if *code != MISSING {
                *previous = *code;
            }
        }
        Ok(())
    }

    /// Whether a reading may follow the ones in the block.
    fn continues(&self, seq: u64, tick: u64) -> bool {
        if seq != self.first_seq.wrapping_add(u64::from(self.count)) {
            return false;
        }
        if self.period == 0 {
            return tick >= self.last_tick;
        }
        let due = self.first_tick + u64::from(self.period) * u64::from(self.count);
        tick.abs_diff(due) <= u64::from(self.period / 8)
    }

    /// Writes the body to `out` and empties the builder. `None`: nothing to seal, or `out` is too
    /// short ([`Self::LEN_MAX`] suffices) and the builder is as it was.
    pub fn seal(&mut self, out: &mut [u8]) -> Option<usize> {
        if self.count == 0 {
            return None;
        }
        let mut body = Writer::new(out);
        body.varint(self.first_seq);
        body.varint(self.first_tick);
        body.varint(u64::from(self.period));
        body.u8(CHANNELS as u8);
        body.varint(u64::from(self.count));
        body.bytes(self.rows.get(..self.len).unwrap_or_default());
        let len = body.finish()?;
        self.len = 0;
        self.count = 0;
        self.previous = [0; CHANNELS];
        Some(len)
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

    /// Tick of the first reading in the block; meaningless when it is empty. The owner seals when
    /// this is `linger` ago.
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
        Self::read(Reader::new(body)).ok_or(Malformed)
    }

    fn read(mut body: Reader<'a>) -> Option<Self> {
        let block = Self {
            first_seq: body.varint()?,
            first_tick: body.varint()?,
            period: body.varint_u32()?,
            channels: body
                .u8()
                .filter(|channels| matches!(usize::from(*channels), 1..=CHANNELS_MAX))?,
            count: u16::try_from(body.varint()?).ok().filter(|count| *count > 0)?,
            rows: body.rest(),
        };
        block.first_seq.checked_add(u64::from(block.count))?;
        let mut rows = block.rows();
        while rows.left > 0 {
            rows.step()?;
        }
        rows.rest.is_empty().then_some(block)
    }

    /// The readings in order.
    #[must_use]
    pub const fn rows(&self) -> Rows<'a> {
        Rows {
            rest: Reader::new(self.rows),
            previous: [0; CHANNELS_MAX],
            codes: [MISSING; CHANNELS_MAX],
            at: RowHead { seq: self.first_seq, tick: self.first_tick },
            period: self.period,
            channels: self.channels,
            first: true,
            left: self.count,
        }
    }
}

/// Walks the readings of a block.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    rest: Reader<'a>,
    previous: [i32; CHANNELS_MAX],
    codes: [i32; CHANNELS_MAX],
    at: RowHead,
    period: u32,
    channels: u8,
    first: bool,
    left: u16,
}

impl Rows<'_> {
    /// The next reading: its number, tick, and one code per channel, [`super::MISSING`] where there
    /// is none.
    pub fn next_row(&mut self) -> Option<(RowHead, &[i32])> {
        if self.left == 0 {
            return None;
        }
        self.step()?;
        Some((self.at, self.codes.get(..usize::from(self.channels))?))
    }

    /// Reads one row into `at` and `codes`; `None` when the bytes do not hold one.
    fn step(&mut self) -> Option<()> {
        if self.first {
            self.first = false;
        } else {
            let elapsed =
                if self.period == 0 { self.rest.varint()? } else { u64::from(self.period) };
            self.at.tick = self.at.tick.checked_add(elapsed)?;
            self.at.seq += 1;
        }
        let channels = self.codes.iter_mut().zip(&mut self.previous);
        for (code, previous) in channels.take(usize::from(self.channels)) {
            *code = match self.rest.varint()?.checked_sub(1) {
                None => MISSING,
                Some(delta) => {
                    let value = previous.wrapping_add(unzigzag(u32::try_from(delta).ok()?));
                    *previous = value;
                    // A missing code has one encoding only.
                    Some(value).filter(|value| *value != MISSING)?
                }
            };
        }
        self.left -= 1;
        Some(())
    }
}

/// What a row holds of one code: 0 when it is missing, else 1 + the zigzag of its difference
/// (modulo 2^32) to the channel's code before.
fn token(code: i32, previous: i32) -> u64 {
    if code == MISSING { 0 } else { u64::from(zigzag(code.wrapping_sub(previous))) + 1 }
}
