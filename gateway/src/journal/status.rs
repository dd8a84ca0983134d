//! Numbers for health, metrics and the page.

use super::Position;

/// A moment of the journal.
#[derive(Clone, Debug, Default)]
pub struct JournalStatus {
    /// Bytes of the data folder in use.
    pub used_bytes: u64,
    /// `storage.max_bytes`.
    pub max_bytes: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Cold segments of the log.
    pub cold_segments: u64,
    /// Segments that were cleaned since start, cold ones included.
    pub cleaned_segments: u64,
    /// Bytes of batches that cleaning copied since start.
    pub cleaner_copied_bytes: u64,
    /// Segments that left the log since start.
    pub retired_segments: u64,
    /// Segments that left the log and wait for readers to let go of them.
    pub pinned_segments: u64,
    /// Frames made durable since start.
    pub frames: u64,
    /// Bytes written since start, padding included.
    pub written_bytes: u64,
    /// Median of the recent fdatasync calls, microseconds.
    pub sync_p50_us: u64,
    /// 99th percentile of the recent fdatasync calls, microseconds.
    pub sync_p99_us: u64,
    /// Bytes of log that the next start scans, were the process killed now.
    pub unindexed_bytes: u64,
    /// Reads since start that were answered with an error because of damage.
    pub damaged_reads: u64,
    /// Offsets that readers were taken past since start because of damage, where the topic's settings say so.
    pub skipped_offsets: u64,
    /// Ranges of damage known, found at the opening or since, that nobody has accepted.
    pub open_damage: u64,
    /// Bytes of them.
    pub open_damage_bytes: u64,
    /// What the background scrub did since start.
    pub scrub: ScrubStatus,
    /// Index files that could not be written since start: their segments are scanned at the next one.
    pub index_errors: u64,
    /// Index files that turned out to be damaged since start, when something was looked up.
    pub index_damaged: u64,
    /// Memory of the last frames.
    pub tail_bytes: u64,
    /// Memory of the indexes of segments that are not in use.
    pub index_cache_bytes: u64,
    /// Aborted ranges of transactions in memory.
    pub aborted_ranges: u64,
    /// Why nothing is accepted any more, if so.
    pub poisoned: Option<String>,
    /// What the last opening found.
    pub recovery: RecoveryReport,
}

/// A range of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// First byte.
    pub position: Position,
    /// Bytes.
    pub length: u64,
}

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether the journal had been closed in order (true for a new one).
    pub clean: bool,
    /// Bytes of the last frame that were written again because nothing proved them durable.
    pub carried_bytes: u64,
    /// Torn tails cut off and moved to quarantine (0 or 1 per opening).
    pub torn_tails: u64,
    /// Bytes of them.
    pub torn_bytes: u64,
    /// Ranges below valid frames that are damaged; entries in them that survived are served.
    pub damaged_ranges: u64,
    /// Bytes of them.
    pub damaged_bytes: u64,
    /// Segment headers among them that were put together from frames.
    pub damaged_headers: u64,
    /// Offsets that an earlier entry holds too, also counted as damaged ranges; the first ones are served.
    pub doubled_offsets: u64,
    /// Snapshots with a damaged slice: the state was replayed from an earlier one.
    pub damaged_snapshots: u64,
    /// 1 if no snapshot tells what was before the oldest segment, although there was something: state is lost.
    pub lost_states: u64,
    /// Where damage is: ranges, broken chains, the last byte of what is missing. At most
    /// [`RecoveryReport::MAX_PLACES`].
    pub damage: Vec<DamagedRange>,
    /// Frames whose predecessor is not the one that they were written after.
    pub broken_chains: u64,
    /// Segments missing between others.
    pub missing_segments: u64,
    /// Files set aside in quarantine: a second one of a segment.
    pub quarantined_files: u64,
    /// Segment files that hold nothing of the log and are removed: openings that got nowhere, void segments.
    pub void_files: u64,
    /// Segments below the hot start, to be used again.
    pub reused_files: u64,
    /// Spares of another length than segments have, removed.
    pub misfit_spares: u64,
    /// Cold segments that are gone, or of which nothing tells what they stood for.
    pub cold_lost: u64,
    /// Cold segments of which a part is damaged that can be done without.
    pub cold_damaged: u64,
    /// Cold segments whose fact was lost to damage, and which are part of the log again.
    pub cold_adopted: u64,
    /// Files of cold segments that are no part of the log, removed.
    pub cold_leftover: u64,
    /// Bytes scanned.
    pub scanned_bytes: u64,
    /// Bytes of segments that index files spared the scan of.
    pub indexed_bytes: u64,
    /// Segments without an index file.
    pub index_missing: u64,
    /// Index files of which some or all is damaged.
    pub index_damaged: u64,
    /// Index files that tell of another segment, or of another log than the one that is there.
    pub index_stale: u64,
    /// Index files of segments that are no longer part of the log, removed.
    pub index_leftover: u64,
}

impl RecoveryReport {
    /// Places of damage that are remembered; all are counted and logged.
    pub const MAX_PLACES: usize = 4096;

    /// Remembers where damage is.
    pub(super) fn note(&mut self, position: Position, length: u64) {
        if self.damage.len() < Self::MAX_PLACES {
            self.damage.push(DamagedRange { position, length });
        }
    }
}

/// What the background scrub did since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubStatus {
    /// Bytes of log read and verified.
    pub bytes: u64,
    /// Passes over all of the log that came to their end.
    pub passes: u64,
    /// Damaged ranges found that nobody knew of.
    pub damaged_ranges: u64,
    /// Index files found that cannot be used: the next start scans their segments.
    pub damaged_indexes: u64,
}
