//! The watchdog: a loop that stands still ends in a reset.

use crate::mmio::Register;

/// The running watchdog; nothing stops it but a loss of power.
pub struct Watchdog {
    _private: (),
}

impl Watchdog {
    /// Starts it. One that runs already, since a reset does not always end it, keeps its settings, which are these.
    pub fn start() -> Self {
        CONFIG.write(CONFIG_RUN_IN_SLEEP);
        RELOAD_VALUE.write(TIMEOUT_S * LOW_FREQUENCY_HZ - 1);
        RELOAD_ENABLE.write(1);
        START.write(1);
        let watchdog = Self { _private: () };
        watchdog.feed();
        watchdog
    }

    /// Once more [`TIMEOUT_S`] until the reset.
    pub fn feed(&self) {
        RELOAD.write(RELOAD_KEY);
    }
}

/// Far beyond the longest turn, a queue that goes out at 115,200 baud (0.4 s).
const TIMEOUT_S: u32 = 8;
const LOW_FREQUENCY_HZ: u32 = 32_768;

const START: Register = Register::at(0x4001_0000);
const RELOAD_VALUE: Register = Register::at(0x4001_0504);
const RELOAD_ENABLE: Register = Register::at(0x4001_0508);
const CONFIG: Register = Register::at(0x4001_050C);
/// Pauses where a debugger has halted the core.
const CONFIG_RUN_IN_SLEEP: u32 = 1;
const RELOAD: Register = Register::at(0x4001_0600);
const RELOAD_KEY: u32 = 0x6E52_4635;
