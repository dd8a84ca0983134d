//! Time: timer 0 counts microseconds and is the alarm that ends a sleep.
//!
//! Its 32 bits wrap every 71 minutes; a wrap is seen by reading the counter in between, which the longest sleep makes
//! sure of. No interrupt has to come in time for that.

use core::cell::Cell;

use cortex_m::asm;

use crate::{
    mmio::Register,
    vectors::{self, Interrupt},
};

/// Ticks a second.
pub const TICK_HZ: u32 = 1_000_000;

/// The time since start and the sleep until an instant.
pub struct Clock {
    last: Cell<u64>,
}

impl Clock {
    /// Starts the counter and the alarm.
    pub fn start() -> Self {
        STOP.write(1);
        MODE.write(MODE_TIMER);
        BIT_MODE.write(BIT_MODE_32);
        PRESCALER.write(PRESCALER_1_MHZ);
        CLEAR.write(1);
        INTERRUPTS_SET.write(COMPARE_ALARM);
        vectors::enable(Interrupt::Timer0);
        START.write(1);
        Self { last: Cell::new(0) }
    }

    /// Ticks since start.
    pub fn now(&self) -> u64 {
        CAPTURE_NOW.write(1);
        let elapsed = NOW.read().wrapping_sub(self.last.get() as u32);
        let now = self.last.get() + u64::from(elapsed);
        self.last.set(now);
        now
    }

    /// Sleeps until an interrupt or `wake`, whichever comes first, for half an hour at most; returns at once when
    /// `ready` says that there is work.
    pub fn sleep_until(&self, wake: u64, ready: impl FnOnce() -> bool) {
        // With interrupts masked an interrupt still ends wfi, and none can slip in between setting the
        // alarm, asking and sleeping.
        critical_section::with(|_| {
            let wake = wake.min(self.now().saturating_add(SLEEP_MAX));
            ALARMED.write(0);
            ALARM.write(wake as u32);
            // Asked after the alarm was set: the counter may have passed it before.
            if wake > self.now() && !ready() {
                asm::wfi();
            }
        });
    }
}

/// Handler of timer 0: the sleep has ended, that is all.
pub extern "C" fn on_alarm() {
    ALARMED.write(0);
    // The write must have arrived before the handler returns, or it is entered again.
    let _ = ALARMED.read();
}

/// Ticks: well below a wrap of the counter.
const SLEEP_MAX: u64 = 1 << 31;

const START: Register = Register::at(0x4000_8000);
const STOP: Register = Register::at(0x4000_8004);
const CLEAR: Register = Register::at(0x4000_800C);
const CAPTURE_NOW: Register = Register::at(0x4000_8040);
const ALARMED: Register = Register::at(0x4000_8144);
const INTERRUPTS_SET: Register = Register::at(0x4000_8304);
/// Compare register 1.
const COMPARE_ALARM: u32 = 1 << 17;
const MODE: Register = Register::at(0x4000_8504);
const MODE_TIMER: u32 = 0;
const BIT_MODE: Register = Register::at(0x4000_8508);
/// Timer 0 is the only one that has as many.
const BIT_MODE_32: u32 = 3;
const PRESCALER: Register = Register::at(0x4000_8510);
/// 16 MHz by 2 to the power of this.
const PRESCALER_1_MHZ: u32 = 4;
const NOW: Register = Register::at(0x4000_8540);
const ALARM: Register = Register::at(0x4000_8544);
