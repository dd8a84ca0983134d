//! Time: SysTick counts core clocks, timer 0 is the alarm that ends a sleep.
//!
//! SysTick runs its full 24 bits (1.34 s) and only its wraps are counted, so that no tick is lost
//! while interrupts are masked or an emulator is starved; sleeping needs no periodic interrupt.

use core::cell::Cell;

use cortex_m::{
    asm,
    peripheral::{SCB, SYST, syst::SystClkSource},
};
use cortex_m_rt::exception;
use critical_section::Mutex;

use crate::{
    mmio::Register,
    vectors::{self, Interrupt},
};

static WRAPS: Mutex<Cell<u32>> = Mutex::new(Cell::new(0));

/// The time since start, in core clocks, and the sleep until an instant.
pub struct Clock {
    _counter: SYST,
}

impl Clock {
    /// Starts the counter and the alarm.
    pub fn start(mut counter: SYST) -> Self {
        counter.set_clock_source(SystClkSource::Core);
        counter.set_reload(COUNTER_MASK);
        counter.clear_current();
        counter.enable_interrupt();
        counter.enable_counter();
        // It reads zero, the last tick before a wrap, until the first clock has loaded it.
        while SYST::get_current() == 0 {}
        TIMER_CONTROL.write(0);
        TIMER_CONFIG.write(TIMER_32_BIT);
        TIMER_MODE.write(TIMER_ONE_SHOT);
        TIMER_INTERRUPTS.write(TIMER_EXPIRED);
        vectors::enable(Interrupt::Timer0A);
        Self { _counter: counter }
    }

    /// Ticks since start.
    pub fn now(&self) -> u64 {
        critical_section::with(|section| {
            let before = COUNTER_MASK - SYST::get_current();
            let wrapped = SCB::is_pendst_pending();
            // Read again: the wrap may have come between the two reads above.
            let elapsed = if wrapped { COUNTER_MASK - SYST::get_current() } else { before };
            let wraps = WRAPS.borrow(section).get() + u32::from(wrapped);
            u64::from(wraps) << COUNTER_BITS | u64::from(elapsed)
        })
    }

    /// Sleeps until an interrupt or `wake`, whichever comes first; returns at once when `ready`
    /// says that there is work.
    pub fn sleep_until(&self, wake: u64, ready: impl FnOnce() -> bool) {
        // With interrupts masked an interrupt still ends wfi, and none can slip in between setting the
        // alarm, asking and sleeping.
        critical_section::with(|_| {
            let now = self.now();
            if wake <= now || ready() {
                return;
            }
            TIMER_CONTROL.write(0);
            TIMER_CLEAR.write(TIMER_EXPIRED);
            TIMER_LOAD.write(u32::try_from(wake - now).unwrap_or(u32::MAX));
            TIMER_CONTROL.write(TIMER_ENABLE);
            asm::wfi();
        });
    }
}

#[exception]
fn SysTick() {
    critical_section::with(|section| {
        let wraps = WRAPS.borrow(section);
        wraps.set(wraps.get().wrapping_add(1));
    });
}

/// Handler of timer 0 A: the sleep has ended, that is all.
pub extern "C" fn on_alarm() {
    TIMER_CLEAR.write(TIMER_EXPIRED);
}

const COUNTER_BITS: u32 = 24;
const COUNTER_MASK: u32 = (1 << COUNTER_BITS) - 1;

const TIMER_CONFIG: Register = Register::at(0x4003_0000);
const TIMER_32_BIT: u32 = 0;
const TIMER_MODE: Register = Register::at(0x4003_0004);
const TIMER_ONE_SHOT: u32 = 1;
const TIMER_CONTROL: Register = Register::at(0x4003_000C);
const TIMER_ENABLE: u32 = 1;
const TIMER_INTERRUPTS: Register = Register::at(0x4003_0018);
const TIMER_CLEAR: Register = Register::at(0x4003_0024);
const TIMER_EXPIRED: u32 = 1;
const TIMER_LOAD: Register = Register::at(0x4003_0028);
