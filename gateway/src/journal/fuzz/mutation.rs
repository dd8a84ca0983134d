//! Bytes that nobody wrote, from bytes that somebody wrote.

use crate::journal::sim::Random;

/// Longest noise, bytes.
const NOISE_BYTES: u64 = 300;
/// Most changes at once.
const CHANGES: u64 = 5;
/// Longest run that is repeated or added.
const RUN_BYTES: u64 = 40;
/// Lengths, counts and offsets that promise too much: none, all bits, and the largest number in either byte order.
const EXTREMES: [&[u8]; 8] = [
    &[0; 4],
    &[0xff; 4],
    &i32::MAX.to_le_bytes(),
    &i32::MAX.to_be_bytes(),
    &[0; 8],
    &[0xff; 8],
    &i64::MAX.to_le_bytes(),
    &i64::MAX.to_be_bytes(),
];

/// Changes a copy of valid bytes, or makes noise.
#[must_use]
pub fn mutated(valid: &[u8], random: &mut Random) -> Vec<u8> {
    if random.below(16) == 0 {
        return noise(random.below(NOISE_BYTES), random);
    }
    let mut bytes = valid.to_vec();
    for _ in 0..=random.below(CHANGES) {
        change(&mut bytes, random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len() as u64 + 1) as usize;
    let end = |length: u64| (at + length as usize).min(bytes.len());
    match random.below(8) {
        0 => bytes.truncate(at),
        1 => bytes.extend(noise(random.below(RUN_BYTES), random)),
        2 => {
            let copy = bytes[at..end(random.below(RUN_BYTES))].to_vec();
            let to = random.below(bytes.len() as u64 + 1) as usize;
            bytes.splice(to..to, copy);
        }
        3 => {
            let extreme = EXTREMES[random.below(EXTREMES.len() as u64) as usize];
            let end = end(extreme.len() as u64);
            bytes[at..end].copy_from_slice(&extreme[..end - at]);
        }
        4 => {
            let end = end(random.below(RUN_BYTES));
            bytes.drain(at..end);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

fn noise(length: u64, random: &mut Random) -> Vec<u8> {
    (0..length).map(|_| random.next() as u8).collect()
}
