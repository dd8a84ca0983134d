//! TWI 0 at 100 kHz on P0.26 (SDA) and P0.27 (SCL), freed at the start and never waited for.

use cortex_m::singleton;
use embassy_nrf::{
    Peri,
    gpio::{Flex, OutputDrive, Pull},
    interrupt::typelevel::{Binding, TWISPI0 as Irq},
    pac,
    peripherals::{P0_26, P0_27, TWISPI0},
    twim::{Config, InterruptHandler, Twim},
};
use embassy_time::Delay;
use headwater_kit::{GuardedBus, free_bus};

/// Frees the bus, then starts the controller. The pull-ups within the chip are on.
pub fn start(
    controller: Peri<'static, TWISPI0>,
    interrupts: impl Binding<Irq, InterruptHandler<TWISPI0>> + 'static,
    mut scl: Peri<'static, P0_27>,
    mut sda: Peri<'static, P0_26>,
) -> GuardedBus<Twim<'static>> {
    let mut clock = Flex::new(scl.reborrow());
    let mut data = Flex::new(sda.reborrow());
    for line in [&mut clock, &mut data] {
        line.set_high();
        line.set_as_input_output(Pull::Up, OutputDrive::Standard0Disconnect1);
    }
    let Ok(()) = free_bus(&mut clock, &mut data, &mut Delay);
    drop((clock, data));
    let mut config = Config::default();
    config.scl_pullup = true;
    config.sda_pullup = true;
    // The controller reads RAM only, and a compiler may put a driver's constant bytes into flash.
    let copy = singleton!(: [u8; COPY_BYTES] = [0; COPY_BYTES]).expect("taken once");
    GuardedBus::new(Twim::new(controller, interrupts, sda, scl, config, copy), is_free)
}

fn is_free() -> bool {
    pac::P0.in_().read().0 & LINES == LINES
}

/// A register and its value, with room.
const COPY_BYTES: usize = 16;
/// P0.26 and P0.27.
const LINES: u32 = 0b11 << 26;
