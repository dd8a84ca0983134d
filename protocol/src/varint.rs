//! Unsigned LEB128 integers of up to 64 bits, shortest form only, and zigzag for signed ones.

/// Longest encoding of a u64, bytes.
pub const MAX_LEN: usize = 10;

/// Writes `value` to the start of `out`; gives the length, or `None` when `out` is too short.
#[must_use]
pub fn encode(mut value: u64, out: &mut [u8]) -> Option<usize> {
    let mut len = 0;
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        let slot = out.get_mut(len)?;
        len += 1;
        if value == 0 {
            *slot = low;
            return Some(len);
        }
        *slot = low | 0x80;
    }
}

/// Reads a value from the start of `bytes`; gives it with its length. `None` when the bytes end
/// early, pass 64 bits or are not the shortest form.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
    let len = 1 + bytes.iter().position(|byte| byte & 0x80 == 0)?;
    // From the end, by shifts of a constant: one by a variable is a function on a Cortex-M0.
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(len).rev() {
        if value >> (u64::BITS - 7) != 0 {
            return None;
        }
        value = value << 7 | u64::from(byte & 0x7F);
        if value == 0 && index > 0 {
            return None;
        }
    }
    Some((value, len))
}

/// Maps a signed value to an unsigned one, small magnitudes to small values.
#[must_use]
pub const fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

/// Reverses [`zigzag`].
#[must_use]
pub const fn unzigzag(value: u32) -> i32 {
    ((value >> 1) as i32) ^ (value & 1).wrapping_neg() as i32
}
