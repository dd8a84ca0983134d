//! The test ledger on UART1 (`tests/LEDGER.md`): what this board did, out of the gateway's sight.
//!
//! Written by hand instead of through `core::fmt`, which alone would take more flash than the rest.

use embedded_io::Write;
use headwater_firmware::{
    Event, TORN_LINE_END,
    protocol::item::{Cause, GapReason, MISSING},
};

use crate::uart::Tx;

/// The ledger's writer.
pub struct Ledger {
    out: Tx,
}

impl Ledger {
    /// Continues the ledger behind the line that a reset may have torn.
    pub fn new(out: Tx) -> Self {
        let mut ledger = Self { out };
        ledger.bytes(TORN_LINE_END.as_bytes());
        ledger
    }

    /// A reading, before anything else happens to it.
    pub fn reading(&mut self, boot: u32, seq: u64, code: i32) {
        self.fields(b'R', &[boot.into(), seq]);
        match code {
            MISSING => self.bytes(b" -"),
            code => {
                self.bytes(if code < 0 { b" -" } else { b" " });
                self.number(code.unsigned_abs().into());
            }
        }
        self.bytes(b"\n");
    }

    /// An event of the node.
    pub fn event(&mut self, event: Event) {
        match event {
            Event::Started { boot, cause } => {
                self.fields(b'X', &[boot.into()]);
                self.bytes(match cause {
                    Cause::Power => b" power".as_slice(),
                    Cause::Reset => b" reset",
                    Cause::Watchdog => b" watchdog",
                    Cause::Panic => b" panic",
                    _ => b" unknown",
                });
            }
            Event::Stream { boot, stream } => {
                self.fields(b'S', &[boot.into()]);
                self.bytes(b" ");
                self.hex(stream.bits());
            }
            Event::Sealed { boot, item, first_seq, count } => {
                self.fields(b'B', &[boot.into(), item, first_seq, count]);
            }
            Event::Dropped { boot, first_seq, count, reason } => {
                self.fields(b'G', &[boot.into(), first_seq, count]);
                self.bytes(match reason {
                    GapReason::OverflowOldest => b" overflow-oldest".as_slice(),
                    _ => b" overflow-newest",
                });
            }
            Event::Acknowledged { boot, item } => self.fields(b'A', &[boot.into(), item]),
        }
        self.bytes(b"\n");
    }

    fn fields(&mut self, kind: u8, fields: &[u64]) {
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

    fn hex(&mut self, number: u64) {
        for byte in number.to_be_bytes() {
            let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
            self.bytes(&[digit(byte >> 4), digit(byte & 0xF)]);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        // The port cannot fail.
        let _ = self.out.write_all(bytes);
    }
}
