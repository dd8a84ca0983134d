//! The climate sensor: a BME280, the module with four pins that most desks have.

use bme280::{Configuration, Oversampling, i2c::BME280};
use embedded_hal::{delay::DelayNs, i2c::I2c};
use headwater_firmware::protocol::item::{Channel, MISSING};

/// What the sensor measures, in steps that its noise makes use of.
pub(crate) static CHANNELS: [Channel<'static>; 3] = [
    Channel {
        name: "temperature",
        unit: "\u{b0}C",
        mantissa: 1,
        exponent: -2,
        width_bits: 16,
        period_us: PERIOD_US,
    },
    Channel {
        name: "humidity",
        unit: "%",
        mantissa: 1,
        exponent: -2,
        width_bits: 16,
        period_us: PERIOD_US,
    },
    Channel {
        name: "pressure",
        unit: "Pa",
        mantissa: 1,
        exponent: 0,
        width_bits: 18,
        period_us: PERIOD_US,
    },
];

/// Time between readings.
pub(crate) const PERIOD_US: u32 = 1_000_000;

/// The sensor on bus `I`, at 0x76 or 0x77.
#[derive(Debug)]
pub struct Climate<I, D> {
    bus: I,
    delay: D,
    address: u8,
}

impl<I: I2c, D: DelayNs> Climate<I, D> {
    /// The sensor, which may be there or not.
    #[must_use]
    pub const fn new(bus: I, delay: D) -> Self {
        Self { bus, delay, address: ADDRESSES[0] }
    }

    /// A code for each channel, all [`MISSING`] where no such sensor answers. Takes 50 ms.
    ///
    /// The sensor is set up anew for each reading: one that was unplugged, or lost its power, is back
    /// with the next one, and no state here can differ from the chip's.
    pub fn read(&mut self) -> [i32; 3] {
        if let Some(codes) = self.measure() {
            return codes;
        }
        // Modules differ in the address; the other one has its turn with the next reading.
        self.address ^= ADDRESSES[0] ^ ADDRESSES[1];
        [MISSING; 3]
    }

    fn measure(&mut self) -> Option<[i32; 3]> {
        let mut driver = BME280::new(&mut self.bus, self.address);
        driver.init_with_config(&mut self.delay, settings()).ok()?;
        let measured = driver.measure(&mut self.delay).ok()?;
        // Its sister BMP280 answers alike but has no humidity, which the driver gives as 0.
        let has_humidity = measured.humidity > 0.0;
        Some([
            code(measured.temperature * 100.0),
            if has_humidity { code(measured.humidity * 100.0) } else { MISSING },
            code(measured.pressure),
        ])
    }
}

/// Eightfold pressure is the most that is done within the 40 ms that the driver waits. The filter
/// would start anew with each reading.
fn settings() -> Configuration {
    Configuration::default()
        .with_temperature_oversampling(Oversampling::Oversampling2X)
        .with_pressure_oversampling(Oversampling::Oversampling8X)
        .with_humidity_oversampling(Oversampling::Oversampling1X)
}

/// The nearest step; the driver keeps values within the sensor's range.
const fn code(steps: f32) -> i32 {
    (steps + if steps < 0.0 { -0.5 } else { 0.5 }) as i32
}

/// With the pin SDO low, as on most modules, and high.
const ADDRESSES: [u8; 2] = [0x76, 0x77];

#[cfg(test)]
mod tests {
    use embedded_hal::i2c::{ErrorKind, ErrorType, NoAcknowledgeSource, Operation};

    use super::*;

    /// A sensor's registers as the data sheet has them, with the calibration of its example.
    struct Sensor {
        address: u8,
        registers: [u8; 256],
    }

    struct NoDelay;

    impl DelayNs for NoDelay {
        fn delay_ns(&mut self, _: u32) {}
    }

    impl Sensor {
        fn new(address: u8, chip: u8) -> Self {
            let mut registers = [0; 256];
            registers[0xD0] = chip;
            let calibration: [i32; 12] =
                [27504, 26435, -1000, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000];
            for (place, value) in registers[0x88..].chunks_mut(2).zip(calibration) {
                place.copy_from_slice(&(value as u16).to_le_bytes());
            }
            // 519888 and 415148 of 20 bits.
            registers[0xF7..0xFD].copy_from_slice(&[0x65, 0x5A, 0xC0, 0x7E, 0xED, 0x00]);
            if chip == 0x60 {
                (registers[0xA1], registers[0xE3]) = (75, 0);
                registers[0xE1..0xE3].copy_from_slice(&362_u16.to_le_bytes());
                registers[0xE4..0xE8].copy_from_slice(&[0x14, 0x20, 0x03, 0x1E]);
                registers[0xFD..0xFF].copy_from_slice(&29_000_u16.to_be_bytes());
            }
            Self { address, registers }
        }
    }

    impl ErrorType for Sensor {
        type Error = ErrorKind;
    }

    impl I2c for Sensor {
        fn transaction(
            &mut self,
            address: u8,
            operations: &mut [Operation<'_>],
        ) -> Result<(), ErrorKind> {
            if address != self.address {
                return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
            }
            let mut pointer = 0;
            for operation in operations {
                match operation {
                    Operation::Write(bytes) => {
                        pointer = usize::from(bytes[0]);
                        if let Some(value) = bytes.get(1) {
                            // Forced mode is over at once.
                            self.registers[pointer] = value & !u8::from(pointer == 0xF4) & !2;
                        }
                    }
                    Operation::Read(out) => {
                        out.copy_from_slice(&self.registers[pointer..][..out.len()]);
                    }
                }
            }
            Ok(())
        }
    }

    #[test]
    fn the_data_sheet_s_example_comes_out_at_either_address() {
        for (address, missing) in [(0x76, 0), (0x77, 1)] {
            let mut climate = Climate::new(Sensor::new(address, 0x60), NoDelay);
            for _ in 0..missing {
                assert_eq!(climate.read(), [MISSING; 3]);
            }
            for _ in 0..3 {
                let [temperature, humidity, pressure] = climate.read();
                // The example says 25.08 degrees and 100653 Pa.
                assert_eq!((temperature, pressure), (2508, 100_653));
                assert!((1_000..9_000).contains(&humidity), "{humidity}");
            }
        }
    }

    #[test]
    fn a_bmp280_has_no_humidity_and_other_chips_have_nothing() {
        let mut climate = Climate::new(Sensor::new(0x76, 0x58), NoDelay);
        assert_eq!(climate.read(), [2508, MISSING, 100_653]);
        for (address, chip) in [(0x76, 0x61), (0x40, 0x60)] {
            let mut climate = Climate::new(Sensor::new(address, chip), NoDelay);
            for _ in 0..4 {
                assert_eq!(climate.read(), [MISSING; 3]);
            }
        }
    }

    #[test]
    fn codes_are_the_nearest_steps() {
        for (steps, expect) in [(0.4, 0), (0.6, 1), (-0.4, 0), (-0.6, -1), (-273.2, -273)] {
            assert_eq!(code(steps), expect, "{steps}");
        }
    }
}
