//! The nRF51's two-wire interface 0 as embedded-hal's `I2c`, at 100 kHz, by polling.
//!
//! The hardware itself ends or suspends a read after each byte (its "shortcuts"): done by the program it would come too
//! late, and the next byte would be on its way.

use embedded_hal::i2c::{
    Error, ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation, SevenBitAddress,
};

use crate::{
    chip::{self, I2C_SCL, I2C_SDA},
    mmio::Register,
};

/// The controller.
pub struct Master {
    _private: (),
}

/// Why a transaction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No answer to the address.
    AddressNack,
    /// A byte was refused.
    DataNack,
    /// A byte came before the last one was taken.
    Overrun,
    /// The controller stayed busy.
    Timeout,
    /// The controller cannot transfer nothing.
    Empty,
}

impl Master {
    /// Frees the bus, then starts the controller.
    pub fn start() -> Self {
        chip::recover_i2c_bus();
        ENABLE.write(0);
        PIN_SCL.write(I2C_SCL);
        PIN_SDA.write(I2C_SDA);
        FREQUENCY.write(FREQUENCY_100_KHZ);
        SHORTCUTS.write(0);
        ENABLE.write(ENABLED);
        Self { _private: () }
    }

    /// START, all bytes of a run of writes; the bus stays taken.
    fn send(&self, writes: &[Operation<'_>]) -> Result<(), Fault> {
        check_length(writes)?;
        SENT.write(0);
        START_TX.write(1);
        for operation in writes {
            let Operation::Write(bytes) = operation else { continue };
            for byte in *bytes {
                DATA_TX.write(u32::from(*byte));
                wait_for(SENT)?;
            }
        }
        Ok(())
    }

    /// START, all bytes of a run of reads, STOP.
    fn receive(&self, reads: &mut [Operation<'_>]) -> Result<(), Fault> {
        let mut left = check_length(reads)?;
        let shorten = |left| SHORTCUTS.write(if left == 1 { BYTE_STOP } else { BYTE_SUSPEND });
        RECEIVED.write(0);
        shorten(left);
        START_RX.write(1);
        for operation in reads {
            let Operation::Read(bytes) = operation else { continue };
            for slot in bytes.iter_mut() {
                wait_for(RECEIVED)?;
                *slot = (DATA_RX.read() & 0xFF) as u8;
                left -= 1;
                if left > 0 {
                    shorten(left);
                    RESUME.write(1);
                }
            }
        }
        wait_for(STOPPED)
    }

    fn stop(&self) -> Result<(), Fault> {
        SHORTCUTS.write(0);
        // A suspended controller does not stop.
        RESUME.write(1);
        STOP.write(1);
        wait_for(STOPPED)
    }

    fn phase(&self, phase: &mut [Operation<'_>], is_last: bool) -> Result<(), Fault> {
        STOPPED.write(0);
        if phase.first().is_some_and(is_read) {
            return self.receive(phase);
        }
        self.send(phase)?;
        // A read that follows begins with a repeated START.
        if is_last { self.stop() } else { Ok(()) }
    }
}

impl ErrorType for Master {
    type Error = Fault;
}

impl I2c<SevenBitAddress> for Master {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), Self::Error> {
        ADDRESS.write(u32::from(address));
        FAILED.write(0);
        FAILURES.write(FAILURES.read());
        let mut rest = operations;
        while !rest.is_empty() {
            let is_same = |operation: &&Operation<'_>| {
                rest.first().is_some_and(|first| is_read(first) == is_read(operation))
            };
            let length = rest.iter().take_while(is_same).count();
            let (phase, later) = rest.split_at_mut(length);
            if let Err(fault) = self.phase(phase, later.is_empty()) {
                let _ = self.stop();
                return Err(fault);
            }
            rest = later;
        }
        Ok(())
    }
}

impl Error for Fault {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::AddressNack => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address),
            Self::DataNack => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Data),
            Self::Overrun => ErrorKind::Overrun,
            Self::Timeout | Self::Empty => ErrorKind::Other,
        }
    }
}

fn is_read(operation: &Operation<'_>) -> bool {
    matches!(operation, Operation::Read(_))
}

fn check_length(operations: &[Operation<'_>]) -> Result<usize, Fault> {
    let bytes = operations.iter().map(|operation| match operation {
        Operation::Read(bytes) => bytes.len(),
        Operation::Write(bytes) => bytes.len(),
    });
    Some(bytes.sum()).filter(|length| *length > 0).ok_or(Fault::Empty)
}

/// Waits for an event and takes it.
fn wait_for(event: Register) -> Result<(), Fault> {
    for _ in 0..EVENT_POLLS {
        if FAILED.read() != 0 {
            return Err(match FAILURES.read() {
                failures if failures & FAILURE_ADDRESS_NACK != 0 => Fault::AddressNack,
                failures if failures & FAILURE_DATA_NACK != 0 => Fault::DataNack,
                _ => Fault::Overrun,
            });
        }
        if event.take_event() {
            return Ok(());
        }
    }
    Err(Fault::Timeout)
}

/// A byte takes 100 us, some 1,600 clocks, twenty of them a poll; a slave may stretch that tenfold.
const EVENT_POLLS: u32 = 1_000;

const START_RX: Register = Register::at(0x4000_3000);
const START_TX: Register = Register::at(0x4000_3008);
const STOP: Register = Register::at(0x4000_3014);
const RESUME: Register = Register::at(0x4000_3020);
const STOPPED: Register = Register::at(0x4000_3104);
const RECEIVED: Register = Register::at(0x4000_3108);
const SENT: Register = Register::at(0x4000_311C);
const FAILED: Register = Register::at(0x4000_3124);
const SHORTCUTS: Register = Register::at(0x4000_3200);
const BYTE_SUSPEND: u32 = 1 << 0;
const BYTE_STOP: u32 = 1 << 1;
const FAILURES: Register = Register::at(0x4000_34C4);
const FAILURE_ADDRESS_NACK: u32 = 1 << 1;
const FAILURE_DATA_NACK: u32 = 1 << 2;
const ENABLE: Register = Register::at(0x4000_3500);
const ENABLED: u32 = 5;
const PIN_SCL: Register = Register::at(0x4000_3508);
const PIN_SDA: Register = Register::at(0x4000_350C);
const DATA_RX: Register = Register::at(0x4000_3518);
const DATA_TX: Register = Register::at(0x4000_351C);
const FREQUENCY: Register = Register::at(0x4000_3524);
const FREQUENCY_100_KHZ: u32 = 0x0198_0000;
const ADDRESS: Register = Register::at(0x4000_3588);
