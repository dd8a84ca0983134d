//! The only code of the journal that touches files.
//!
//! [`Disk`] and [`DiskFile`] are what the journal needs of a file system and no more, so that tests can model
//! every fault of one. [`RealDisk`] is the machine's.

mod direct;
mod read_only;
mod real;

use std::{fmt, io, sync::Arc};

pub(super) use direct::aligned;
pub use read_only::ReadOnlyDisk;
pub use real::{LockError, RealDisk};

/// A folder tree. Names are relative, with `/` between folders.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Names of the files in a folder (without the folder's own); empty if there is no such folder.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a file that does not exist yet, and its folder. Not durable before [`Disk::sync_folder`].
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file over any existing one, creating the target's folder.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the entries of a folder durable.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
    /// Bytes that could still be written.
    fn free_bytes(&self) -> io::Result<u64>;
    /// What the folder is on.
    fn medium(&self) -> Medium {
        Medium::Ssd
    }
}

/// An open file.
#[expect(clippy::len_without_is_empty, reason = "a file's length, not a collection's")]
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Fills the buffer from a place in the file; an error if the file ends before.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all of the buffer at a place in the file.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Reserves space up to a length; what was not written reads as zero.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Cuts the file off at a length.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// The next place at or after this one that may hold anything but zeros; none if only zeros
    /// follow. A shortcut past space that was reserved and never written; to know of none is right.
    fn next_data(&self, at: u64) -> io::Result<Option<u64>> {
        Ok(Some(at))
    }
    /// Lets the system forget what it keeps in memory of a range that was only read in passing: a hint.
    fn forget_cached(&self, _at: u64, _length: u64) {}
    /// Makes content and length durable. After an error nothing may be assumed: never call it again.
    fn sync(&self) -> io::Result<()>;
}

/// What a disk is, as far as the journal behaves differently on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Everything but cards.
    Ssd,
    /// SD card or eMMC.
    Card,
}

impl<D: Disk + ?Sized> Disk for Arc<D> {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        (**self).list(folder)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        (**self).open(name)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        (**self).create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        (**self).rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        (**self).remove(name)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        (**self).sync_folder(folder)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        (**self).free_bytes()
    }

    fn medium(&self) -> Medium {
        (**self).medium()
    }
}
