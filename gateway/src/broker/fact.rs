//! Bytes of the broker's facts: a version byte, then big-endian fields; strings and bytes carry their
//! length. Decoding trusts nothing: a fact that does not parse to its last byte is refused.

use bytes::{Buf, BufMut, Bytes};

/// A fact whose bytes are not what its space holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fact of {owner} is not readable: {what}")]
pub struct FactError {
    /// What the fact is of.
    pub owner: &'static str,
    /// What is wrong.
    pub what: &'static str,
}

/// Reads the fields of one fact.
#[derive(Debug)]
pub(super) struct FactReader {
    owner: &'static str,
    bytes: Bytes,
}

impl FactReader {
    pub(super) fn new(owner: &'static str, bytes: Bytes) -> Self {
        Self { owner, bytes }
    }

    /// The first byte of a value: which layout follows.
    pub(super) fn version(&mut self, known: u8) -> Result<(), FactError> {
        match self.u8()? {
            version if version == known => Ok(()),
            _ => Err(self.error("version is not known")),
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8, FactError> {
        self.bytes.try_get_u8().map_err(|_| self.error("cut off"))
    }

    pub(super) fn u16(&mut self) -> Result<u16, FactError> {
        self.bytes.try_get_u16().map_err(|_| self.error("cut off"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, FactError> {
        self.bytes.try_get_u32().map_err(|_| self.error("cut off"))
    }

    pub(super) fn i32(&mut self) -> Result<i32, FactError> {
        self.bytes.try_get_i32().map_err(|_| self.error("cut off"))
    }

    pub(super) fn i64(&mut self) -> Result<i64, FactError> {
        self.bytes.try_get_i64().map_err(|_| self.error("cut off"))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FactError> {
        let mut array = [0; N];
        self.bytes.try_copy_to_slice(&mut array).map_err(|_| self.error("cut off"))?;
        Ok(array)
    }

    /// A count of things that take at least `each` bytes: bounded by the bytes that are there.
    pub(super) fn count(&mut self, each: usize) -> Result<usize, FactError> {
        let count = usize::from(self.u16()?);
        if count > self.bytes.remaining() / each {
            return Err(self.error("count is more than its bytes hold"));
        }
        Ok(count)
    }

    pub(super) fn string(&mut self) -> Result<String, FactError> {
        let length = usize::from(self.u16()?);
        if length > self.bytes.remaining() {
            return Err(self.error("cut off"));
        }
        let bytes = self.bytes.split_to(length);
        String::from_utf8(bytes.into()).map_err(|_| self.error("text is not UTF-8"))
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), FactError> {
        if self.bytes.has_remaining() { Err(self.error("bytes are left over")) } else { Ok(()) }
    }

    pub(super) fn error(&self, what: &'static str) -> FactError {
        FactError { owner: self.owner, what }
    }
}

/// Appends a string with its length. Callers bound it: names and settings are far below 64 KiB.
pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("callers bound texts in facts");
    out.put_u16(length);
    out.put_slice(text.as_bytes());
}
