//! DescribeQuorum: the one node is all of the quorum, and the journal what it agrees on with itself (KIP-595).

use std::sync::Arc;

use kafka_wire::{
    DescribeQuorumRequest, DescribeQuorumResponse, describe_quorum_request,
    describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData},
};

use crate::kafka::{
    codec::StrBytes,
    context::{Context, NODE_ID},
    dispatch::{Call, Pending},
    error_code::ErrorCode,
    refusal::Refusal,
};

/// The topic that Kafka's controllers keep the cluster's state in; it has one partition.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// First version with messages and the nodes' addresses.
const MESSAGES_FROM: i16 = 2;

/// Name of the only listener.
const LISTENER: &str = "PLAINTEXT";

/// A replica that no other one fetches from has no such time.
const NO_TIME: i64 = -1;

pub(crate) fn handle(context: &Arc<Context>, call: &mut Call) -> Result<Pending, Refusal> {
    let request: DescribeQuorumRequest = call.decode()?;
    let mut response = DescribeQuorumResponse::default();
    let has_messages = call.version() >= MESSAGES_FROM;
    response.error_message = has_messages.then(StrBytes::default);
    // One partition can be asked for, and one at a time.
    let is_one = matches!(&request.topics[..], [topic] if topic.partitions.len() == 1);
    let mut is_known = false;
    for asked in request.topics {
        let is_metadata = is_one && asked.topic_name.as_str() == METADATA_TOPIC;
        let mut topic = TopicData::default();
        topic.topic_name = asked.topic_name;
        for describe_quorum_request::PartitionData { partition_index, .. } in asked.partitions {
            let is_it = is_metadata && partition_index == 0;
            is_known |= is_it;
            let mut partition = match is_it {
                true => quorum(context),
                false => unknown(partition_index),
            };
            partition.error_message = partition.error_message.filter(|_| has_messages);
            topic.partitions.push(partition);
        }
        response.topics.push(topic);
    }
    if is_known && has_messages {
        response.nodes = vec![node(call)];
    }
    call.answer(&response)
}

fn quorum(context: &Context) -> PartitionData {
    let (leader_epoch, end) = context.broker.quorum();
    let end = i64::try_from(end).unwrap_or(i64::MAX);
    let mut voter = ReplicaState::default();
    voter.replica_id = NODE_ID;
    voter.log_end_offset = end;
    voter.last_fetch_timestamp = NO_TIME;
    voter.last_caught_up_timestamp = NO_TIME;
    let mut partition = PartitionData::default();
    partition.error_message = Some(StrBytes::default());
    partition.leader_id = NODE_ID;
    partition.leader_epoch = leader_epoch;
    partition.high_watermark = end;
    partition.current_voters = vec![voter];
    partition
}

fn unknown(index: i32) -> PartitionData {
    let mut partition = PartitionData::default();
    partition.partition_index = index;
    partition.error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
    partition.error_message = Some("This server does not host this topic-partition.".into());
    partition
}

fn node(call: &Call) -> Node {
    let mut listener = Listener::default();
    listener.name = LISTENER.into();
    listener.host = call.endpoint.host.clone();
    listener.port = u16::try_from(call.endpoint.port).unwrap_or_default();
    let mut node = Node::default();
    node.node_id = NODE_ID;
    node.listeners = vec![listener];
    node
}
