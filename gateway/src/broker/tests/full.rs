//! Storage with no space left.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Broker;
use crate::{
    broker::{AppendError, AppendRequest},
    journal::{AdmitError, PartitionId},
    record::Batch,
};

/// The first refusal is not the end: the journal may be preparing more space at that moment. Full is what refuses even the
/// smallest append for this long.
const STAYS_FULL: Duration = Duration::from_millis(500);
const LARGE_BYTES: usize = 50_000;

/// Appends batches with values of the length that `batch` is given, until nothing more fits.
pub(crate) async fn fill(broker: &Broker, partition: PartitionId, batch: impl Fn(usize) -> Batch) {
    let mut refused_since = Instant::now();
    let mut bytes = LARGE_BYTES;
    while refused_since.elapsed() < STAYS_FULL {
        let batches = vec![(partition, batch(bytes))];
        match broker.append(AppendRequest { batches, facts: Vec::new() }) {
            Ok(_) => refused_since = Instant::now(),
            Err(AppendError::Journal(AdmitError::Full)) if bytes > 1 => bytes = 1,
            Err(AppendError::Journal(AdmitError::Full)) => {
                sleep(Duration::from_millis(5)).await;
                bytes = LARGE_BYTES;
            }
            Err(error) => panic!("{error}"),
        }
    }
}
