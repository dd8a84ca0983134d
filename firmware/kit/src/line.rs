//! A HAL's buffered UART as the link wants it: an error is as good as a byte to wake for, and nobody
//! waits for the last byte to leave.
//!
//! The HALs stop receiving after an error until somebody reads, and say meanwhile that nothing is
//! there to be read: a port that asks first would never hear from its gateway again. Here the question
//! itself takes the error and lets reception go on.

use core::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use embedded_io::{ErrorType, Read, ReadReady, Write};
use embedded_io_async::BufRead;

/// What a HAL's buffered UART implements. Its blocking traits are missing in some of them.
pub trait BufferedUart: BufRead + embedded_io_async::Write {}

impl<U: BufRead + embedded_io_async::Write> BufferedUart for U {}

/// A buffered UART of an embassy HAL.
#[derive(Debug)]
pub struct Line<U: ErrorType> {
    uart: U,
    error: Option<U::Error>,
}

impl<U: BufferedUart> Line<U> {
    /// The UART with its interrupts running.
    #[must_use]
    pub const fn new(uart: U) -> Self {
        Self { uart, error: None }
    }

    /// Whether a read would tell something: a byte, or that some were lost.
    pub fn is_ready(&mut self) -> bool {
        let failed = match poll(self.uart.fill_buf()) {
            Poll::Pending => return self.error.is_some(),
            Poll::Ready(Ok(bytes)) => return !bytes.is_empty() || self.error.is_some(),
            Poll::Ready(Err(error)) => error,
        };
        // Taking nothing switches the receive interrupt on again.
        self.uart.consume(0);
        self.error = Some(failed);
        true
    }
}

impl<U: ErrorType> ErrorType for Line<U> {
    type Error = U::Error;
}

impl<U: BufferedUart> ReadReady for Line<U> {
    fn read_ready(&mut self) -> Result<bool, U::Error> {
        Ok(self.is_ready())
    }
}

impl<U: BufferedUart> Read for Line<U> {
    /// Takes what is there; waits for the first byte as the trait demands.
    fn read(&mut self, out: &mut [u8]) -> Result<usize, U::Error> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let received = wait(self.uart.fill_buf())?;
        let len = out.len().min(received.len());
        for (to, from) in out.iter_mut().zip(received) {
            *to = *from;
        }
        self.uart.consume(len);
        Ok(len)
    }
}

impl<U: BufferedUart> Write for Line<U> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, U::Error> {
        wait(self.uart.write(bytes))
    }

    fn flush(&mut self) -> Result<(), U::Error> {
        // The interrupt sends what is in the buffer; waiting for it would only cost time.
        Ok(())
    }
}

/// Asks once; an interrupt ends the sleep of whoever wants to ask again, so nothing has to be woken.
fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Asks until it is done: the UART sends a buffer in 45 ms, whatever happens.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, future::pending, vec::Vec};

    use embedded_io::ErrorKind;

    use super::*;

    /// A UART that stops receiving at an error until somebody consumes.
    #[derive(Default)]
    struct Uart {
        received: Vec<u8>,
        sent: Vec<u8>,
        on_the_wire: VecDeque<Result<u8, ErrorKind>>,
        failed: Option<ErrorKind>,
        deaf: bool,
    }

    impl Uart {
        fn interrupt(&mut self) {
            while !self.deaf {
                match self.on_the_wire.pop_front() {
                    Some(Ok(byte)) => self.received.push(byte),
                    Some(Err(error)) => (self.failed, self.deaf) = (Some(error), true),
                    None => break,
                }
            }
        }
    }

    impl ErrorType for Uart {
        type Error = ErrorKind;
    }

    impl embedded_io_async::Read for Uart {
        async fn read(&mut self, _: &mut [u8]) -> Result<usize, ErrorKind> {
            pending().await
        }
    }

    impl BufRead for Uart {
        async fn fill_buf(&mut self) -> Result<&[u8], ErrorKind> {
            self.interrupt();
            match (self.received.is_empty(), self.failed.take()) {
                (true, Some(error)) => Err(error),
                (true, None) => pending().await,
                (false, failed) => {
                    self.failed = failed;
                    Ok(&self.received)
                }
            }
        }

        fn consume(&mut self, len: usize) {
            self.received.drain(..len);
            self.deaf = false;
        }
    }

    impl embedded_io_async::Write for Uart {
        async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
            let len = bytes.len().min(3);
            self.sent.extend(&bytes[..len]);
            Ok(len)
        }

        async fn flush(&mut self) -> Result<(), ErrorKind> {
            pending().await
        }
    }

    #[test]
    fn all_is_written_and_nobody_waits_for_the_end() {
        let mut line = Line::new(Uart::default());
        line.write_all(b"headwater").expect("no error");
        line.flush().expect("no error");
        assert_eq!(line.uart.sent, b"headwater");
    }

    #[test]
    fn an_error_with_nothing_before_it_is_heard_and_reception_goes_on() {
        let mut line = Line::new(Uart::default());
        assert!(!line.is_ready());
        line.uart.on_the_wire.extend([Err(ErrorKind::Other), Ok(b'a'), Ok(b'b')]);
        assert!(line.is_ready() && line.is_ready());
        let mut out = [0; 4];
        assert_eq!(Read::read(&mut line, &mut out), Err(ErrorKind::Other));
        assert!(line.is_ready());
        assert_eq!(Read::read(&mut line, &mut out), Ok(2));
        assert_eq!(out[..2], *b"ab");
        assert!(!line.is_ready());
    }

    #[test]
    fn bytes_before_an_error_come_first_or_with_it_but_are_not_lost() {
        let mut line = Line::new(Uart::default());
        line.uart.on_the_wire.extend([Ok(b'a'), Err(ErrorKind::Other), Ok(b'b')]);
        let (mut taken, mut errors) = (Vec::new(), 0);
        while line.is_ready() {
            let mut out = [0; 4];
            match Read::read(&mut line, &mut out) {
                Ok(len) => taken.extend(&out[..len]),
                Err(_) => errors += 1,
            }
        }
        assert_eq!((taken.as_slice(), errors), (&b"ab"[..], 1));
    }
}
