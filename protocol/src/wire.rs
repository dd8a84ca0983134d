//! Cursors over byte slices: the only code that takes bodies apart or builds them. What many fields
//! share stays out of line: inlined, sending took 2.1 kB of flash instead of 0.9.

use crate::{Position, varint};

/// Reads fields from the front of a body; every method gives `None` once the bytes do not suffice.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    pub(crate) fn u32_le(&mut self) -> Option<u32> {
        let (head, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u32::from_le_bytes(*head))
    }

    pub(crate) fn u64_le(&mut self) -> Option<u64> {
        let (head, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u64::from_le_bytes(*head))
    }

    #[inline(never)]
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let (value, len) = varint::decode(self.rest)?;
        self.take(len)?;
        Some(value)
    }

    pub(crate) fn varint_u32(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    #[inline(never)]
    pub(crate) fn position(&mut self) -> Option<Position> {
        Some(Position { boot: self.varint_u32()?, item: self.varint()? })
    }

    /// A length byte and as many bytes.
    pub(crate) fn short_bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(usize::from(len))
    }

    pub(crate) const fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Writes fields one after the other; overflow is remembered and reported by `finish`, so that
/// callers need not check each.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
    overflow: bool,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0, overflow: false }
    }

    #[inline(never)]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        match self.out.get_mut(self.len..end) {
            Some(slot) => {
                // Not copy_from_slice, which the compiler does not see to be of equal lengths: it would
                // bring a panic into every image.
                slot.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = *byte);
                self.len = end;
            }
            None => self.overflow = true,
        }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    pub(crate) fn u32_le(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u64_le(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    #[inline(never)]
    pub(crate) fn varint(&mut self, value: u64) {
        match self.out.get_mut(self.len..).and_then(|room| varint::encode(value, room)) {
            Some(len) => self.len += len,
            None => self.overflow = true,
        }
    }

    #[inline(never)]
    pub(crate) fn position(&mut self, position: Position) {
        self.varint(u64::from(position.boot));
        self.varint(position.item);
    }

    /// A length byte and the bytes; more than 255 count as overflow.
    pub(crate) fn short_bytes(&mut self, bytes: &[u8]) {
        match u8::try_from(bytes.len()) {
            Ok(len) => {
                self.u8(len);
                self.bytes(bytes);
            }
            Err(_) => self.overflow = true,
        }
    }

    /// The length written, unless something did not fit.
    pub(crate) const fn finish(self) -> Option<usize> {
        if self.overflow { None } else { Some(self.len) }
    }
}
