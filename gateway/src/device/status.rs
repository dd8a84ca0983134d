//! What the page, the metrics and `headwater devices` show of one device.

use std::collections::VecDeque;

use headwater_protocol::item::Cause;

use super::{clock::Drift, registry::Profile};

/// Lines of a device's log that are kept for whoever looks.
const LINES: usize = 16;

/// One device, since the gateway's start unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct DeviceStatus {
    /// Device id.
    pub device: String,
    /// Stream, 16 hex digits.
    pub stream: String,
    /// Boot counter last seen.
    pub boot: u64,
    /// `tcp 127.0.0.1:5000` or `serial /dev/...`.
    pub transport: String,
    /// What people said of it.
    pub profile: Profile,
    /// Whether it waits to be approved.
    pub is_held: bool,
    /// Whether a link is up.
    pub connected: bool,
    /// Unix ms of the last valid frame.
    pub last_seen_ms: i64,
    /// Readings made durable.
    pub readings: u64,
    /// Readings that the device reported as lost.
    pub gap_readings: u64,
    /// Runs of received bytes that were no frame or no message.
    pub frame_errors: u64,
    /// Of those, frames whose CRC alone disagreed; after the others the beginning of a frame had to be looked for.
    pub crc_errors: u64,
    /// Items that came more than once.
    pub retransmits: u64,
    /// Runs of bytes that the device could not read, as it told last, in its running boot.
    pub device_errors: u64,
    /// Received bytes that the device lost (overruns, framing errors), likewise.
    pub device_overruns: u64,
    /// Boots by cause.
    pub boots: Boots,
    /// How old the newest durable reading was when it became durable, ms; none before there was one.
    pub backlog_ms: Option<i64>,
    /// Drift of its clock by the last fit, parts in 10^6: above 0 wall time passes faster than its ticks say.
    pub skew_ppm: Option<f64>,
    /// How far the time of that fit's last sample may be off, ms.
    pub clock_error_ms: Option<f64>,
    /// The last lines of its log, the newest at the end.
    pub lines: VecDeque<DeviceLine>,
    /// Lines of its log that were lost.
    pub lines_lost: u64,
}

/// A line that a device sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceLine {
    /// Unix ms of its arrival.
    pub at_ms: i64,
    /// RFC 5424, 0 (emergency) to 7 (debug).
    pub severity: u8,
    /// The text.
    pub text: String,
}

/// Boots by their cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Boots([u64; Self::CAUSES.len()]);

impl Boots {
    /// Words for the causes.
    pub const CAUSES: [&'static str; 7] =
        ["unknown", "power", "reset", "watchdog", "panic", "brown-out", "other"];

    /// Counts a boot.
    pub(super) fn add(&mut self, cause: Cause) {
        if let Some(count) = self.0.get_mut(usize::from(cause.code())) {
            *count += 1;
        } else if let Some(count) = self.0.last_mut() {
            *count += 1;
        }
    }

    /// Counts those of another count.
    pub(super) fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }

    /// Causes with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::CAUSES.into_iter().zip(self.0)
    }
}

impl DeviceStatus {
    /// Shows how its clock runs, until there is another fit.
    pub(super) fn set_drift(&mut self, drift: Drift) {
        self.skew_ppm = Some(drift.skew_ppb as f64 / 1e3);
        self.clock_error_ms = Some(drift.error_us as f64 / 1e3);
    }

    /// Keeps a line, and lets go of the oldest.
    pub(super) fn keep_line(&mut self, line: DeviceLine) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_counted_somewhere() {
        let mut boots = Boots::default();
        for code in 0..=255 {
            boots.add(Cause::from_code(code));
        }
        let found: Vec<_> = boots.iter().map(|(_, count)| count).collect();
        assert_eq!(found, [1, 1, 1, 1, 1, 1, 250]);
        boots.merge(&boots.clone());
        assert_eq!(boots.iter().next(), Some(("unknown", 2)));
    }
}
