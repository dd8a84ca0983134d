//! What an image takes of a chip: its ELF sections, sorted into flash and RAM.

use std::{fmt, fs, path::Path};

use anyhow::{Context, Result};
use object::{Object, ObjectSection, SectionFlags, elf};

/// The sections that exist on the chip.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    sections: Vec<Section>,
}

#[derive(Debug, PartialEq, Eq)]
struct Section {
    name: String,
    flash_bytes: u64,
    ram_bytes: u64,
}

impl Image {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&bytes).with_context(|| format!("{} is not an ELF image", path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut image = Self::default();
        for section in object::File::parse(bytes)?.sections() {
            let SectionFlags::Elf { sh_type, sh_flags } = section.flags() else { continue };
            if !sh_flags.contains(elf::SHF_ALLOC) || section.size() == 0 {
                continue;
            }
            let is_stored = sh_type != elf::SHT_NOBITS;
            let is_written = sh_flags.contains(elf::SHF_WRITE);
            image.sections.push(Section {
                name: section.name()?.to_owned(),
                flash_bytes: if is_stored { section.size() } else { 0 },
                ram_bytes: if is_written || !is_stored { section.size() } else { 0 },
            });
        }
        Ok(image)
    }

    pub(super) fn flash_bytes(&self) -> u64 {
        self.sections.iter().map(|section| section.flash_bytes).sum()
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:<20} {:>8} {:>8}", "section, bytes", "flash", "ram")?;
        for Section { name, flash_bytes, ram_bytes } in &self.sections {
            writeln!(f, "  {name:<20} {flash_bytes:>8} {ram_bytes:>8}")?;
        }
        let flash = self.flash_bytes();
        let ram: u64 = self.sections.iter().map(|section| section.ram_bytes).sum();
        write!(f, "  {:<20} {flash:>8} {ram:>8}", "in all, without stack")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_takes_flash_variables_take_ram_and_initial_values_take_both() {
        let image = Image::read(&std::env::current_exe().unwrap()).unwrap();
        for (name, flash, ram) in
            [(".text", true, false), (".data", true, true), (".bss", false, true)]
        {
            let section = image.sections.iter().find(|section| section.name == name).unwrap();
            assert_eq!((section.flash_bytes > 0, section.ram_bytes > 0), (flash, ram), "{name}");
        }
        assert!(!image.sections.iter().any(|section| section.name.starts_with(".debug")));
    }

    #[test]
    fn something_else_is_refused() {
        assert!(Image::parse(b"not an image").is_err());
    }
}
