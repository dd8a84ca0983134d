//! What is wrong with a journal: kinds, places, and what is lost by it.

use std::fmt;

use crate::journal::{Offset, PartitionId, Position};

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// File within the data folder; the one behind the place, if the right one is missing.
    pub file: String,
    /// Place in the file.
    pub at: u64,
    /// Place in the journal.
    pub position: Position,
    /// Bytes from there on.
    pub length: u64,
    /// Entries in the range that are intact: they are served.
    pub survivors: u64,
    /// Entries in the range whose payload is damaged.
    pub damaged_entries: u64,
    /// Offsets that no intact entry holds any more. Of a batch that is gone without a trace, the range of damage
    /// last before the hole is taken for the one that took it.
    pub lost: Vec<Lost>,
    /// When this loss was accepted, Unix ms; see `headwater journal repair`.
    pub accepted_ms: Option<i64>,
}

/// Offsets of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lost {
    /// Partition.
    pub partition: PartitionId,
    /// First of them.
    pub from: Offset,
    /// One past the last.
    pub to: Offset,
}

/// What kind of thing is wrong (FORMAT.md, Decision table).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FindingKind {
    /// Bytes of frames are not what was written.
    Damage,
    /// Both copies of a segment's header are bad; it was put together from the frames.
    Header,
    /// A frame names another one before it than the one that is there: frames are missing.
    BrokenChain,
    /// Segments are missing.
    MissingSegment,
    /// A cold segment is missing, or nothing in its file tells which offsets it stands for.
    ColdSegment,
    /// Offsets that an earlier entry holds too; the first ones are served.
    DoubledOffsets,
    /// Offsets are missing, and nothing tells why.
    MissingOffsets,
    /// A second file of a segment.
    DoubledFile,
    /// The last commit is cut off. What a crash leaves: it was not acknowledged, unless the damage came later.
    TornTail,
    /// An index file is missing: time, not data.
    IndexMissing,
    /// An index file is damaged, or of another log, or a cold segment's header or one of its indexes is: time, not data.
    IndexDamaged,
}

impl FindingKind {
    /// Whether data may be lost by it.
    #[must_use]
    pub fn is_damage(self) -> bool {
        !matches!(self, Self::TornTail | Self::IndexMissing | Self::IndexDamaged)
    }

    /// A word for machines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::Header => "header",
            Self::BrokenChain => "broken-chain",
            Self::MissingSegment => "missing-segment",
            Self::ColdSegment => "cold-segment",
            Self::DoubledOffsets => "doubled-offsets",
            Self::MissingOffsets => "missing-offsets",
            Self::DoubledFile => "doubled-file",
            Self::TornTail => "torn-tail",
            Self::IndexMissing => "index-missing",
            Self::IndexDamaged => "index-damaged",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Damage => "damaged bytes",
            Self::Header => "damaged segment header",
            Self::BrokenChain => "frames are missing before this",
            Self::MissingSegment => "segment missing",
            Self::ColdSegment => "cold segment missing or unreadable",
            Self::DoubledOffsets => "offsets stored twice",
            Self::MissingOffsets => "offsets missing",
            Self::DoubledFile => "second file of a segment",
            Self::TornTail => "torn tail",
            Self::IndexMissing => "no index file",
            Self::IndexDamaged => "index cannot be used",
        })
    }
}

impl Finding {
    pub(super) fn new(
        kind: FindingKind,
        file: &str,
        at: u64,
        position: Position,
        length: u64,
    ) -> Self {
        Self {
            kind,
            file: file.to_owned(),
            at,
            position,
            length,
            survivors: 0,
            damaged_entries: 0,
            lost: Vec::new(),
            accepted_ms: None,
        }
    }

    /// Adds lost offsets, as one range with those that they follow.
    pub(super) fn lose(&mut self, lost: Lost) {
        let joined = self
            .lost
            .iter_mut()
            .find(|known| known.partition == lost.partition && known.to == lost.from);
        match joined {
            Some(known) => known.to = lost.to,
            None => self.lost.push(lost),
        }
    }

    /// Damage that nobody has accepted.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.kind.is_damage() && self.accepted_ms.is_none()
    }
}
