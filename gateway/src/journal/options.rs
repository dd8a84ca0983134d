//! What the journal can be told, with the defaults resolved.

use std::{sync::Arc, time::Duration};

use super::{
    Clock, JournalId, Medium, OpenError, StateLimits, SystemClock,
    aborted::MOST_RESIDENT,
    format::{ALIGN, FRAME_HEADER_BYTES, FrameHeader, SEGMENT_HEADER_BYTES, align_up},
};
use crate::config::{JournalConfig, JournalProfile, StorageConfig};

/// Settings of the journal; `None` takes the default that FORMAT.md and the configuration name.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// `storage.max_bytes`: budget of everything the journal keeps. None: what the newest segment was begun with, for
    /// a new journal half of the free space, at most 16 GiB.
    pub max_bytes: Option<u64>,
    /// Size of a segment file. None: max_bytes / 16 between 2 MiB and 64 MiB. At least 64 KiB.
    pub segment_bytes: Option<u64>,
    /// What the disk is. None: the disk says.
    pub medium: Option<Medium>,
    /// How long a commit waits for company. None: 0 on `ssd`, 10 ms on `card`.
    pub linger: Option<Duration>,
    /// Largest append in encoded bytes, also bounded by half a segment.
    pub max_append_bytes: usize,
    /// `state.max_bytes`. None: a quarter of a segment, at most 4 MiB.
    pub state_max_bytes: Option<usize>,
    /// Longest slice of the state's snapshot.
    pub slice_bytes: usize,
    /// Log after which the index file is written on: what a reopening has to scan at most.
    pub index_interval_bytes: u64,
    /// Memory for the indexes of segments that are not in use.
    pub index_cache_bytes: usize,
    /// Ranges of aborted transactions in memory, beside those of the segment in use; the others are read when needed.
    pub aborted_ranges: usize,
    /// Memory for the last frames, so that whoever reads fresh data touches no file.
    pub tail_bytes: usize,
    /// Threads that read files, 1 to 4.
    pub read_threads: usize,
    /// How often to look for space again after the disk had none.
    pub space_retry: Duration,
    /// Segments kept for cleaning and for the next opening; at most a quarter of all.
    pub reserve_segments: u64,
    /// Whether segments that nothing needs leave the log by themselves; else only [`super::Journal::retire`] does it.
    pub retire: bool,
    /// Bytes a second that the scrub of segments that are not in use reads; 0: no scrub.
    pub scrub_bytes_per_s: u64,
    /// From the start of one pass of the scrub to the next.
    pub scrub_interval: Duration,
    /// From the opening to the first pass, so that a start has the disk for itself.
    pub scrub_delay: Duration,
    /// Whether segments are cleaned by themselves; else only [`super::Journal::clean`] does it.
    pub clean: bool,
    /// What the cleaner may read and write. None: 2 MiB/s on `card`, 32 MiB/s on `ssd`.
    pub clean_bytes_per_second: Option<u64>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Identity of a journal that is created. None: drawn at random.
    pub new_id: Option<JournalId>,
}

/// Default of `max.message.bytes` (1 MiB, Kafka's is 12 B more) and what facts may add.
const MAX_APPEND_BYTES: usize = (1024 + 256) * 1024;
/// Smallest `storage.max_bytes` that the configuration may ask for.
const MIN_CONFIGURED_BYTES: u64 = 16 * 1024 * 1024;
const LARGEST_DEFAULT_BYTES: u64 = 16 << 30;
const MIN_SEGMENT_BYTES: u64 = 64 * 1024;
/// Positions inside a segment and lengths of frames are u32.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;
/// Below this a budget has no room for the segment in use and the one prepared.
const MIN_SEGMENTS: u64 = 2;
/// A card's erase block takes 4-16 of these; a longer frame makes the median commit slower there.
const CARD_FRAME_BYTES: usize = 256 * 1024;
const SSD_FRAME_BYTES: usize = 1024 * 1024;
const CARD_LINGER: Duration = Duration::from_millis(10);
/// Full disks empty without telling anyone.
const SPACE_RETRY: Duration = Duration::from_secs(1);
/// A slice delays the commit that it rides on by its own writing.
const SLICE_BYTES: usize = 256 * 1024;

/// A tenth of what a slow card reads: nobody else notices.
pub(crate) const SCRUB_BYTES_PER_S: u64 = 2 * 1024 * 1024;
/// Bits rot over months; a pass reads all of the log.
pub(crate) const SCRUB_INTERVAL: Duration = Duration::from_secs(7 * 24 * 3600);
const SCRUB_DELAY: Duration = Duration::from_secs(10 * 60);

/// Reopening scans at most twice this: 0.4 s on a card. Longer ones would leave frames where recovery does not look for
/// them (`recovery::SEARCH_BYTES`).
const INDEX_INTERVAL_BYTES: u64 = 4 * 1024 * 1024;
/// A quarter of what a card writes.
const CARD_CLEAN_BYTES_PER_SECOND: u64 = 2 * 1024 * 1024;
/// A tenth of what the slowest of them does.
const SSD_CLEAN_BYTES_PER_SECOND: u64 = 32 * 1024 * 1024;

/// About 1.5 million batches.
const INDEX_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// A second at the rate of a fast card: consumers that keep up are never further behind.
const TAIL_BYTES: usize = 4 * 1024 * 1024;
/// One reader that waits for the medium does not hold up all others.
const READ_THREADS: usize = 2;
const MAX_READ_THREADS: usize = 4;
/// Reads that wait for a thread; more wait for a place among them.
const READ_QUEUE: usize = 256;

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            max_bytes: None,
            segment_bytes: None,
            medium: None,
            linger: None,
            max_append_bytes: MAX_APPEND_BYTES,
            state_max_bytes: None,
            slice_bytes: SLICE_BYTES,
            index_interval_bytes: INDEX_INTERVAL_BYTES,
            index_cache_bytes: INDEX_CACHE_BYTES,
            aborted_ranges: MOST_RESIDENT,
            tail_bytes: TAIL_BYTES,
            read_threads: READ_THREADS,
            space_retry: SPACE_RETRY,
            reserve_segments: RESERVE_SEGMENTS,
            retire: true,
            scrub_bytes_per_s: SCRUB_BYTES_PER_S,
            scrub_interval: SCRUB_INTERVAL,
            scrub_delay: SCRUB_DELAY,
            clean: true,
            clean_bytes_per_second: None,
            clock: Arc::new(SystemClock::new()),
            new_id: None,
        }
    }
}

impl JournalOptions {
    /// From the configuration's `[storage]` and `[journal]`.
    pub fn from_config(
        storage: &StorageConfig,
        journal: &JournalConfig,
    ) -> Result<Self, OpenError> {
        if let Some(size) = storage.max_bytes
            && size.0 < MIN_CONFIGURED_BYTES
        {
            let reason = "must be at least 16 MiB";
            return Err(OpenError::Option { name: "storage.max_bytes", value: size.0, reason });
        }
        Ok(Self {
            max_bytes: storage.max_bytes.map(|size| size.0),
            segment_bytes: journal.segment_bytes.map(|size| size.0),
            medium: match journal.profile {
                JournalProfile::Auto => None,
                JournalProfile::Ssd => Some(Medium::Ssd),
                JournalProfile::Card => Some(Medium::Card),
            },
            linger: journal.linger.map(|span| span.0),
            scrub_bytes_per_s: journal.scrub_rate.0,
            scrub_interval: journal.scrub_interval.0,
            index_interval_bytes: journal.index_interval.0,
            index_cache_bytes: journal.index_cache.as_usize(),
            tail_bytes: journal.tail.as_usize(),
            read_threads: journal.read_threads,
            space_retry: journal.space_retry.0,
            reserve_segments: journal.reserve_segments,
            ..Self::default()
        })
    }

    /// Replaces every default by its value.
    pub(super) fn resolve(
        &self,
        recorded_max_bytes: Option<u64>,
        free_bytes: u64,
        medium: Medium,
    ) -> Result<Settings, OpenError> {
        let max_bytes = self
            .max_bytes
            .or(recorded_max_bytes)
            .unwrap_or_else(|| (free_bytes / 2).clamp(MIN_CONFIGURED_BYTES, LARGEST_DEFAULT_BYTES));
        let segment_bytes =
            self.segment_bytes.unwrap_or_else(|| (max_bytes / 16).clamp(2 << 20, 64 << 20));
        let segment_bytes = align_up(segment_bytes);
        let out_of_range = |name, value, reason| Err(OpenError::Option { name, value, reason });
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&segment_bytes) {
            let reason = "must be between 64 KiB and 1 GiB";
            return out_of_range("journal.segment_bytes", segment_bytes, reason);
        }
        if max_bytes / segment_bytes < MIN_SEGMENTS {
            let reason = "must have room for two segments";
            return out_of_range("storage.max_bytes", max_bytes, reason);
        }
        let card = self.medium.unwrap_or(medium) == Medium::Card;
        let quarter = usize::try_from(segment_bytes / 4).unwrap_or(usize::MAX);
        let state_max_bytes = self.state_max_bytes.unwrap_or(StateLimits::MAX_BYTES).min(quarter);
        let settings = Settings {
            max_bytes,
            segment_bytes,
            frame_bytes: if card { CARD_FRAME_BYTES } else { SSD_FRAME_BYTES },
            linger: self.linger.unwrap_or(if card { CARD_LINGER } else { Duration::ZERO }),
            max_append_bytes: self.max_append_bytes.min(quarter * 2 - FRAME_HEADER_BYTES),
            state: StateLimits {
                max_bytes: state_max_bytes,
                producers_per_partition: StateLimits::PRODUCERS_PER_PARTITION,
                producers: StateLimits::PRODUCERS,
            },
            slice_bytes: self.slice_bytes.clamp(1, SLICE_BYTES),
            index_interval_bytes: self.index_interval_bytes.clamp(ALIGN, INDEX_INTERVAL_BYTES),
            index_cache_bytes: self.index_cache_bytes,
            aborted_ranges: self.aborted_ranges,
            tail_bytes: self.tail_bytes,
            read_threads: self.read_threads.clamp(1, MAX_READ_THREADS),
            read_queue: READ_QUEUE,
            space_retry: self.space_retry,
            reserve_segments: self.reserve_segments,
            retire: self.retire,
            scrub_bytes_per_s: self.scrub_bytes_per_s,
            scrub_interval: self.scrub_interval,
            scrub_delay: self.scrub_delay,
            clean: self.clean,
            clean_bytes_per_second: Some(self.clean_bytes_per_second.unwrap_or(if card {
                CARD_CLEAN_BYTES_PER_SECOND
            } else {
                SSD_CLEAN_BYTES_PER_SECOND
            })),
            clock: Arc::clone(&self.clock),
        };
        if settings.usable(segment_bytes) < FrameHeader::length_for(settings.max_append_bytes) {
            let reason = "too short: the snapshot would take the space of the largest append";
            return out_of_range("slice_bytes", settings.slice_bytes as u64, reason);
        }
        Ok(settings)
    }
}

/// Options with every default resolved.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_bytes: u64,
    pub(super) segment_bytes: u64,
    pub(super) frame_bytes: usize,
    pub(super) linger: Duration,
    pub(super) max_append_bytes: usize,
    pub(super) state: StateLimits,
    pub(super) slice_bytes: usize,
    pub(super) index_interval_bytes: u64,
    pub(super) index_cache_bytes: usize,
    pub(super) aborted_ranges: usize,
    pub(super) tail_bytes: usize,
    pub(super) read_threads: usize,
    pub(super) read_queue: usize,
    pub(super) space_retry: Duration,
    reserve_segments: u64,
    pub(super) retire: bool,
    pub(super) scrub_bytes_per_s: u64,
    pub(super) scrub_interval: Duration,
    pub(super) scrub_delay: Duration,
    pub(super) clean: bool,
    pub(super) clean_bytes_per_second: Option<u64>,
    pub(super) clock: Arc<dyn Clock>,
}

/// One in so many bytes of the budget is for index files: at 5 bytes a batch enough for batches of 320 bytes.
const INDEX_SHARE: u64 = 64;
/// Segments kept for cleaning and for the next opening: two, less where the budget has few.
const RESERVE_SEGMENTS: u64 = 2;
/// The reserve is at most one in so many segments.
const RESERVE_SHARE: u64 = 4;

impl Settings {
    /// Segments that are not for appends.
    pub(super) fn reserve_segments(&self) -> u64 {
        (self.max_bytes / self.segment_bytes / RESERVE_SHARE).min(self.reserve_segments)
    }

    /// What segments may take of the budget: the rest is for index files. Without a reserve there is no rest either.
    pub(super) fn segments_max_bytes(&self) -> u64 {
        let aside = if self.reserve_segments() > 0 { self.max_bytes / INDEX_SHARE } else { 0 };
        self.max_bytes - aside
    }

    /// Bytes that appends can count on in a prepared segment of this length: without its header,
    /// and without the largest snapshot it may have to begin with.
    pub(super) fn usable(&self, segment_bytes: u64) -> u64 {
        let snapshot = self.snapshot_bytes(self.state.max_bytes);
        segment_bytes.saturating_sub(SEGMENT_HEADER_BYTES + snapshot)
    }

    /// Most that the frames of a snapshot of such a state take.
    pub(super) fn snapshot_bytes(&self, state_bytes: usize) -> u64 {
        let slices = state_bytes.div_ceil(self.slice_bytes) + 1;
        let per_slice = ALIGN + FRAME_HEADER_BYTES as u64;
        align_up(state_bytes as u64) + slices as u64 * per_slice
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::ByteSize;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    fn resolve(options: &JournalOptions, recorded: Option<u64>, free: u64) -> Settings {
        options.resolve(recorded, free, Medium::Ssd).unwrap()
    }

    fn small() -> JournalOptions {
        JournalOptions { segment_bytes: Some(64 << 10), ..JournalOptions::default() }
    }

    #[test]
    fn defaults_follow_the_disk() {
        // recorded max_bytes, free space -> max_bytes, segment, state.max_bytes
        let cases = [
            (None, 100 * GIB, 16 * GIB, 64 * MIB, 4 * MIB),
            (None, GIB, 512 * MIB, 32 * MIB, 4 * MIB),
            (None, 20 * MIB, 16 * MIB, 2 * MIB, MIB / 2),
            (Some(64 * MIB), 100 * GIB, 64 * MIB, 4 * MIB, MIB),
        ];
        for (recorded, free, max_bytes, segment, state) in cases {
            let settings = resolve(&JournalOptions::default(), recorded, free);
            let found =
                (settings.max_bytes, settings.segment_bytes, settings.state.max_bytes as u64);
            assert_eq!(found, (max_bytes, segment, state), "{recorded:?} {free}");
        }
    }

    #[test]
    fn a_card_gets_short_frames_and_a_linger() {
        let options = JournalOptions::default();
        let ssd = options.resolve(None, GIB, Medium::Ssd).unwrap();
        let card = options.resolve(None, GIB, Medium::Card).unwrap();
        assert_eq!((ssd.frame_bytes, ssd.linger), (1 << 20, Duration::ZERO));
        assert_eq!((card.frame_bytes, card.linger), (256 << 10, Duration::from_millis(10)));
        let told = JournalOptions { medium: Some(Medium::Ssd), ..options };
        assert_eq!(told.resolve(None, GIB, Medium::Card).unwrap().linger, Duration::ZERO);
    }

    #[test]
    fn an_append_is_at_most_half_a_segment() {
        assert_eq!(resolve(&small(), None, GIB).max_append_bytes, 32 * 1024 - FRAME_HEADER_BYTES);
        assert_eq!(resolve(&JournalOptions::default(), None, GIB).max_append_bytes, 1280 * 1024);
    }

    #[test]
    fn index_files_have_their_share_of_the_budget() {
        for (max_bytes, reserve, segments) in [
            (64 * MIB, 2, 63 * MIB),
            (16 * GIB, 2, 16 * GIB - 256 * MIB),
            // Too few segments for a reserve.
            (3 * (64 << 10), 0, 3 * (64 << 10)),
        ] {
            let segment_bytes = (max_bytes < MIB).then_some(64 << 10);
            let options =
                JournalOptions { max_bytes: Some(max_bytes), segment_bytes, ..Default::default() };
            let settings = resolve(&options, None, GIB);
            let found = (settings.reserve_segments(), settings.segments_max_bytes());
            assert_eq!(found, (reserve, segments), "{max_bytes}");
        }
        let asked = JournalOptions { reserve_segments: 9, ..JournalOptions::default() };
        assert_eq!(resolve(&asked, Some(GIB), GIB).reserve_segments(), 4, "a quarter of 16");
    }

    #[test]
    fn every_limit_is_named() {
        let resolve = |max_bytes, segment_bytes| {
            let options =
                JournalOptions { max_bytes: Some(max_bytes), segment_bytes, ..Default::default() };
            options.resolve(None, GIB, Medium::Ssd).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(resolve(128 << 10, Some(64 << 10)), Ok(()));
        let error = resolve(127 << 10, Some(64 << 10)).unwrap_err();
        assert!(error.contains("storage.max_bytes"), "{error}");
        for segment in [60 << 10, 2 * GIB] {
            let error = resolve(16 * GIB, Some(segment)).unwrap_err();
            assert!(error.contains("journal.segment_bytes"), "{error}");
        }
        let storage =
            |bytes| StorageConfig { max_bytes: Some(ByteSize(bytes)), ..Default::default() };
        let from = |bytes| JournalOptions::from_config(&storage(bytes), &JournalConfig::default());
        assert!(from(16 * MIB).is_ok());
        assert!(from(16 * MIB - 1).unwrap_err().to_string().contains("16 MiB"));
    }
}
