//! The temperature sensor: QEMU's tmp105 through the driver of its siblings TMP102 and TMP112.

use embedded_hal::i2c::I2c;
use headwater_firmware::protocol::item::{Channel, MISSING};
use tmp1x2::{ConversionRate, SlaveAddr, Tmp1x2, marker::mode::Continuous};

/// What the sensor measures: steps of 1/16 degree.
pub const CHANNEL: Channel<'static> = Channel {
    name: "temperature",
    unit: "\u{b0}C",
    mantissa: 625,
    exponent: -4,
    width_bits: 12,
    period_us: PERIOD_US,
};

/// Time between readings.
pub const PERIOD_US: u32 = 100_000;

/// The sensor on bus `I`.
pub struct Thermometer<I: I2c> {
    driver: Tmp1x2<I, Continuous>,
    is_configured: bool,
}

impl<I: I2c> Thermometer<I> {
    /// The sensor with its address pin low.
    pub fn new(bus: I) -> Self {
        Self { driver: Tmp1x2::new(bus, SlaveAddr::Default), is_configured: false }
    }

    /// The temperature's code, [`MISSING`] when the sensor does not answer.
    pub fn read(&mut self) -> i32 {
        // A tmp105 wakes with 9 bits and keeps its resolution in the register that the driver writes for the rate.
        // Tried until it works, and again after the sensor was away, for it may have lost its power.
        self.is_configured =
            self.is_configured || self.driver.set_conversion_rate(ConversionRate::_8Hz).is_ok();
        match self.driver.read_temperature() {
            // The driver divides by the steps per degree, so this multiplication is exact.
            Ok(celsius) if self.is_configured => (celsius * STEPS_PER_DEGREE) as i32,
            _ => {
                self.is_configured = false;
                MISSING
            }
        }
    }
}

const STEPS_PER_DEGREE: f32 = 16.0;
