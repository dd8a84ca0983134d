//! Panics and faults end in a reset, and the next start knows why: GPREGRET2 outlives every reset but that
//! of the power. (Bootloaders of such boards use GPREGRET for themselves.)
#![expect(unsafe_code, reason = "fault handlers are unsafe by signature")]

use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use cortex_m_rt::{ExceptionFrame, exception};
use embassy_nrf::pac::{self, power::regs::Resetreas};
use headwater_firmware::protocol::item::Cause;

/// What caused this start; forgets it.
pub fn take_cause() -> Cause {
    let reasons = pac::POWER.resetreas().read();
    // A reason stays until it is overwritten by a one.
    pac::POWER.resetreas().write_value(reasons);
    let mark = pac::POWER.gpregret2().read().gpregret();
    write_mark(0);
    if reasons.dog() {
        Cause::Watchdog
    } else if mark == PANICKED || reasons.lockup() {
        Cause::Panic
    } else if reasons == Resetreas(0) {
        // Power came, or was too low for a while.
        Cause::Power
    } else {
        Cause::Reset
    }
}

fn write_mark(mark: u8) {
    pac::POWER.gpregret2().write(|register| register.set_gpregret(mark));
}

/// Resets and reports a panic afterwards.
fn reset_as_panic() -> ! {
    write_mark(PANICKED);
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

const PANICKED: u8 = 0xC3;
