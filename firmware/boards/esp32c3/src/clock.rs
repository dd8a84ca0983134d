//! Time: the chip's 52-bit counter in microseconds, a periodic interrupt that ends sleeps, and the watchdog.

use core::cell::RefCell;

use critical_section::Mutex;
use esp_hal::{
    Blocking, handler,
    interrupt::wait_for_interrupt,
    peripherals::{RTC_TIMER, SYSTIMER},
    rtc_cntl::{Rtc, Rwdt, RwdtStage},
    time::{Duration, Instant},
    timer::{PeriodicTimer, systimer::SystemTimer},
};
use headwater_kit::Chip;

/// Ticks of the counter in a second.
pub const TICK_HZ: u32 = 1_000_000;

static ALARM: Mutex<RefCell<Option<PeriodicTimer<'static, Blocking>>>> =
    Mutex::new(RefCell::new(None));

/// The counter and the watchdog.
pub struct Clock {
    watchdog: Rwdt,
}

impl Clock {
    /// Starts the alarm and the watchdog.
    pub fn start(timer: SYSTIMER<'static>, rtc: RTC_TIMER<'static>) -> Self {
        let mut alarm = PeriodicTimer::new(SystemTimer::new(timer).alarm0);
        alarm.set_interrupt_handler(on_alarm);
        alarm.listen();
        alarm.start(ALARM_PERIOD).expect("the period fits the timer");
        critical_section::with(|section| ALARM.borrow_ref_mut(section).replace(alarm));
        let mut watchdog = Rtc::new(rtc).rwdt;
        watchdog.enable();
        watchdog.set_timeout(RwdtStage::Stage0, WATCHDOG_TIMEOUT);
        Self { watchdog }
    }
}

impl Chip for Clock {
    fn now(&self) -> u64 {
        Instant::now().duration_since_epoch().as_micros()
    }

    fn sleep_until(&mut self, wake: u64, mut is_ready: impl FnMut() -> bool) {
        while !is_ready() && self.now() < wake {
            // An interrupt between question and sleep would be slept through; the alarm bounds that.
            wait_for_interrupt();
        }
    }

    fn feed_watchdog(&mut self) {
        self.watchdog.feed();
    }
}

#[handler]
fn on_alarm() {
    critical_section::with(|section| {
        if let Some(alarm) = ALARM.borrow_ref_mut(section).as_mut() {
            alarm.clear_interrupt();
        }
    });
}

/// The longest that a received byte or a timer may wait.
const ALARM_PERIOD: Duration = Duration::from_millis(5);
const WATCHDOG_TIMEOUT: Duration = Duration::from_secs(8);
