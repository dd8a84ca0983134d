//! I2C0 at 100 kHz on GP4 (SDA) and GP5 (SCL), freed at the start and never waited for.

use embassy_rp::{
    Peri,
    gpio::{Level, OutputOpenDrain},
    i2c::{Blocking, Config, I2c},
    pac,
    peripherals::{I2C0, PIN_4, PIN_5},
};
use embassy_time::Delay;
use headwater_kit::{GuardedBus, free_bus};

/// Frees the bus, then starts the controller. The pull-ups within the chip are on.
pub fn start(
    controller: Peri<'static, I2C0>,
    mut scl: Peri<'static, PIN_5>,
    mut sda: Peri<'static, PIN_4>,
) -> GuardedBus<I2c<'static, I2C0, Blocking>> {
    let mut clock = OutputOpenDrain::new(scl.reborrow(), Level::High);
    let mut data = OutputOpenDrain::new(sda.reborrow(), Level::High);
    clock.set_pullup(true);
    data.set_pullup(true);
    let Ok(()) = free_bus(&mut clock, &mut data, &mut Delay);
    drop((clock, data));
    GuardedBus::new(I2c::new_blocking(controller, scl, sda, Config::default()), is_free)
}

fn is_free() -> bool {
    pac::SIO.gpio_in(0).read() & LINES == LINES
}

/// GP4 and GP5.
const LINES: u32 = 0b11 << 4;
