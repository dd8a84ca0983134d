//! Headwater on the ESP32-C3: a BME280 on I2C0 (SDA GPIO5, SCL GPIO6), the link to the gateway on UART0
//! (out GPIO21, in GPIO20: the USB bridge of boards that have one), its memory in the last 64 KiB of 4 MiB of flash.
#![no_std]
#![no_main]

mod bus;
mod clock;
mod reset;
mod storage;
mod uart;

use esp_hal::{delay::Delay, efuse, main};
use headwater_kit::{self as kit, Climate, Node, Port};
use static_cell::StaticCell;

use crate::{clock::Clock, storage::Storage, uart::Serial};

esp_bootloader_esp_idf::esp_app_desc!();

#[main]
fn main() -> ! {
    let cause = reset::take_cause();
    let chip = esp_hal::init(esp_hal::Config::default());
    let mut clock = Clock::start(chip.SYSTIMER, chip.RTC_TIMER);
    let line = Serial::start(chip.UART0, chip.GPIO21, chip.GPIO20);
    let mut sensor = Climate::new(bus::start(chip.I2C0, chip.GPIO6, chip.GPIO5), Delay::new());

    let id = kit::device_id("esp32c3", efuse::base_mac_address().as_bytes());
    let (mut port, identity) = Port::open(line, Storage::new(chip.FLASH));
    let config = kit::config(id, clock::TICK_HZ, cause);
    // Static rather than on the stack, so that the image's size tells of it.
    let node = NODE.init_with(|| Node::new(config, identity));
    kit::run(&mut port, node, &mut sensor, &mut clock, clock::TICK_HZ)
}

static NODE: StaticCell<Node> = StaticCell::new();
