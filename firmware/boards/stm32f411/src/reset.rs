//! Panics and faults end in a reset, and the next start knows why.
#![expect(
    unsafe_code,
    reason = "fault handlers are unsafe by signature; one word outlives the program"
)]

use core::{mem::MaybeUninit, panic::PanicInfo, ptr};

use cortex_m::peripheral::SCB;
use cortex_m_rt::{ExceptionFrame, exception};
use embassy_stm32::pac;
use headwater_firmware::protocol::item::Cause;

/// What caused this start; forgets it.
pub fn take_cause() -> Cause {
    let flags = pac::RCC.csr().read();
    pac::RCC.csr().modify(|flags| flags.set_rmvf(true));
    let mark = MARK.read();
    MARK.write(0);
    if flags.porrstf() {
        Cause::Power
    } else if flags.wdgrstf() || flags.wwdgrstf() {
        Cause::Watchdog
    } else if flags.sftrstf() && mark == PANICKED {
        Cause::Panic
    } else if flags.borrstf() {
        Cause::BrownOut
    } else {
        Cause::Reset
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
const PANICKED: u32 = 0xC3A7_19E4;
