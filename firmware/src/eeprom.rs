//! I2C EEPROMs of the 24C family with two address bytes (24C32 and larger) as [`Nvm`].

use embedded_hal::i2c::I2c;

use crate::nvm::{Nvm, Sizes};

/// An AT24C-style EEPROM.
#[derive(Clone, Debug)]
pub struct At24c<I> {
    i2c: I,
    address: u8,
    total: u32,
    page: u16,
}

impl<I: I2c> At24c<I> {
    /// A memory of `total` bytes at 7-bit `address`, written in pages of `page` bytes (at most 64
    /// are used).
    #[must_use]
    pub fn new(i2c: I, address: u8, total: u32, page: u16) -> Self {
        Self { i2c, address, total, page: page.clamp(1, PAGE_MAX as u16) }
    }

    /// Gives the bus back.
    pub fn release(self) -> I {
        self.i2c
    }

    /// The chip does not acknowledge while its last write is under way.
    fn patiently(
        &mut self,
        mut operation: impl FnMut(&mut I, u8) -> Result<(), I::Error>,
    ) -> Result<(), I::Error> {
        let mut tries = BUSY_TRIES;
        loop {
            match operation(&mut self.i2c, self.address) {
                Err(_) if tries > 0 => tries -= 1,
                outcome => return outcome,
            }
        }
    }

    fn write_page(&mut self, at: u32, bytes: &[u8]) -> Result<(), I::Error> {
        let mut message = [0; 2 + PAGE_MAX];
        for (to, from) in message.iter_mut().zip(word(at).into_iter().chain(bytes.iter().copied()))
        {
            *to = from;
        }
        let message = message.get(..2 + bytes.len()).unwrap_or_default();
        self.patiently(|i2c, address| i2c.write(address, message))
    }
}

impl<I: I2c> Nvm for At24c<I> {
    type Error = I::Error;

    fn sizes(&self) -> Sizes {
        Sizes::eeprom(self.total)
    }

    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), I::Error> {
        // Two transfers with a STOP between them, not a repeated START: the chip keeps its pointer,
        // and some controllers cannot restart.
        self.patiently(|i2c, chip| i2c.write(chip, &word(address)))?;
        self.patiently(|i2c, chip| i2c.read(chip, out))
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), I::Error> {
        let (mut at, mut rest) = (address, bytes);
        while !rest.is_empty() {
            // A write past the end of a page would wrap to its beginning.
            let room = self.page - (at % u32::from(self.page)) as u16;
            let (now, later) = rest.split_at(rest.len().min(usize::from(room)));
            self.write_page(at, now)?;
            at += now.len() as u32;
            rest = later;
        }
        // The write cycle is over, and the bytes are safe, once the chip acknowledges again.
        self.patiently(|i2c, chip| i2c.write(chip, &word(address)))
    }
}

/// The two address bytes.
const fn word(address: u32) -> [u8; 2] {
    (address as u16).to_be_bytes()
}

/// Largest page written at once, bytes.
const PAGE_MAX: usize = 64;
/// Refused address bytes until a chip counts as gone. A write cycle takes 5 ms, an address byte at
/// 1 MHz 10 us.
const BUSY_TRIES: u32 = 1_000;

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use embedded_hal::i2c::{ErrorKind, ErrorType, NoAcknowledgeSource, Operation};

    use super::*;
    use crate::{Identity, IdentityStore};

    /// A chip as the data sheet has it: writes wrap within a page, and it is deaf while one is
    /// under way.
    struct Chip {
        bytes: Vec<u8>,
        page: usize,
        pointer: usize,
        busy: u32,
        gone: bool,
    }

    impl Chip {
        fn new(page: usize) -> Self {
            Self { bytes: vec![0xFF; 4_096], page, pointer: 0, busy: 0, gone: false }
        }
    }

    impl ErrorType for Chip {
        type Error = ErrorKind;
    }

    impl I2c for Chip {
        fn transaction(
            &mut self,
            address: u8,
            operations: &mut [Operation<'_>],
        ) -> Result<(), ErrorKind> {
            self.busy = self.busy.saturating_sub(1);
            if address != 0x50 || self.busy > 0 || self.gone {
                return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
            }
            assert_eq!(operations.len(), 1, "no repeated START");
            match &mut operations[0] {
                Operation::Read(out) => {
                    out.copy_from_slice(&self.bytes[self.pointer..][..out.len()]);
                }
                Operation::Write(bytes) => {
                    self.pointer = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
                    let start = self.pointer / self.page * self.page;
                    for (offset, byte) in bytes[2..].iter().enumerate() {
                        self.bytes[start + (self.pointer - start + offset) % self.page] = *byte;
                    }
                    if bytes.len() > 2 {
                        self.busy = 50;
                    }
                }
            }
            Ok(())
        }
    }

    #[test]
    fn writes_cross_pages_and_wait_for_the_write_cycle() {
        for page in [8, 32, 64, 128] {
            let mut eeprom = At24c::new(Chip::new(page), 0x50, 4_096, page as u16);
            let bytes: Vec<u8> = (0..200).collect();
            eeprom.write(100, &bytes).expect("written");
            let mut back = [0; 200];
            eeprom.read(100, &mut back).expect("read");
            assert_eq!(back[..], bytes, "pages of {page}");
            assert_eq!(eeprom.release().bytes[99], 0xFF);
        }
    }

    #[test]
    fn an_identity_is_kept() {
        let mut eeprom = At24c::new(Chip::new(32), 0x50, 4_096, 32);
        let stream = headwater_protocol::StreamId::new(5).expect("not 0");
        let (mut store, found) = IdentityStore::open(&mut eeprom);
        assert_eq!(found, None);
        store.save(&mut eeprom, Identity { stream, boot: 1 }).expect("saved");
        assert_eq!(IdentityStore::open(&mut eeprom).1, Some(Identity { stream, boot: 2 }));
    }

    #[test]
    fn a_chip_that_is_not_there_is_an_error_in_the_end() {
        let mut eeprom = At24c::new(Chip { gone: true, ..Chip::new(32) }, 0x50, 4_096, 32);
        assert!(eeprom.read(0, &mut [0; 4]).is_err() && eeprom.write(0, &[1]).is_err());
    }
}
