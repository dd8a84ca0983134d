//! The partition `headwater` of `partitions.csv`: the last 64 KiB of 4 MiB of flash.

use esp_hal::peripherals::FLASH;
use esp_storage::{FlashStorage, FlashStorageError};
use headwater_firmware::{Nvm, nvm::Sizes};

/// The flash, of which only the partition is written, with interrupts masked: meanwhile the UART's FIFO
/// receives 128 bytes (11 ms), and the link asks for the rest again.
pub struct Storage {
    flash: FlashStorage<'static>,
}

impl Storage {
    /// The whole flash.
    pub fn new(flash: FLASH<'static>) -> Self {
        Self { flash: FlashStorage::new(flash) }
    }
}

impl Nvm for Storage {
    type Error = FlashStorageError;

    fn sizes(&self) -> Sizes {
        let (erase, write) = (FlashStorage::SECTOR_SIZE, FlashStorage::WORD_SIZE);
        Sizes { total: TOTAL, erase, write }
    }

    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), FlashStorageError> {
        self.flash.read_nor(START + address, out)
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), FlashStorageError> {
        self.flash.write_nor(START + address, bytes)
    }

    fn erase(&mut self, address: u32, length: u32) -> Result<(), FlashStorageError> {
        self.flash.erase(START + address, START + address + length)
    }
}

const TOTAL: u32 = 64 << 10;
/// Of the partition, from the beginning of flash.
const START: u32 = 0x3F_0000;
