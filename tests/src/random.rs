//! Random instants and bytes from a seed that is printed, so that a failure can be run again.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From `HEADWATER_SEED` if set, else from the clock; prints it.
    ///
    /// # Panics
    /// If `HEADWATER_SEED` is not a number.
    #[must_use]
    pub fn new(test: &str) -> Self {
        let seed = std::env::var("HEADWATER_SEED").map_or_else(
            |_| {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                now.map_or(1, |elapsed| elapsed.as_nanos() as u64)
            },
            |text| text.parse().expect("HEADWATER_SEED is a number"),
        );
        println!("{test}: HEADWATER_SEED={seed}");
        Self(seed)
    }

    /// Another source for another thread, by the same seed.
    #[must_use]
    pub fn fork(&self, number: u64) -> Self {
        let mut mixed = Self(self.0 ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
        Self(mixed.bits())
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// So many random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.bits() as u8).collect()
    }
}
