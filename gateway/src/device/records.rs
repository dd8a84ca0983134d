//! Readings and gaps as records of the readings' topic: key = device id, value = flat JSON.
//!
//! Headers of a reading: `stream` (16 hex digits), `boot`, `seq`, `clock`: how good the timestamp is. `fit`: by a
//! clock whose rate was fitted; `rtt`: by the shortest round trip so far, the rate taken for nominal; `unknown`: the
//! time of receipt, and `tick` is the device's. Headers of a gap: `stream`, `boot`, `seq` = first reading missing,
//! `gap` = number of readings missing, 0 where it is not known; its value says more:
//! `{"gap":{"first_seq":..,"count":..,"reason":".."}}`. Both have `name` and `label.<name>` of their device where
//! `device.headers` asks for them.

use headwater_protocol::{DeviceId, StreamId, item::Cause};

use super::{clock::Now, status::Boots};
use crate::record::{Batch, BatchBuilder};

/// When a reading was sampled, as its record says it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// Record timestamp, Unix ms.
    pub(super) at_ms: i64,
    /// Quality.
    pub(super) clock: &'static str,
    /// The device's tick, where the time is not known.
    pub(super) tick: Option<u64>,
}

/// Collects the records of one append into batches.
#[derive(Debug)]
pub(super) struct Records {
    key: DeviceId,
    stream: String,
    /// Further headers of every record.
    headers: Vec<(String, String)>,
    /// Bytes at which a batch closes; one record may go over it.
    batch_bytes: usize,
    open: BatchBuilder,
    open_bytes: usize,
    closed: Vec<Batch>,
    counts: Counts,
}

/// What an append holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Readings.
    pub(super) readings: u64,
    /// Readings that gaps name as missing.
    pub(super) gap_readings: u64,
    /// Boots that began.
    pub(super) boots: Boots,
    /// When the last reading was sampled, Unix ms, if that is known.
    pub(super) sampled_ms: Option<i64>,
}

impl Records {
    /// None yet.
    pub(super) fn new(device: DeviceId, stream: StreamId, batch_bytes: usize) -> Self {
        Self {
            key: device,
            stream: stream.to_string(),
            headers: Vec::new(),
            batch_bytes,
            open: BatchBuilder::default(),
            open_bytes: 0,
            closed: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// With headers that every record gets.
    pub(super) fn with_headers(mut self, headers: Vec<(String, String)>) -> Self {
        self.headers = headers;
        self
    }

    /// Adds a reading.
    pub(super) fn reading(&mut self, boot: u32, seq: u64, stamp: Stamp, value: &[u8]) {
        let tick = stamp.tick.map(|tick| tick.to_string());
        let mut extra: Vec<(&str, &str)> = vec![("clock", stamp.clock)];
        if let Some(tick) = &tick {
            extra.push(("tick", tick));
        }
        self.push(boot, seq, stamp.at_ms, value, &extra);
        self.counts.readings += 1;
        self.counts.sampled_ms = Some(stamp.at_ms).filter(|_| stamp.tick.is_none());
    }

    /// Adds a gap; `details` are further JSON members.
    pub(super) fn gap(&mut self, boot: u32, first_seq: u64, count: u64, now: Now, details: &str) {
        let value = format!(r#"{{"gap":{{"first_seq":{first_seq},"count":{count},{details}}}}}"#);
        self.push(boot, first_seq, now.wall_ms, value.as_bytes(), &[("gap", &count.to_string())]);
        self.counts.gap_readings = self.counts.gap_readings.saturating_add(count);
    }

    /// Notes that a boot began; there is no record of it.
    pub(super) fn boot(&mut self, cause: Cause) {
        self.counts.boots.add(cause);
    }

    /// What was added.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes of all records so far, about.
    pub(super) fn bytes(&self) -> usize {
        self.open_bytes + self.closed.iter().map(|batch| batch.bytes().len()).sum::<usize>()
    }

    /// The batches in order.
    pub(super) fn finish(mut self) -> Vec<Batch> {
        self.closed.extend(self.open.finish());
        self.closed
    }

    fn push(&mut self, boot: u32, seq: u64, at_ms: i64, value: &[u8], extra: &[(&str, &str)]) {
        let (boot, seq) = (boot.to_string(), seq.to_string());
        let headers: Vec<(&[u8], &[u8])> =
            [("stream", self.stream.as_str()), ("boot", &boot), ("seq", &seq)]
                .iter()
                .chain(extra)
                .copied()
                .chain(self.headers.iter().map(|(name, value)| (&name[..], &value[..])))
                .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
                .collect();
        let bytes = RECORD_OVERHEAD
            + self.key.as_bytes().len()
            + value.len()
            + headers.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
        if self.open_bytes > 0 && self.open_bytes + bytes > self.batch_bytes {
            self.closed.extend(std::mem::take(&mut self.open).finish());
            self.open_bytes = 0;
        }
        self.open.push(at_ms, Some(self.key.as_bytes()), Some(value), &headers);
        self.open_bytes += bytes;
    }
}

/// Lengths, deltas and attributes of a record at their usual longest.
const RECORD_OVERHEAD: usize = 16;
