//! Segment files: names, and the open ones.

use std::sync::Arc;

use super::{DiskFile, Position, format::SegmentHeader};

/// Folder of the segments in the data folder.
pub(super) const SEGMENT_FOLDER: &str = "journal";
/// Folder of the cold segments.
pub(super) const COLD_FOLDER: &str = "cold";
/// Folder of what recovery set aside.
pub(super) const QUARANTINE_FOLDER: &str = "quarantine";

const SUFFIX: &str = ".seg";
const COLD_SUFFIX: &str = ".cold";
const SPARE_PREFIX: &str = "spare-";

/// A segment that readers can use.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) header: SegmentHeader,
}

/// A file with space and a durable name, but no header yet.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) sequence: u64,
    pub(super) length: u64,
}

/// A file with space that is not in use and has no segment's name.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) file: Arc<dyn DiskFile>,
    /// Within the data folder.
    pub(super) name: String,
    pub(super) length: u64,
}

impl Segment {
    /// Name of its file within the data folder, unless somebody renamed it.
    pub(super) fn file_name(&self) -> String {
        let SegmentHeader { sequence, first, .. } = self.header;
        if first.is_cold() { cold_name(sequence) } else { segment_name(sequence) }
    }

    /// Place in the file of a journal position.
    pub(super) fn at(&self, position: Position) -> u64 {
        position.0 - self.header.first.0
    }
}

/// Name of a segment's file within the data folder. Only a hint: the header decides.
pub(super) fn segment_name(sequence: u64) -> String {
    format!("{SEGMENT_FOLDER}/{sequence:016x}{SUFFIX}")
}

/// Name of a file that is no longer in use; its sequence is that of its last name.
pub(super) fn spare_name(sequence: u64) -> String {
    format!("{SEGMENT_FOLDER}/{SPARE_PREFIX}{sequence:016x}")
}

/// Name of a cold segment's file within the data folder.
pub(super) fn cold_name(sequence: u64) -> String {
    format!("{COLD_FOLDER}/{sequence:016x}{COLD_SUFFIX}")
}

/// The sequence in a file name (without its folder), if it is one of a cold segment.
pub(super) fn cold_sequence_of(name: &str) -> Option<u64> {
    sequence_in(name, COLD_SUFFIX)
}

/// The sequence in a file name (without its folder), if it is one of a segment.
pub(super) fn sequence_of(name: &str) -> Option<u64> {
    sequence_in(name, SUFFIX)
}

/// The number in a file name (without its folder), if it is one of a spare.
pub(super) fn spare_number_of(name: &str) -> Option<u64> {
    number(name.strip_prefix(SPARE_PREFIX)?)
}

/// The sequence that a file name consists of, but for its end.
pub(super) fn sequence_in(name: &str, suffix: &str) -> Option<u64> {
    number(name.strip_suffix(suffix)?)
}

fn number(digits: &str) -> Option<u64> {
    let canonical = digits.len() == 16 && digits.bytes().all(|byte| !byte.is_ascii_uppercase());
    if canonical { u64::from_str_radix(digits, 16).ok() } else { None }
}
