//! Headwater on the Raspberry Pi Pico: a BME280 on I2C0 (SDA GP4, SCL GP5), the link to the gateway on
//! UART0 (out GP0, in GP1), its memory in the last 64 KiB of flash.
#![no_std]
#![no_main]

mod bus;
mod clock;
mod reset;
mod storage;

use cortex_m::singleton;
use cortex_m_rt::entry;
use embassy_rp::{
    bind_interrupts,
    peripherals::UART0,
    uart::{self, BufferedInterruptHandler, BufferedUart},
};
use embassy_time::Delay;
use headwater_kit::{self as kit, Climate, Line, Node, Port};

use crate::{clock::Clock, storage::Storage};

bind_interrupts!(struct Interrupts {
    UART0_IRQ => BufferedInterruptHandler<UART0>;
});

#[entry]
fn main() -> ! {
    let cause = reset::take_cause();
    let chip = embassy_rp::init(embassy_rp::config::Config::default());
    let mut clock = Clock::start(chip.WATCHDOG);
    let line = Line::new(BufferedUart::new(
        chip.UART0,
        chip.PIN_0,
        chip.PIN_1,
        Interrupts,
        singleton!(: [u8; TX_BYTES] = [0; TX_BYTES]).expect("taken once"),
        singleton!(: [u8; RX_BYTES] = [0; RX_BYTES]).expect("taken once"),
        // 115,200 baud, 8N1.
        uart::Config::default(),
    ));
    let bus = bus::start(chip.I2C0, chip.PIN_5, chip.PIN_4);
    let mut sensor = Climate::new(bus, Delay);

    let mut storage = Storage::new(chip.FLASH);
    let id = kit::device_id("rp2040", &storage.chip_number());
    let (mut port, identity) = Port::open(line, storage);
    let config = kit::config(id, clock::TICK_HZ, cause);
    // Static rather than on the stack, so that the image's size tells of it.
    let node = singleton!(: Node = Node::new(config, identity)).expect("taken once");
    kit::run(&mut port, node, &mut sensor, &mut clock, clock::TICK_HZ)
}

/// The longest frame, so that a turn of the loop hardly waits for the line.
const TX_BYTES: usize = 512;
/// 89 ms of the line: longer than a reading takes.
const RX_BYTES: usize = 1024;
