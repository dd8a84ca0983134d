//! Hanging transactions (KIP-664): partitions that never got the marker of a transaction whose end
//! the coordinator has recorded. Their readers wait for it for ever, and the producer's next marker
//! there ends both transactions its own way.
//!
//! Apache Kafka 4.3 leaves such partitions behind when they have no leader while it sends the
//! markers, because it takes them for deleted: a broker killed just after it acknowledged a commit
//! often does that to itself when it starts again. Nobody repairs it, so the uplink does:
//!
//! - Nothing is written while a partition of the last transaction is open, and nothing counts as
//!   replicated before. So what hangs lacks the marker of the gateway's last transaction, no other.
//! - How that ended is asked before the transactional id is taken over, which makes the coordinator
//!   forget it. Markers of a commit are completed before, so an id without a transaction means that
//!   what still hangs was aborted.

use std::time::Duration;

use krafka::{
    __private::{
        kafka_metadata,
        protocol::{
            ApiKey, VersionedDecode, VersionedEncode, WritableTxnMarker, WritableTxnMarkerTopic,
            WriteTxnMarkersRequest, WriteTxnMarkersResponse,
        },
    },
    Kafka, KrafkaError, ProtocolErrorKind,
    admin::{AdminClient, DescribeProducersOptions, DescribeTransactionsOptions},
    consumer::TopicPartition,
    error::ErrorCode,
};

use super::{
    centre::CentreError,
    verdict::{explain, is_missing},
};

/// Between two looks at a transaction that is being completed.
const POLL: Duration = Duration::from_millis(20);
/// The version of `WriteTxnMarkers` that is sent.
const MARKERS_VERSION: i16 = 1;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its records are to be seen.
    Committed,
    /// They never are.
    Aborted,
}

/// The gateway's last transaction, as the coordinator tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    /// Who wrote it.
    pub(super) producer_id: i64,
    /// How it ended, or will once the transactional id is taken over.
    pub(super) outcome: Outcome,
}

/// A partition that waits for a marker.
struct Open {
    partition: TopicPartition,
    producer_epoch: i16,
    coordinator_epoch: i32,
}

/// Looks after the transactions of one transactional id.
#[derive(Debug)]
pub(super) struct Completion {
    kafka: Kafka,
    admin: AdminClient,
    transactional_id: String,
    request_timeout: Duration,
    patience: Duration,
    is_offered: bool,
}

impl Completion {
    /// `patience` bounds each of the calls below; a single request takes at most `request_timeout`.
    pub(super) fn new(
        kafka: &Kafka,
        transactional_id: String,
        request_timeout: Duration,
        patience: Duration,
    ) -> Self {
        Self {
            kafka: kafka.clone(),
            admin: kafka.admin().metrics_push(false),
            transactional_id,
            request_timeout,
            patience,
            is_offered: true,
        }
    }

    /// The last transaction; `None` if the coordinator knows of none. Waits for a commit that is
    /// being completed.
    pub(super) async fn last(&mut self) -> Result<Option<Last>, CentreError> {
        let asked = self.last_in_time();
        match tokio::time::timeout(self.patience, asked).await {
            Ok(Err(error)) if is_not_offered(&error) => {
                self.is_offered = false;
                tracing::warn!(
                    "the centre has no DescribeTransactions (KIP-664): should it lose the end of a \
                     transaction, the uplink stands still until somebody repairs it"
                );
                Ok(None)
            }
            Ok(answer) => answer.map_err(|error| explain("ask for the last transaction", &error)),
            Err(_) => Err(CentreError::transient(format!(
                "the last transaction is being committed for over {} s",
                self.patience.as_secs()
            ))),
        }
    }

    async fn last_in_time(&self) -> krafka::Result<Option<Last>> {
        loop {
            let options = DescribeTransactionsOptions::default().timeout(self.request_timeout);
            let mut answers =
                self.admin.describe_transactions([&self.transactional_id], options).await?;
            let described = match answers.remove(&self.transactional_id) {
                Some(Err(KrafkaError::Broker {
                    code: ErrorCode::TransactionalIdNotFound, ..
                }))
                | None => return Ok(None),
                Some(answer) => answer?,
            };
            let producer_id = described.producer_id;
            match outcome(&described.state) {
                Some(outcome) => return Ok(Some(Last { producer_id, outcome })),
                None => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Returns once none of these partitions waits for a marker of `last`, having written those that
    /// were forgotten. Only for a transaction that the coordinator is done with.
    pub(super) async fn complete(
        &self,
        partitions: &[TopicPartition],
        last: Last,
    ) -> Result<(), CentreError> {
        self.within(async {
            loop {
                let open = self.open(partitions, last.producer_id).await?;
                if open.is_empty() {
                    return Ok(());
                }
                for open in open {
                    self.write(&open, last).await?;
                }
            }
        })
        .await
    }

    /// Returns once a commit that the coordinator has acknowledged is to be seen in all of these
    /// partitions.
    pub(super) async fn see_committed(
        &mut self,
        partitions: &[TopicPartition],
        producer_id: i64,
    ) -> Result<(), CentreError> {
        if !self.is_offered || self.within(self.open(partitions, producer_id)).await?.is_empty() {
            return Ok(());
        }
        match self.last().await? {
            Some(last) if last.outcome == Outcome::Committed => {
                self.complete(partitions, Last { producer_id, ..last }).await
            }
            last => Err(CentreError::transient(format!(
                "the transaction that was just committed is the last one no more: {last:?}"
            ))),
        }
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = krafka::Result<T>>,
    ) -> Result<T, CentreError> {
        match tokio::time::timeout(self.patience, work).await {
            Ok(done) => done.map_err(|error| match error {
                KrafkaError::Broker { code: ErrorCode::TopicAuthorizationFailed, .. } => {
                    CentreError::refused(format!(
                        "see a transaction completed: the centre has to allow Read on the topics \
                         that the uplink writes to ({error})"
                    ))
                }
                KrafkaError::Broker { code: ErrorCode::ClusterAuthorizationFailed, .. } => {
                    CentreError::refused(format!(
                        "complete a transaction that the centre forgot: it has to allow Alter on \
                         the cluster for that ({error})"
                    ))
                }
                error => explain("see a transaction completed", &error),
            }),
            Err(_) => Err(CentreError::transient(format!(
                "a transaction was not completed within {} s",
                self.patience.as_secs()
            ))),
        }
    }

    /// Those of the partitions in which the producer has a transaction open. Partitions that are not
    /// there have none.
    async fn open(
        &self,
        partitions: &[TopicPartition],
        producer_id: i64,
    ) -> krafka::Result<Vec<Open>> {
        let options = DescribeProducersOptions::default().timeout(self.request_timeout);
        let answers = self.admin.describe_producers(partitions.to_vec(), options).await?;
        let mut open = Vec::new();
        for (partition, answer) in answers {
            let producers = match answer {
                Ok(producers) => producers,
                Err(error) if is_missing(&error) => continue,
                Err(error) => return Err(error),
            };
            let ours = producers.into_iter().find(|producer| {
                producer.producer_id == producer_id
                    && producer.current_transaction_start_offset.is_some()
            });
            if let Some(producer) = ours {
                open.push(Open {
                    partition,
                    // An `i32` on the wire, of an `i16`.
                    producer_epoch: i16::try_from(producer.producer_epoch).unwrap_or(i16::MAX),
                    // None has written a marker yet.
                    coordinator_epoch: producer.coordinator_epoch.max(0),
                });
            }
        }
        Ok(open)
    }

    async fn write(&self, open: &Open, last: Last) -> krafka::Result<()> {
        let TopicPartition { topic, partition, .. } = &open.partition;
        tracing::warn!(
            topic,
            partition,
            producer_id = last.producer_id,
            outcome = ?last.outcome,
            "uplink: the centre forgot to end a transaction here; ending it"
        );
        let marker = WritableTxnMarker {
            producer_id: last.producer_id,
            producer_epoch: open.producer_epoch,
            transaction_result: last.outcome == Outcome::Committed,
            topics: vec![WritableTxnMarkerTopic {
                name: topic.clone(),
                partition_indexes: vec![*partition],
            }],
            coordinator_epoch: open.coordinator_epoch,
            transaction_version: WritableTxnMarker::legacy_transaction_version(),
        };
        let request = WriteTxnMarkersRequest { markers: vec![marker] };
        let leader = kafka_metadata(&self.kafka).get_leader_connection(topic, *partition).await?;
        let write = |out: &mut _| request.encode_versioned(MARKERS_VERSION, out);
        let mut answer =
            leader.send_request(ApiKey::WriteTxnMarkers, MARKERS_VERSION, write).await?;
        let answer = WriteTxnMarkersResponse::decode_versioned(MARKERS_VERSION, &mut answer)?;
        let topics = answer.markers.into_iter().flat_map(|marker| marker.topics);
        for partition in topics.flat_map(|topic| topic.partitions) {
            if !partition.error_code.is_ok() {
                return Err(KrafkaError::broker(partition.error_code, "WriteTxnMarkers"));
            }
        }
        Ok(())
    }
}

/// What a coordinator's state of a transaction comes to; `None` while a commit is being completed.
/// A transaction that is open or being aborted is aborted by whoever takes its id over.
fn outcome(state: &str) -> Option<Outcome> {
    match state {
        "PrepareCommit" => None,
        "CompleteCommit" => Some(Outcome::Committed),
        _ => Some(Outcome::Aborted),
    }
}

fn is_not_offered(error: &KrafkaError) -> bool {
    matches!(
        error,
        KrafkaError::Protocol { kind: ProtocolErrorKind::UnknownApiVersion, .. }
            | KrafkaError::Broker { code: ErrorCode::UnsupportedVersion, .. }
    )
}
