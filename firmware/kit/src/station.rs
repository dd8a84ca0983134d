//! The main loop of a board that samples its climate sensor.

use embedded_hal::{delay::DelayNs, i2c::I2c};
use embedded_io::{Read, ReadReady, Write};
use headwater_firmware::{
    Config, Nvm, Schedule,
    protocol::{DeviceId, item::Cause},
    shell,
};

use crate::climate::{self, Climate};

/// Three channels; blocks of up to 64 bytes of readings; 32 KiB and 1,024 items hold 2.8 hours
/// without a gateway.
pub type Node = headwater_firmware::Node<3, 64, 32_768, 1_024, 1>;
/// The node's port on line `S` and memory `M`.
pub type Port<S, M> = shell::Port<S, M, { Node::FRAME_MAX }>;

/// What the main loop needs of the chip beside line, memory and bus.
pub trait Chip {
    /// Ticks since start, never wrapping.
    fn now(&self) -> u64;

    /// Sleeps until `wake`, or until an interrupt after which `is_ready`.
    fn sleep_until(&mut self, wake: u64, is_ready: impl FnMut() -> bool);

    /// Tells the watchdog that the loop runs. It is called every second at least; allow for eight.
    fn feed_watchdog(&mut self);
}

/// A device of that name whose ticks are `tick_hz` a second; blocks are sealed every ten readings.
#[must_use]
pub const fn config(id: DeviceId, tick_hz: u32, cause: Cause) -> Config {
    let config = Config::new(id, tick_hz, &climate::CHANNELS, period(tick_hz), cause);
    Config { linger: LINGER_PERIODS * period(tick_hz), ..config }
}

/// Samples and speaks with the gateway for ever.
pub fn run<S, M, I, D>(
    port: &mut Port<S, M>,
    node: &mut Node,
    sensor: &mut Climate<I, D>,
    chip: &mut impl Chip,
    tick_hz: u32,
) -> !
where
    S: Read + ReadReady + Write,
    M: Nvm,
    I: I2c,
    D: DelayNs,
{
    let mut schedule = Schedule::every(period(tick_hz).into(), chip.now());
    loop {
        chip.feed_watchdog();
        // A line error is known to the link, which asks again for what it lost.
        let wake = port.turn(node, chip.now(), |_| {}).unwrap_or(None);
        let mut wake = wake.map_or(schedule.next(), |wake| wake.min(schedule.next()));
        if let Some(due) = schedule.due(chip.now()) {
            node.record(due.tick, &sensor.read());
            // Its block may be full.
            wake = chip.now();
        }
        // A line that cannot say whether it is ready is read, so that it tells why.
        chip.sleep_until(wake, || port.line().read_ready().unwrap_or(true));
    }
}

/// Ticks between readings. In 32 bits: a Cortex-M0 has 64-bit division from half a kilobyte of code.
const fn period(tick_hz: u32) -> u32 {
    tick_hz / (1_000_000 / climate::PERIOD_US)
}

/// Readings of a block: 4 bytes on the line each.
const LINGER_PERIODS: u32 = 10;
