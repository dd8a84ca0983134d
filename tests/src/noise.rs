//! Bits that flip on their way, each with the same small probability, by a seed.

use crate::random::Random;

/// Where bits flip.
#[derive(Clone, Debug)]
pub struct Noise {
    random: Random,
    one_in_bits: u64,
    /// Bits up to the next one that flips.
    left: u64,
    flipped: u64,
}

impl Noise {
    /// One bit in so many, on average.
    #[must_use]
    pub fn new(random: Random, one_in_bits: u64) -> Self {
        let mut noise = Self { random, one_in_bits, left: 0, flipped: 0 };
        noise.left = noise.draw();
        noise
    }

    /// Flips what is due in the next bytes of the line.
    pub fn disturb(&mut self, bytes: &mut [u8]) {
        let bits = 8 * bytes.len() as u64;
        let mut end = bits;
        while self.left < end {
            let at = bits - end + self.left;
            bytes[at as usize / 8] ^= 1 << (at % 8);
            self.flipped += 1;
            end -= self.left + 1;
            self.left = self.draw();
        }
        self.left -= end;
    }

    /// How many bits it has flipped.
    #[must_use]
    pub fn flipped(&self) -> u64 {
        self.flipped
    }

    /// Bits between two that flip: geometrically distributed, since each flips by itself.
    fn draw(&mut self) -> u64 {
        let uniform = (self.random.below(1 << 32) + 1) as f64 / (1_u64 << 32) as f64;
        (uniform.ln() / (-1.0 / self.one_in_bits as f64).ln_1p()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_bits_flip_however_the_bytes_are_cut() {
        const BYTES: usize = 1_000_000;
        let mut whole = vec![0_u8; BYTES];
        let mut noise = Noise::new(Random::new("noise"), 1_000);
        let mut same = noise.clone();
        noise.disturb(&mut whole);
        let flipped: u32 = whole.iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(u64::from(flipped), noise.flipped());
        // 8,000 are expected, give or take 90.
        assert!((7_500..8_500).contains(&flipped), "{flipped}");

        let mut cut = vec![0_u8; BYTES];
        cut.chunks_mut(7).for_each(|bytes| same.disturb(bytes));
        assert!(cut == whole);
    }
}
