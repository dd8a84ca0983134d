//! Where it is measured: a folder, its block device, and how busy the machine is.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{major, minor, sync};
use tempfile::TempDir;

/// A place for measurements.
#[derive(Debug)]
pub(crate) struct Bed {
    folder: PathBuf,
    pub(crate) quick: bool,
}

const SECTOR_BYTES: u64 = 512;

impl Bed {
    pub(crate) fn new(folder: &Path, quick: bool) -> Self {
        fs::create_dir_all(folder).unwrap();
        Self { folder: folder.into(), quick }
    }

    /// One of two, for short and for whole runs.
    pub(crate) fn pick<T>(&self, quick: T, whole: T) -> T {
        if self.quick { quick } else { whole }
    }

    /// An empty folder.
    pub(crate) fn empty(&self) -> TempDir {
        tempfile::tempdir_in(&self.folder).unwrap()
    }

    pub(crate) fn describe(&self) {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
        let device = self.device().unwrap_or_else(|| "no block device of its own".into());
        println!("{} on {device}; load average {load}", self.folder.display());
    }

    /// Bytes that the block device has written so far, everybody's; none if there is no such counter.
    pub(crate) fn medium_bytes(&self) -> Option<u64> {
        // What others left in the page cache is theirs, and is written before.
        sync();
        let stat = fs::read_to_string(format!("{}/stat", self.device()?)).ok()?;
        let sectors: u64 = stat.split_whitespace().nth(6)?.parse().ok()?;
        Some(sectors * SECTOR_BYTES)
    }

    fn device(&self) -> Option<String> {
        let device = fs::metadata(&self.folder).ok()?.dev();
        let path = format!("/sys/dev/block/{}:{}", major(device), minor(device));
        Path::new(&path).exists().then_some(path)
    }

    /// Empties the page cache; whether that was possible.
    pub(crate) fn drop_caches() -> bool {
        sync();
        fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
    }

    /// This program in another process, with a mode of `child`.
    pub(crate) fn child(mode: &str, folder: &Path, numbers: &[u64]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--child").arg(mode).arg(folder);
        command.args(numbers.iter().map(u64::to_string));
        command
    }
}

/// "with the cache dropped", or that it was not.
pub(crate) fn cache(dropped: bool) -> &'static str {
    if dropped { "cache dropped" } else { "cache warm (dropping it needs root)" }
}

/// The middle one.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) const MIB: f64 = 1024.0 * 1024.0;
