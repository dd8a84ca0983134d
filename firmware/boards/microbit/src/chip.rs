//! The chip around the peripherals: crystal, pins and identity.

use cortex_m::asm;
use embedded_hal::delay::DelayNs;

use crate::mmio::Register;

/// Core clock in Hz, not adjustable.
const CORE_HZ: u32 = 16_000_000;

/// Starts the crystal, without which the baud rate is off by a percent or more, and sets the pins of the UART.
pub fn start() {
    CRYSTAL_STARTED.write(0);
    START_CRYSTAL.write(1);
    // Without a crystal the chip stays on its oscillator: inaccurate, yet alive.
    let _ = CRYSTAL_STARTED.wait_set(1, CRYSTAL_POLLS);
    // High before it is an output: a low line would be a start bit.
    OUT_SET.write(1 << UART_TX);
    pin(UART_TX).write(PIN_OUTPUT);
    pin(UART_RX).write(PIN_INPUT);
}

/// The number that the maker gave this chip.
pub fn number() -> u64 {
    u64::from(DEVICE_ID_1.read()) << 32 | u64::from(DEVICE_ID_0.read())
}

/// Frees an I2C bus on which a slave holds SDA low, because a reset caught it within a byte: up to nine clocks let it
/// finish, then a STOP. Leaves the pins as the I2C peripheral needs them.
pub fn recover_i2c_bus() {
    OUT_SET.write(1 << I2C_SCL | 1 << I2C_SDA);
    for number in [I2C_SCL, I2C_SDA] {
        pin(number).write(PIN_OPEN_DRAIN | PIN_OUTPUT);
    }
    for _ in 0..9 {
        if IN.read() & 1 << I2C_SDA != 0 {
            break;
        }
        for level in [OUT_CLEAR, OUT_SET] {
            level.write(1 << I2C_SCL);
            half_bit();
        }
    }
    for level in [OUT_CLEAR, OUT_SET] {
        level.write(1 << I2C_SDA);
        half_bit();
    }
    for number in [I2C_SCL, I2C_SDA] {
        pin(number).write(PIN_OPEN_DRAIN);
    }
}

/// Waiting by counting clocks.
pub struct Delay;

impl DelayNs for Delay {
    fn delay_ns(&mut self, ns: u32) {
        asm::delay((ns / (1_000_000_000 / CORE_HZ)).saturating_add(1));
    }
}

/// 5 us: half a bit at 100 kHz.
fn half_bit() {
    asm::delay(CORE_HZ / 200_000);
}

const fn pin(number: u32) -> Register {
    Register::at(0x5000_0700 + 4 * number as usize)
}

/// To the USB chip.
pub const UART_TX: u32 = 24;
/// From the USB chip.
pub const UART_RX: u32 = 25;
pub const I2C_SCL: u32 = 0;
pub const I2C_SDA: u32 = 30;

const OUT_SET: Register = Register::at(0x5000_0508);
const OUT_CLEAR: Register = Register::at(0x5000_050C);
const IN: Register = Register::at(0x5000_0510);
/// An input that is read.
const PIN_INPUT: u32 = 0;
/// An output that is read, too.
const PIN_OUTPUT: u32 = 1;
/// Standard 0, disconnected 1; the board has the pull-ups.
const PIN_OPEN_DRAIN: u32 = 6 << 8;

const START_CRYSTAL: Register = Register::at(0x4000_0000);
const CRYSTAL_STARTED: Register = Register::at(0x4000_0100);
/// It takes 0.8 ms; some 8 clocks a poll.
const CRYSTAL_POLLS: u32 = 10_000;

const DEVICE_ID_0: Register = Register::at(0x1000_0060);
const DEVICE_ID_1: Register = Register::at(0x1000_0064);
