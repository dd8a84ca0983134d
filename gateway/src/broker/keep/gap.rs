//! The record that says what is missing in a topic, because it was dropped when the storage was full.
//!
//! It is a record of the topic itself, in the partition that it is about, so that whoever reads the topic, here or at the
//! centre, cannot miss it. Its key is null, its timestamp the time of the drop, and it has these headers (decimal text):
//!
//! | header | value |
//! | --- | --- |
//! | `gap` | how many records are missing; `0`: not known when this was written |
//! | `gap.from` | first offset that is missing |
//! | `gap.to` | one past the last; the same as `gap.from` if the missing records never had an offset |
//! | `gap.reason` | `overflow-oldest`: they were the oldest ones. `overflow-newest`: they were refused for good |
//!
//! The value says the same as JSON: `{"gap":{"from":5,"to":9,"count":4,"reason":"overflow-oldest"}}`.
//!
//! Of refused records one gap record tells where they begin, with `gap` = 0, before the first one is refused, and one where
//! they end, with their number, before the next record that is taken. If the gateway is killed in between, the first stands alone.

use crate::{
    journal::Offset,
    record::{Batch, BatchBuilder},
};

/// Why records are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// They made room for newer ones.
    OverflowOldest,
    /// There was no room for them.
    OverflowNewest,
}

/// Records that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First offset missing.
    pub from: Offset,
    /// One past the last.
    pub to: Offset,
    /// Records missing; 0: not known.
    pub count: u64,
    /// Why.
    pub reason: GapReason,
}

impl GapReason {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OverflowOldest => "overflow-oldest",
            Self::OverflowNewest => "overflow-newest",
        }
    }
}

impl Gap {
    /// The record, as a batch of its own.
    #[must_use]
    pub fn to_batch(self, timestamp_ms: i64) -> Batch {
        let (from, to, count) =
            (self.from.0.to_string(), self.to.0.to_string(), self.count.to_string());
        let reason = self.reason.name();
        let value =
            format!(r#"{{"gap":{{"from":{from},"to":{to},"count":{count},"reason":"{reason}"}}}}"#);
        let headers: [(&[u8], &[u8]); 4] = [
            (b"gap", count.as_bytes()),
            (b"gap.from", from.as_bytes()),
            (b"gap.to", to.as_bytes()),
            (b"gap.reason", reason.as_bytes()),
        ];
        let mut builder = BatchBuilder::default();
        builder.push(timestamp_ms, None, Some(value.as_bytes()), &headers);
        builder.finish().expect("one record")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_what_is_documented() {
        let (from, to) = (Offset(5), Offset(9));
        let gap = Gap { from, to, count: 4, reason: GapReason::OverflowOldest };
        let records = gap.to_batch(77).records(1000).expect("readable");
        let [record] = &records[..] else { panic!("{records:?}") };
        assert_eq!((record.timestamp, &record.key), (77, &None));
        let value = br#"{"gap":{"from":5,"to":9,"count":4,"reason":"overflow-oldest"}}"#;
        assert_eq!(record.value.as_deref(), Some(&value[..]));
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| (&name[..], value.as_deref().unwrap_or_default()))
            .map(|(name, value)| (String::from_utf8_lossy(name), String::from_utf8_lossy(value)))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(headers, ["gap=4", "gap.from=5", "gap.to=9", "gap.reason=overflow-oldest"]);
    }
}
