//! UF2 files: blocks of 512 bytes that a boot loader takes as a drive and writes wherever each says
//! (<https://github.com/microsoft/uf2>).
//!
//! Only pages of the image are in the file, so whatever else is in flash stays.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use object::{LittleEndian, elf, read::elf::ElfFile32, read::elf::ProgramHeader};

use super::package::Package;

/// Builds the board's image and writes it as a .uf2 file beside its ELF file.
pub(super) fn write(package: &Package) -> Result<PathBuf> {
    let Some(family) = package.uf2_family else {
        bail!("{} does not take .uf2 files", package.name);
    };
    let elf = super::build(&package.name)?;
    let file = elf.with_extension("uf2");
    let pages = Pages::of_elf(&fs::read(&elf)?)?;
    fs::write(&file, pages.encode(family))?;
    Ok(file)
}

/// What is written to flash, by address.
#[derive(Debug, Default)]
struct Pages(BTreeMap<u32, [u8; PAGE]>);

impl Pages {
    /// All that an ELF image stores, at its load addresses.
    fn of_elf(bytes: &[u8]) -> Result<Self> {
        let file = ElfFile32::<LittleEndian>::parse(bytes).context("not an ELF image")?;
        let endian = LittleEndian;
        let mut pages = Self::default();
        for segment in file.elf_program_headers() {
            if segment.p_type(endian) == elf::PT_LOAD {
                let Ok(stored) = segment.data(endian, bytes) else { bail!("a segment is cut") };
                pages.put(segment.p_paddr(endian), stored);
            }
        }
        Ok(pages)
    }

    fn put(&mut self, address: u32, bytes: &[u8]) {
        for (at, byte) in (address..).zip(bytes) {
            let page = self.0.entry(at - at % PAGE as u32).or_insert([0; PAGE]);
            page[at as usize % PAGE] = *byte;
        }
    }

    fn encode(&self, family: u32) -> Vec<u8> {
        let count = self.0.len() as u32;
        let mut out = Vec::with_capacity(self.0.len() * BLOCK);
        for (number, (address, page)) in (0..).zip(&self.0) {
            let head =
                [MAGIC_1, MAGIC_2, FLAG_FAMILY, *address, PAGE as u32, number, count, family];
            out.extend(head.into_iter().flat_map(u32::to_le_bytes));
            out.extend(page);
            out.resize(out.len() + BLOCK - HEAD - PAGE - TAIL, 0);
            out.extend(MAGIC_END.to_le_bytes());
        }
        out
    }
}

/// Bytes of a block, of its head, of its end, and of what it has the boot ROM of the RP2040 write.
const BLOCK: usize = 512;
const HEAD: usize = 32;
const TAIL: usize = 4;
const PAGE: usize = 256;
/// `UF2\n`.
const MAGIC_1: u32 = 0x0A32_4655;
const MAGIC_2: u32 = 0x9E5D_5157;
const MAGIC_END: u32 = 0x0AB1_6F30;
/// The last word of the head names a chip family.
const FLAG_FAMILY: u32 = 0x2000;

#[cfg(test)]
mod tests {
    use super::*;

    const RP2040: u32 = 0xE48B_FF56;

    #[test]
    fn a_block_is_byte_for_byte_that_of_the_specification() {
        let mut pages = Pages::default();
        pages.put(0x1000_0000, &[1, 2, 3]);
        let file = pages.encode(RP2040);
        assert_eq!(file.len(), 512);
        let head = [
            b'U', b'F', b'2', b'\n', 0x57, 0x51, 0x5D, 0x9E, 0, 0x20, 0, 0, 0, 0, 0, 0x10, 0, 1, 0,
            0, 0, 0, 0, 0, 1, 0, 0, 0, 0x56, 0xFF, 0x8B, 0xE4,
        ];
        assert_eq!(file[..32], head);
        assert_eq!(file[32..35], [1, 2, 3]);
        assert!(file[35..508].iter().all(|byte| *byte == 0));
        assert_eq!(file[508..], [0x30, 0x6F, 0xB1, 0x0A]);
    }

    #[test]
    fn only_pages_with_bytes_are_written_and_all_know_the_count() {
        let mut pages = Pages::default();
        // The second stage of the boot loader, the image behind it, and something far away.
        pages.put(0x1000_0000, &[0xAA; 256]);
        pages.put(0x1000_0100, &[0xBB; 257]);
        pages.put(0x1001_0080, &[0xCC; 4]);
        let file = pages.encode(RP2040);
        let word = |block: &[u8], at: usize| {
            u32::from_le_bytes(block[at..at + 4].try_into().expect("4 bytes"))
        };
        let blocks: Vec<_> = file
            .chunks(512)
            .map(|block| (word(block, 12), word(block, 20), word(block, 24)))
            .collect();
        assert_eq!(
            blocks,
            [(0x1000_0000, 0, 4), (0x1000_0100, 1, 4), (0x1000_0200, 2, 4), (0x1001_0000, 3, 4)]
        );
        assert_eq!(file[3 * 512 + 32 + 0x80..][..4], [0xCC; 4]);
    }

    #[test]
    fn something_else_is_refused() {
        assert!(Pages::of_elf(b"not an image").is_err());
    }
}
