//! The last 64 KiB of flash. `memory.x` keeps the image out of them.

use embassy_nrf::{
    Peri,
    nvmc::{Error, FLASH_SIZE, Nvmc, PAGE_SIZE},
    peripherals::NVMC,
};
use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};
use headwater_firmware::{Nvm, nvm::Sizes};

/// The flash, of which only the end is written. The processor stands while a page is erased (85 ms) or a
/// word written (41 us); reception goes on without it.
pub struct Storage {
    flash: Nvmc<'static>,
}

impl Storage {
    /// The whole flash.
    pub fn new(flash: Peri<'static, NVMC>) -> Self {
        Self { flash: Nvmc::new(flash) }
    }
}

impl Nvm for Storage {
    type Error = Error;

    fn sizes(&self) -> Sizes {
        Sizes { total: TOTAL, erase: PAGE_SIZE as u32, write: Nvmc::WRITE_SIZE as u32 }
    }

    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), Error> {
        self.flash.read(START + address, out)
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), Error> {
        self.flash.write(START + address, bytes)
    }

    fn erase(&mut self, address: u32, length: u32) -> Result<(), Error> {
        self.flash.erase(START + address, START + address + length)
    }
}

const TOTAL: u32 = 64 << 10;
const START: u32 = FLASH_SIZE as u32 - TOTAL;
