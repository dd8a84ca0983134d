//! UART0 at 115,200 baud, received by interrupt into a ring.

use core::{cell::RefCell, fmt};

use critical_section::Mutex;
use embedded_io::{Error, ErrorKind, ErrorType, Read, ReadReady, Write};
use esp_hal::{
    Blocking, handler,
    peripherals::{GPIO20, GPIO21, UART0},
    uart::{Config, RxConfig, Uart, UartInterrupt},
};
use heapless::Deque;

static RECEIVER: Mutex<RefCell<Receiver>> =
    Mutex::new(RefCell::new(Receiver { uart: None, ring: Deque::new(), is_lossy: false }));

/// What the interrupt needs.
struct Receiver {
    uart: Option<Uart<'static, Blocking>>,
    ring: Deque<u8, RX_RING>,
    /// Bytes were lost or damaged since the last read.
    is_lossy: bool,
}

/// Both directions.
pub struct Serial {
    _private: (),
}

/// Received bytes were lost or damaged since the last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl Serial {
    /// Starts UART0 with its receive interrupts.
    pub fn start(uart: UART0<'static>, out: GPIO21<'static>, into: GPIO20<'static>) -> Self {
        let receive = RxConfig::default().with_fifo_full_threshold(FIFO_THRESHOLD);
        let config = Config::default().with_baudrate(BAUD).with_rx(receive);
        let uart = Uart::new(uart, config).expect("the clock allows for this baud rate");
        let mut uart = uart.with_tx(out).with_rx(into);
        uart.set_interrupt_handler(on_interrupt);
        critical_section::with(|section| {
            let mut receiver = RECEIVER.borrow_ref_mut(section);
            let uart = receiver.uart.insert(uart);
            uart.listen(UartInterrupt::RxFifoFull | UartInterrupt::RxTimeout);
        });
        Self { _private: () }
    }
}

/// Takes what the FIFO has. What finds the ring full is dropped and remembered as lost.
#[handler]
fn on_interrupt() {
    critical_section::with(|section| {
        let Receiver { uart: Some(uart), ring, is_lossy } = &mut *RECEIVER.borrow_ref_mut(section)
        else {
            return;
        };
        let mut bytes = [0; 32];
        loop {
            match uart.read_buffered(&mut bytes) {
                Ok(0) => break,
                Ok(len) => {
                    let mut bytes = bytes.iter().take(len);
                    *is_lossy |= !bytes.all(|byte| ring.push_back(*byte).is_ok());
                }
                Err(_) => *is_lossy = true,
            }
        }
        uart.clear_interrupts(UartInterrupt::RxFifoFull | UartInterrupt::RxTimeout);
    });
}

impl ErrorType for Serial {
    type Error = Lost;
}

impl ReadReady for Serial {
    fn read_ready(&mut self) -> Result<bool, Lost> {
        Ok(critical_section::with(|section| {
            let receiver = RECEIVER.borrow_ref(section);
            receiver.is_lossy || !receiver.ring.is_empty()
        }))
    }
}

impl Read for Serial {
    /// Takes what is there; waits for the first byte as the trait demands.
    fn read(&mut self, out: &mut [u8]) -> Result<usize, Lost> {
        while !self.read_ready()? {}
        critical_section::with(|section| {
            let mut receiver = RECEIVER.borrow_ref_mut(section);
            if core::mem::take(&mut receiver.is_lossy) {
                return Err(Lost);
            }
            let mut taken = 0;
            for slot in out {
                let Some(byte) = receiver.ring.pop_front() else { break };
                *slot = byte;
                taken += 1;
            }
            Ok(taken)
        })
    }
}

impl Write for Serial {
    /// Fills the FIFO; waits for room for the first byte.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Lost> {
        loop {
            let sent = critical_section::with(|section| {
                let mut receiver = RECEIVER.borrow_ref_mut(section);
                let uart = receiver.uart.as_mut().filter(|uart| uart.write_ready());
                uart.map(|uart| uart.write(bytes).unwrap_or_default())
            });
            if let Some(sent) = sent {
                return Ok(sent);
            }
        }
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

const BAUD: u32 = 115_200;
/// Bytes that wait for the main loop: 89 ms, longer than a reading takes.
const RX_RING: usize = 1024;
/// Bytes of the 128 in the FIFO at which it interrupts: 5 ms are left for whoever masks interrupts.
const FIFO_THRESHOLD: u16 = 64;
