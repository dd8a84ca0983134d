//! A disk whose syncs wait at a gate, and may fail behind it.

use std::{
    io,
    sync::{Arc, Condvar, Mutex},
};

use crate::journal::{Disk, DiskFile};

/// What the next syncs do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    Pass,
    Wait,
    Fail,
}

/// The gate's keeper; syncs pass once it is gone, so that a failed test ends.
#[derive(Debug)]
pub(crate) struct Gate {
    state: State,
}

type State = Arc<(Mutex<Sync>, Condvar)>;

#[derive(Debug)]
pub(crate) struct GatedDisk<D> {
    disk: D,
    state: State,
}

#[derive(Debug)]
struct GatedFile {
    file: Arc<dyn DiskFile>,
    state: State,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { state: Arc::new((Mutex::new(Sync::Pass), Condvar::new())) }
    }

    pub(crate) fn set(&self, sync: Sync) {
        *self.state.0.lock().expect("no test panics in here") = sync;
        self.state.1.notify_all();
    }

    pub(crate) fn before<D: Disk>(&self, disk: D) -> GatedDisk<D> {
        GatedDisk { disk, state: Arc::clone(&self.state) }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.set(Sync::Pass);
    }
}

impl<D: Disk> GatedDisk<D> {
    fn gated(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(GatedFile { file, state: Arc::clone(&self.state) })
    }
}

impl<D: Disk> Disk for GatedDisk<D> {
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name).map(|file| self.gated(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(name).map(|file| self.gated(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.disk.sync_folder(folder)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl DiskFile for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_at(buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_at(bytes, at)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.file.allocate(length)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }

    fn sync(&self) -> io::Result<()> {
        let mut sync = self.state.0.lock().expect("no test panics in here");
        while *sync == Sync::Wait {
            sync = self.state.1.wait(sync).expect("no test panics in here");
        }
        if *sync == Sync::Fail {
            return Err(io::Error::other("planted"));
        }
        drop(sync);
        self.file.sync()
    }
}
