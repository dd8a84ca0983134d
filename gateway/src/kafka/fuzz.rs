//! The Kafka server under fuzzing: any bytes as a request, through the decoder of its API and the handler behind it, on a
//! broker whose disk is memory.
//!
//! Compiled for tests and behind the feature `fuzz`, never into the product. `fuzz/`, a workspace of its own, feeds it
//! what libFuzzer finds by coverage.

use std::{net::SocketAddr, sync::Arc};

use bytes::{Bytes, BytesMut};
use kafka_wire::{
    AlterConfigsRequest, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClientQuotasRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
    DescribeProducersRequest, DescribeQuorumRequest, DescribeTopicPartitionsRequest,
    ElectLeadersRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, KafkaRequest,
    LeaveGroupRequest, ListConfigResourcesRequest, ListGroupsRequest, ListOffsetsRequest,
    ListPartitionReassignmentsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, OutboundFrameLimits, ProduceRequest,
    SyncGroupRequest, encode_request,
};
use kafka_wire_core::ApiVersion;
use tokio::{runtime::Runtime, task::yield_now};

use super::{
    budget::Charge,
    codec::LENGTH_BYTES,
    context::{Context, Endpoint},
    dispatch::{APIS, Pending, dispatch},
    frames::Frame,
};
use crate::{
    Shutdown,
    broker::{Broker, BrokerOptions, TopicDefaults},
    config::KafkaConfig,
    journal::{self, JournalOptions, sim::SimDisk},
};

/// How often what waits is looked at again before it is dropped.
const LOOKS: usize = 3;

/// The server's side of one connection, without a socket.
#[derive(Debug)]
pub struct Server {
    runtime: Runtime,
    context: Arc<Context>,
    peer: SocketAddr,
    endpoint: Endpoint,
}

impl Server {
    /// With a topic `t` of two partitions.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let options = JournalOptions { max_bytes: Some(64 << 20), ..JournalOptions::default() };
        let (journal, state) = journal::open(SimDisk::default(), &options).expect("a journal");
        let config = KafkaConfig::default();
        let options = BrokerOptions {
            default_partitions: config.default_partitions,
            auto_create_topics: config.auto_create_topics,
            max_message_bytes: 1 << 20,
            topic_defaults: TopicDefaults::default(),
        };
        let context = runtime.block_on(async {
            let broker = Broker::open(journal, state, options).await.expect("a broker");
            broker.create_topic("t", Some(2), Default::default()).await.expect("a topic");
            Arc::new(Context::new(&config, broker, Shutdown::new()))
        });
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        Self { runtime, context, peer, endpoint: Endpoint::of_socket(peer) }
    }

    /// Takes a request without its length; whether it was answered, or waits for an answer.
    ///
    /// # Panics
    /// If an answer does not have the length that it says.
    #[must_use]
    pub fn take(&self, request: &[u8]) -> bool {
        let frame = Frame { bytes: Bytes::copy_from_slice(request), charge: Charge::default() };
        self.runtime.block_on(async {
            let taken = dispatch(&self.context, self.peer, &self.endpoint, frame).await;
            let Ok(taken) = taken else { return false };
            let reply = match taken.pending {
                Pending::Ready(reply) => Ok(reply),
                Pending::Later(mut answer) => tokio::select! {
                    biased;
                    answered = &mut answer => answered,
                    () = looks() => return true,
                },
            };
            let Ok(reply) = reply else { return false };
            let bytes = reply.into_bytes();
            if let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() {
                assert_eq!(u32::from_be_bytes(*length) as usize, bytes.len() - LENGTH_BYTES);
            }
            true
        })
    }
}

/// Ends after what is ready had its turn a few times.
async fn looks() {
    for _ in 0..LOOKS {
        yield_now().await;
    }
}

/// A request of every API in every version, without its length: where mutations begin.
#[must_use]
pub fn examples() -> Vec<Vec<u8>> {
    let mut examples = Vec::new();
    macro_rules! of {
        ($($request:ident),* $(,)?) => { $(push::<$request>(&mut examples);)* };
    }
    of!(
        ProduceRequest,
        FetchRequest,
        ListOffsetsRequest,
        MetadataRequest,
        OffsetCommitRequest,
        OffsetFetchRequest,
        FindCoordinatorRequest,
        JoinGroupRequest,
        HeartbeatRequest,
        LeaveGroupRequest,
        SyncGroupRequest,
        DescribeGroupsRequest,
        ListGroupsRequest,
        ApiVersionsRequest,
        CreateTopicsRequest,
        DeleteTopicsRequest,
        DeleteRecordsRequest,
        InitProducerIdRequest,
        OffsetForLeaderEpochRequest,
        DescribeConfigsRequest,
        AlterConfigsRequest,
        DescribeLogDirsRequest,
        CreatePartitionsRequest,
        DeleteGroupsRequest,
        ElectLeadersRequest,
        IncrementalAlterConfigsRequest,
        ListPartitionReassignmentsRequest,
        OffsetDeleteRequest,
        DescribeClientQuotasRequest,
        DescribeQuorumRequest,
        DescribeClusterRequest,
        DescribeProducersRequest,
        ListConfigResourcesRequest,
        DescribeTopicPartitionsRequest,
    );
    examples
}

fn push<R: KafkaRequest + Default>(examples: &mut Vec<Vec<u8>>) {
    let api = APIS.iter().find(|api| api.key == R::API_KEY.value()).expect("it is served");
    for version in api.min..=api.max {
        let version = ApiVersion::new(version);
        let limits = OutboundFrameLimits::new(1 << 20);
        let mut frame = BytesMut::new();
        let client = Some("fuzz".into());
        // What a version cannot say has no example.
        if encode_request(&mut frame, 1, client, &R::default(), version, limits).is_ok() {
            examples.push(frame[LENGTH_BYTES..].to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        panic::{AssertUnwindSafe, catch_unwind},
    };

    use super::*;
    use crate::journal::{
        fuzz::{mutated, until::Until},
        sim::Random,
    };

    /// Mutated requests in a normal run.
    const INPUTS: usize = 100_000;

    #[test]
    fn every_api_has_an_example() {
        let keys = |bytes: &[u8]| i16::from_be_bytes([bytes[0], bytes[1]]);
        let of_examples: BTreeSet<i16> = examples().iter().map(|bytes| keys(bytes)).collect();
        assert_eq!(of_examples, APIS.iter().map(|api| api.key).collect());
    }

    #[test]
    fn mutated_requests_are_taken_or_refused() {
        let server = Server::start();
        let mut examples = examples();
        let mut random = Random(1);
        let until = Until::of_this_run(INPUTS);
        let (mut inputs, mut taken) = (0, 0);
        while !until.is_reached(inputs) {
            inputs += 1;
            let valid = &examples[random.below(examples.len() as u64) as usize];
            let mut input = mutated(valid, &mut random);
            if random.below(2) == 0 && input.len() > 4 {
                // Most mutations of the head name something that nobody serves.
                input[..4].copy_from_slice(&valid[..4]);
            }
            let run = catch_unwind(AssertUnwindSafe(|| server.take(&input)));
            let is_taken = run.unwrap_or_else(|_| panic!("{input:02x?}"));
            taken += usize::from(is_taken);
            if is_taken && examples.len() < 4_000 {
                examples.push(input);
            }
        }
        println!("shown: {inputs} requests, {taken} answered");
        assert!(taken > inputs / 20, "{taken} answered");
    }
}
