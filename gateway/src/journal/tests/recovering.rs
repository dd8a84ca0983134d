//! One image of a crash: recovered, compared with the model, cut once more, recovered again.

use std::{collections::HashMap, panic};

use super::{
    disk::{Cut, Event, Files, MemoryDisk, Random},
    model::Model,
    workload::Run,
};
use crate::journal::{JournalOptions, format::SegmentHeader, handle::open_idle};

/// What crashes of one run are compared with.
pub(super) struct Judge<'a> {
    pub(super) name: &'a str,
    model: &'a Model,
    options: JournalOptions,
    /// Images that were judged already, with how many appends they hold.
    known: HashMap<u64, usize>,
    pub(super) counts: Counts,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Images judged.
    pub(super) images: usize,
    /// Those of them that no earlier one equalled.
    pub(super) distinct: usize,
    /// Recoveries.
    pub(super) recoveries: usize,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.images += other.images;
        self.distinct += other.distinct;
        self.recoveries += other.recoveries;
    }
}

/// A recovery that was carried out.
pub(super) struct Recovery {
    /// The disk with what recovery did to it.
    pub(super) disk: MemoryDisk,
    /// How many appends it found.
    pub(super) found: usize,
}

impl<'a> Judge<'a> {
    pub(super) fn new(name: &'a str, run: &'a Run) -> Self {
        Self {
            name,
            model: &run.model,
            options: run.recovery_options(),
            known: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// What a crash left must recover to a prefix with all that was acknowledged, and what recovery
    /// served must be there after the next power cut and the next kill, unchanged.
    pub(super) fn judge(&mut self, image: &Files, acked: usize, what: &dyn Fn() -> String) {
        self.counts.images += 1;
        let print = image.fingerprint();
        if let Some(&found) = self.known.get(&print) {
            assert!(found >= acked, "{}, {}: {found} of {acked} found", self.name, what());
            return;
        }
        self.counts.distinct += 1;
        let first = self.recover(image.clone(), acked, what);
        self.known.insert(print, first.found);
        let files = first.disk.files();
        for (left, then) in
            [(files.after(Cut::Nothing), "then everything unsynced lost"), (files, "then killed")]
        {
            let what = || format!("{}, {then}", what());
            let print = left.fingerprint();
            // Without anything unsynced both are one.
            if let Some(&found) = self.known.get(&print) {
                assert!(found >= first.found, "{}, {}", self.name, what());
                continue;
            }
            let again = self.recover(left, first.found, &what);
            self.known.insert(print, again.found);
            assert_eq!(
                again.found,
                first.found,
                "{}, {}: a second recovery changes nothing",
                self.name,
                what()
            );
        }
    }

    /// Opens an image and compares.
    pub(super) fn recover(
        &mut self,
        image: Files,
        acked: usize,
        what: &dyn Fn() -> String,
    ) -> Recovery {
        self.counts.recoveries += 1;
        let disk = MemoryDisk::new(image);
        let checked = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            let (journal, state) = open_idle(disk.clone(), &self.options).expect("it opens");
            let found = self.model.check(&journal, &state, acked);
            let report = journal.status().recovery;
            assert_eq!(report.damaged_ranges, 0, "a crash is not damage");
            assert_eq!(report.broken_chains, 0, "a crash breaks no chain");
            assert_eq!(report.missing_segments, 0, "a crash loses no segment");
            let cold = (report.cold_lost, report.cold_damaged, report.cold_adopted);
            assert_eq!(cold, (0, 0, 0), "a crash damages no cold segment");
            found
        }));
        let found = checked.unwrap_or_else(|cause| {
            let reason = cause.downcast_ref::<String>().map_or("see above", String::as_str);
            panic!("{}, {}: {reason}", self.name, what())
        });
        check_positions(&disk.files(), &|| format!("{}, {}", self.name, what()));
        Recovery { disk, found }
    }
}

/// No two segments share a position, whether or not they are part of the log.
fn check_positions(files: &Files, what: &dyn Fn() -> String) {
    let headers = files.names().into_iter().filter_map(|name| {
        let header = SegmentHeader::decode(files.content(&name)).ok()?;
        Some((header.first, header.end(), name))
    });
    let mut ranges: Vec<_> = headers.collect();
    ranges.sort();
    for pair in ranges.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "{}: positions used twice: {pair:?}", what());
    }
}

/// Moments of a run: after each operation of the disk, with how many appends were acknowledged by then.
pub(super) fn moments(log: &[Event], mut each: impl FnMut(usize, &Event, &Files, usize)) {
    let mut files = Files::default();
    let mut acked = 0;
    for (number, event) in log.iter().enumerate() {
        files.apply(event);
        if let Event::Acked(count) = event {
            acked = *count;
        }
        each(number, event, &files, acked);
    }
}

/// A way to crash: none is a kill, which keeps the page cache.
pub(super) type Crash = Option<Cut>;

/// What a crash leaves.
pub(super) fn left_by(crash: Crash, files: &Files) -> Files {
    crash.map_or_else(|| files.clone(), |cut| files.after(cut))
}

/// At least twelve crashes of a moment: each single change lost or alone, each prefix of them, as many drawn
/// subsets as there is reason for.
pub(super) fn crashes(files: &Files, seed: u64, drawn: usize) -> Vec<Crash> {
    let mut cuts = vec![
        Cut::Nothing,
        Cut::Everything,
        Cut::Content,
        Cut::Names,
        Cut::FirstBlock,
        Cut::LostFirstBlock,
    ];
    let pending = files.pending();
    let step = pending.div_ceil(12).max(1);
    for change in (0..pending).step_by(step) {
        cuts.extend([Cut::Prefix(change), Cut::Without(change), Cut::Only(change)]);
    }
    let seeds = |kind: u64, count: usize| {
        let mut random = Random(seed ^ (kind << 56));
        (0..count).map(move |_| random.next())
    };
    // Without anything pending there is nothing to draw.
    let drawn = if pending == 0 { 2 } else { drawn };
    cuts.extend(seeds(1, drawn).map(Cut::Some));
    cuts.extend(seeds(2, drawn.div_ceil(2)).map(Cut::Torn));
    cuts.extend(seeds(3, drawn).map(Cut::Garbled));
    let mut crashes = vec![None];
    crashes.extend(cuts.into_iter().map(Some));
    crashes
}

/// One crash drawn at random.
pub(super) fn any_crash(files: &Files, random: &mut Random) -> Crash {
    let seed = random.next();
    let crashes = crashes(files, seed, 3);
    crashes[random.below(crashes.len() as u64) as usize]
}
