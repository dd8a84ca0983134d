//! Time: the 24-bit RTC1 at 32,768 Hz, which the HAL extends; its alarm ends a sleep. And the watchdog.

use core::task::Waker;

use cortex_m::asm;
use embassy_nrf::{
    Peri,
    peripherals::WDT,
    wdt::{Config, HaltConfig, Watchdog, WatchdogHandle},
};
use embassy_time::Instant;
use headwater_kit::Chip;

/// Ticks of the counter in a second.
pub const TICK_HZ: u32 = 32_768;

/// The counter, which the HAL has started, and the watchdog.
pub struct Clock {
    /// `None` after an image with other settings started it: only a reset of the power stops one.
    watchdog: Option<WatchdogHandle>,
}

impl Clock {
    /// Starts the watchdog.
    pub fn start(watchdog: Peri<'static, WDT>) -> Self {
        let mut config = Config::default();
        config.timeout_ticks = WATCHDOG_TICKS;
        config.action_during_debug_halt = HaltConfig::Pause;
        let started = Watchdog::try_new(watchdog, config);
        Self { watchdog: started.ok().map(|(_, [handle])| handle) }
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
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.pet();
        }
    }
}

/// 8 s.
const WATCHDOG_TICKS: u32 = 8 * 32_768;
