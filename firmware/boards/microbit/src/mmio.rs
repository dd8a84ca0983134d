//! Memory-mapped registers: the only code that touches an address of a peripheral.
#![expect(unsafe_code, reason = "volatile access is what a register is")]

use core::ptr;

/// One 32-bit register of a peripheral.
#[derive(Clone, Copy)]
pub struct Register(usize);

impl Register {
    /// The register at `address`, which must lie among the peripherals.
    ///
    /// Checked when the constant is evaluated, so that no safe caller can reach RAM or flash through it.
    pub const fn at(address: usize) -> Self {
        assert!(address.is_multiple_of(4));
        assert!(
            matches!(address, 0x1000_0000..0x1000_0100 | 0x4000_0000..0x4002_0000 | 0x5000_0000..0x5000_1000),
            "factory information, APB or GPIO",
        );
        Self(address)
    }

    /// Current content.
    pub fn read(self) -> u32 {
        // SAFETY: `at` admits aligned peripheral addresses only. They hold no Rust object, no
        // peripheral here does DMA, and an address without a register reads as zero.
        unsafe { ptr::read_volatile(self.0 as *const u32) }
    }

    /// Replaces the content.
    pub fn write(self, value: u32) {
        // SAFETY: as in `read`.
        unsafe { ptr::write_volatile(self.0 as *mut u32, value) }
    }

    /// Waits until one of `bits` is set; false when none is after `polls` reads.
    pub fn wait_set(self, bits: u32, polls: u32) -> bool {
        (0..polls).any(|_| self.read() & bits != 0)
    }

    /// Takes an event: whether it came; it is cleared.
    pub fn take_event(self) -> bool {
        let came = self.read() != 0;
        if came {
            self.write(0);
        }
        came
    }
}
