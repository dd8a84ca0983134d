//! Why a connection is closed on its client, and how often the log says so.

use std::{
    net::SocketAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

use kafka_wire_core::{DecodeError, EncodeError};

/// The log takes one line about refused bytes in this time; the next one says how many were left
/// out.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// What ends a connection: bytes that are no Kafka request, a client beyond its limits, or an error
/// that the protocol can only express by closing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Refusal {
    #[error("a frame announces {announced} bytes; at most {limit} are taken here")]
    FrameLength { announced: i32, limit: usize },
    #[error("a request of {0} bytes has no header")]
    NoHeader(usize),
    #[error("API key {0} is not served")]
    UnknownApi(i16),
    #[error("{api} version {version} is not served")]
    UnsupportedVersion { api: &'static str, version: i16 },
    #[error("malformed {api} version {version}: {error}")]
    Malformed { api: &'static str, version: i16, error: DecodeError },
    #[error("{what} of {count} is over the limit of {limit}")]
    TooMany { what: &'static str, count: usize, limit: usize },
    #[error("the response could not be encoded: {0}")]
    Response(#[from] EncodeError),
    #[error("an unacknowledged produce request failed: {0}")]
    Unacknowledged(String),
    #[error("a frame was not completed in time: {received} of {announced} bytes came")]
    Stalled { received: usize, announced: usize },
    #[error("responses were not read for {0:?}")]
    Unread(Duration),
    #[error("connections are at the limit of {0}")]
    Connections(usize),
    #[error("connections from this address are at the limit of {0}")]
    ConnectionsOfAddress(usize),
}

/// Writes refusals to the log, at most one line in [`LOG_INTERVAL`].
#[derive(Debug, Default)]
pub(crate) struct RefusalLog {
    state: Mutex<LogState>,
}

#[derive(Debug, Default)]
struct LogState {
    last: Option<Instant>,
    left_out: u64,
}

impl RefusalLog {
    /// Notes one refusal.
    pub(crate) fn note(&self, peer: SocketAddr, refusal: &Refusal) {
        if let Some(left_out) = self.admit(Instant::now()) {
            tracing::warn!(%peer, left_out, "kafka connection closed: {refusal}");
        }
    }

    /// Whether a line may be written now, with the number that were left out before it.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.lock();
        if state.last.is_some_and(|last| now.duration_since(last) < LOG_INTERVAL) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_writes_few_lines_and_counts_the_rest() {
        let log = RefusalLog::default();
        let start = Instant::now();
        assert_eq!(log.admit(start), Some(0));
        for _ in 0..1000 {
            assert_eq!(log.admit(start + LOG_INTERVAL / 2), None);
        }
        assert_eq!(log.admit(start + LOG_INTERVAL), Some(1000));
        assert_eq!(log.admit(start + LOG_INTERVAL * 2), Some(0));
    }
}
