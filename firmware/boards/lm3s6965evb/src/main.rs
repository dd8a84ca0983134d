//! Headwater on the LM3S6965 evaluation board: a tmp105 sensor and an AT24C64 EEPROM on I2C0, the link
//! to the gateway on UART0, the test ledger on UART1.
#![no_std]
#![no_main]

mod chip;
mod clock;
mod eeprom;
mod i2c;
mod ledger;
mod mmio;
mod reset;
mod uart;
mod vectors;

use core::cell::RefCell;

use cortex_m_rt::entry;
use embedded_hal_bus::i2c::RefCellDevice;
use embedded_io::{Read, Write};
use tmp1x2::{SlaveAddr, Tmp1x2};

#[entry]
fn main() -> ! {
    let cause = reset::take_cause();
    chip::start();
    let Some(core) = cortex_m::Peripherals::take() else { panic!() };
    let Some(ring) = cortex_m::singleton!(: uart::RxRing = uart::RxRing::new()) else { panic!() };
    let clock = clock::Clock::start(core.SYST);
    let (mut tx, mut rx) = uart::start_link(ring);
    let mut ledger = ledger::Ledger::new(uart::start_ledger());
    let bus = RefCell::new(i2c::Master::start());
    let mut ee = eeprom::At24c64::new(RefCellDevice::new(&bus));
    let mut sensor = Tmp1x2::new(RefCellDevice::new(&bus), SlaveAddr::Default);
    let _ = sensor.set_conversion_rate(tmp1x2::ConversionRate::_8Hz);
    let mut boot = [0; 4];
    ee.read(100, &mut boot).unwrap();
    let boot = u32::from_le_bytes(boot) + 1;
    ee.write(100, &boot.to_le_bytes()).unwrap();
    let boot = u64::from(boot);
    ledger.boot(boot, cause);
    let mut due = clock.now();
    let mut seq = 0;
    loop {
        let now = clock.now();
        if now >= due {
            due += u64::from(clock::TICKS_PER_SECOND) / 10;
            let code = sensor.read_temperature().ok().map(|t| (t * 16.0) as i32);
            ledger.reading(boot, seq, code);
            seq += 1;
        }
        while rx.is_ready() {
            let mut b = [0; 16];
            let n = rx.read(&mut b).unwrap();
            if b.contains(&b'!') {
                panic!()
            }
            tx.write_all(&b[..n]).unwrap();
        }
        clock.sleep_until(due, || rx.is_ready());
    }
}
