//! The last pages of flash as [`Nvm`], through the chip's flash controller.
//!
//! The core stands still while it erases (22 ms a page) and writes (46 us a word): the UART then loses what its six
//! bytes of buffer do not hold, which the link asks for again.
#![expect(unsafe_code, reason = "flash is memory that the program reads and writes by address")]

use core::ptr;

use headwater_firmware::{Nvm, nvm::Sizes};

use crate::mmio::Register;

/// The four pages from [`START`] on, which memory.x keeps free of the program.
pub struct Flash {
    _private: (),
}

/// Why flash could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Outside of the pages, or not in whole words or pages.
    OutOfRange,
    /// The controller stayed busy.
    Timeout,
}

impl Flash {
    /// The pages; nobody else may write flash.
    pub fn take() -> Self {
        Self { _private: () }
    }

    /// Does `operation` while the controller permits `what`.
    fn permitting(
        &mut self,
        what: u32,
        mut operation: impl FnMut() -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        wait_ready()?;
        CONFIG.write(what);
        let outcome = operation();
        // Whatever became of it: a stray write must not reach flash.
        CONFIG.write(CONFIG_READ_ONLY);
        outcome
    }
}

impl Nvm for Flash {
    type Error = Fault;

    fn sizes(&self) -> Sizes {
        Sizes { total: BYTES, erase: PAGE, write: WORD }
    }

    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), Fault> {
        check(address, out.len(), 1)?;
        for (offset, byte) in out.iter_mut().enumerate() {
            // SAFETY: `check` keeps it within the pages, which exist, hold no Rust object and are always readable.
            // Volatile, because the controller changes them behind the compiler's back.
            *byte = unsafe { ptr::read_volatile((START + address as usize + offset) as *const u8) };
        }
        Ok(())
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), Fault> {
        check(address, bytes.len(), WORD)?;
        self.permitting(CONFIG_WRITE, || {
            for (index, word) in bytes.as_chunks::<4>().0.iter().enumerate() {
                let place = START + address as usize + 4 * index;
                // SAFETY: as in `read`; `check` admits whole words only, and the controller is set to write.
                unsafe { ptr::write_volatile(place as *mut u32, u32::from_le_bytes(*word)) };
                wait_ready()?;
            }
            Ok(())
        })
    }

    fn erase(&mut self, address: u32, length: u32) -> Result<(), Fault> {
        check(address, length as usize, PAGE)?;
        self.permitting(CONFIG_ERASE, || {
            for page in (address..address + length).step_by(PAGE as usize) {
                ERASE_PAGE.write(START as u32 + page);
                wait_ready()?;
            }
            Ok(())
        })
    }
}

/// Whether the range lies within the pages and both ends are multiples of `unit`.
fn check(address: u32, length: usize, unit: u32) -> Result<(), Fault> {
    let length = u32::try_from(length).map_err(|_| Fault::OutOfRange)?;
    let is_inside = address.checked_add(length).is_some_and(|end| end <= BYTES);
    if is_inside && address.is_multiple_of(unit) && length.is_multiple_of(unit) {
        Ok(())
    } else {
        Err(Fault::OutOfRange)
    }
}

fn wait_ready() -> Result<(), Fault> {
    READY.wait_set(1, READY_POLLS).then_some(()).ok_or(Fault::Timeout)
}

/// Address of the first page, behind the program (memory.x).
const START: usize = 0x3_F000;
const BYTES: u32 = 4 * PAGE;
/// Bytes that are erased at once.
const PAGE: u32 = 1024;
/// Bytes that are written at once.
const WORD: u32 = 4;

const READY: Register = Register::at(0x4001_E400);
/// The core stands still anyway, so the first poll says yes.
const READY_POLLS: u32 = 1_000;
const CONFIG: Register = Register::at(0x4001_E504);
const CONFIG_READ_ONLY: u32 = 0;
const CONFIG_WRITE: u32 = 1;
const CONFIG_ERASE: u32 = 2;
const ERASE_PAGE: Register = Register::at(0x4001_E508);
