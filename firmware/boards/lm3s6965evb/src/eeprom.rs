//! An AT24C64 EEPROM: 8 KiB behind two address bytes, on the I2C bus.

use embedded_hal::i2c::{I2c, Operation};

/// Bytes of the part.
pub const CAPACITY: u32 = 8192;

/// The EEPROM on bus `I`.
pub struct At24c64<I> {
    bus: I,
}

/// The bus gave up, or the address lies outside of the part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EepromError {
    /// Past the end.
    OutOfRange,
    /// The bus failed, or a write did not end in time.
    Bus,
}

impl<I: I2c> At24c64<I> {
    /// The EEPROM with its address pins low.
    pub fn new(bus: I) -> Self {
        Self { bus }
    }

    /// Fills `buffer` from `address` on.
    pub fn read(&mut self, address: u32, buffer: &mut [u8]) -> Result<(), EepromError> {
        let pointer = pointer(address, buffer.len())?;
        if buffer.is_empty() {
            return Ok(());
        }
        self.bus.write_read(DEVICE, &pointer, buffer).map_err(|_| EepromError::Bus)
    }

    /// Writes `bytes` from `address` on and waits until they are stored. Pages are written one by one,
    /// so a power cut leaves whole pages from the front, and possibly garbage in one.
    pub fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), EepromError> {
        pointer(address, bytes.len())?;
        let mut at = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = (PAGE - at % PAGE) as usize;
            let (page, behind) = rest.split_at(room.min(rest.len()));
            let pointer = pointer(at, page.len())?;
            self.bus
                .transaction(DEVICE, &mut [Operation::Write(&pointer), Operation::Write(page)])
                .map_err(|_| EepromError::Bus)?;
            self.wait_stored(&pointer)?;
            at += page.len() as u32;
            rest = behind;
        }
        Ok(())
    }

    /// While it stores a page, the part does not answer to its address.
    fn wait_stored(&mut self, pointer: &[u8; 2]) -> Result<(), EepromError> {
        if (0..STORE_POLLS).any(|_| self.bus.write(DEVICE, pointer).is_ok()) {
            return Ok(());
        }
        Err(EepromError::Bus)
    }
}

fn pointer(address: u32, length: usize) -> Result<[u8; 2], EepromError> {
    let end = address as usize + length;
    if end > CAPACITY as usize {
        return Err(EepromError::OutOfRange);
    }
    Ok((address as u16).to_be_bytes())
}

/// Bus address.
const DEVICE: u8 = 0x50;
/// A write must not cross pages of 32 bytes: it would wrap within one.
const PAGE: u32 = 32;
/// A page takes 10 ms at most, a refused poll 0.1 ms.
const STORE_POLLS: u32 = 200;
