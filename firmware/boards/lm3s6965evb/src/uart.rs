//! The two PL011 serial ports: UART0 to the gateway, received by interrupt into a ring; UART1 out only.

use core::{
    cell::RefCell,
    convert::Infallible,
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use cortex_m::asm;
use critical_section::Mutex;
use embedded_io::{Error, ErrorKind, ErrorType, Read, ReadReady, Write};
use heapless::spsc::{Consumer, Producer, Queue};

use crate::{
    chip::CORE_HZ,
    mmio::Register,
    vectors::{self, Interrupt},
};

/// Bytes that wait for the main loop: 44 ms at 115,200 baud, longer than an EEPROM write.
pub const RX_RING: usize = 512;

/// The ring's storage.
pub type RxRing = Queue<u8, RX_RING>;

static RX: Mutex<RefCell<Option<Producer<'static, u8>>>> = Mutex::new(RefCell::new(None));
static LOST: AtomicBool = AtomicBool::new(false);

/// UART0, both directions.
pub struct Serial {
    received: Consumer<'static, u8>,
    out: Tx,
}

/// The sending half of a port.
pub struct Tx(Port);

/// Received bytes were lost or damaged since the last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl Serial {
    /// Starts UART0 with its receive interrupt.
    pub fn start(ring: &'static mut RxRing) -> Self {
        let (producer, received) = ring.split();
        critical_section::with(|section| RX.borrow_ref_mut(section).replace(producer));
        UART0_PORT.start();
        UART0_PORT.interrupts().write(RX_LEVEL | RX_TIMEOUT);
        vectors::enable(Interrupt::Uart0);
        Self { received, out: Tx(UART0_PORT) }
    }

    /// Whether a read would tell something.
    pub fn is_ready(&self) -> bool {
        !self.received.is_empty() || LOST.load(Ordering::Relaxed)
    }
}

impl ErrorType for Serial {
    type Error = Lost;
}

impl ReadReady for Serial {
    fn read_ready(&mut self) -> Result<bool, Lost> {
        Ok(self.is_ready())
    }
}

impl Read for Serial {
    /// Takes what is there; waits for the first byte as the trait demands.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Lost> {
        if LOST.swap(false, Ordering::Relaxed) {
            return Err(Lost);
        }
        let mut taken = 0;
        for slot in buffer {
            let byte = loop {
                match self.received.dequeue() {
                    None if taken == 0 => asm::wfi(),
                    byte => break byte,
                }
            };
            let Some(byte) = byte else { break };
            *slot = byte;
            taken += 1;
        }
        Ok(taken)
    }
}

impl Write for Serial {
    fn write(&mut self, buffer: &[u8]) -> Result<usize, Lost> {
        Ok(self.out.write(buffer).unwrap_or_default())
    }

    fn flush(&mut self) -> Result<(), Lost> {
        // What is in the FIFO needs nobody any more; waiting would only cost time.
        Ok(())
    }
}

impl Error for Lost {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("received bytes were lost")
    }
}

impl core::error::Error for Lost {}

impl Tx {
    /// Starts UART1, which nothing is received from.
    pub fn start() -> Self {
        UART1_PORT.start();
        Self(UART1_PORT)
    }
}

impl ErrorType for Tx {
    type Error = Infallible;
}

impl Write for Tx {
    /// Fills the FIFO; waits for room for the first byte.
    fn write(&mut self, buffer: &[u8]) -> Result<usize, Infallible> {
        let mut sent = 0;
        for byte in buffer {
            if sent > 0 && self.0.is_full() {
                break;
            }
            while self.0.is_full() {}
            self.0.data().write(u32::from(*byte));
            sent += 1;
        }
        Ok(sent)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        while self.0.flags().read() & FLAG_BUSY != 0 {}
        Ok(())
    }
}

/// Handler of UART0. What is damaged or finds the ring full is dropped and remembered as lost.
pub extern "C" fn on_interrupt() {
    critical_section::with(|section| {
        let mut producer = RX.borrow_ref_mut(section);
        while UART0_PORT.flags().read() & FLAG_RX_EMPTY == 0 {
            let word = UART0_PORT.data().read();
            let byte = (word & 0xFF) as u8;
            let kept = word & DATA_ERRORS == 0
                && producer.as_mut().is_some_and(|ring| ring.enqueue(byte).is_ok());
            if !kept {
                LOST.store(true, Ordering::Relaxed);
            }
        }
    });
    UART0_PORT.clear().write(RX_LEVEL | RX_TIMEOUT);
}

/// One PL011.
#[derive(Clone, Copy)]
struct Port(usize);

impl Port {
    /// 115,200 baud, 8N1, FIFOs on.
    fn start(self) {
        self.control().write(0);
        Register::at(self.0 + 0x24).write(DIVISOR_64 / 64);
        Register::at(self.0 + 0x28).write(DIVISOR_64 % 64);
        Register::at(self.0 + 0x2C).write(LINE_8_BITS | LINE_FIFO);
        self.control().write(CONTROL_ENABLE | CONTROL_TX | CONTROL_RX);
    }

    fn is_full(self) -> bool {
        self.flags().read() & FLAG_TX_FULL != 0
    }

    const fn data(self) -> Register {
        Register::at(self.0)
    }

    const fn flags(self) -> Register {
        Register::at(self.0 + 0x18)
    }

    const fn control(self) -> Register {
        Register::at(self.0 + 0x30)
    }

    const fn interrupts(self) -> Register {
        Register::at(self.0 + 0x38)
    }

    const fn clear(self) -> Register {
        Register::at(self.0 + 0x44)
    }
}

const UART0_PORT: Port = Port(0x4000_C000);
const UART1_PORT: Port = Port(0x4000_D000);

const BAUD: u32 = 115_200;
/// Divisor of the clock in 1/64, rounded: clock / (16 * baud).
const DIVISOR_64: u32 = (CORE_HZ * 8 / BAUD + 1) / 2;

/// Overrun, break, parity and framing errors, delivered with the byte.
const DATA_ERRORS: u32 = 0b1111 << 8;
const FLAG_BUSY: u32 = 1 << 3;
const FLAG_RX_EMPTY: u32 = 1 << 4;
const FLAG_TX_FULL: u32 = 1 << 5;
const LINE_FIFO: u32 = 1 << 4;
const LINE_8_BITS: u32 = 0b11 << 5;
const CONTROL_ENABLE: u32 = 1 << 0;
const CONTROL_TX: u32 = 1 << 8;
const CONTROL_RX: u32 = 1 << 9;
/// The receive FIFO is half full.
const RX_LEVEL: u32 = 1 << 4;
/// Bytes wait and the line has been idle for 32 bits.
const RX_TIMEOUT: u32 = 1 << 6;
