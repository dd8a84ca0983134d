//! Fits of device clocks as records of a compacted topic, in one append with the fact that outlives a restart.
//!
//! Key `<device id>/<stream>/<boot>`, value `{"device","stream","boot","tick","unix_ms","tick_hz","skew_ppm",
//! "error_ms","valid_from_tick","valid_to_tick"}`: another tick was at `unix_ms + (other - tick) / tick_hz * 1000 *
//! (1 + skew_ppm / 10^6)`, within `error_ms` between the last two, and beyond them 0.1 ms more for each second.
//! Whoever reads `clock=unknown` in a record may look its `stream`, `boot` and `tick` up here.
//!
//! Readings come first: nothing here waits for the disk, and what storage refuses is tried again later.

use std::{
    collections::BTreeMap,
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use headwater_protocol::DeviceId;
use tokio::time::{Instant, timeout};

use super::{
    clock::{Clocks, Now, Occasion, WallFit},
    decimal::Decimal,
    facts,
    hub::{Claim, Hub},
};
use crate::{
    broker::{AppendRequest, CLEANUP_POLICY, Topic, TopicError, partition_for_key},
    record::BatchBuilder,
};

/// Pause after storage refused a fit.
const RETRY: Duration = Duration::from_secs(1);
/// How long the end of a connection waits for the topic's creation.
const PATIENCE: Duration = Duration::from_secs(1);

type Creation = Pin<Box<dyn Future<Output = Result<Arc<Topic>, TopicError>> + Send>>;

/// What one connection tells of its device's clock.
#[derive(Default)]
pub(super) struct ClocksTopic {
    creation: Option<Creation>,
    retry_at: Option<Instant>,
}

impl ClocksTopic {
    /// Tells what there is to tell.
    pub(super) fn tell(
        &mut self,
        hub: &Hub,
        claim: &Claim,
        clocks: &mut Clocks,
        occasion: Occasion,
    ) {
        let is_pausing = self.retry_at.is_some_and(|at| at > Instant::now());
        // Of a device that nothing is durable of, nothing is kept.
        if self.creation.is_some() || is_pausing || claim.streams.is_empty() {
            return;
        }
        let now = hub.now();
        let Some(fit) = clocks.news(now, occasion) else { return };
        let Some(topic) = hub.broker().topic(hub.clocks_topic()) else {
            let hub = hub.clone();
            self.creation = Some(Box::pin(async move { create(&hub).await }));
            return;
        };
        let Some(request) = request(claim.device, &fit, clocks, &topic, now) else { return };
        match hub.broker().append_kept(request) {
            // Durable in its time: nobody is told that it is.
            Ok(_commit) => clocks.told(fit, now),
            Err(error) => self.refused(claim.device, &error),
        }
    }

    /// Likewise when no more samples will come, and waits a little for the topic if there is none.
    pub(super) async fn tell_last(&mut self, hub: &Hub, claim: &Claim, clocks: &mut Clocks) {
        self.tell(hub, claim, clocks, Occasion::End);
        if self.creation.is_some() && timeout(PATIENCE, self.created()).await.is_ok() {
            self.tell(hub, claim, clocks, Occasion::End);
        }
    }

    /// Resolves when the topic is there, or cannot be; for ever if nobody wants it. Cancel-safe.
    pub(super) async fn created(&mut self) {
        let Some(creation) = &mut self.creation else { return pending().await };
        let result = creation.as_mut().await;
        self.creation = None;
        if let Err(error) = result {
            tracing::debug!(%error, "the topic of device clocks is not created yet");
            self.retry_at = Some(Instant::now() + RETRY);
        }
    }

    fn refused(&mut self, device: DeviceId, error: &dyn std::fmt::Display) {
        tracing::debug!(%device, %error, "a clock is not told yet");
        self.retry_at = Some(Instant::now() + RETRY);
    }
}

async fn create(hub: &Hub) -> Result<Arc<Topic>, TopicError> {
    let name = hub.clocks_topic();
    let settings = BTreeMap::from([(CLEANUP_POLICY.to_owned(), "compact".to_owned())]);
    match hub.broker().create_topic(name, None, settings).await {
        // By another connection, meanwhile.
        Err(TopicError::Exists(_)) => hub.broker().ensure_topic(name).await,
        result => result,
    }
}

fn request(
    device: DeviceId,
    fit: &WallFit,
    clocks: &Clocks,
    topic: &Topic,
    now: Now,
) -> Option<AppendRequest> {
    let key = format!("{device}/{}/{}", fit.stream, fit.boot);
    let index = partition_for_key(key.as_bytes(), topic.partitions.len());
    let mut batch = BatchBuilder::default();
    batch.push(now.wall_ms, Some(key.as_bytes()), Some(value(device, fit).as_bytes()), &[]);
    Some(AppendRequest {
        batches: vec![(*topic.partitions.get(index)?, batch.finish()?)],
        facts: vec![facts::clocks_fact(device, &clocks.telling(*fit))],
    })
}

/// The alphabet of device ids needs no escapes.
fn value(device: DeviceId, fit: &WallFit) -> String {
    let thousandths = |number| Decimal::scaled(number, 1, -3);
    let WallFit { stream, boot, tick_hz, tick, unix_us, skew_ppb, error_us, valid_from, valid_to } =
        fit;
    let (unix_ms, skew_ppm) = (thousandths(*unix_us), thousandths(*skew_ppb));
    let error_ms = thousandths(i64::try_from(*error_us).unwrap_or(i64::MAX));
    format!(
        r#"{{"device":"{device}","stream":"{stream}","boot":{boot},"tick":{tick},"unix_ms":{unix_ms},"tick_hz":{tick_hz},"skew_ppm":{skew_ppm},"error_ms":{error_ms},"valid_from_tick":{valid_from},"valid_to_tick":{valid_to}}}"#
    )
}
