//! The bare disk in the minute of a run: what one write and sync takes, whoever the broker is.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;

const BLOCK: usize = 4096;
const FILE_BYTES: u64 = 16 << 20;
const SYNCS: usize = 1000;
const LONGEST: Duration = Duration::from_secs(5);

/// Median and 99th percentile, microseconds.
pub(super) fn sync_percentiles(folder: &Path) -> Result<(f64, f64)> {
    let file = File::create(folder.join("raw"))?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILE_BYTES)?;
    file.sync_all()?;
    let block = [0xa5; BLOCK];
    let began = Instant::now();
    let mut micros = Vec::new();
    for number in 0..SYNCS {
        let at = (number * BLOCK) as u64 % FILE_BYTES;
        let start = Instant::now();
        file.write_all_at(&block, at)?;
        file.sync_data()?;
        micros.push(start.elapsed().as_secs_f64() * 1e6);
        if began.elapsed() > LONGEST {
            break;
        }
    }
    micros.sort_by(f64::total_cmp);
    let at = |part: f64| micros[((micros.len() - 1) as f64 * part) as usize];
    Ok((at(0.5), at(0.99)))
}
