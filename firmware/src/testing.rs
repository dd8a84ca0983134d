//! A memory for tests that loses power in the middle of an operation.

use std::vec::Vec;

use crate::nvm::{Nvm, Sizes};

/// Where the power goes: after so many bytes were written or erased, the rest of that operation's
/// range reads `garbage`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) bytes: u64,
    pub(crate) garbage: u8,
}

/// Memory whose operations can be cut at any byte; without power every operation fails.
#[derive(Debug)]
pub(crate) struct TornMemory {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fail_reads: bool,
    sizes: Sizes,
    cut: Option<Cut>,
    dead: bool,
}

impl TornMemory {
    pub(crate) fn new(sizes: Sizes) -> Self {
        let bytes = std::vec![0xFF; sizes.total as usize];
        Self { bytes, fail_reads: false, sizes, cut: None, dead: false }
    }

    /// Plans the next cut; also switches the power on again.
    pub(crate) fn cut_after(&mut self, cut: Option<Cut>) {
        self.cut = cut;
        self.dead = false;
    }

    fn change(&mut self, address: u32, source: &mut dyn FnMut(usize) -> u8, length: usize) -> bool {
        if self.dead {
            return false;
        }
        let range = &mut self.bytes[address as usize..][..length];
        for (index, byte) in range.iter_mut().enumerate() {
            if let Some(cut) = &mut self.cut {
                if cut.bytes == 0 {
                    *byte ^= cut.garbage;
                    self.dead = true;
                    continue;
                }
                cut.bytes -= 1;
            }
            *byte = source(index);
        }
        !self.dead
    }
}

impl Nvm for TornMemory {
    type Error = ();

    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), ()> {
        let end = address as usize + out.len();
        let from = self.bytes.get(address as usize..end).ok_or(())?;
        if self.dead || self.fail_reads {
            return Err(());
        }
        out.copy_from_slice(from);
        Ok(())
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), ()> {
        assert!(address.is_multiple_of(self.sizes.write));
        assert!((bytes.len() as u32).is_multiple_of(self.sizes.write));
        let done = self.change(address, &mut |index| bytes[index], bytes.len());
        done.then_some(()).ok_or(())
    }

    fn erase(&mut self, address: u32, length: u32) -> Result<(), ()> {
        assert!(
            address.is_multiple_of(self.sizes.erase) && length.is_multiple_of(self.sizes.erase)
        );
        if self.sizes.erase == 1 {
            return Ok(());
        }
        let done = self.change(address, &mut |_| 0xFF, length as usize);
        done.then_some(()).ok_or(())
    }
}
