//! Cursors over byte slices: the only code that takes bodies apart or builds them. What many fields
//! share stays out of line: inlined, sending took 2.1 kB of flash instead of 0.9.

use crate::{Position, varint};

/// Reads fields from the front of a body. What is not there or not legal reads as 0 and is remembered, so that callers
/// need not check each field: `finish` or `end` does.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    malformed: bool,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, malformed: false }
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.rest.split_at_checked(len).unwrap_or_else(|| {
            self.malformed = true;
            (&[], self.rest)
        });
        self.rest = rest;
        head
    }

    #[inline(never)]
    fn little_endian(&mut self, len: usize) -> u64 {
        self.take(len).iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.little_endian(1) as u8
    }

    pub(crate) fn u32_le(&mut self) -> u32 {
        self.little_endian(4) as u32
    }

    pub(crate) fn u64_le(&mut self) -> u64 {
        self.little_endian(8)
    }

    #[inline(never)]
    pub(crate) fn varint(&mut self) -> u64 {
        let decoded = varint::decode(self.rest);
        self.require(decoded.is_some());
        let (value, len) = decoded.unwrap_or_default();
        self.take(len);
        value
    }

    #[inline(never)]
    pub(crate) fn varint_u32(&mut self) -> u32 {
        let value = self.varint();
        self.require(value >> 32 == 0);
        value as u32
    }

    #[inline(never)]
    pub(crate) fn position(&mut self) -> Position {
        Position { boot: self.varint_u32(), item: self.varint() }
    }

    /// A length byte and as many bytes.
    pub(crate) fn short_bytes(&mut self) -> &'a [u8] {
        let len = self.u8();
        self.take(usize::from(len))
    }

    /// The rest, which counts as malformed when it is longer than that.
    pub(crate) fn rest(&mut self, most: usize) -> &'a [u8] {
        self.require(self.rest.len() <= most);
        self.take(self.rest.len())
    }

    /// Remembers that a rule is broken, if it is.
    pub(crate) fn require(&mut self, is_met: bool) {
        self.malformed |= !is_met;
    }

    /// What was read, if all of it was there and legal.
    pub(crate) fn finish<T>(self, value: T) -> Option<T> {
        (!self.malformed).then_some(value)
    }

    /// The same, if nothing follows either.
    pub(crate) fn end<T>(mut self, value: T) -> Option<T> {
        self.require(self.rest.is_empty());
        self.finish(value)
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
