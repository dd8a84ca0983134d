//! Non-volatile memory as the firmware sees it: bytes at addresses, erased in units, written in
//! units.
//!
//! An EEPROM or FRAM is the simple case (erase is a no-op, every byte can be written); NOR flash
//! sets [`Sizes::erase`] and [`Sizes::write`]. Nothing here knows what is stored.

/// Shape of a memory, all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes in all.
    pub total: u32,
    /// Smallest range that can be erased, a divisor of `total`; 1 where writing needs no erase.
    pub erase: u32,
    /// Alignment and granularity of writes: 1 for EEPROM, 4 or 8 for most flash.
    pub write: u32,
}

impl Sizes {
    /// An EEPROM or FRAM of so many bytes: no erase, byte writes.
    #[must_use]
    pub const fn eeprom(total: u32) -> Self {
        Self { total, erase: 1, write: 1 }
    }
}

/// A memory that keeps its bytes without power.
///
/// When a method returns `Ok` the operation has finished: a later loss of power leaves it in place.
/// A write or erase that was cut may leave anything in the range it was given, nothing outside of
/// it.
pub trait Nvm {
    /// What can go wrong below (a missing acknowledge on the bus, a flash controller's refusal).
    type Error: core::fmt::Debug;

    /// Shape of the memory; constant.
    fn sizes(&self) -> Sizes;

    /// Fills `out` from `address` on.
    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes `bytes` at `address`; both ends are multiples of [`Sizes::write`], the range is
    /// erased.
    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Makes `length` bytes from `address` writable again; both ends are multiples of
    /// [`Sizes::erase`]. A memory that needs no erase keeps the default, which does nothing.
    fn erase(&mut self, address: u32, length: u32) -> Result<(), Self::Error> {
        let _ = (address, length);
        Ok(())
    }
}

impl<N: Nvm + ?Sized> Nvm for &mut N {
    type Error = N::Error;

    fn sizes(&self) -> Sizes {
        (**self).sizes()
    }

    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), Self::Error> {
        (**self).read(address, out)
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        (**self).write(address, bytes)
    }

    fn erase(&mut self, address: u32, length: u32) -> Result<(), Self::Error> {
        (**self).erase(address, length)
    }
}
