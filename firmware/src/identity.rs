//! The stream and the boot counter, kept so that a loss of power at any instant never repeats a
//! boot.
//!
//! Two slots are written in turn, each with a number and a CRC, so that the write under way can
//! only harm the older one. Bytes of a slot, little endian: magic u32, number u32, stream u64, boot
//! u32, 8 zero bytes, CRC-32C u32 of all before. What cannot be read is no identity at all: the
//! device then asks the gateway for a new stream instead of repeating positions of an old one.

use headwater_protocol::{StreamId, crc::crc32c};

use crate::nvm::Nvm;

/// Who this run of the device is: positions of one stream and boot are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The log that this memory continues.
    pub stream: StreamId,
    /// Counts starts under the stream, from 1.
    pub boot: u32,
}

/// Why an identity could not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SaveError<E> {
    /// The memory refused.
    Nvm(E),
    /// The memory said yes and reads back something else.
    Unproven,
    /// The memory has no room for two slots, or writes in units larger than
    /// [`IdentityStore::MAX_WRITE`].
    Unsuitable,
}

/// Where the next identity goes.
#[derive(Clone, Debug)]
pub struct IdentityStore {
    slot: u32,
    number: u32,
}

enum Slot {
    Valid { number: u32, identity: Identity },
    Blank,
    Damaged,
}

impl IdentityStore {
    /// Largest write unit of a memory, in bytes.
    pub const MAX_WRITE: u32 = 64;

    /// Reads the memory; the identity is the one for this start, its boot not used before and **not
    /// yet saved**: [`crate::Node`] asks for that with its first storage operation.
    ///
    /// `None` means no stream: blank, damaged or unreadable memory.
    pub fn open<N: Nvm>(nvm: &mut N) -> (Self, Option<Identity>) {
        let fresh = Self { slot: 0, number: 1 };
        // One slot that the bus does not give could be the newer one, so the other proves nothing.
        let (Some(first), Some(second)) = (read_slot(nvm, 0), read_slot(nvm, 1)) else {
            return (fresh, None);
        };
        let newest = |slot: u32, number: u32, identity: Identity, other_damaged: bool| {
            // A damaged other slot was either torn, or held the next boot before it decayed: skip
            // that one.
            let boot = identity.boot.saturating_add(if other_damaged { 2 } else { 1 });
            let store = Self { slot: 1 - slot, number: number.wrapping_add(1) };
            (store, Some(Identity { boot, ..identity }))
        };
        match (first, second) {
            (
                Slot::Valid { number: a, identity: of_a },
                Slot::Valid { number: b, identity: of_b },
            ) => {
                // Numbers are neighbours, so the difference tells the order also where they wrap.
                if a.wrapping_sub(b) < u32::MAX / 2 {
                    newest(0, a, of_a, false)
                } else {
                    newest(1, b, of_b, false)
                }
            }
            (Slot::Valid { number, identity }, other) => {
                newest(0, number, identity, matches!(other, Slot::Damaged))
            }
            (other, Slot::Valid { number, identity }) => {
                newest(1, number, identity, matches!(other, Slot::Damaged))
            }
            _ => (fresh, None),
        }
    }

    /// Writes `identity` and reads it back; when this returns `Ok` it is what the next start finds.
    pub fn save<N: Nvm>(
        &mut self,
        nvm: &mut N,
        identity: Identity,
    ) -> Result<(), SaveError<N::Error>> {
        let bytes = encode(self.number, identity);
        let sizes = nvm.sizes();
        let stride = stride(nvm);
        let (padded, Some(end)) = (round_up(SLOT as u32, sizes.write), stride.checked_mul(2))
        else {
            return Err(SaveError::Unsuitable);
        };
        let mut out = [0xFF; Self::MAX_WRITE as usize];
        let (Some(body), true) = (out.get_mut(..SLOT), end <= sizes.total) else {
            return Err(SaveError::Unsuitable);
        };
        body.copy_from_slice(&bytes);
        let Some(out) = out.get(..padded as usize) else {
            return Err(SaveError::Unsuitable);
        };
        let address = self.slot * stride;
        nvm.erase(address, stride).map_err(SaveError::Nvm)?;
        nvm.write(address, out).map_err(SaveError::Nvm)?;
        match read_slot(nvm, self.slot) {
            Some(Slot::Valid { number, identity: found })
                if number == self.number && found == identity => {}
            _ => return Err(SaveError::Unproven),
        }
        self.slot = 1 - self.slot;
        self.number = self.number.wrapping_add(1);
        Ok(())
    }
}

fn stride<N: Nvm>(nvm: &N) -> u32 {
    let sizes = nvm.sizes();
    round_up(round_up(SLOT as u32, sizes.write), sizes.erase)
}

/// `None` where the memory does not answer; tried again, since a bus may be disturbed at power-up.
fn read_slot<N: Nvm>(nvm: &mut N, slot: u32) -> Option<Slot> {
    let mut bytes = [0; SLOT];
    let address = slot * stride(nvm);
    (0..READ_TRIES).find_map(|_| nvm.read(address, &mut bytes).ok())?;
    Some(decode(&bytes))
}

fn encode(number: u32, identity: Identity) -> [u8; SLOT] {
    let mut bytes = [0; SLOT];
    let (body, crc) = bytes.split_at_mut(SLOT - 4);
    let fields = MAGIC
        .to_le_bytes()
        .into_iter()
        .chain(number.to_le_bytes())
        .chain(identity.stream.bits().to_le_bytes())
        .chain(identity.boot.to_le_bytes());
    for (to, from) in body.iter_mut().zip(fields) {
        *to = from;
    }
    crc.copy_from_slice(&crc32c(body).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; SLOT]) -> Slot {
    if bytes.iter().all(|byte| *byte == 0xFF) || bytes.iter().all(|byte| *byte == 0) {
        return Slot::Blank;
    }
    let (body, _) = bytes.split_at(SLOT - 4);
    let word = |index: usize| -> u32 {
        let word = bytes.as_chunks::<4>().0.get(index);
        word.map_or(0, |word| u32::from_le_bytes(*word))
    };
    let stream = StreamId::new(u64::from(word(2)) | u64::from(word(3)) << 32);
    match stream {
        Some(stream) if word(0) == MAGIC && word(7) == crc32c(body) => {
            Slot::Valid { number: word(1), identity: Identity { stream, boot: word(4) } }
        }
        _ => Slot::Damaged,
    }
}

const fn round_up(value: u32, unit: u32) -> u32 {
    match unit {
        0 | 1 => value,
        unit => value.div_ceil(unit).saturating_mul(unit),
    }
}

/// Bytes of a slot before padding to the memory's write unit.
const SLOT: usize = 32;
/// `HWid`, little endian.
const MAGIC: u32 = 0x6469_5748;
/// Times a slot is read before the memory counts as unreadable.
const READ_TRIES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvm::Sizes;
    use crate::testing::{Cut, TornMemory};

    fn identity(stream: u64, boot: u32) -> Identity {
        Identity { stream: StreamId::new(stream).expect("not 0"), boot }
    }

    const SHAPES: [Sizes; 3] = [
        Sizes::eeprom(8_192),
        Sizes { total: 2_048, erase: 1_024, write: 4 },
        Sizes { total: 8_192, erase: 4_096, write: 64 },
    ];

    #[test]
    fn blank_memory_has_no_stream_and_a_saved_one_counts_boots() {
        for sizes in SHAPES {
            let mut nvm = TornMemory::new(sizes);
            let (mut store, found) = IdentityStore::open(&mut nvm);
            assert_eq!(found, None);
            store.save(&mut nvm, identity(7, 1)).expect("saved");
            for boot in 2..20 {
                let (mut store, found) = IdentityStore::open(&mut nvm);
                assert_eq!(found, Some(identity(7, boot)), "{sizes:?}");
                store.save(&mut nvm, found.expect("just seen")).expect("saved");
            }
        }
    }

    #[test]
    fn a_cut_at_any_byte_never_repeats_a_boot_nor_loses_the_stream() {
        for sizes in SHAPES {
            for cut in 0..=2 * u64::from(sizes.erase.max(32)) + 64 {
                let mut nvm = TornMemory::new(sizes);
                let (mut store, _) = IdentityStore::open(&mut nvm);
                store.save(&mut nvm, identity(7, 1)).expect("saved");
                let mut last = 1;
                for round in 0..4 {
                    nvm.cut_after((round == 1).then_some(Cut { bytes: cut, garbage: 0xA5 }));
                    let (mut store, found) = IdentityStore::open(&mut nvm);
                    let found = found.expect("stream survives");
                    assert_eq!(found.stream.bits(), 7);
                    assert!(found.boot > last, "boot {} after {last}, cut {cut}", found.boot);
                    if store.save(&mut nvm, found).is_ok() {
                        last = found.boot;
                    }
                    nvm.cut_after(None);
                }
            }
        }
    }

    #[test]
    fn a_decayed_newest_slot_skips_the_boot_it_may_have_held() {
        let mut nvm = TornMemory::new(Sizes::eeprom(256));
        let (mut store, _) = IdentityStore::open(&mut nvm);
        for boot in 1..=5 {
            store.save(&mut nvm, identity(9, boot)).expect("saved");
        }
        // Boot 5 went to the first slot.
        nvm.bytes[17] ^= 0x40;
        let (_, found) = IdentityStore::open(&mut nvm);
        assert_eq!(found, Some(identity(9, 6)));
    }

    #[test]
    fn unreadable_or_too_small_memory_is_no_stream() {
        let mut nvm = TornMemory::new(Sizes::eeprom(256));
        let (mut store, _) = IdentityStore::open(&mut nvm);
        store.save(&mut nvm, identity(9, 3)).expect("saved");
        nvm.fail_reads = true;
        assert_eq!(IdentityStore::open(&mut nvm).1, None);

        let mut small = TornMemory::new(Sizes::eeprom(63));
        let (mut store, found) = IdentityStore::open(&mut small);
        assert_eq!(found, None);
        let saved = store.save(&mut small, identity(9, 3));
        assert_eq!(saved, Err(SaveError::Unsuitable));
    }

    #[test]
    fn the_slot_bytes_are_as_documented() {
        let bytes = encode(3, identity(0x0102_0304_0506_0708, 9));
        assert_eq!(
            bytes[..28],
            [
                b'H', b'W', b'i', b'd', 3, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0,
                0, 0, 0, 0
            ]
        );
        assert_eq!(bytes[28..], crc32c(&bytes[..28]).to_le_bytes());
    }
}
