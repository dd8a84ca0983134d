//! The table of served APIs, and the way of one request from its frame to its handler.
//!
//! Adding an API is a file in `api/`, a line here and one in `apis.toml`. The set is Apache Kafka
//! 4.3's, as far as it is served: clients that infer the broker's release from single entries must
//! find one release.

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use kafka_wire::{
    AlterConfigsRequest, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClientQuotasRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
    DescribeProducersRequest, DescribeQuorumRequest, DescribeTopicPartitionsRequest,
    ElectLeadersRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, KafkaMessage,
    KafkaRequest, KafkaResponse, LeaveGroupRequest, ListConfigResourcesRequest, ListGroupsRequest,
    ListOffsetsRequest, ListPartitionReassignmentsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest,
    SyncGroupRequest,
};

use super::{
    api,
    budget::Charge,
    codec::{self, FixedHead, Head},
    context::{Context, Endpoint},
    frames::Frame,
    output::{FrameWriter, Reply},
    refusal::Refusal,
};

/// The only API whose requests may be large, and may overtake the durability of earlier ones.
pub(crate) const PRODUCE_KEY: i16 = 0;

/// Control requests above this size are decoded one at a time: an empty string is one byte on the
/// wire and 32 decoded, and vectors grow by doubling.
const LARGE_CONTROL_BYTES: usize = 16 * 1024;

/// Every API that is served.
#[rustfmt::skip]
pub(crate) static APIS: &[Api] = &[
    // Clients before librdkafka 2.11.1 compress only for brokers that list version 0 of Produce.
    Api::of::<ProduceRequest>(3, 13, api::produce::handle).listed_from(0),
    Api::of::<FetchRequest>(4, 18, api::fetch::handle),
    Api::of::<ListOffsetsRequest>(1, 11, api::list_offsets::handle),
    Api::of::<MetadataRequest>(0, 13, api::metadata::handle),
    Api::of::<OffsetCommitRequest>(2, 10, api::offset_commit::handle),
    Api::of::<OffsetFetchRequest>(1, 10, api::offset_fetch::handle),
    Api::of::<FindCoordinatorRequest>(0, 6, api::find_coordinator::handle),
    Api::of::<JoinGroupRequest>(0, 9, api::join_group::handle),
    Api::of::<HeartbeatRequest>(0, 4, api::heartbeat::handle),
    Api::of::<LeaveGroupRequest>(0, 5, api::leave_group::handle),
    Api::of::<SyncGroupRequest>(0, 5, api::sync_group::handle),
    Api::of::<DescribeGroupsRequest>(0, 6, api::describe_groups::handle),
    Api::of::<ListGroupsRequest>(0, 5, api::list_groups::handle),
    Api::of::<ApiVersionsRequest>(0, 4, api::api_versions::handle),
    Api::of::<CreateTopicsRequest>(2, 7, api::create_topics::handle),
    Api::of::<DeleteTopicsRequest>(1, 6, api::delete_topics::handle),
    Api::of::<DeleteRecordsRequest>(0, 2, api::delete_records::handle),
    Api::of::<InitProducerIdRequest>(0, 5, api::init_producer_id::handle),
    Api::of::<OffsetForLeaderEpochRequest>(2, 4, api::offset_for_leader_epoch::handle),
    Api::of::<DescribeConfigsRequest>(1, 4, api::describe_configs::handle),
    Api::of::<AlterConfigsRequest>(0, 2, api::alter_configs::handle),
    Api::of::<DescribeLogDirsRequest>(1, 5, api::describe_log_dirs::handle),
    Api::of::<CreatePartitionsRequest>(0, 3, api::create_partitions::handle),
    Api::of::<DeleteGroupsRequest>(0, 2, api::delete_groups::handle),
    Api::of::<ElectLeadersRequest>(0, 2, api::elect_leaders::handle),
    Api::of::<IncrementalAlterConfigsRequest>(0, 1, api::incremental_alter_configs::handle),
    Api::of::<ListPartitionReassignmentsRequest>(0, 0, api::list_partition_reassignments::handle),
    Api::of::<OffsetDeleteRequest>(0, 0, api::offset_delete::handle),
    Api::of::<DescribeClientQuotasRequest>(0, 1, api::describe_client_quotas::handle),
    Api::of::<DescribeQuorumRequest>(0, 2, api::describe_quorum::handle),
    Api::of::<DescribeClusterRequest>(0, 2, api::describe_cluster::handle),
    Api::of::<DescribeProducersRequest>(0, 0, api::describe_producers::handle),
    Api::of::<ListConfigResourcesRequest>(0, 1, api::list_config_resources::handle),
    Api::of::<DescribeTopicPartitionsRequest>(0, 0, api::describe_topic_partitions::handle),
];

/// How a handler takes a request: everything that must happen in the order of requests happens
/// before it returns.
type Handler = fn(&Arc<Context>, &mut Call) -> Result<Pending, Refusal>;

/// One served API.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) key: i16,
    pub(crate) name: &'static str,
    /// Versions served.
    pub(crate) min: i16,
    pub(crate) max: i16,
    /// Lowest version told to clients.
    pub(crate) listed_min: i16,
    /// First version with compact encoding and tagged fields.
    flexible_from: i16,
    handle: Handler,
}

impl Api {
    /// Versions `min` to `max`, which the wire codec must know.
    const fn of<M: KafkaRequest>(min: i16, max: i16, handle: Handler) -> Self {
        let known = M::SUPPORTED_VERSIONS;
        assert!(known.min().value() <= min && max <= known.max().value());
        let flexible_from = match M::FLEXIBLE_VERSIONS {
            Some(range) => range.min().value(),
            None => i16::MAX,
        };
        Self {
            key: M::API_KEY.value(),
            name: M::NAME,
            min,
            max,
            listed_min: min,
            flexible_from,
            handle,
        }
    }

    const fn listed_from(mut self, version: i16) -> Self {
        self.listed_min = version;
        self
    }

    /// Whether a version has compact encoding and tagged fields.
    pub(crate) fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }

    fn by_key(key: i16) -> Option<&'static Self> {
        APIS.iter().find(|api| api.key == key)
    }
}

/// A request on its way to its handler.
#[derive(Debug)]
pub(crate) struct Call {
    api: &'static Api,
    pub(crate) head: Head,
    body: Bytes,
    charge: Charge,
    /// Who asks.
    pub(crate) peer: SocketAddr,
    /// How this client reaches the gateway.
    pub(crate) endpoint: Endpoint,
}

/// What a handler returns: the answer, or what will become of it once the disk, other members or
/// new data allow.
pub(crate) enum Pending {
    Ready(Reply),
    Later(Answer),
}

/// An answer that is waited for.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send>>;

/// A request that was taken: its answer, and the memory that it holds until then.
pub(crate) struct Taken {
    pub(crate) pending: Pending,
    pub(crate) charge: Charge,
}

/// Takes one request.
pub(crate) async fn dispatch(
    context: &Arc<Context>,
    peer: SocketAddr,
    endpoint: &Endpoint,
    frame: Frame,
) -> Result<Taken, Refusal> {
    let Frame { bytes, charge } = frame;
    let fixed = FixedHead::peek(&bytes).ok_or(Refusal::NoHeader(bytes.len()))?;
    let api = Api::by_key(fixed.api_key).ok_or(Refusal::UnknownApi(fixed.api_key))?;
    let version = fixed.version;
    if version < api.min || version > api.max {
        return match api.key {
            // The one version error that a client can be told: this is how it finds the versions.
            api::api_versions::KEY => {
                let reply = api::api_versions::unsupported(fixed)?;
                Ok(Taken { pending: Pending::Ready(reply), charge })
            }
            _ => Err(Refusal::UnsupportedVersion { api: api.name, version }),
        };
    }
    let _turn = match api.key != PRODUCE_KEY && bytes.len() > LARGE_CONTROL_BYTES {
        true => context.large_decodes.acquire().await.ok(),
        false => None,
    };
    let (head, body) = fixed
        .finish(bytes, api.is_flexible(version))
        .map_err(|error| Refusal::Malformed { api: api.name, version, error })?;
    let mut call = Call { api, head, body, charge, peer, endpoint: endpoint.clone() };
    let pending = (api.handle)(context, &mut call)?;
    Ok(Taken { pending, charge: call.charge })
}

impl Call {
    /// Decodes the body.
    pub(crate) fn decode<M: KafkaMessage>(&mut self) -> Result<M, Refusal> {
        let body = self.body();
        codec::decode(body, self.head.version).map_err(|error| self.malformed(error))
    }

    /// The undecoded body, for requests that are decoded by hand.
    pub(crate) fn body(&mut self) -> Bytes {
        std::mem::take(&mut self.body)
    }

    /// Wraps an error of the decoder.
    pub(crate) fn malformed(&self, error: kafka_wire_core::DecodeError) -> Refusal {
        Refusal::Malformed { api: self.api.name, version: self.head.version, error }
    }

    /// Version of the request.
    pub(crate) fn version(&self) -> i16 {
        self.head.version
    }

    /// Encodes the answer now.
    pub(crate) fn answer<R: KafkaResponse>(&self, response: &R) -> Result<Pending, Refusal> {
        Ok(Pending::Ready(codec::encode(&self.head, response)?))
    }

    /// Answers when the response is there.
    pub(crate) fn answer_later<R: KafkaResponse + Send>(
        &self,
        response: impl Future<Output = R> + Send + 'static,
    ) -> Pending {
        let head = self.head.clone();
        Pending::Later(Box::pin(async move { Ok(codec::encode(&head, &response.await)?) }))
    }

    /// Begins a response that is encoded by hand.
    pub(crate) fn frame_start(&self) -> FrameWriter {
        let mut start = BytesMut::with_capacity(256);
        codec::start_frame(
            &mut start,
            self.head.correlation_id,
            self.api.is_flexible(self.head.version),
        );
        FrameWriter::new(start)
    }
}
