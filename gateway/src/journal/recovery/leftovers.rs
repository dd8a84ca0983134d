//! What is no longer needed once the next segment is durable; no error here keeps the journal from opening.

use std::sync::Arc;

use super::{
    super::{
        Disk, Position,
        preparer::Preparer,
        segment::{COLD_FOLDER, Prepared, SEGMENT_FOLDER, Segment, Spare, segment_name},
    },
    quarantine,
};

/// Files to remove, move and cut.
#[derive(Debug, Default)]
pub(in crate::journal) struct Leftovers {
    /// Files without any address that is part of the log.
    pub(super) dead: Vec<DeadFile>,
    /// Cold segments that no fact ever named, the last frame's included.
    pub(super) unswitched: Vec<DeadFile>,
    /// Segments below the hot start, to be used again, with the numbers of their names.
    pub(super) retired: Vec<(u64, Spare)>,
    /// Copies and unreadable files, for quarantine.
    pub(super) misfits: Vec<String>,
    /// Segments, and where the log in them ends: the space behind is given back if it is worth it.
    pub(super) trim: Vec<(Arc<Segment>, Position)>,
    /// The last segment, and where it holds nothing any more, not even what is void.
    pub(super) unused: Option<(Arc<Segment>, Position)>,
}

/// A file to remove.
#[derive(Debug)]
pub(super) struct DeadFile {
    pub(super) name: String,
    pub(super) length: u64,
}

/// A smaller rest of a segment is left: what a roll leaves behind is the normal case.
const WORTH_TRIMMING_SHARE: u64 = 4;

impl Leftovers {
    /// Adds a file that turned out to be of no use.
    pub(in crate::journal) fn extend(&mut self, unused: Option<Prepared>) {
        self.dead.extend(
            unused.map(|unused| DeadFile {
                name: segment_name(unused.sequence),
                length: unused.length,
            }),
        );
    }

    /// Adds a spare that turned out to be of no use.
    pub(in crate::journal) fn discard(&mut self, unused: Option<Spare>) {
        self.dead.extend(unused.map(|Spare { name, length, .. }| DeadFile { name, length }));
    }

    /// Hands over what can be used again.
    pub(in crate::journal) fn recycle(self, preparer: &Preparer) {
        for (number, retired) in self.retired {
            let name = retired.name.clone();
            if let Err(error) = preparer.recycle(retired, number) {
                tracing::warn!(%error, file = name, "could not make it a spare");
            }
        }
    }

    /// Cuts the last segment off behind its last frame; how many bytes that freed.
    pub(in crate::journal) fn give_back_unused(&mut self) -> u64 {
        self.unused.take().map_or(0, |(segment, end)| trim(&segment, end))
    }

    /// Removes what no state ever knew; how many bytes that freed.
    pub(in crate::journal) fn give_back_unswitched(&mut self, disk: &dyn Disk) -> u64 {
        self.unswitched.drain(..).map(|dead| remove(disk, &dead)).sum()
    }

    /// Cleans up; how many bytes that freed.
    pub(in crate::journal) fn clean_up(&self, disk: &dyn Disk) -> u64 {
        for name in &self.misfits {
            if let Err(error) = quarantine::set_aside(disk, name) {
                tracing::warn!(%error, file = name, "could not move to quarantine");
            }
        }
        let trimmed: u64 = self.trim.iter().map(|(segment, cut)| trim(segment, *cut)).sum();
        let dead = self.dead.iter().chain(&self.unswitched);
        let removed: u64 = dead.map(|dead| remove(disk, dead)).sum();
        if removed > 0
            && let Err(error) = disk.sync_folder(SEGMENT_FOLDER)
        {
            tracing::warn!(%error, "could not sync the journal folder after removing files");
        }
        let is_cold = |dead: &DeadFile| dead.name.starts_with(COLD_FOLDER);
        if self.dead.iter().chain(&self.unswitched).any(is_cold)
            && let Err(error) = disk.sync_folder(COLD_FOLDER)
        {
            tracing::warn!(%error, "could not sync the cold folder after removing files");
        }
        trimmed + removed
    }
}

fn trim(segment: &Segment, cut: Position) -> u64 {
    let keep = segment.at(cut);
    let trimmed = segment.file.len().and_then(|length| {
        let spare = length.saturating_sub(keep);
        if spare <= length / WORTH_TRIMMING_SHARE {
            return Ok(0);
        }
        segment.file.truncate(keep)?;
        Ok(spare)
    });
    trimmed.unwrap_or_else(|error| {
        let sequence = segment.header.sequence;
        tracing::warn!(%error, segment = sequence, "could not give back the unused end");
        0
    })
}

fn remove(disk: &dyn Disk, dead: &DeadFile) -> u64 {
    match disk.remove(&dead.name) {
        Ok(()) => {
            tracing::info!(file = dead.name, length = dead.length, "removed: not part of the log");
            dead.length
        }
        Err(error) => {
            tracing::warn!(%error, file = dead.name, "could not remove a file that is not needed");
            0
        }
    }
}
