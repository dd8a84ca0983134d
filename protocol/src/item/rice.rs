//! How a channel's codes become bits: a prediction, and what it missed by in an adaptive Rice code.
//!
//! Both ends keep the same [`Model`] of a channel, which changes with each code alone, so that nothing but the codes and
//! where a block starts ([`Start`]) is sent. `SPEC.md` section 4 is normative.

use super::MISSING;
use crate::{
    bits::{BitReader, BitWriter},
    varint::{unzigzag, zigzag},
};

/// Ones that announce an escape.
const ESCAPE: u32 = 16;
/// First code of a channel: bits that tell how long it is, and what stands for a missing one.
const LENGTH_BITS: u32 = 6;
const LENGTH_MISSING: u32 = 33;
/// The mean miss is kept in sixteenths; below this a channel is quiet, and runs of hits are counted.
const QUIET: u32 = 6;
/// Where a block starts for a quiet channel.
const QUIET_START: u32 = 4;
/// A miss counts as this much at most.
const MISS_MAX: u32 = 1 << 22;
/// Where the mean of such misses ends.
const PARAMETER_MAX: u32 = 22;
/// A Rice parameter fits while the mean miss is at most 24/16 of its step.
const STEP: u32 = 24;
/// Where a channel starts that nothing is known of.
const UNKNOWN_LEVEL: u32 = 4;
const RUN_BITS_FIRST: u32 = 3;
const RUN_BITS_MAX: u32 = 6;
/// In [`Model::run`] of a decoder: behind the hits there is a miss.
const MISS_FOLLOWS: u16 = 1 << 8;
/// In [`Encoder::mode`].
const LONGEST: u8 = 63;

/// Where what a channel does not tell by itself begins in a block: one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    predictor: Predictor,
    /// Of the Rice parameter, one more than that; 0 for a quiet channel. Of verbatim codes, one less than their bits.
    level: u8,
}

/// What a code is expected to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Predictor {
    /// The code before.
    Last,
    /// As far from it as it was from the one before.
    Line,
    /// Half way back: the mean of the two before.
    Mean,
    /// Nothing: codes are written as they are.
    Verbatim,
}

/// What both ends know of a channel within a block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Model {
    last: i32,
    /// Bits 0 to 26: the mean miss; 27: whether there was a code; 28 to 31: bits of the next run's count.
    packed: u32,
    slope: i16,
    /// Of a run of hits, 0 outside of one. The decoder: how many are still to come. The encoder: one more than the bits
    /// before its count.
    run: u16,
}

/// The device's side: the model, and what tells where the next block starts. A few bytes, since there is one for each
/// channel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Encoder {
    model: Model,
    /// How many bits longer the misses of [`Predictor::Line`] and [`Predictor::Mean`] were than those of
    /// [`Predictor::Last`].
    lead: [i8; 2],
    /// Hits in the run that is open; in a verbatim block the [`Start::level`].
    hits: u8,
    /// Bits 0 to 5: bits of the longest code; 6 and 7: the predictor of this block.
    mode: u8,
}

/// The host's side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder {
    model: Model,
    start: Start,
}

impl Predictor {
    const ALL: [Self; 4] = [Self::Last, Self::Line, Self::Mean, Self::Verbatim];
}

impl Default for Start {
    fn default() -> Self {
        Self { predictor: Predictor::Last, level: 0 }
    }
}

impl Start {
    const LEVEL_MAX: u8 = 23;

    /// The byte, but for its top bit.
    pub(super) const fn byte(self) -> u8 {
        (self.predictor as u8) << 5 | self.level
    }

    pub(super) fn read(byte: u8) -> Option<Self> {
        let predictor = *Predictor::ALL.get(usize::from(byte >> 5 & 3))?;
        let level = byte & 31;
        let is_known = predictor == Predictor::Verbatim || level <= Self::LEVEL_MAX;
        is_known.then_some(Self { predictor, level })
    }

    /// Bits of a verbatim code.
    fn width(self) -> u32 {
        u32::from(self.level) + 1
    }
}

impl Model {
    fn begin(&mut self, start: Start) {
        let level = u32::from(start.level);
        let spread = match level.checked_sub(1) {
            _ if start.predictor == Predictor::Verbatim => 0,
            None => QUIET_START,
            Some(step) => 16 << step,
        };
        *self = Self { packed: RUN_BITS_FIRST << 28, ..Self::default() };
        self.set_spread(spread);
    }

    const fn spread(self) -> u32 {
        self.packed & ((1 << 27) - 1)
    }

    fn set_spread(&mut self, spread: u32) {
        self.packed = self.packed & !((1 << 27) - 1) | spread;
    }

    const fn has_code(self) -> bool {
        self.packed & 1 << 27 != 0
    }

    const fn run_bits(self) -> u32 {
        self.packed >> 28
    }

    fn set_run_bits(&mut self, bits: u32) {
        self.packed = self.packed & ((1 << 28) - 1) | bits << 28;
    }

    const fn is_quiet(self) -> bool {
        self.spread() < QUIET
    }

    /// The Rice parameter. By steps, of which there are few: a division would cost a Cortex-M0 0.2 kB.
    fn parameter(self) -> u32 {
        let mut parameter = 0;
        while STEP << parameter < self.spread() {
            parameter += 1;
        }
        parameter
    }

    fn predict(self, predictor: Predictor) -> i32 {
        let slope = i32::from(self.slope);
        match predictor {
            Predictor::Last | Predictor::Verbatim => self.last,
            Predictor::Line => self.last.wrapping_add(slope),
            Predictor::Mean => self.last.wrapping_sub(slope >> 1),
        }
    }

    /// Takes a code that is there, and by how much it was missed (zigzag).
    fn learn(&mut self, code: i32, miss: u32) {
        if self.has_code() {
            let slope = code.wrapping_sub(self.last);
            self.slope = slope.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
            let spread = self.spread() as i32;
            let miss = (miss.min(MISS_MAX) * 16) as i32;
            self.set_spread((spread + ((miss - spread) >> 3)) as u32);
        }
        self.packed |= 1 << 27;
        self.last = code;
    }

    /// After a run of hits: the next one's count gets longer or shorter.
    fn end_run(&mut self, hits: u32) {
        let bits = self.run_bits();
        if hits == (1 << bits) - 1 {
            self.set_run_bits((bits + 1).min(RUN_BITS_MAX));
        } else if hits < 1 << (bits - 1) && bits > 1 {
            self.set_run_bits(bits - 1);
        }
    }
}

impl Encoder {
    /// Starts a block with what the one before taught.
    pub(super) fn begin(&mut self) -> Start {
        let longest = u32::from(self.mode & LONGEST);
        let parameter = self.model.parameter();
        let level = match longest {
            0 => UNKNOWN_LEVEL,
            _ if self.model.is_quiet() => 0,
            _ => parameter + 1,
        };
        let predictor = match self.lead {
            _ if longest > 0 && parameter + 1 >= longest.min(PARAMETER_MAX + 1) => {
                Predictor::Verbatim
            }
            [line, mean] if line < 0 && line <= mean => Predictor::Line,
            [_, mean] if mean < 0 => Predictor::Mean,
            _ => Predictor::Last,
        };
        let level = if predictor == Predictor::Verbatim { longest - 1 } else { level };
        let start = Start { predictor, level: level as u8 };
        let spread = self.model.spread();
        self.model.begin(start);
        if predictor == Predictor::Verbatim {
            // It learns on, to see when prediction pays again.
            self.model.set_spread(spread);
        }
        self.lead = self.lead.map(|lead| lead / 2);
        self.hits = start.level;
        self.mode = (predictor as u8) << 6;
        start
    }

    /// Writes a code; [`MISSING`] is one that is not there.
    pub(super) fn put(&mut self, code: i32, out: &mut BitWriter<'_>) {
        let predictor =
            *Predictor::ALL.get(usize::from(self.mode >> 6)).unwrap_or(&Predictor::Last);
        let miss = zigzag(code.wrapping_sub(self.model.predict(predictor)));
        let is_hit = code != MISSING && miss == 0;
        if predictor == Predictor::Verbatim {
            put_verbatim(code, u32::from(self.hits) + 1, out);
        } else if !self.model.has_code() {
            put_first(code, out);
        } else if self.model.run == 0 && !self.model.is_quiet() {
            put_miss(code, miss, self.model.parameter(), out);
        } else {
            if self.model.run == 0 {
                // Known when the run ends: until then it stands for the place of its count.
                self.hits = 0;
                self.model.run = out.position() as u16 + 1;
                out.put(0, self.model.run_bits());
            }
            self.hits += u8::from(is_hit);
            if !is_hit || u32::from(self.hits) == (1 << self.model.run_bits()) - 1 {
                self.write_run(out);
                self.model.run = 0;
                self.model.end_run(self.hits.into());
            }
            if !is_hit {
                put_miss(code, miss.wrapping_sub(1), 0, out);
            }
        }
        if code != MISSING {
            self.learn(code, miss);
        }
    }

    /// Writes the count of the run that is open, if one is.
    pub(super) fn write_run(&self, out: &mut BitWriter<'_>) {
        if let Some(at) = self.model.run.checked_sub(1) {
            out.patch(at.into(), self.hits.into(), self.model.run_bits());
        }
    }

    fn learn(&mut self, code: i32, miss: u32) {
        if self.model.has_code() {
            let length =
                |predictor| bits_of(zigzag(code.wrapping_sub(self.model.predict(predictor))));
            let last = length(Predictor::Last);
            let others = [length(Predictor::Line), length(Predictor::Mean)];
            for (lead, other) in self.lead.iter_mut().zip(others) {
                *lead = lead.saturating_add((other as i8).saturating_sub(last as i8));
            }
        }
        let longest = (self.mode & LONGEST).max(bits_of(zigzag(code)).max(1) as u8);
        self.mode = self.mode & !LONGEST | longest;
        self.model.learn(code, miss);
    }
}

impl Decoder {
    pub(super) fn new(start: Start) -> Self {
        let mut model = Model::default();
        model.begin(start);
        Self { model, start }
    }

    /// The next code; [`MISSING`] where there is none. `None` when the bits do not hold one.
    pub(super) fn take(&mut self, bits: &mut BitReader<'_>) -> Option<i32> {
        let expected = self.model.predict(self.start.predictor);
        let code = if self.start.predictor == Predictor::Verbatim {
            take_verbatim(self.start.width(), bits)?
        } else if !self.model.has_code() {
            take_first(bits)?
        } else if self.model.run == 0 && !self.model.is_quiet() {
            take_miss(expected, 0, self.model.parameter(), bits)?
        } else {
            if self.model.run == 0 {
                let run_bits = self.model.run_bits();
                let hits = bits.take(run_bits)?;
                let is_full = hits == (1 << run_bits) - 1;
                self.model.run = hits as u16 | if is_full { 0 } else { MISS_FOLLOWS };
                self.model.end_run(hits);
            }
            if self.model.run == MISS_FOLLOWS {
                self.model.run = 0;
                take_miss(expected, 1, 0, bits)?
            } else {
                self.model.run -= 1;
                // Only what is written as missing is.
                Some(expected).filter(|code| *code != MISSING)?
            }
        };
        if code != MISSING {
            self.model.learn(code, zigzag(code.wrapping_sub(expected)));
        }
        Some(code)
    }
}

/// Length of a number in bits. Out of line: a Cortex-M0 has no instruction for it, and it is asked five times.
#[inline(never)]
fn bits_of(value: u32) -> u32 {
    let mut bits = 0;
    while bits < u32::BITS && value >> bits != 0 {
        bits += 1;
    }
    bits
}

/// The first code of a channel in a block: how long it is, then what lies below its top bit.
fn put_first(code: i32, out: &mut BitWriter<'_>) {
    if code == MISSING {
        return out.put(LENGTH_MISSING, LENGTH_BITS);
    }
    let value = zigzag(code);
    let length = bits_of(value);
    out.put(length, LENGTH_BITS);
    out.put(value, length.saturating_sub(1));
}

fn take_first(bits: &mut BitReader<'_>) -> Option<i32> {
    let length = bits.take(LENGTH_BITS)?;
    match length {
        LENGTH_MISSING => Some(MISSING),
        0 => Some(0),
        1..=32 => {
            let below = bits.take(length - 1)?;
            there(unzigzag(1 << (length - 1) | below))
        }
        _ => None,
    }
}

fn put_miss(code: i32, miss: u32, parameter: u32, out: &mut BitWriter<'_>) {
    let steps = miss >> parameter;
    if code == MISSING || steps >= ESCAPE {
        out.put(u32::MAX, ESCAPE);
        put_escaped(code, out);
    } else {
        // The ones, and the zero behind them.
        out.put((1 << (steps + 1)) - 2, steps + 1);
        out.put(miss, parameter);
    }
}

fn take_miss(expected: i32, least: u32, parameter: u32, bits: &mut BitReader<'_>) -> Option<i32> {
    let steps = bits.ones(ESCAPE)?;
    if steps == ESCAPE {
        return take_escaped(bits);
    }
    let miss = (steps << parameter | bits.take(parameter)?) + least;
    there(expected.wrapping_add(unzigzag(miss)))
}

/// Two's complement in so many bits; the smallest of these numbers announces an escape.
fn put_verbatim(code: i32, width: u32, out: &mut BitWriter<'_>) {
    let least = i32::MIN >> (i32::BITS - width);
    if code <= least || code > !least {
        out.put(least as u32, width);
        put_escaped(code, out);
    } else {
        out.put(code as u32, width);
    }
}

fn take_verbatim(width: u32, bits: &mut BitReader<'_>) -> Option<i32> {
    let shift = i32::BITS - width;
    let code = (bits.take(width)? << shift) as i32 >> shift;
    if code == i32::MIN >> shift { take_escaped(bits) } else { Some(code) }
}

fn put_escaped(code: i32, out: &mut BitWriter<'_>) {
    out.put(u32::from(code == MISSING), 1);
    if code != MISSING {
        out.put(code as u32, 32);
    }
}

fn take_escaped(bits: &mut BitReader<'_>) -> Option<i32> {
    match bits.take(1)? {
        1 => Some(MISSING),
        _ => there(bits.take(32)? as i32),
    }
}

/// A code that is written as a number is there.
fn there(code: i32) -> Option<i32> {
    Some(code).filter(|code| *code != MISSING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{Block, BlockBuilder};

    #[test]
    fn the_state_of_a_channel_is_16_bytes() {
        assert_eq!(size_of::<Encoder>(), 16);
    }

    /// Bits that the codes of one channel take on average in blocks of 100, starts included.
    fn bits_per_code(codes: impl Iterator<Item = i32>) -> f64 {
        let mut builder = BlockBuilder::<4000, 1>::new(1);
        let (mut bytes, mut count) = (0, 0);
        let mut body = [0; 4096];
        for (seq, code) in (0..).zip(codes) {
            builder.push(seq, seq, &[code]).unwrap();
            if builder.count() == 100 {
                let len = builder.seal(&mut body).unwrap();
                assert!(Block::decode(&body[..len]).is_ok());
                let number = |value: u64| crate::varint::encode(value, &mut [0; 10]).unwrap();
                bytes += len - 2 * number(seq - 99) - number(1) - number(100);
                count += 100;
            }
        }
        bytes as f64 * 8.0 / f64::from(count)
    }

    fn noise(bits: u32) -> impl Iterator<Item = i32> {
        let mut state = 88_172_645_463_325_252_u64;
        core::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) as i32 >> (32 - bits)
        })
    }

    #[test]
    fn what_cannot_be_compressed_costs_two_percent_at_most() {
        for width in [8, 12, 16, 24, 32] {
            let bits = bits_per_code(noise(width).take(20_000));
            assert!(bits <= f64::from(width) * 1.02 + 0.2, "{width} bits: {bits}");
        }
    }

    #[test]
    fn what_does_not_change_costs_nearly_nothing() {
        let bits = bits_per_code(core::iter::repeat_n(2150, 20_000));
        assert!(bits < 0.5, "{bits}");
    }
}
