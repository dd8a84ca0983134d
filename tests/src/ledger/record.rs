//! What is produced: each record says whose it is and which, and the rest of it follows from that.

use std::fmt;

/// Whose record, and which. Nobody uses a number twice, but to send the same record again as the same producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Producer.
    pub producer: u32,
    /// Counted from 0 over all partitions.
    pub number: u64,
}

/// One record in so many is long.
const LONG_ONE_IN: u64 = 64;
const LONG_BYTES: u64 = 60_000;
const SHORT_BYTES: u64 = 1_200;

impl RecordId {
    /// The record's value.
    #[must_use]
    pub fn value(self) -> Vec<u8> {
        let mut state = (u64::from(self.producer) << 40) ^ self.number;
        let bound =
            if mix(&mut state).is_multiple_of(LONG_ONE_IN) { LONG_BYTES } else { SHORT_BYTES };
        let filler = mix(&mut state) % bound;
        let mut value = format!("{self} ").into_bytes();
        value.extend((0..filler).map(|_| mix(&mut state) as u8));
        value
    }

    /// Which record a value is, if it is one, whole.
    #[must_use]
    pub fn of(value: &[u8]) -> Option<Self> {
        let end = value.iter().position(|&byte| byte == b' ')?;
        let (producer, number) = str::from_utf8(&value[..end]).ok()?.split_once(':')?;
        let id = Self { producer: producer.parse().ok()?, number: number.parse().ok()? };
        (id.value() == value).then_some(id)
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.producer, self.number)
    }
}

/// SplitMix64.
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_which_record_it_is_and_no_other_byte_passes() {
        for number in 0..200 {
            let id = RecordId { producer: 3, number };
            let mut value = id.value();
            assert_eq!(RecordId::of(&value), Some(id));
            let last = value.len() - 1;
            value[last] ^= 1;
            assert_eq!(RecordId::of(&value), None);
        }
    }
}
