//! The accelerometer of micro:bit revision 1.5, an LSM303AGR, through its published driver. Revision 1.3 carries
//! another one and QEMU none: there the channel is missing.

use embedded_hal::i2c::I2c;
use headwater_firmware::protocol::item::{Channel, MISSING};
use lsm303agr::{
    AccelMode, AccelOutputDataRate, Lsm303agr, interface::I2cInterface, mode::MagOneShot,
};

use crate::chip::Delay;

/// Acceleration along z, in thousandths of the Earth's: 1 where the board lies on its back.
pub const CHANNEL: Channel<'static> = Channel {
    name: "acceleration",
    unit: "g",
    mantissa: 1,
    exponent: -3,
    width_bits: 12,
    period_us: PERIOD_US,
};

/// Time between readings.
pub const PERIOD_US: u32 = 100_000;

/// The sensor on bus `I`.
pub struct Accelerometer<I> {
    driver: Option<Lsm303agr<I2cInterface<I>, MagOneShot>>,
    is_configured: bool,
}

impl<I: I2c> Accelerometer<I> {
    /// Asks once who is there: that somebody acknowledges the address proves nothing, since QEMU's bus acknowledges
    /// every address.
    pub fn find(bus: I) -> Self {
        let mut driver = Lsm303agr::new_with_i2c(bus);
        let is_there = driver.accelerometer_id().is_ok_and(|id| id.is_correct());
        Self { driver: is_there.then_some(driver), is_configured: false }
    }

    /// The acceleration's code, [`MISSING`] when there is none.
    pub fn read(&mut self) -> i32 {
        let Some(driver) = &mut self.driver else { return MISSING };
        // Tried until it works, and again after the sensor was away, for it may have lost its power.
        self.is_configured = self.is_configured || configure(driver).is_ok();
        match driver.acceleration() {
            Ok(acceleration) if self.is_configured => acceleration.z_mg(),
            _ => {
                self.is_configured = false;
                MISSING
            }
        }
    }
}

/// 12 bits at 50 Hz: five samples for each reading, so that none is read twice.
fn configure<I: I2c>(
    driver: &mut Lsm303agr<I2cInterface<I>, MagOneShot>,
) -> Result<(), lsm303agr::Error<I::Error>> {
    driver.init()?;
    let (mode, rate) = (AccelMode::HighResolution, AccelOutputDataRate::Hz50);
    driver.set_accel_mode_and_odr(&mut Delay, mode, rate)
}
