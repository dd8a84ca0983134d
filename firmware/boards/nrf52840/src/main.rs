//! Headwater on the nRF52840-DK: a BME280 on TWI (SDA P0.26, SCL P0.27), the link to the gateway on UARTE0
//! (out P0.06, in P0.08: the kit's own USB serial port), its memory in the last 64 KiB of flash.
#![no_std]
#![no_main]

mod bus;
mod clock;
mod reset;
mod storage;

use cortex_m::singleton;
use cortex_m_rt::entry;
use embassy_nrf::{
    bind_interrupts, buffered_uarte,
    buffered_uarte::BufferedUarte,
    config::{Config, LfclkSource},
    pac,
    peripherals::{TWISPI0, UARTE0},
    twim, uarte,
};
use embassy_time::Delay;
use headwater_kit::{self as kit, Climate, Line, Node, Port};

use crate::{clock::Clock, storage::Storage};

bind_interrupts!(struct Interrupts {
    UARTE0 => buffered_uarte::InterruptHandler<UARTE0>;
    TWISPI0 => twim::InterruptHandler<TWISPI0>;
});

#[entry]
fn main() -> ! {
    let cause = reset::take_cause();
    let mut config = Config::default();
    // The crystal of the kit: 20 ppm instead of the RC oscillator's 500.
    config.lfclk_source = LfclkSource::ExternalXtal;
    let chip = embassy_nrf::init(config);
    let mut clock = Clock::start(chip.WDT);
    let line = Line::new(BufferedUarte::new(
        chip.UARTE0,
        chip.TIMER1,
        chip.PPI_CH0,
        chip.PPI_CH1,
        chip.PPI_GROUP0,
        chip.P0_08,
        chip.P0_06,
        Interrupts,
        // 115,200 baud, 8N1.
        uarte::Config::default(),
        singleton!(: [u8; RX_BYTES] = [0; RX_BYTES]).expect("taken once"),
        singleton!(: [u8; TX_BYTES] = [0; TX_BYTES]).expect("taken once"),
    ));
    let bus = bus::start(chip.TWISPI0, Interrupts, chip.P0_27, chip.P0_26);
    let mut sensor = Climate::new(bus, Delay);

    let id = kit::device_id("nrf52840", &chip_number());
    let (mut port, identity) = Port::open(line, Storage::new(chip.NVMC));
    let config = kit::config(id, clock::TICK_HZ, cause);
    // Static rather than on the stack, so that the image's size tells of it.
    let node = singleton!(: Node = Node::new(config, identity)).expect("taken once");
    kit::run(&mut port, node, &mut sensor, &mut clock, clock::TICK_HZ)
}

/// The number that the maker gave to this chip, most significant digit first as tools print it.
fn chip_number() -> [u8; 8] {
    let [low, high] = [0, 1].map(|word| pac::FICR.deviceid(word).read());
    (u64::from(high) << 32 | u64::from(low)).to_be_bytes()
}

/// The longest frame, so that a turn of the loop hardly waits for the line.
const TX_BYTES: usize = 512;
/// Two halves of 89 ms of the line each: longer than a page is erased, while the processor stands.
const RX_BYTES: usize = 2048;
