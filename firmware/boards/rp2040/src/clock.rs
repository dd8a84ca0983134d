//! Time: the chip's 64-bit microsecond timer, the alarm that ends a sleep, and the watchdog.

use core::task::Waker;

use cortex_m::asm;
use embassy_rp::{Peri, peripherals::WATCHDOG, watchdog::Watchdog};
use embassy_time::{Duration, Instant};
use headwater_kit::Chip;

/// Ticks of the timer in a second.
pub const TICK_HZ: u32 = 1_000_000;

/// The timer, which the HAL has started, and the watchdog.
pub struct Clock {
    watchdog: Watchdog,
}

impl Clock {
    /// Starts the watchdog.
    pub fn start(watchdog: Peri<'static, WATCHDOG>) -> Self {
        let mut watchdog = Watchdog::new(watchdog);
        watchdog.pause_on_debug(true);
        watchdog.start(WATCHDOG_TIMEOUT);
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
        self.watchdog.feed(WATCHDOG_TIMEOUT);
    }
}

/// The longest that the chip can do is 8.4 s.
const WATCHDOG_TIMEOUT: Duration = Duration::from_secs(8);
