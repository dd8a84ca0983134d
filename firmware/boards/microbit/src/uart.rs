//! The serial port to the gateway: UART0, received by interrupt into a ring.

use core::{
    cell::{Cell, RefCell},
    fmt,
};

use cortex_m::asm;
use critical_section::Mutex;
use embedded_io::{Error, ErrorKind, ErrorType, Read, ReadReady, Write};
use heapless::spsc::{Consumer, Producer, Queue};

use crate::{
    chip::{UART_RX, UART_TX},
    mmio::Register,
    vectors::{self, Interrupt},
};

/// Bytes that wait for the main loop: 44 ms at 115,200 baud, longer than a frame takes to be sent.
pub const RX_RING: usize = 512;

/// The ring's storage.
pub type RxRing = Queue<u8, RX_RING>;

static RX: Mutex<RefCell<Option<Producer<'static, u8>>>> = Mutex::new(RefCell::new(None));
static LOST: Mutex<Cell<bool>> = Mutex::new(Cell::new(false));

/// UART0, both directions.
pub struct Serial {
    received: Consumer<'static, u8>,
    /// A byte was given to the transmitter and its end was not seen yet.
    is_sending: bool,
}

/// Received bytes were lost or damaged since the last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl Serial {
    /// Starts UART0 with its receive interrupt.
    pub fn start(ring: &'static mut RxRing) -> Self {
        let (producer, received) = ring.split();
        critical_section::with(|section| RX.borrow_ref_mut(section).replace(producer));
        ENABLE.write(0);
        PIN_TX.write(UART_TX);
        PIN_RX.write(UART_RX);
        BAUD.write(BAUD_115_200);
        CONFIG.write(CONFIG_NO_PARITY_NO_FLOW_CONTROL);
        ENABLE.write(ENABLED);
        for event in [RECEIVED, SENT, FAILED] {
            event.write(0);
        }
        INTERRUPTS_SET.write(INTERRUPT_RECEIVED | INTERRUPT_FAILED);
        START_TX.write(1);
        START_RX.write(1);
        vectors::enable(Interrupt::Uart0);
        Self { received, is_sending: false }
    }

    /// Whether a read would tell something.
    pub fn is_ready(&self) -> bool {
        !self.received.is_empty() || critical_section::with(|section| LOST.borrow(section).get())
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
        if critical_section::with(|section| LOST.borrow(section).take()) {
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
    /// Sends one byte, after the one before: the transmitter has no buffer. The first byte waits for nothing, since no
    /// event tells of a transmitter that has never sent.
    fn write(&mut self, buffer: &[u8]) -> Result<usize, Lost> {
        let Some(byte) = buffer.first() else { return Ok(0) };
        // Bounded: a transmitter that stands still must not keep the board from sampling.
        if self.is_sending {
            let _ = SENT.wait_set(1, SENT_POLLS);
        }
        SENT.write(0);
        DATA_TX.write(u32::from(*byte));
        self.is_sending = true;
        Ok(1)
    }

    fn flush(&mut self) -> Result<(), Lost> {
        // What is on its way needs nobody any more; waiting would only cost time.
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

/// Handler of UART0. What finds the ring full is dropped; that, and what the hardware says it lost or got damaged, is
/// remembered as lost.
pub extern "C" fn on_interrupt() {
    critical_section::with(|section| {
        let mut producer = RX.borrow_ref_mut(section);
        // Each read brings the next byte of the buffer, and its event; cleared before, so that it is not missed.
        while RECEIVED.take_event() {
            let byte = (DATA_RX.read() & 0xFF) as u8;
            if producer.as_mut().is_none_or(|ring| ring.enqueue(byte).is_err()) {
                LOST.borrow(section).set(true);
            }
        }
        if FAILED.take_event() {
            // Written ones clear.
            FAILURES.write(FAILURES.read());
            LOST.borrow(section).set(true);
        }
    });
}

const START_RX: Register = Register::at(0x4000_2000);
const START_TX: Register = Register::at(0x4000_2008);
const RECEIVED: Register = Register::at(0x4000_2108);
const SENT: Register = Register::at(0x4000_211C);
/// A byte takes 87 us, some 1,400 clocks; ten of them a poll.
const SENT_POLLS: u32 = 2_000;
const FAILED: Register = Register::at(0x4000_2124);
const INTERRUPTS_SET: Register = Register::at(0x4000_2304);
const INTERRUPT_RECEIVED: u32 = 1 << 2;
const INTERRUPT_FAILED: u32 = 1 << 9;
/// Overrun, parity, framing, break.
const FAILURES: Register = Register::at(0x4000_2480);
const ENABLE: Register = Register::at(0x4000_2500);
const ENABLED: u32 = 4;
const PIN_TX: Register = Register::at(0x4000_250C);
const PIN_RX: Register = Register::at(0x4000_2514);
const DATA_RX: Register = Register::at(0x4000_2518);
const DATA_TX: Register = Register::at(0x4000_251C);
const BAUD: Register = Register::at(0x4000_2524);
const BAUD_115_200: u32 = 0x01D7_E000;
const CONFIG: Register = Register::at(0x4000_256C);
const CONFIG_NO_PARITY_NO_FLOW_CONTROL: u32 = 0;
