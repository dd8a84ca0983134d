//! Zigzag variable-length integers, as Kafka (and Protocol Buffers' `sint`) write them.

use bytes::{Buf, Bytes};

/// Longest encoding of 64 bits at 7 bits a byte.
const MAX_BYTES_64: u32 = 10;

/// Appends a zigzag varint; 32-bit values have the same encoding.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes that [`put`] would append.
pub(super) fn size(value: i64) -> usize {
    let rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let bits = (u64::BITS - rest.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

/// Takes a 64-bit varint off the front; `None` if it is cut off or over-long.
pub(super) fn take_i64(input: &mut Bytes) -> Option<i64> {
    let mut value = 0u64;
    for index in 0..MAX_BYTES_64 {
        if !input.has_remaining() {
            return None;
        }
        let byte = input.get_u8();
        let bits = u64::from(byte & 0x7f);
        // The tenth byte holds only the last of 64 bits.
        if index == MAX_BYTES_64 - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

/// Takes a 32-bit varint off the front; `None` also if it does not fit.
pub(super) fn take_i32(input: &mut Bytes) -> Option<i32> {
    i32::try_from(take_i64(input)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_encodings() {
        let cases: &[(i64, &[u8])] = &[
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (-2, &[3]),
            (63, &[0x7e]),
            (64, &[0x80, 0x01]),
            (300, &[0xd8, 0x04]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ];
        for (value, bytes) in cases {
            let mut out = Vec::new();
            put(&mut out, *value);
            assert_eq!(&out, bytes, "{value}");
            assert_eq!(size(*value), bytes.len(), "{value}");
            let mut input = Bytes::from(out);
            assert_eq!(take_i64(&mut input), Some(*value));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn bad_encodings_are_refused() {
        for bytes in [&[][..], &[0x80], &[0xff; 11], &[0xff; 10], &[0x80; 20]] {
            assert_eq!(take_i64(&mut Bytes::copy_from_slice(bytes)), None, "{bytes:?}");
        }
        let mut out = Vec::new();
        put(&mut out, i64::from(i32::MAX) + 1);
        assert_eq!(take_i32(&mut Bytes::from(out)), None);
    }
}
