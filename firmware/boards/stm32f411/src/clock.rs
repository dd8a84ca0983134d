//! Time: TIM5 in microseconds, which the HAL extends; its alarm ends a sleep. And the watchdog.

use core::task::Waker;

use cortex_m::asm;
use embassy_stm32::{Peri, peripherals::IWDG, wdg::IndependentWatchdog};
use embassy_time::Instant;
use headwater_kit::Chip;

/// Ticks of the counter in a second.
pub const TICK_HZ: u32 = 1_000_000;

/// The counter, which the HAL has started, and the watchdog.
pub struct Clock {
    watchdog: IndependentWatchdog<'static, IWDG>,
}

impl Clock {
    /// Starts the watchdog.
    pub fn start(watchdog: Peri<'static, IWDG>) -> Self {
        let mut watchdog = IndependentWatchdog::new(watchdog, WATCHDOG_US);
        watchdog.unleash();
        Self { watchdog }
    }
}

impl Chip for Clock {
    fn now(&self) -> u64 {
        Instant::now().as_ticks()
    }

    fn sleep_until(&mut self, wake: u64, mut is_ready: impl FnMut() -> bool) {
        while !is_ready() && self.now() < wake {
            embassy_time_driver::schedule_wake(wake, Waker::noop());
            // An interrupt since the questions above has set the event that this waits for.
            asm::wfe();
        }
    }

    fn feed_watchdog(&mut self) {
        self.watchdog.pet();
    }
}

/// Its oscillator is off by up to a half.
const WATCHDOG_US: u32 = 8_000_000;
