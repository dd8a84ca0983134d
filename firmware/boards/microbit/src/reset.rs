//! Panics and faults end in a reset, and the next start knows why.
//!
//! The chip's own registers tell what RAM cannot: whether the watchdog bit, and that power was gone. That a panic came
//! before is a word of RAM, which outlives a reset. The chip has a retained register for such, but QEMU's stub of it
//! reads 1 whatever was written, and so it would be the one thing that no test sees.
#![expect(
    unsafe_code,
    reason = "fault handlers are unsafe by signature; one word outlives the program"
)]

use core::{mem::MaybeUninit, panic::PanicInfo, ptr};

use cortex_m::peripheral::SCB;
use cortex_m_rt::{ExceptionFrame, exception};

use headwater_firmware::protocol::item::Cause;

use crate::mmio::Register;

/// What caused this start; from here on an unexplained reset counts as one from outside.
pub fn take_cause() -> Cause {
    let mark = MARK.read();
    MARK.write(RUNNING);
    let reasons = REASONS.read();
    // Written ones clear.
    REASONS.write(reasons);
    match (reasons, mark) {
        // The chip notes every reset but the one at power-up or after a brown-out, over which RAM may last.
        (0, _) => Cause::Power,
        (reasons, _) if reasons & REASON_WATCHDOG != 0 => Cause::Watchdog,
        (reasons, _) if reasons & REASON_LOCK_UP != 0 => Cause::Panic,
        (_, PANICKED) => Cause::Panic,
        (_, RUNNING) => Cause::Reset,
        // QEMU notes the reset pin at power-up.
        _ => Cause::Power,
    }
}

/// Resets and reports a panic afterwards.
fn reset_as_panic() -> ! {
    MARK.write(PANICKED);
    SCB::sys_reset()
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    reset_as_panic()
}

#[exception]
unsafe fn HardFault(_: &ExceptionFrame) -> ! {
    reset_as_panic()
}

#[exception]
unsafe fn DefaultHandler(_: i16) -> ! {
    reset_as_panic()
}

/// A word of RAM that the start code leaves alone: it survives a reset and is noise after power-up.
struct Mark;

impl Mark {
    fn read(&self) -> u32 {
        // SAFETY: any bit pattern is a u32, the RAM behind it exists, and only this single core's
        // start and end touch it. Volatile, because what it holds was written by another run.
        unsafe { ptr::read_volatile((&raw const MARK_WORD).cast()) }
    }

    fn write(&self, mark: u32) {
        // SAFETY: as in `read`.
        unsafe { ptr::write_volatile((&raw mut MARK_WORD).cast(), mark) }
    }
}

// SAFETY: `.uninit` is a section of cortex-m-rt's link.x, in RAM, not initialised at start.
#[unsafe(link_section = ".uninit.reset_mark")]
static mut MARK_WORD: MaybeUninit<u32> = MaybeUninit::uninit();

const MARK: Mark = Mark;
const RUNNING: u32 = 0x52D5_0D9E;
const PANICKED: u32 = 0xC3A7_19E4;

const REASONS: Register = Register::at(0x4000_0400);
const REASON_WATCHDOG: u32 = 1 << 1;
const REASON_LOCK_UP: u32 = 1 << 3;
