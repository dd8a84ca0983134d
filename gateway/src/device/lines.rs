//! Lines that a device sends to its log: as many as anybody could read, and the others counted.

use std::time::Duration;

use headwater_protocol::{DeviceId, message::Log};
use tokio::time::Instant;

use super::DeviceLine;

/// Lines taken within [`SPAN`].
const MOST: usize = 100;
const SPAN: Duration = Duration::from_secs(10);

/// The lines of one connection.
#[derive(Debug)]
pub(super) struct Lines {
    waiting: Vec<DeviceLine>,
    since: Instant,
    /// Taken since then.
    taken: usize,
    lost: u64,
}

impl Lines {
    pub(super) fn new(now: Instant) -> Self {
        Self { waiting: Vec::new(), since: now, taken: 0, lost: 0 }
    }

    /// Takes a line, if there were not too many of late.
    pub(super) fn push(&mut self, now: Instant, at_ms: i64, line: &Log<'_>) {
        if now.duration_since(self.since) > SPAN {
            (self.since, self.taken) = (now, 0);
        }
        if self.taken == MOST {
            self.lost += 1;
            return;
        }
        self.taken += 1;
        let (severity, text) = (line.severity, printable(line.text));
        self.waiting.push(DeviceLine { at_ms, severity, text });
    }

    /// What came, and how many were too many; the gateway's own log gets them, too.
    pub(super) fn take(&mut self, device: DeviceId) -> (Vec<DeviceLine>, u64) {
        for DeviceLine { severity, text, .. } in &self.waiting {
            tracing::info!(%device, severity, text, "device log");
        }
        (std::mem::take(&mut self.waiting), std::mem::take(&mut self.lost))
    }
}

/// Text as it may be shown: what is no UTF-8 is replaced, control characters are spaces.
fn printable(text: &[u8]) -> String {
    let shown = |letter: char| if letter.is_control() { ' ' } else { letter };
    String::from_utf8_lossy(text).chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_off_and_counted() {
        let device = DeviceId::new("d").expect("legal");
        let start = Instant::now();
        let mut lines = Lines::new(start);
        let line = Log { boot: 1, tick: 0, severity: 3, lost: 0, text: b"a\x1b[0m\xff" };
        for _ in 0..MOST + 7 {
            lines.push(start, 5, &line);
        }
        let (taken, lost) = lines.take(device);
        assert_eq!((taken.len(), lost), (MOST, 7));
        assert_eq!(taken[0].text, "a [0m\u{fffd}");
        lines.push(start + SPAN, 5, &line);
        assert_eq!(lines.take(device), (Vec::new(), 1));
        lines.push(start + SPAN + Duration::from_secs(1), 5, &line);
        assert_eq!(lines.take(device).0.len(), 1);
    }
}
