//! Consistent Overhead Byte Stuffing: bytes without 0x00, so that 0x00 can delimit. Both ways byte
//! by byte, no buffer of its own.

/// Largest number of bytes that `len` bytes become, without delimiter.
#[must_use]
pub const fn encoded_max(len: usize) -> usize {
    len + len / 254 + 1
}

/// Writes stuffed bytes into a slice.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut [u8],
    len: usize,
    code_at: usize,
    code: u8,
    overflow: bool,
}

impl<'a> Encoder<'a> {
    /// Starts at the front of `out`.
    #[must_use]
    pub fn new(out: &'a mut [u8]) -> Self {
        let mut encoder = Self { out, len: 0, code_at: 0, code: 0xFF, overflow: false };
        encoder.open();
        encoder
    }

    /// Takes one byte.
    pub fn push(&mut self, byte: u8) {
        // A full block is followed by another only when there is something to put in it.
        if self.code == 0xFF {
            self.open();
        }
        if byte == 0 {
            self.open();
        } else {
            self.put(byte);
            self.code += 1;
            self.set_code();
        }
    }

    /// The number of bytes written, `None` if they did not fit.
    #[must_use]
    pub const fn finish(self) -> Option<usize> {
        if self.overflow { None } else { Some(self.len) }
    }

    fn open(&mut self) {
        self.code_at = self.len;
        self.code = 1;
        self.put(1);
    }

    fn put(&mut self, byte: u8) {
        match self.out.get_mut(self.len) {
            Some(slot) => {
                *slot = byte;
                self.len += 1;
            }
            None => self.overflow = true,
        }
    }

    fn set_code(&mut self) {
        if let Some(slot) = self.out.get_mut(self.code_at) {
            *slot = self.code;
        }
    }
}

/// Takes stuffed bytes apart.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    left: u8,
    zero_due: bool,
}

impl Decoder {
    /// Before the first byte of a frame.
    #[must_use]
    pub const fn new() -> Self {
        Self { left: 0, zero_due: false }
    }

    /// Takes one byte other than the delimiter and gives the byte it yields, if any.
    pub fn push(&mut self, byte: u8) -> Option<u8> {
        if self.left > 0 {
            self.left -= 1;
            return Some(byte);
        }
        let zero = self.zero_due;
        self.left = byte.wrapping_sub(1);
        self.zero_due = byte != 0xFF;
        zero.then_some(0)
    }

    /// Whether a delimiter may come here: no block is left unfinished.
    #[must_use]
    pub const fn at_end(&self) -> bool {
        self.left == 0
    }
}
