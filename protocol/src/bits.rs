//! Bits in a byte slice, most significant first.

/// Writes bits into memory of any content; overflow is remembered and reported by `finish`.
#[derive(Debug)]
pub(crate) struct BitWriter<'a> {
    out: &'a mut [u8],
    at: usize,
    overflow: bool,
}

impl<'a> BitWriter<'a> {
    /// Goes on behind the first `at` bits.
    pub(crate) const fn new(out: &'a mut [u8], at: usize) -> Self {
        Self { out, at, overflow: false }
    }

    /// Writes the low `count` bits of a value, at most 32.
    #[inline(never)]
    pub(crate) fn put(&mut self, value: u32, count: u32) {
        if self.at + count as usize > self.out.len() * 8 {
            self.overflow = true;
        }
        if !self.overflow {
            put_at(self.out, self.at, value, count);
            self.at += count as usize;
        }
    }

    /// Writes a value again where as many bits were written before.
    pub(crate) fn patch(&mut self, at: usize, value: u32, count: u32) {
        put_at(self.out, at, value, count);
    }

    /// The number of bits before the next one.
    pub(crate) const fn position(&self) -> usize {
        self.at
    }

    /// The number of bits written, unless something did not fit.
    pub(crate) const fn finish(self) -> Option<usize> {
        if self.overflow { None } else { Some(self.at) }
    }
}

fn put_at(out: &mut [u8], mut at: usize, value: u32, count: u32) {
    let mut left = count;
    while left > 0 {
        let free = 8 - (at % 8) as u32;
        let now = free.min(left);
        left -= now;
        let Some(byte) = out.get_mut(at / 8) else { return };
        let mask = (((1_u32 << now) - 1) << (free - now)) as u8;
        let bits = (((value >> left) << (free - now)) & 0xFF) as u8;
        *byte = (*byte & !mask) | (bits & mask);
        at += now as usize;
    }
}

/// Reads bits; every method gives `None` once they do not suffice.
#[derive(Clone, Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `count` bits, at most 32.
    pub(crate) fn take(&mut self, count: u32) -> Option<u32> {
        let end = self.at + count as usize;
        if end > self.bytes.len() * 8 {
            return None;
        }
        let mut value = 0_u64;
        let mut left = count;
        while left > 0 {
            let free = 8 - (self.at % 8) as u32;
            let now = free.min(left);
            left -= now;
            let byte = u32::from(*self.bytes.get(self.at / 8)?);
            let bits = (byte >> (free - now)) & ((1 << now) - 1);
            value = value << now | u64::from(bits);
            self.at += now as usize;
        }
        u32::try_from(value).ok()
    }

    /// Counts ones up to a limit; the zero that ends a shorter row of them is read, too.
    pub(crate) fn ones(&mut self, limit: u32) -> Option<u32> {
        let mut count = 0;
        while count < limit && self.take(1)? == 1 {
            count += 1;
        }
        Some(count)
    }

    /// Whether nothing is left but the zeros that fill the last byte.
    pub(crate) fn is_spent(&mut self) -> bool {
        let left = self.bytes.len() * 8 - self.at;
        left < 8 && self.take(left as u32) == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut memory = [0xA5; 16];
        let mut out = BitWriter::new(&mut memory, 0);
        out.put(0b101, 3);
        let place = out.position();
        out.put(0, 9);
        out.put(u32::MAX, 32);
        out.put(0, 0);
        out.put(0x1234_5678, 29);
        out.patch(place, 0x1F1, 9);
        let bits = out.finish().unwrap();
        assert_eq!(bits, 73);
        let mut read = BitReader::new(&memory);
        assert_eq!(read.take(3), Some(0b101));
        assert_eq!(read.take(9), Some(0x1F1));
        assert_eq!(read.ones(16), Some(16));
        assert_eq!(read.take(16), Some(0xFFFF));
        assert_eq!(read.take(29), Some(0x1234_5678));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let mut out = [0; 1];
        let mut writer = BitWriter::new(&mut out, 3);
        writer.put(31, 5);
        assert_eq!(writer.position(), 8);
        writer.put(1, 1);
        assert_eq!(writer.finish(), None);
        assert_eq!(out, [31]);
        let mut reader = BitReader::new(&out);
        assert_eq!(reader.ones(9), Some(0));
        assert_eq!(reader.take(8), None);
        assert_eq!(reader.take(7), Some(31));
        assert!(reader.is_spent());
        assert_eq!(reader.take(1), None);
    }

    #[test]
    fn only_zeros_may_fill_the_last_byte() {
        let spent = |bytes: &[u8], read: u32| {
            let mut reader = BitReader::new(bytes);
            reader.take(read).unwrap();
            reader.is_spent()
        };
        assert!(spent(&[0b1010_0000], 3));
        assert!(!spent(&[0b1010_0001], 3));
        assert!(!spent(&[0b1010_0000, 0], 3));
        assert!(spent(&[0xFF], 8));
    }
}
