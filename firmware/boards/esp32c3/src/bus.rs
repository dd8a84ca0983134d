//! I2C0 at 100 kHz on GPIO5 (SDA) and GPIO6 (SCL), freed at the start; a line that somebody holds ends a
//! transfer by its timeout.

use esp_hal::{
    Blocking,
    delay::Delay,
    gpio::{DriveMode, Flex, Level, OutputConfig, Pull},
    i2c::master::{Config, I2c, SoftwareTimeout},
    peripherals::{GPIO5, GPIO6, I2C0},
    time::Duration,
};
use headwater_kit::free_bus;

/// Frees the bus, then starts the controller. The pull-ups within the chip are on.
pub fn start(
    controller: I2C0<'static>,
    mut scl: GPIO6<'static>,
    mut sda: GPIO5<'static>,
) -> I2c<'static, Blocking> {
    let mut clock = Flex::new(scl.reborrow());
    let mut data = Flex::new(sda.reborrow());
    let open_drain =
        OutputConfig::default().with_drive_mode(DriveMode::OpenDrain).with_pull(Pull::Up);
    for line in [&mut clock, &mut data] {
        line.apply_output_config(&open_drain);
        line.set_level(Level::High);
        line.set_output_enable(true);
        line.set_input_enable(true);
    }
    let Ok(()) = free_bus(&mut clock, &mut data, &mut Delay::new());
    drop((clock, data));
    let config =
        Config::default().with_software_timeout(SoftwareTimeout::Transaction(TRANSFER_TIMEOUT));
    let bus = I2c::new(controller, config).expect("100 kHz is possible");
    bus.with_sda(sda).with_scl(scl)
}

/// The longest transfer takes 4 ms.
const TRANSFER_TIMEOUT: Duration = Duration::from_millis(20);
