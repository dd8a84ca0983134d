//! The last 64 KiB of the Pico's 2 MiB of flash. `memory.x` keeps the image out of them.

use embassy_rp::{
    Peri,
    flash::{Blocking, ERASE_SIZE, Error, Flash},
    peripherals::FLASH,
};
use headwater_firmware::{Nvm, nvm::Sizes};

/// The flash, of which only the end is written. The HAL's routines run from RAM with interrupts masked:
/// while a sector is erased (45 ms, by the data sheet at most 400 ms) only the 32 bytes of the
/// UART's FIFO are received, and the link asks for the rest again.
pub struct Storage {
    flash: Flash<'static, FLASH, Blocking, FLASH_BYTES>,
}

impl Storage {
    /// The whole flash.
    pub fn new(flash: Peri<'static, FLASH>) -> Self {
        Self { flash: Flash::new_blocking(flash) }
    }

    /// The number of the flash chip, since the processor has none.
    pub fn chip_number(&mut self) -> [u8; 8] {
        let mut number = [0; 8];
        // It fails on the second core only.
        let _ = self.flash.blocking_unique_id(&mut number);
        number
    }
}

impl Nvm for Storage {
    type Error = Error;

    fn sizes(&self) -> Sizes {
        Sizes { total: TOTAL, erase: ERASE_SIZE as u32, write: 1 }
    }

    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), Error> {
        self.flash.blocking_read(START + address, out)
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), Error> {
        self.flash.blocking_write(START + address, bytes)
    }

    fn erase(&mut self, address: u32, length: u32) -> Result<(), Error> {
        self.flash.blocking_erase(START + address, START + address + length)
    }
}

const FLASH_BYTES: usize = 2 << 20;
const TOTAL: u32 = 64 << 10;
/// From the beginning of flash.
const START: u32 = FLASH_BYTES as u32 - TOTAL;
