//! Headwater on the BBC micro:bit v1 (nRF51822): a counter and the acceleration along z, the link to the gateway on
//! the UART that the USB chip passes on, identity in the last pages of flash, the test ledger in RAM.
//!
//! The same image runs on the board and in QEMU's machine `microbit`. Nordic's HALs do not: theirs waits for a
//! transmission that was never begun (UART), has no flash controller, or takes its time from RTC1, which QEMU lacks.
#![no_std]
#![no_main]

mod chip;
mod clock;
mod flash;
mod ledger;
mod mmio;
mod reset;
mod sensor;
mod twi;
mod uart;
mod vectors;
mod watchdog;

use core::mem::MaybeUninit;

use cortex_m_rt::entry;
use headwater_firmware::{
    Config, Identity, Schedule,
    protocol::{DeviceId, item::Channel},
    shell,
};

use crate::{
    clock::{Clock, TICK_HZ},
    flash::Flash,
    ledger::Ledger,
    sensor::Accelerometer,
    uart::{RxRing, Serial},
    watchdog::Watchdog,
};

/// Two channels; blocks of up to 48 bytes of readings; 4 KiB and 160 items hold 75 s without a gateway.
type Node = headwater_firmware::Node<2, 48, 4096, 160, 8>;
type Port = shell::Port<Serial, Flash, { Node::FRAME_MAX }>;

#[entry]
fn main() -> ! {
    let cause = reset::take_cause();
    let watchdog = Watchdog::start();
    chip::start();
    let clock = Clock::start();
    let ring = cortex_m::singleton!(: RxRing = RxRing::new()).expect("taken once");
    let line = Serial::start(ring);
    let mut ledger = Ledger::take();
    let mut sensor = Accelerometer::find(twi::Master::start());
    let (mut port, identity) = Port::open(line, Flash::take());

    let config =
        Config { linger: LINGER, ..Config::new(device_id(), TICK_HZ, &CHANNELS, PERIOD, cause) };
    let place = cortex_m::singleton!(: MaybeUninit<Node> = MaybeUninit::uninit());
    let node = place_node(place.expect("taken once"), config, identity);
    let mut schedule = Schedule::every(PERIOD.into(), clock.now());
    let mut count = 0;
    loop {
        watchdog.feed();
        // A line error is known to the link, which asks again for what it lost.
        let wake = port.turn(node, clock.now(), |event| ledger.event(event)).unwrap_or(None);
        if let Some(due) = schedule.due(clock.now()) {
            let codes = [count, sensor.read()];
            let seq = node.record(due.tick, &codes);
            ledger.reading(node.boot(), seq, &codes);
            count = count.wrapping_add(1) & i32::MAX;
        }
        let wake = wake.map_or(schedule.next(), |wake| wake.min(schedule.next()));
        clock.sleep_until(wake, || port.line().is_ready());
    }
}

/// Makes the node where it stays, static rather than on the stack, so that the image's size tells of it. A function of
/// its own, so that what the compiler copies on the way is off the stack afterwards.
#[inline(never)]
fn place_node(
    place: &'static mut MaybeUninit<Node>,
    config: Config,
    identity: Option<Identity>,
) -> &'static mut Node {
    place.write(Node::new(config, identity))
}

/// `microbit-` and the chip's number.
fn device_id() -> DeviceId {
    let mut id = *b"microbit-0000000000000000";
    let digits = chip::number().to_be_bytes().into_iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
    for (place, digit) in id.iter_mut().skip("microbit-".len()).zip(digits) {
        *place = if digit < 10 { b'0' + digit } else { b'a' - 10 + digit };
    }
    DeviceId::from_bytes(&id).expect("characters of its alphabet")
}

static CHANNELS: [Channel<'static>; 2] = [COUNTER, sensor::CHANNEL];

/// Counts the readings of a start, also where no sensor answers: whoever looks at the log sees at once whether one is
/// missing.
const COUNTER: Channel<'static> = Channel {
    name: "counter",
    unit: "",
    mantissa: 1,
    exponent: 0,
    width_bits: 32,
    period_us: sensor::PERIOD_US,
};

/// Ticks between readings.
const PERIOD: u32 = sensor::PERIOD_US / (1_000_000 / TICK_HZ);
/// Ticks until a block is sealed: five readings.
const LINGER: u32 = TICK_HZ / 2;
