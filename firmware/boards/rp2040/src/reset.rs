//! Panics and faults end in a reset, and the next start knows why: the watchdog's scratch registers
//! outlive every reset but that of the power.
#![expect(unsafe_code, reason = "fault handlers are unsafe by signature")]

use core::panic::PanicInfo;

use cortex_m::asm;
use cortex_m_rt::{ExceptionFrame, exception};
use embassy_rp::pac::{self, psm::regs::Wdsel};
use headwater_firmware::protocol::item::Cause;

/// What caused this start.
pub fn take_cause() -> Cause {
    let mark = pac::WATCHDOG.scratch0().read();
    pac::WATCHDOG.scratch0().write_value(RUNNING);
    // The boot ROM restarts by the watchdog too, after an image was copied; no mark was set then.
    let watchdog = pac::WATCHDOG.reason().read().timer() && mark == RUNNING;
    match mark {
        PANICKED => Cause::Panic,
        RUNNING if watchdog => Cause::Watchdog,
        RUNNING => Cause::Reset,
        _ if pac::VREG_AND_CHIP_RESET.chip_reset().read().had_run() => Cause::Reset,
        _ => Cause::Power,
    }
}

/// Resets all but the oscillators and reports a panic afterwards.
fn reset_as_panic() -> ! {
    pac::WATCHDOG.scratch0().write_value(PANICKED);
    pac::PSM.wdsel().write_value(Wdsel(WDSEL_ALL_BUT_OSCILLATORS));
    pac::WATCHDOG.ctrl().write(|control| control.set_trigger(true));
    loop {
        asm::nop();
    }
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

const RUNNING: u32 = 0x52D5_0D9E;
const PANICKED: u32 = 0xC3A7_19E4;
/// Bits 0 and 1 are ROSC and XOSC.
const WDSEL_ALL_BUT_OSCILLATORS: u32 = 0x1_FFFC;
