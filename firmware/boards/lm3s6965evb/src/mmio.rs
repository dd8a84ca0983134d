//! Memory-mapped registers: the only code that touches a hardware address.
#![expect(unsafe_code, reason = "volatile access is what a register is")]

use core::ptr;

/// One 32-bit register of a peripheral.
#[derive(Clone, Copy)]
pub struct Register(usize);

impl Register {
    /// The register at `address`, which must lie among the peripherals.
    ///
    /// Checked when the constant is evaluated, so that no safe caller can reach RAM through it.
    pub const fn at(address: usize) -> Self {
        assert!(address >= PERIPHERALS_START && address < PERIPHERALS_END);
        assert!(address.is_multiple_of(4));
        Self(address)
    }

    /// Current content.
    pub fn read(self) -> u32 {
        // SAFETY: `at` admits aligned peripheral addresses only. They hold no Rust object, no
        // peripheral here does DMA, and the chip answers an address without a register with a
        // bus fault, which resets.
        unsafe { ptr::read_volatile(self.0 as *const u32) }
    }

    /// Replaces the content.
    pub fn write(self, value: u32) {
        // SAFETY: as in `read`.
        unsafe { ptr::write_volatile(self.0 as *mut u32, value) }
    }

    /// Sets and clears bits, in this order.
    pub fn change(self, set: u32, clear: u32) {
        self.write((self.read() | set) & !clear);
    }

    /// Waits until all `bits` are clear; false when they are not after `polls` reads.
    pub fn wait_clear(self, bits: u32, polls: u32) -> bool {
        (0..polls).any(|_| self.read() & bits == 0)
    }

    /// Waits until one of `bits` is set; false when none is after `polls` reads.
    pub fn wait_set(self, bits: u32, polls: u32) -> bool {
        (0..polls).any(|_| self.read() & bits != 0)
    }
}

/// APB peripherals of the LM3S6965: watchdog at the start, system control at the end.
const PERIPHERALS_START: usize = 0x4000_0000;
const PERIPHERALS_END: usize = 0x4010_0000;
