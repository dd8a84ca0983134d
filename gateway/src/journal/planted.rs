//! Bugs that tests plant, to see that the drivers of faults find them. Only in tests; elsewhere none of this exists.
//!
//! `planted!(SkipSync)` is true in a process that was started with `HEADWATER_PLANTED=SkipSync`, so that a bug
//! never meets the tests of another. `tests/planted.rs` starts one process for each.

#[cfg(test)]
macro_rules! planted {
    ($bug:ident) => {
        $crate::journal::planted::is($crate::journal::planted::Bug::$bug)
    };
}

#[cfg(not(test))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

/// What can be broken.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// A frame is not synced.
    SkipSync,
    /// Appends are acknowledged before their frame is written.
    AcknowledgeEarly,
    /// Readers see a frame before it is synced.
    ServeUnsynced,
    /// A prepared segment's name is not synced.
    SkipFolderSync,
    /// Nor is that of one which an earlier run prepared.
    AdoptUnsynced,
    /// An entry's CRC covers half of its payload.
    WrongCrcRange,
    /// CRCs and frames do not care where they are.
    IgnorePosition,
    /// Frames need not follow each other.
    SkipChainCheck,
    /// What was known of a key stays.
    OldFactWins,
    /// A frame is written before the one before is synced.
    WriteAhead,
    /// The last frame stays where it is although nothing proves it.
    CarriedInPlace,
    /// The last frame is served and not written again.
    CarriedDropped,
    /// Slices hold the state of the moment in which they are written.
    SnapshotLate,
    /// The first slice is enough.
    SnapshotIncomplete,
    /// A sync's error is passed over.
    IgnoreFailedSync,
    /// A sync that failed is tried again.
    RetrySync,
    /// Positions go on where the log ends, and not behind all that was ever used.
    PositionsReused,
    /// What a later header makes void is part of the log.
    VoidServed,
    /// A frame is believed by its header.
    TornServed,
    /// A spare's new name is not synced.
    ReuseUnsynced,
    /// Segments become spares before the fact that takes them out of the log is durable.
    RetireEarly,
    /// And while somebody reads them.
    ReusePinned,
    /// A cold segment is not synced before the log switches to it.
    ColdUnsynced,
    /// What is in cold segments changes the state.
    ColdIntoState,
    /// A deletion goes before its time.
    TombstoneEarly,
    /// The aborted ranges of what is copied are not kept.
    AbortedLost,
    /// Those that are not in memory are taken for none.
    SpilledForgotten,
}

#[cfg(test)]
impl Bug {
    const ALL: [Self; 27] = [
        Self::SkipSync,
        Self::AcknowledgeEarly,
        Self::ServeUnsynced,
        Self::SkipFolderSync,
        Self::AdoptUnsynced,
        Self::WrongCrcRange,
        Self::IgnorePosition,
        Self::SkipChainCheck,
        Self::OldFactWins,
        Self::WriteAhead,
        Self::CarriedInPlace,
        Self::CarriedDropped,
        Self::SnapshotLate,
        Self::SnapshotIncomplete,
        Self::IgnoreFailedSync,
        Self::RetrySync,
        Self::PositionsReused,
        Self::VoidServed,
        Self::TornServed,
        Self::ReuseUnsynced,
        Self::RetireEarly,
        Self::ReusePinned,
        Self::ColdUnsynced,
        Self::ColdIntoState,
        Self::TombstoneEarly,
        Self::AbortedLost,
        Self::SpilledForgotten,
    ];
}

/// The variable that names the bug of a process.
#[cfg(test)]
pub(super) const VARIABLE: &str = "HEADWATER_PLANTED";

/// Whether this process is to have this bug.
#[cfg(test)]
pub(super) fn is(bug: Bug) -> bool {
    static PLANTED: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    *PLANTED.get_or_init(|| {
        let name = std::env::var(VARIABLE).ok()?;
        let known = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
        Some(known.expect("HEADWATER_PLANTED names a bug"))
    }) == Some(bug)
}
