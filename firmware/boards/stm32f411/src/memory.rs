//! An EEPROM of the 24C256's kind, if somebody put one on the bus. The chip's own flash has sectors of 16 KiB
//! and more, and stands for a second while one is erased: nothing is kept there.

use embedded_hal::i2c::I2c;
use headwater_firmware::{Nvm, eeprom::At24c, nvm::Sizes};

/// The EEPROM, or none.
pub struct Memory<I>(Option<At24c<I>>);

/// There is no EEPROM, or it does not answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absent;

impl<I: I2c> Memory<I> {
    /// Looks for the EEPROM. Without one the device asks the gateway for a new stream at each start.
    pub fn find(mut bus: I) -> Self {
        // It does not answer for 5 ms after a write, which a reset may have cut.
        let answers = (0..TRIES).any(|_| bus.write(ADDRESS, &[0, 0]).is_ok());
        Self(answers.then(|| At24c::new(bus, ADDRESS, BYTES, PAGE)))
    }
}

impl<I: I2c> Nvm for Memory<I> {
    type Error = Absent;

    fn sizes(&self) -> Sizes {
        Sizes::eeprom(BYTES)
    }

    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), Absent> {
        let eeprom = self.0.as_mut().ok_or(Absent)?;
        eeprom.read(address, out).map_err(|_| Absent)
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), Absent> {
        let eeprom = self.0.as_mut().ok_or(Absent)?;
        eeprom.write(address, bytes).map_err(|_| Absent)
    }
}

/// With its address pins low.
const ADDRESS: u8 = 0x50;
const BYTES: u32 = 32 << 10;
const PAGE: u16 = 64;
/// 10 ms of refused addresses.
const TRIES: u32 = 100;
