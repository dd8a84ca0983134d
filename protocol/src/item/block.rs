//! BLOCK: consecutive readings of one boot, each block decodable alone.

use super::{
    CHANNELS_MAX, MISSING, Malformed,
    rice::{Decoder, Encoder, Start},
};
use crate::{
    bits::{BitReader, BitWriter},
    wire::{Reader, Writer},
};

/// In the byte of a channel's start: another channel's follows.
const MORE: u8 = 0x80;

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
/// number of channels. What one block teaches of a channel is where the next one starts.
#[derive(Clone, Debug)]
pub struct BlockBuilder<const ROWS: usize, const CHANNELS: usize> {
    rows: [u8; ROWS],
    /// Bits of `rows` in use.
    len: usize,
    time: Encoder,
    channels: [Encoder; CHANNELS],
    /// Of `time` and of each channel in this block.
    starts: (u8, [u8; CHANNELS]),
    first_seq: u64,
    first_tick: u64,
    last_tick: u64,
    period: u32,
    count: u16,
}

impl<const ROWS: usize, const CHANNELS: usize> BlockBuilder<ROWS, CHANNELS> {
    /// Longest body that `seal` can give, bytes.
    pub const LEN_MAX: usize = Block::HEAD_MAX - CHANNELS_MAX + CHANNELS + ROWS;

    /// An empty block. `period` in ticks, 0 = every reading carries its own tick.
    #[must_use]
    pub fn new(period: u32) -> Self {
        const {
            assert!(CHANNELS >= 1 && CHANNELS <= CHANNELS_MAX);
            assert!(ROWS <= 4096, "places in the rows are 16 bits");
        };
        Self {
            rows: [0; ROWS],
            len: 0,
            time: Encoder::default(),
            channels: [Encoder::default(); CHANNELS],
            starts: (0, [0; CHANNELS]),
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
        if self.count > 0 && !self.continues(seq, tick) {
            return Err(NotTaken::Discontinuous);
        }
        if self.count == u16::MAX {
            return Err(NotTaken::Full);
        }
        let before = (self.time, self.channels, self.starts);
        if self.count == 0 {
            self.starts.0 = self.time.begin().byte();
            for (channel, start) in self.channels.iter_mut().zip(&mut self.starts.1) {
                *start = channel.begin().byte();
            }
        }
        let mut out = BitWriter::new(&mut self.rows, self.len);
        if self.period == 0 && self.count > 0 {
            put_elapsed(&mut self.time, tick - self.last_tick, &mut out);
        }
        for (code, channel) in codes.iter().zip(&mut self.channels) {
            channel.put(*code, &mut out);
        }
        let Some(len) = out.finish() else {
            (self.time, self.channels, self.starts) = before;
            return Err(NotTaken::Full);
        };
        if self.count == 0 {
            self.first_seq = seq;
            self.first_tick = tick;
        }
        self.len = len;
        self.count += 1;
        self.last_tick = tick;
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
        // What follows the last row in its byte is zero, and a run that is open ends here.
        let mut rows = BitWriter::new(&mut self.rows, self.len);
        rows.put(0, (8 - self.len % 8) as u32 % 8);
        self.time.write_run(&mut rows);
        self.channels.iter().for_each(|channel| channel.write_run(&mut rows));
        let mut body = Writer::new(out);
        body.varint(self.first_seq);
        body.varint(u64::from(self.period));
        body.varint(zigzag64(self.first_tick.wrapping_sub(grid_tick(self.first_seq, self.period))));
        body.varint(u64::from(self.count));
        if self.period == 0 {
            body.u8(self.starts.0);
        }
        let (last, others) = self.starts.1.split_last()?;
        others.iter().for_each(|start| body.u8(start | MORE));
        body.u8(*last);
        body.bytes(self.rows.get(..self.len.div_ceil(8)).unwrap_or_default());
        let len = body.finish()?;
        self.len = 0;
        self.count = 0;
        Some(len)
    }

    /// Drops the readings in it.
    pub fn clear(&mut self) {
        self.len = 0;
        self.count = 0;
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
    starts: &'a [u8],
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
    /// Longest head, bytes: first seq, period, first tick, count, and where time and channels start.
    pub const HEAD_MAX: usize = 10 + 5 + 10 + 3 + 1 + CHANNELS_MAX;

    /// Takes a body apart and checks every row.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        Self::read(Reader::new(body)).ok_or(Malformed)
    }

    fn read(mut body: Reader<'a>) -> Option<Self> {
        let first_seq = body.varint();
        let period = body.varint_u32();
        let first_tick = grid_tick(first_seq, period).wrapping_add(unzigzag64(body.varint()));
        let count = u16::try_from(body.varint()).ok().filter(|count| *count > 0)?;
        let rest = body.rest(usize::MAX);
        body.finish(())?;
        // Time has no start of its own where a period tells it.
        let time = usize::from(period == 0);
        let channels = rest.get(time..)?.iter().position(|start| start & MORE == 0)? + 1;
        let (starts, rows) = rest.split_at_checked(time + channels)?;
        let is_known = |start: &u8| Start::read(start & !MORE).is_some();
        let is_marked = starts.iter().take(time).all(|start| start & MORE == 0);
        let holds = channels <= CHANNELS_MAX && is_marked && starts.iter().all(is_known);
        let channels = u8::try_from(channels).ok().filter(|_| holds)?;
        let block = Self { first_seq, first_tick, period, count, channels, starts, rows };
        block.first_seq.checked_add(u64::from(block.count))?;
        let mut rows = block.rows();
        while rows.left > 0 {
            rows.step()?;
        }
        rows.rest.is_spent().then_some(block)
    }

    /// The readings in order.
    #[must_use]
    pub fn rows(&self) -> Rows<'a> {
        let mut starts = self.starts.iter();
        let mut next = || starts.next().and_then(|start| Start::read(start & !MORE));
        let time = if self.period == 0 { next() } else { None };
        Rows {
            rest: BitReader::new(self.rows),
            time: Decoder::new(time.unwrap_or_default()),
            decoders: core::array::from_fn(|_| Decoder::new(next().unwrap_or_default())),
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
    rest: BitReader<'a>,
    time: Decoder,
    decoders: [Decoder; CHANNELS_MAX],
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
            let elapsed = match self.period {
                0 => take_elapsed(&mut self.time, &mut self.rest)?,
                period => period.into(),
            };
            self.at.tick = self.at.tick.checked_add(elapsed)?;
            self.at.seq += 1;
        }
        let channels = self.codes.iter_mut().zip(&mut self.decoders);
        for (code, decoder) in channels.take(usize::from(self.channels)) {
            *code = decoder.take(&mut self.rest)?;
        }
        self.left -= 1;
        Some(())
    }
}

/// The tick of a reading if the boot's first one had been taken at tick 0 and none been late; 0 where there is no
/// period. What a block says of its own is the distance from there, which stays short however long a device runs.
const fn grid_tick(seq: u64, period: u32) -> u64 {
    seq.wrapping_mul(period as u64)
}

const fn zigzag64(distance: u64) -> u64 {
    distance << 1 ^ (distance as i64 >> 63) as u64
}

const fn unzigzag64(code: u64) -> u64 {
    code >> 1 ^ (code & 1).wrapping_neg()
}

/// Ticks since the row before, like the codes of a channel; what is too long for one is missing, and follows in full.
fn put_elapsed(time: &mut Encoder, elapsed: u64, out: &mut BitWriter<'_>) {
    match i32::try_from(elapsed) {
        Ok(code) => time.put(code, out),
        Err(_) => {
            time.put(MISSING, out);
            out.put((elapsed >> 32) as u32, 32);
            out.put(elapsed as u32, 32);
        }
    }
}

fn take_elapsed(time: &mut Decoder, bits: &mut BitReader<'_>) -> Option<u64> {
    match time.take(bits)? {
        MISSING => Some(u64::from(bits.take(32)?) << 32 | u64::from(bits.take(32)?)),
        code => u64::try_from(code).ok(),
    }
}
