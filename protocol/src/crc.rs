//! CRC-32C (Castagnoli), bit by bit: a table of 256 entries would cost 1 KiB of flash.

/// Reflected polynomial of CRC-32C.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// A CRC-32C under construction.
#[derive(Clone, Copy, Debug)]
pub struct Crc32c(u32);

impl Crc32c {
    /// The CRC of no bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self(!0)
    }

    /// Takes one byte.
    pub const fn push(&mut self, byte: u8) {
        self.0 ^= byte as u32;
        let mut bit = 0;
        while bit < 8 {
            // Without a branch: the mask is all ones when the lowest bit is set.
            self.0 = (self.0 >> 1) ^ (POLYNOMIAL & (self.0 & 1).wrapping_neg());
            bit += 1;
        }
    }

    /// Takes all bytes of a slice.
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.push(*byte);
        }
    }

    /// The checksum of what was taken so far.
    #[must_use]
    pub const fn value(self) -> u32 {
        !self.0
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

/// The CRC-32C of a slice.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(bytes);
    crc.value()
}
