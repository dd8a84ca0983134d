//! Bytes that nobody wrote, from bytes that somebody wrote.

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

/// Longest noise, bytes.
const NOISE_BYTES: u64 = 300;
/// Most changes at once.
const CHANGES: u64 = 5;
/// Longest run that is repeated, added or taken away.
const RUN_BYTES: u64 = 40;
/// Numbers from which something follows.
const EXTREMES: [&[u8]; 6] =
    [&[0; 4], &[0xFF; 4], &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F], &[0x80; 3], &[0xFF; 9], &[1]];

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }
}

/// Changes a copy of valid bytes, or makes noise.
pub(crate) fn mutated(valid: &[u8], random: &mut Random) -> Vec<u8> {
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
    match random.below(9) {
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
        5 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = byte.wrapping_add(random.below(3) as u8).wrapping_sub(1);
            }
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}

fn noise(length: u64, random: &mut Random) -> Vec<u8> {
    (0..length).map(|_| random.bits() as u8).collect()
}
