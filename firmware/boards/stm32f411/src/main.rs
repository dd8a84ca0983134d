//! Headwater on the STM32F411 (Black Pill, Nucleo): a BME280 on I2C1 (SDA PB9, SCL PB8), the link to the
//! gateway on USART2 (out PA2, in PA3), its identity in an EEPROM on the same bus, if there is one.
#![no_std]
#![no_main]

mod bus;
mod clock;
mod memory;
mod reset;

use core::cell::RefCell;

use cortex_m::singleton;
use cortex_m_rt::entry;
use embassy_stm32::{
    bind_interrupts,
    peripherals::USART2,
    uid,
    usart::{self, BufferedInterruptHandler, BufferedUart},
};
use embassy_time::Delay;
use embedded_hal_bus::i2c::RefCellDevice;
use headwater_kit::{self as kit, Climate, Line, Node, Port};

use crate::{clock::Clock, memory::Memory};

bind_interrupts!(struct Interrupts {
    USART2 => BufferedInterruptHandler<USART2>;
});

#[entry]
fn main() -> ! {
    // On the chip's own oscillator: these boards have different crystals, and a clock that is off by a
    // percent is fitted by the gateway.
    let chip = embassy_stm32::init(embassy_stm32::Config::default());
    let cause = reset::take_cause();
    let mut clock = Clock::start(chip.IWDG);
    let uart = BufferedUart::new(
        chip.USART2,
        chip.PA3,
        chip.PA2,
        singleton!(: [u8; TX_BYTES] = [0; TX_BYTES]).expect("taken once"),
        singleton!(: [u8; RX_BYTES] = [0; RX_BYTES]).expect("taken once"),
        Interrupts,
        // 115,200 baud, 8N1.
        usart::Config::default(),
    );
    let line = Line::new(uart.expect("the oscillator allows for 115,200 baud"));
    let bus = RefCell::new(bus::start(chip.I2C1, chip.PB8, chip.PB9));
    let mut sensor = Climate::new(RefCellDevice::new(&bus), Delay);

    let id = kit::device_id("stm32", &uid::uid());
    let (mut port, identity) = Port::open(line, Memory::find(RefCellDevice::new(&bus)));
    let config = kit::config(id, clock::TICK_HZ, cause);
    // Static rather than on the stack, so that the image's size tells of it.
    let node = singleton!(: Node = Node::new(config, identity)).expect("taken once");
    kit::run(&mut port, node, &mut sensor, &mut clock, clock::TICK_HZ)
}

/// The longest frame, so that a turn of the loop hardly waits for the line.
const TX_BYTES: usize = 512;
/// 89 ms of the line: longer than a reading takes.
const RX_BYTES: usize = 1024;
