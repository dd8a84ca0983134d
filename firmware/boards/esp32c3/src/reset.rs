//! Panics and exceptions end in a reset, and the next start knows why.
#![expect(unsafe_code, reason = "the start code finds the exception handler by its name")]

use core::panic::PanicInfo;

use esp_hal::{
    ram,
    rtc_cntl::SocResetReason,
    system::{reset_reason, software_reset},
};
use headwater_firmware::protocol::item::Cause;
use portable_atomic::{AtomicU32, Ordering};

/// In the memory that keeps its bytes over every reset but that of the power.
#[ram(unstable(rtc_fast, persistent))]
static MARK: AtomicU32 = AtomicU32::new(0);

/// What caused this start; forgets it.
pub fn take_cause() -> Cause {
    let mark = MARK.load(Ordering::Relaxed);
    MARK.store(0, Ordering::Relaxed);
    match reset_reason() {
        Some(SocResetReason::ChipPowerOn) => Cause::Power,
        Some(SocResetReason::SysBrownOut | SocResetReason::CorePwrGlitch) => Cause::BrownOut,
        Some(
            SocResetReason::CoreMwdt0
            | SocResetReason::CoreMwdt1
            | SocResetReason::CoreRtcWdt
            | SocResetReason::Cpu0Mwdt0
            | SocResetReason::Cpu0Mwdt1
            | SocResetReason::Cpu0RtcWdt
            | SocResetReason::SysRtcWdt
            | SocResetReason::SysSuperWdt,
        ) => Cause::Watchdog,
        Some(_) if mark == PANICKED => Cause::Panic,
        Some(_) => Cause::Reset,
        None => Cause::Unknown,
    }
}

/// Resets and reports a panic afterwards.
fn reset_as_panic() -> ! {
    MARK.store(PANICKED, Ordering::Relaxed);
    software_reset()
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    reset_as_panic()
}

// SAFETY: the start code calls it with one argument, which a function without any leaves alone, and
// nothing else has this name while the HAL's feature `exception-handler` is off.
#[unsafe(export_name = "ExceptionHandler")]
extern "C" fn on_exception() -> ! {
    reset_as_panic()
}

const PANICKED: u32 = 0xC3A7_19E4;
