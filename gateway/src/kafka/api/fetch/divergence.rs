//! Whether logs still hold what a consumer has read of them (KIP-595): a consumer that names the epoch of what it read
//! last is told where its log and ours part, instead of reading on in another one.

use crate::{
    broker::{Broker, Continuity},
    journal::Offset,
    kafka::error_code::ErrorCode,
};

use super::collect::{Collector, Partition};

impl Collector {
    /// Compares what consumers say of what they read with the logs; once is enough, since logs only grow.
    pub(super) async fn compare_epochs(&mut self, broker: &Broker) {
        for partition in self.partitions_mut() {
            partition.compare_epoch(broker).await;
        }
    }
}

impl Partition {
    async fn compare_epoch(&mut self, broker: &Broker) {
        if self.code.is_error() || self.last_epoch < 0 {
            return;
        }
        let ends = broker.ends(self.id);
        let is_current = ErrorCode::of_epoch(self.client_epoch, ends.leader_epoch).is_ok();
        // What is wrong with it otherwise is told by whoever looks next.
        if !is_current || self.next < ends.start.0 {
            return;
        }
        match broker.continuity(self.id, self.last_epoch, Offset(self.next)).await {
            Ok(Continuity::Holds) => {}
            Ok(Continuity::Diverges(end)) => self.diverging = Some(end),
            Ok(Continuity::Unknown) => self.code = ErrorCode::OFFSET_OUT_OF_RANGE,
            Err(error) => {
                tracing::debug!(partition = self.id.0, offset = self.next, "epoch: {error}");
                self.code = (&error).into();
            }
        }
    }
}
