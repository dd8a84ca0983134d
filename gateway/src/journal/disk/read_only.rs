//! A data folder for looking only: nothing is created, locked or changed, and every call that would is refused.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::FlockOperation;

use super::{
    Disk, DiskFile,
    real::{LOCK_NAME, list_files},
};

/// A data folder that is only read.
#[derive(Debug)]
pub struct ReadOnlyDisk {
    root: PathBuf,
}

impl ReadOnlyDisk {
    /// Does not look whether the folder is there.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Who has the folder open for writing, if somebody does, as far as it can be told.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        let mut lock = File::open(self.root.join(LOCK_NAME)).ok()?;
        let taken = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared);
        if taken != Err(rustix::io::Errno::WOULDBLOCK) {
            // Let go of at once, with the file: a gateway that starts now finds it free.
            return None;
        }
        let mut holder = String::new();
        let known = lock.by_ref().take(64).read_to_string(&mut holder).is_ok();
        Some(match holder.trim() {
            pid if known && !pid.is_empty() => format!("process {pid}"),
            _ => "another process".into(),
        })
    }
}

impl Disk for ReadOnlyDisk {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        list_files(&self.root.join(folder))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = File::open(self.root.join(name))?;
        Ok(Arc::new(ReadOnlyFile { file }))
    }

    fn create(&self, _: &str) -> io::Result<Arc<dyn DiskFile>> {
        refused()
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn sync_folder(&self, _: &str) -> io::Result<()> {
        refused()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        fs::metadata(&self.root).map(|_| 0)
    }
}

#[derive(Debug)]
struct ReadOnlyFile {
    file: File,
}

impl DiskFile for ReadOnlyFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        refused()
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn next_data(&self, at: u64) -> io::Result<Option<u64>> {
        super::real::next_data(&self.file, at)
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }

    fn forget_cached(&self, at: u64, length: u64) {
        super::real::forget_cached(&self.file, at, length);
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "this folder is only looked at"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::RealDisk;

    #[test]
    fn a_folder_is_seen_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let disk = ReadOnlyDisk::new(folder.path());
        assert_eq!(disk.list("journal").unwrap(), Vec::<String>::new());
        assert_eq!(disk.holder(), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "not even a lock");

        let real = RealDisk::open(folder.path()).unwrap();
        let file = real.create("journal/a").unwrap();
        file.write_at(b"abc", 0).unwrap();
        assert_eq!(disk.holder(), Some(format!("process {}", std::process::id())));
        assert_eq!(disk.list("journal").unwrap(), ["a"]);
        let seen = disk.open("journal/a").unwrap();
        let mut bytes = [0; 3];
        seen.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"abc");
        for refused in [
            seen.write_at(b"x", 0),
            seen.truncate(0),
            seen.allocate(9),
            disk.rename("journal/a", "journal/b"),
            disk.remove("journal/a"),
            disk.create("journal/b").map(drop),
        ] {
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
        drop(real);
        assert_eq!(disk.holder(), None);
        let again = RealDisk::open(folder.path());
        assert!(again.is_ok(), "to look who holds it holds nothing");
    }
}
