//! The machine's file system, through std and rustix.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{Advice, FallocateFlags, FlockOperation, SeekFrom};

use super::{Disk, DiskFile, Medium, direct::Direct};

/// Name of the locked file.
pub(super) const LOCK_NAME: &str = "lock";
/// Data is its owner's alone.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// Zeros written at once where a file system cannot reserve space.
const ZERO_CHUNK_BYTES: usize = 256 * 1024;

/// A data folder of this machine, locked against other processes while it exists.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    /// Whether large pieces go past the page cache. Not on a card: it reads so slowly that what was just written
    /// is better kept in memory for its readers, and it writes so slowly that the copy does not count.
    is_direct: bool,
    /// Held for its lock.
    _lock: File,
}

/// Why a data folder could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process has it.
    #[error("data folder {} is in use by {holder}: stop it, or set storage.path", .folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// Who holds it, as far as it can be told.
        holder: String,
    },
    /// It could not be created or opened.
    #[error("data folder {}: {error}", .folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// The error.
        error: io::Error,
    },
}

impl RealDisk {
    /// Creates the folder if it is not there, and locks it.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, LockError> {
        let root = root.into();
        let failed = |error| LockError::Io { folder: root.clone(), error };
        create_folder(&root).map_err(failed)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(root.join(LOCK_NAME))
            .map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let known = (&lock).take(64).read_to_string(&mut holder).is_ok();
                let holder = match holder.trim() {
                    pid if known && !pid.is_empty() => format!("process {pid}"),
                    _ => "another process".into(),
                };
                return Err(LockError::InUse { folder: root, holder });
            }
            Err(error) => return Err(failed(error.into())),
        }
        // Only for the message above: what holds the folder is the lock, not the text.
        let noted = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        if let Err(error) = noted {
            tracing::debug!(%error, "could not note the process id in the lock file");
        }
        let is_direct = medium_of(&root) != Medium::Card;
        Ok(Self { root, is_direct, _lock: lock })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn ensure_folder_of(&self, name: &str) -> io::Result<()> {
        match self.path(name).parent() {
            Some(folder) if folder != self.root => create_folder(folder),
            _ => Ok(()),
        }
    }
}

/// Creates a folder, and makes its name durable: a file synced in a folder that is lost is lost.
fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_folder(parent)?;
    }
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, FOLDER_MODE);
    match builder.create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        result => result?,
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Names of the files in a folder; none if there is no such folder.
pub(super) fn list_files(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Where the file may hold anything but zeros. Moves the file's own offset, which nothing here uses.
pub(super) fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(next) => Ok(Some(next.max(at))),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => Ok(Some(at)),
        Err(error) => Err(error.into()),
    }
}

/// Takes a range out of the page cache, as far as it is clean.
pub(super) fn forget_cached(file: &File, at: u64, length: u64) {
    let Some(length) = std::num::NonZeroU64::new(length) else { return };
    if let Err(error) = rustix::fs::fadvise(file, at, Some(length), Advice::DontNeed) {
        tracing::debug!(%error, "the page cache keeps what was read in passing");
    }
}

impl Disk for RealDisk {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        list_files(&self.path(folder))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(name))?;
        Ok(Arc::new(RealFile { file, direct: Direct::new(self.is_direct) }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.ensure_folder_of(name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(self.path(name))?;
        Ok(Arc::new(RealFile { file, direct: Direct::new(self.is_direct) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.ensure_folder_of(to)?;
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        File::open(self.path(folder))?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn medium(&self) -> Medium {
        medium_of(&self.root)
    }
}

fn medium_of(folder: &Path) -> Medium {
    let Ok(metadata) = fs::metadata(folder) else {
        return Medium::Ssd;
    };
    let device = metadata.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    // The link names the whole path of devices: .../mmc0:0001/block/mmcblk0/mmcblk0p2
    match fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")) {
        Ok(path) if path.to_string_lossy().contains("mmcblk") => Medium::Card,
        _ => Medium::Ssd,
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    direct: Direct,
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let known = self.direct.read(&self.file, buffer, at)?;
        let rest = buffer.get_mut(known..).unwrap_or_default();
        self.file.read_exact_at(rest, at + known as u64)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.direct.write(&self.file, bytes, at)? {
            return Ok(());
        }
        self.file.write_all_at(bytes, at)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, length) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                self.allocate_by_writing(length)
            }
            result => Ok(result?),
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn next_data(&self, at: u64) -> io::Result<Option<u64>> {
        next_data(&self.file, at)
    }

    fn forget_cached(&self, at: u64, length: u64) {
        forget_cached(&self.file, at, length);
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl RealFile {
    fn allocate_by_writing(&self, length: u64) -> io::Result<()> {
        let zeros = vec![0; ZERO_CHUNK_BYTES];
        let mut at = self.len()?;
        while at < length {
            let count = (length - at).min(ZERO_CHUNK_BYTES as u64);
            let count = usize::try_from(count).unwrap_or(ZERO_CHUNK_BYTES);
            self.file.write_all_at(&zeros[..count], at)?;
            at += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::aligned;

    #[test]
    fn reserved_space_reads_as_zeros_and_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path().join("deep/er")).unwrap();
        let file = disk.create("journal/a").unwrap();
        file.allocate(1 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        file.write_at(&[7; 4096], 512 * 1024).unwrap();
        file.sync().unwrap();
        disk.sync_folder("journal").unwrap();
        let mut block = [1; 4096];
        file.read_at(&mut block, 256 * 1024).unwrap();
        assert_eq!(block, [0; 4096]);
        let next = file.next_data(0).unwrap().unwrap();
        assert!(next <= 512 * 1024, "{next}");
        assert_eq!(file.next_data(512 * 1024).unwrap(), Some(512 * 1024));
        let past_the_end = file.read_at(&mut block, (1 << 20) - 4095).unwrap_err();
        assert_eq!(past_the_end.kind(), io::ErrorKind::UnexpectedEof);

        file.truncate(4096).unwrap();
        assert_eq!(file.len().unwrap(), 4096);
        assert_eq!(file.next_data(4096).unwrap().unwrap_or(4096), 4096);
    }

    #[test]
    fn what_goes_past_the_page_cache_is_the_same_file() {
        // Not a temporary folder, which may be memory.
        let program = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        let file = disk.create("a").unwrap();
        let length = 3 * 1024 * 1024;
        file.allocate(length as u64).unwrap();
        let mut memory = Vec::new();
        let origin = aligned(&mut memory, length);
        memory.extend((0..length).map(|n| (n / 4096 + n) as u8));
        let content = &memory[origin..];
        // Large and small, on whole blocks and not, one beside and over the other.
        let mib = 1024 * 1024;
        for (from, to) in
            [(0, mib), (mib, mib + 4096), (mib + 4096, 2 * mib), (2 * mib - 5, length)]
        {
            file.write_at(&content[from..to], from as u64).unwrap();
        }
        file.write_at(&content[4096..mib], 4096).unwrap();
        file.sync().unwrap();
        for cached in [true, false] {
            for (from, to) in [(0, length), (4096, mib), (0, mib + 1), (4096, length - 1), (7, mib)]
            {
                if !cached {
                    file.forget_cached(0, length as u64);
                    // A part of it is in memory again.
                    file.read_at(&mut [0; 4096], (from / 4096 * 4096) as u64).unwrap();
                }
                let mut memory = Vec::new();
                let origin = aligned(&mut memory, to - from);
                memory.resize(origin + to - from, 0);
                file.read_at(&mut memory[origin..], from as u64).unwrap();
                assert!(memory[origin..] == content[from..to], "{cached} {from} {to}");
            }
        }
        let mut memory = Vec::new();
        let origin = aligned(&mut memory, mib);
        memory.resize(origin + mib, 0);
        let past = file.read_at(&mut memory[origin..], (length - 4096) as u64).unwrap_err();
        assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn names_are_created_listed_renamed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        assert_eq!(disk.list("journal").unwrap(), Vec::<String>::new());
        disk.create("journal/b").unwrap();
        disk.create("journal/a").unwrap();
        let again = disk.create("journal/a").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.list("journal").unwrap(), ["a", "b"]);
        disk.rename("journal/a", "quarantine/a").unwrap();
        disk.remove("journal/b").unwrap();
        assert_eq!(disk.list("journal").unwrap(), Vec::<String>::new());
        assert_eq!(disk.list("quarantine").unwrap(), ["a"]);
        assert_eq!(disk.open("journal/a").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(disk.free_bytes().unwrap() > 0);
    }

    #[test]
    fn files_are_their_owner_s_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        let disk = RealDisk::open(&root).unwrap();
        disk.create("journal/a").unwrap();
        let mode = |name: &str| fs::metadata(root.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            [mode(""), mode("journal"), mode("journal/a"), mode("lock")],
            [0o700, 0o700, 0o600, 0o600]
        );
    }
}
