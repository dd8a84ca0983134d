//! I2C lines that somebody holds: freed at the start where that works, and never waited for later.

use embedded_hal::{
    delay::DelayNs,
    digital::{InputPin, OutputPin},
    i2c::{Error, ErrorKind, ErrorType, I2c, Operation},
};

/// A bus that refuses a transfer while a line is held low, because the HALs' controllers would wait
/// for it until the watchdog comes.
#[derive(Clone, Debug)]
pub struct GuardedBus<I> {
    i2c: I,
    is_free: fn() -> bool,
}

impl<I> GuardedBus<I> {
    /// `is_free` reads both lines.
    #[must_use]
    pub const fn new(i2c: I, is_free: fn() -> bool) -> Self {
        Self { i2c, is_free }
    }
}

impl<I: I2c> ErrorType for GuardedBus<I> {
    type Error = Fault<I::Error>;
}

impl<I: I2c> I2c for GuardedBus<I> {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), Self::Error> {
        // The STOP of the transfer before may still be under way.
        if !(0..FREE_TRIES).any(|_| (self.is_free)()) {
            return Err(Fault::Held);
        }
        self.i2c.transaction(address, operations).map_err(Fault::Transfer)
    }
}

/// Why a transfer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault<E> {
    /// Somebody holds a line low, or it has no pull-up.
    Held,
    /// What the controller says.
    Transfer(E),
}

impl<E: Error> Error for Fault<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Held => ErrorKind::Bus,
            Self::Transfer(error) => error.kind(),
        }
    }
}

/// Frees a bus on which a slave holds SDA low, because a reset caught it within a byte.
///
/// Up to nine clocks let the slave finish its byte, then a STOP. Both pins are open drain with a
/// pull-up; give them to the I2C peripheral afterwards.
///
/// # Errors
/// Those of the pins, which most chips do not have.
pub fn free_bus<P: OutputPin, Q: OutputPin<Error = P::Error> + InputPin>(
    scl: &mut P,
    sda: &mut Q,
    delay: &mut impl DelayNs,
) -> Result<(), P::Error> {
    sda.set_high()?;
    scl.set_high()?;
    delay.delay_us(HALF_BIT_US);
    for _ in 0..CLOCKS {
        if sda.is_high()? {
            break;
        }
        scl.set_low()?;
        delay.delay_us(HALF_BIT_US);
        scl.set_high()?;
        delay.delay_us(HALF_BIT_US);
    }
    scl.set_low()?;
    delay.delay_us(HALF_BIT_US);
    sda.set_low()?;
    delay.delay_us(HALF_BIT_US);
    scl.set_high()?;
    delay.delay_us(HALF_BIT_US);
    sda.set_high()?;
    delay.delay_us(HALF_BIT_US);
    Ok(())
}

/// Reads of the lines until they count as held; a STOP takes 10 us, a read 50 ns at least.
const FREE_TRIES: u32 = 1_000;
/// Half a bit at 100 kHz.
const HALF_BIT_US: u32 = 5;
/// Eight bits of a byte and its acknowledge.
const CLOCKS: u32 = 9;

#[cfg(test)]
mod tests {
    use core::{cell::RefCell, convert::Infallible};

    use super::*;

    /// A slave that holds SDA until it saw so many clocks, and notices a STOP.
    #[derive(Default)]
    struct Slave {
        scl: bool,
        sda: bool,
        holds_for: u32,
        clocks: u32,
        stops: u32,
    }

    struct Scl<'a>(&'a RefCell<Slave>);
    struct Sda<'a>(&'a RefCell<Slave>);
    struct NoDelay;

    impl DelayNs for NoDelay {
        fn delay_ns(&mut self, _: u32) {}
    }

    impl embedded_hal::digital::ErrorType for Scl<'_> {
        type Error = Infallible;
    }

    impl OutputPin for Scl<'_> {
        fn set_low(&mut self) -> Result<(), Infallible> {
            self.0.borrow_mut().scl = false;
            Ok(())
        }

        fn set_high(&mut self) -> Result<(), Infallible> {
            let mut slave = self.0.borrow_mut();
            if !slave.scl {
                slave.clocks += 1;
            }
            slave.scl = true;
            Ok(())
        }
    }

    impl embedded_hal::digital::ErrorType for Sda<'_> {
        type Error = Infallible;
    }

    impl OutputPin for Sda<'_> {
        fn set_low(&mut self) -> Result<(), Infallible> {
            self.0.borrow_mut().sda = false;
            Ok(())
        }

        fn set_high(&mut self) -> Result<(), Infallible> {
            let mut slave = self.0.borrow_mut();
            if slave.scl && !slave.sda && slave.clocks > slave.holds_for {
                slave.stops += 1;
            }
            slave.sda = true;
            Ok(())
        }
    }

    impl InputPin for Sda<'_> {
        fn is_high(&mut self) -> Result<bool, Infallible> {
            let slave = self.0.borrow();
            Ok(slave.sda && slave.clocks > slave.holds_for)
        }

        fn is_low(&mut self) -> Result<bool, Infallible> {
            self.is_high().map(|high| !high)
        }
    }

    #[test]
    fn a_held_bus_is_clocked_free_and_a_free_one_only_sees_a_stop() {
        for holds_for in [0, 1, 5, 9] {
            let slave = RefCell::new(Slave { holds_for, ..Slave::default() });
            free_bus(&mut Scl(&slave), &mut Sda(&slave), &mut NoDelay).expect("infallible");
            let slave = slave.into_inner();
            // One rising edge for the first high level, one within the STOP.
            assert_eq!((slave.clocks, slave.stops), (holds_for + 2, 1), "held for {holds_for}");
            assert!(slave.scl && slave.sda);
        }
    }

    #[test]
    fn a_slave_that_never_lets_go_does_not_hold_up_the_start() {
        let slave = RefCell::new(Slave { holds_for: u32::MAX, ..Slave::default() });
        free_bus(&mut Scl(&slave), &mut Sda(&slave), &mut NoDelay).expect("infallible");
        assert_eq!(slave.into_inner().clocks, CLOCKS + 2);
    }

    /// A controller that would wait for a held line.
    struct Controller(u32);

    impl ErrorType for Controller {
        type Error = ErrorKind;
    }

    impl I2c for Controller {
        fn transaction(&mut self, _: u8, _: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
            self.0 += 1;
            Err(ErrorKind::Overrun)
        }
    }

    #[test]
    fn a_held_bus_refuses_and_a_free_one_passes_on() {
        for (is_free, expect, transfers) in [
            ((|| false) as fn() -> bool, Fault::Held, 0),
            (|| true, Fault::Transfer(ErrorKind::Overrun), 1),
        ] {
            let mut bus = GuardedBus::new(Controller(0), is_free);
            assert_eq!(bus.write(0x76, &[0]), Err(expect));
            assert_eq!(bus.i2c.0, transfers);
        }
    }
}
