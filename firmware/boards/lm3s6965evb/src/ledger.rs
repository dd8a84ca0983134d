//! The test ledger on UART1 (`tests/LEDGER.md`): what this board did, out of the gateway's sight.
//!
//! Written by hand instead of through `core::fmt`, which alone would take more flash than the rest.

use embedded_io::Write;

use crate::{reset::Cause, uart::Tx};

/// The ledger's writer.
pub struct Ledger {
    out: Tx,
}

impl Ledger {
    /// Continues the ledger behind whatever a reset may have torn.
    pub fn new(out: Tx) -> Self {
        let mut ledger = Self { out };
        ledger.bytes(b"\n");
        ledger
    }

    /// `X boot cause`
    pub fn boot(&mut self, boot: u64, cause: Cause) {
        self.line(b'X', &[boot]);
        self.bytes(match cause {
            Cause::Power => b" power\n".as_slice(),
            Cause::Reset => b" reset\n",
            Cause::Watchdog => b" watchdog\n",
            Cause::Panic => b" panic\n",
        });
    }

    /// `R boot seq code`
    pub fn reading(&mut self, boot: u64, seq: u64, code: Option<i32>) {
        self.line(b'R', &[boot, seq]);
        match code {
            None => self.bytes(b" -"),
            Some(code) => {
                self.bytes(if code < 0 { b" -" } else { b" " });
                self.number(u64::from(code.unsigned_abs()));
            }
        }
        self.bytes(b"\n");
    }

    fn line(&mut self, kind: u8, fields: &[u64]) {
        self.bytes(&[kind]);
        for field in fields {
            self.bytes(b" ");
            self.number(*field);
        }
    }

    fn number(&mut self, number: u64) {
        let mut digits = [0; 20];
        let mut rest = number;
        let mut used = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            used += 1;
            if rest == 0 {
                break;
            }
        }
        if let Some(digits) = digits.get(digits.len() - used..) {
            self.bytes(digits);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        // The port cannot fail.
        let _ = self.out.write_all(bytes);
    }
}
