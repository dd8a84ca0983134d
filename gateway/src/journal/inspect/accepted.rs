//! Losses that somebody accepted: facts of the journal's own (FORMAT.md, Accepted losses).

use bytes::Bytes;

use super::{Finding, Lost};
use crate::journal::{Fact, Offset, PartitionId, Position, Space, State, format::Cursor};

/// Key prefix of an accepted range of positions.
const RANGE: u8 = 0x10;
/// Key prefix of accepted offsets.
const OFFSETS: u8 = 0x11;
/// Key prefix of a repair's report.
const REPAIR: u8 = 0x12;
/// The ranges have facts of their own; the file in quarantine holds all of it.
const MAX_REPORT_BYTES: usize = 4096;

/// Everything that was accepted.
#[derive(Debug, Default)]
pub(in crate::journal) struct Accepted {
    ranges: Vec<AcceptedRange>,
    offsets: Vec<(Lost, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct AcceptedRange {
    from: Position,
    to: Position,
    at_ms: i64,
}

impl Accepted {
    pub(in crate::journal) fn of(state: &State) -> Self {
        let mut accepted = Self::default();
        for (key, value) in state.facts(Space::JOURNAL) {
            if let Some(range) = decode_range(key, value) {
                accepted.ranges.push(range);
            }
            accepted.offsets.extend(decode_offsets(key, value));
        }
        accepted
    }

    /// Offsets that are given up, of each partition in order.
    pub(in crate::journal) fn offsets(&self) -> impl Iterator<Item = Lost> {
        self.offsets.iter().map(|(lost, _)| *lost)
    }

    /// Whether damage there was accepted.
    pub(in crate::journal) fn covers(&self, position: Position, length: u64) -> bool {
        let end = position.plus(length);
        self.ranges.iter().any(|it| it.from <= position && end <= it.to)
    }

    /// When a finding was accepted: all of its range and all that is lost by it.
    pub(super) fn when(&self, finding: &Finding) -> Option<i64> {
        let end = finding.position.plus(finding.length);
        let range = self.ranges.iter().find(|it| it.from <= finding.position && end <= it.to)?;
        let has = |lost: &Lost| {
            let same = self.offsets.iter().filter(|(it, _)| it.partition == lost.partition);
            same.into_iter().any(|(it, _)| it.from <= lost.from && lost.to <= it.to)
        };
        finding.lost.iter().all(has).then_some(range.at_ms)
    }
}

/// The fact that accepts a damaged range.
pub(super) fn range_fact(finding: &Finding, at_ms: i64) -> Fact {
    let mut key = vec![RANGE];
    key.extend_from_slice(&finding.position.0.to_be_bytes());
    let mut value = Vec::new();
    value.extend_from_slice(&(finding.position.0 + finding.length).to_be_bytes());
    value.extend_from_slice(&at_ms.to_be_bytes());
    value.extend_from_slice(finding.kind.name().as_bytes());
    fact(key, value)
}

/// The fact that accepts that offsets are lost.
pub(super) fn offsets_fact(lost: &Lost, at_ms: i64) -> Fact {
    let mut key = vec![OFFSETS];
    key.extend_from_slice(&lost.partition.0.to_be_bytes());
    key.extend_from_slice(&lost.from.0.to_be_bytes());
    let mut value = Vec::new();
    value.extend_from_slice(&lost.to.0.to_be_bytes());
    value.extend_from_slice(&at_ms.to_be_bytes());
    fact(key, value)
}

/// The fact that says what a repair did.
pub(super) fn repair_fact(report: &str, at_ms: i64) -> Fact {
    let mut key = vec![REPAIR];
    key.extend_from_slice(&at_ms.to_be_bytes());
    let end = report.floor_char_boundary(MAX_REPORT_BYTES);
    fact(key, report.get(..end).unwrap_or_default().into())
}

fn fact(key: Vec<u8>, value: Vec<u8>) -> Fact {
    Fact { space: Space::JOURNAL, key: key.into(), value: Some(Bytes::from(value)) }
}

fn decode_range(key: &[u8], value: &[u8]) -> Option<AcceptedRange> {
    let (mut key, mut value) = (Cursor::new(key), Cursor::new(value));
    let is_range = key.u8()? == RANGE;
    let from = Position(u64::from_be_bytes(key.array()?));
    let to = Position(u64::from_be_bytes(value.array()?));
    let at_ms = i64::from_be_bytes(value.array()?);
    (is_range && key.is_empty()).then_some(AcceptedRange { from, to, at_ms })
}

fn decode_offsets(key: &[u8], value: &[u8]) -> Option<(Lost, i64)> {
    let (mut key, mut value) = (Cursor::new(key), Cursor::new(value));
    let is_offsets = key.u8()? == OFFSETS;
    let partition = PartitionId(u32::from_be_bytes(key.array()?));
    let from = Offset(i64::from_be_bytes(key.array()?));
    let to = Offset(i64::from_be_bytes(value.array()?));
    let at_ms = i64::from_be_bytes(value.array()?);
    let lost = Lost { partition, from, to };
    (is_offsets && key.is_empty() && from < to).then_some((lost, at_ms))
}
