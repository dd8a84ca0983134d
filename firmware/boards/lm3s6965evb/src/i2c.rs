//! The Stellaris I2C master as embedded-hal's `I2c`.
//!
//! A change of direction within a transaction is STOP, then START, instead of a repeated START: QEMU's
//! model of this controller ignores a START while it holds the bus, and the sensor and the EEPROM on
//! this board keep their address pointer over a STOP. Nobody else drives the bus in between.

use embedded_hal::i2c::{
    Error, ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation, SevenBitAddress,
};

use crate::{chip, mmio::Register};

/// The controller, at 89 kHz.
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
    /// Another master holds the bus; QEMU also says this when nobody answers to the address.
    ArbitrationLost,
    /// The controller stayed busy.
    Timeout,
    /// The controller cannot transfer nothing.
    Empty,
}

impl Master {
    /// Frees the bus, then starts the controller.
    pub fn start() -> Self {
        chip::recover_i2c_bus();
        CONFIG.write(CONFIG_MASTER);
        TIMER_PERIOD.write(TIMER_PERIOD_89_KHZ);
        let master = Self { _private: () };
        if CONTROL.read() & STATUS_BUS_BUSY != 0 {
            CONTROL.write(STOP);
            let _ = master.finish();
        }
        master
    }

    /// START, all bytes of a run of writes, STOP.
    fn send(&self, address: u8, writes: &[Operation<'_>]) -> Result<(), Fault> {
        ADDRESS.write(u32::from(address) << 1);
        let mut left = length(writes)?;
        let mut start = START;
        for operation in writes {
            let Operation::Write(bytes) = operation else { continue };
            for byte in *bytes {
                left -= 1;
                DATA.write(u32::from(*byte));
                self.step(RUN | start | stop_after(left))?;
                start = 0;
            }
        }
        Ok(())
    }

    /// START, all bytes of a run of reads, STOP.
    fn receive(&self, address: u8, reads: &mut [Operation<'_>]) -> Result<(), Fault> {
        ADDRESS.write(u32::from(address) << 1 | ADDRESS_READ);
        let mut left = length(reads)?;
        let mut start = START;
        for operation in reads {
            let Operation::Read(bytes) = operation else { continue };
            for slot in bytes.iter_mut() {
                left -= 1;
                // The last byte is not acknowledged: it tells the slave to let go of SDA.
                let acknowledge = if left == 0 { 0 } else { ACKNOWLEDGE };
                self.step(RUN | start | acknowledge | stop_after(left))?;
                *slot = (DATA.read() & 0xFF) as u8;
                start = 0;
            }
        }
        Ok(())
    }

    /// One byte on the bus. After a failure the bus is free again.
    fn step(&self, command: u32) -> Result<(), Fault> {
        CONTROL.write(command);
        let outcome = self.finish();
        if outcome.is_err() && command & STOP == 0 {
            CONTROL.write(STOP);
            let _ = self.finish();
        }
        outcome
    }

    fn finish(&self) -> Result<(), Fault> {
        if !CONTROL.wait_clear(STATUS_BUSY, BUSY_POLLS) {
            return Err(Fault::Timeout);
        }
        match CONTROL.read() {
            status if status & STATUS_ERROR == 0 => Ok(()),
            status if status & STATUS_ARBITRATION_LOST != 0 => Err(Fault::ArbitrationLost),
            status if status & STATUS_ADDRESS_NACK != 0 => Err(Fault::AddressNack),
            _ => Err(Fault::DataNack),
        }
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
        for phase in operations.chunk_by_mut(|a, b| is_read(a) == is_read(b)) {
            if phase.first().is_some_and(is_read) {
                self.receive(address, phase)?;
            } else {
                self.send(address, phase)?;
            }
        }
        Ok(())
    }
}

impl Error for Fault {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::AddressNack => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address),
            Self::DataNack => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Data),
            Self::ArbitrationLost => ErrorKind::ArbitrationLoss,
            Self::Timeout | Self::Empty => ErrorKind::Other,
        }
    }
}

fn is_read(operation: &Operation<'_>) -> bool {
    matches!(operation, Operation::Read(_))
}

fn length(operations: &[Operation<'_>]) -> Result<usize, Fault> {
    let bytes = operations.iter().map(|operation| match operation {
        Operation::Read(bytes) => bytes.len(),
        Operation::Write(bytes) => bytes.len(),
    });
    Some(bytes.sum()).filter(|length| *length > 0).ok_or(Fault::Empty)
}

fn stop_after(left: usize) -> u32 {
    if left == 0 { STOP } else { 0 }
}

const ADDRESS: Register = Register::at(0x4002_0000);
const ADDRESS_READ: u32 = 1;

/// Written it commands, read it tells the state.
const CONTROL: Register = Register::at(0x4002_0004);
const RUN: u32 = 1 << 0;
const START: u32 = 1 << 1;
const STOP: u32 = 1 << 2;
const ACKNOWLEDGE: u32 = 1 << 3;
const STATUS_BUSY: u32 = 1 << 0;
const STATUS_ERROR: u32 = 1 << 1;
const STATUS_ADDRESS_NACK: u32 = 1 << 2;
const STATUS_ARBITRATION_LOST: u32 = 1 << 4;
const STATUS_BUS_BUSY: u32 = 1 << 6;
/// A byte takes 101 us, some 1,260 clocks; a slave may stretch that tenfold.
const BUSY_POLLS: u32 = 2_000;

const DATA: Register = Register::at(0x4002_0008);

/// SCL period is 20 core clocks times one more than this: 11.2 us.
const TIMER_PERIOD: Register = Register::at(0x4002_000C);
const TIMER_PERIOD_89_KHZ: u32 = 6;

const CONFIG: Register = Register::at(0x4002_0020);
const CONFIG_MASTER: u32 = 1 << 4;
