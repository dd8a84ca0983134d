//! A disk with some files away and some bytes changed, so that what a repair would do can be looked at before it is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use crate::journal::{Disk, DiskFile};

/// The disk behind it is only read.
#[derive(Debug)]
pub(super) struct Overlay<'a> {
    disk: &'a dyn Disk,
    /// Files that are not there.
    pub(super) away: BTreeSet<String>,
    /// What stands at the start of files.
    pub(super) heads: BTreeMap<String, Vec<u8>>,
}

impl<'a> Overlay<'a> {
    pub(super) fn new(disk: &'a dyn Disk) -> Self {
        Self { disk, away: BTreeSet::new(), heads: BTreeMap::new() }
    }
}

impl Disk for Overlay<'_> {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = self.disk.list(folder)?;
        names.retain(|name| !self.away.contains(&format!("{folder}/{name}")));
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        if self.away.contains(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = self.disk.open(name)?;
        Ok(match self.heads.get(name) {
            Some(head) => Arc::new(Headed { file, head: head.clone() }),
            None => file,
        })
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
        self.disk.free_bytes()
    }
}

/// A file with another start.
#[derive(Debug)]
struct Headed {
    file: Arc<dyn DiskFile>,
    head: Vec<u8>,
}

impl DiskFile for Headed {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let within = usize::try_from(at).ok().and_then(|at| self.head.get(at..));
        let Some(head) = within.filter(|head| !head.is_empty()) else {
            return self.file.read_at(buffer, at);
        };
        let count = head.len().min(buffer.len());
        let (front, rest) = buffer.split_at_mut(count);
        front.copy_from_slice(&head[..count]);
        if rest.is_empty() { Ok(()) } else { self.file.read_at(rest, at + count as u64) }
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
        let within = at < self.head.len() as u64;
        if within { Ok(Some(at)) } else { self.file.next_data(at) }
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "this folder is only looked at"))
}
