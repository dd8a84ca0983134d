//! I2C1 at 100 kHz on PB9 (SDA) and PB8 (SCL), freed at the start and never waited for.

use embassy_stm32::{
    Peri,
    gpio::{Flex, Pull, Speed},
    i2c::{Config, I2c, Master},
    mode::Blocking,
    pac,
    peripherals::{I2C1, PB8, PB9},
};
use embassy_time::Delay;
use headwater_kit::{GuardedBus, free_bus};

/// Frees the bus, then starts the controller. The pull-ups within the chip are on.
pub fn start(
    controller: Peri<'static, I2C1>,
    mut scl: Peri<'static, PB8>,
    mut sda: Peri<'static, PB9>,
) -> GuardedBus<I2c<'static, Blocking, Master>> {
    let mut clock = Flex::new(scl.reborrow());
    let mut data = Flex::new(sda.reborrow());
    for line in [&mut clock, &mut data] {
        line.set_high();
        line.set_as_input_output_pull(Speed::Low, Pull::Up);
    }
    let Ok(()) = free_bus(&mut clock, &mut data, &mut Delay);
    drop((clock, data));
    let mut config = Config::default();
    config.scl_pullup = true;
    config.sda_pullup = true;
    GuardedBus::new(I2c::new_blocking(controller, scl, sda, config), is_free)
}

fn is_free() -> bool {
    pac::GPIOB.idr().read().0 & LINES == LINES
}

/// PB8 and PB9.
const LINES: u32 = 0b11 << 8;
