//! Headwater on the LM3S6965 evaluation board: a tmp105 sensor and an AT24C64 EEPROM on I2C0, the link
//! to the gateway on UART0, the test ledger on UART1.
#![no_std]
#![no_main]

mod chip;
mod clock;
mod i2c;
mod ledger;
mod mmio;
mod reset;
mod sensor;
mod uart;
mod vectors;

use core::cell::RefCell;

use cortex_m_rt::entry;
use embedded_hal_bus::i2c::RefCellDevice;
use headwater_firmware::{
    Config, Schedule,
    eeprom::At24c,
    protocol::{DeviceId, item::Channel},
    shell,
};

use crate::{
    chip::CORE_HZ,
    clock::Clock,
    ledger::Ledger,
    sensor::Thermometer,
    uart::{RxRing, Serial, Tx},
};

/// One channel; blocks of up to 32 bytes of readings; 4 KiB and 256 items hold 50 s without a gateway.
type Node = headwater_firmware::Node<1, 32, 4096, 256, 8>;
type Port<M> = shell::Port<Serial, M, { Node::FRAME_MAX }>;

#[entry]
fn main() -> ! {
    let cause = reset::take_cause();
    chip::start();
    let core = cortex_m::Peripherals::take().expect("taken once");
    let clock = Clock::start(core.SYST);
    let ring = cortex_m::singleton!(: RxRing = RxRing::new()).expect("taken once");
    let line = Serial::start(ring);
    let mut ledger = Ledger::new(Tx::start());

    let bus = RefCell::new(i2c::Master::start());
    let mut sensor = Thermometer::new(RefCellDevice::new(&bus));
    let eeprom = At24c::new(RefCellDevice::new(&bus), EEPROM, EEPROM_BYTES, EEPROM_PAGE);
    let (mut port, identity) = Port::open(line, eeprom);

    let config =
        Config { linger: LINGER, ..Config::new(device_id(), CORE_HZ, &CHANNELS, PERIOD, cause) };
    // Static rather than on the stack, so that the image's size tells of it.
    let node = cortex_m::singleton!(: Node = Node::new(config, identity)).expect("taken once");
    let mut schedule = Schedule::every(PERIOD.into(), clock.now());
    loop {
        // A line error is known to the link, which asks again for what it lost.
        let wake = port.turn(node, clock.now(), |event| ledger.event(event)).unwrap_or(None);
        if let Some(due) = schedule.due(clock.now()) {
            let code = sensor.read();
            let seq = node.record(due.tick, &[code]);
            ledger.reading(node.boot(), seq, code);
        }
        let wake = wake.map_or(schedule.next(), |wake| wake.min(schedule.next()));
        clock.sleep_until(wake, || port.line().is_ready());
    }
}

/// `lm3s6965evb-` and the MAC address.
fn device_id() -> DeviceId {
    let mut id = *b"lm3s6965evb-000000000000";
    let digits = chip::mac().into_iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
    for (place, digit) in id.iter_mut().skip("lm3s6965evb-".len()).zip(digits) {
        *place = if digit < 10 { b'0' + digit } else { b'a' - 10 + digit };
    }
    DeviceId::from_bytes(&id).expect("24 characters of its alphabet")
}

static CHANNELS: [Channel<'static>; 1] = [sensor::CHANNEL];

/// Ticks between readings.
const PERIOD: u32 = CORE_HZ / (1_000_000 / sensor::PERIOD_US);
/// Ticks until a block is sealed: two readings.
const LINGER: u32 = CORE_HZ / 5;

/// AT24C64 with its address pins low.
const EEPROM: u8 = 0x50;
const EEPROM_BYTES: u32 = 8192;
const EEPROM_PAGE: u16 = 32;
