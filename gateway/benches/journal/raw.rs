//! The bare disk: pwrite and fdatasync on preallocated files, one after the other.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use headwater::journal::{Disk, RealDisk};

/// As the journal's largest segment.
const FILE_BYTES: u64 = 64 << 20;

/// Writes so many bytes a sync for a while; syncs a second.
pub(crate) fn syncs_per_s(folder: &Path, bytes: usize, life: Duration) -> f64 {
    let disk = RealDisk::open(folder).unwrap();
    let content = vec![0xa5; bytes];
    let (mut syncs, mut spent) = (0u64, Duration::ZERO);
    let mut number = 0;
    while spent < life {
        number += 1;
        let file = disk.create(&format!("raw/{number}")).unwrap();
        file.allocate(FILE_BYTES).unwrap();
        file.sync().unwrap();
        disk.sync_folder("raw").unwrap();
        let began = Instant::now();
        let mut at = 0;
        while at + bytes as u64 <= FILE_BYTES && spent + began.elapsed() < life {
            file.write_at(&content, at).unwrap();
            file.sync().unwrap();
            at += bytes as u64;
            syncs += 1;
        }
        spent += began.elapsed();
    }
    syncs as f64 / spent.as_secs_f64()
}
