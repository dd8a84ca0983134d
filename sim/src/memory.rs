//! A device's non-volatile memory as a file, so that a fleet started again is the same devices.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use headwater_firmware::nvm::{Nvm, Sizes};

/// An EEPROM on a file. What was written outlives the process, not a crash of the machine below it.
#[derive(Debug)]
pub struct FileMemory {
    file: File,
}

impl FileMemory {
    /// Opens the file, or makes one that reads as erased.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let len = file.metadata()?.len();
        if len < u64::from(BYTES) {
            let erased = [0xFF; BYTES as usize];
            file.write_all_at(&erased[len as usize..], len)?;
        }
        Ok(Self { file })
    }
}

impl Nvm for FileMemory {
    type Error = io::Error;

    fn sizes(&self) -> Sizes {
        Sizes::eeprom(BYTES)
    }

    fn read(&mut self, address: u32, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, address.into())
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, address.into())
    }
}

/// Size of the memory: identity slots and room for more.
const BYTES: u32 = 256;
