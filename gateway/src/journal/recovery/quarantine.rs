//! Copies what recovery cuts off, so that a person can look at it. Never in the way of opening.

use std::{io, sync::Arc};

use super::super::{
    Disk, DiskFile, Position,
    segment::{QUARANTINE_FOLDER, SEGMENT_FOLDER},
};

/// Copies kept; with more, something is wrong that another copy does not explain.
const MAX_COPIES: usize = 64;

/// Writes a copy of bytes that begin at a position; how many bytes of disk it took.
pub(super) fn copy(disk: &dyn Disk, position: Position, bytes: &[u8]) -> io::Result<u64> {
    if disk.list(QUARANTINE_FOLDER)?.len() >= MAX_COPIES {
        return Err(io::Error::other(format!(
            "{QUARANTINE_FOLDER}/ already holds {MAX_COPIES} files"
        )));
    }
    let name = format!("{QUARANTINE_FOLDER}/{:016x}.torn", position.0);
    // An opening that was interrupted may have left one.
    let file: Arc<dyn DiskFile> = match disk.open(&name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(&name)?,
        Err(error) => return Err(error),
    };
    file.write_at(bytes, 0)?;
    file.sync()?;
    disk.sync_folder(QUARANTINE_FOLDER)?;
    Ok(bytes.len() as u64)
}

/// Moves a whole segment file out of the way.
pub(super) fn set_aside(disk: &dyn Disk, name: &str) -> io::Result<()> {
    let base = name.rsplit('/').next().unwrap_or(name);
    disk.rename(name, &format!("{QUARANTINE_FOLDER}/{base}"))?;
    disk.sync_folder(QUARANTINE_FOLDER)?;
    disk.sync_folder(SEGMENT_FOLDER)
}
