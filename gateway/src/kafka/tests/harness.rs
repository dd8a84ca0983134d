//! A gateway's Kafka server in this process, and a client that speaks single requests in chosen
//! versions.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_wire::{
    InitProducerIdRequest, KafkaRequest, MetadataRequest, OutboundFrameLimits, ProduceRequest,
    ProduceResponse, RequestResponsePair, encode_request,
    metadata_request::MetadataRequestTopic,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use kafka_wire_core::{ApiVersion, KafkaDecode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    Shutdown,
    broker::{Broker, BrokerOptions},
    config::KafkaConfig,
    journal::{self, Journal, JournalOptions, RealDisk},
    kafka::{Server, codec, timer::Patience},
    record::{Batch, BatchBuilder},
};

/// Nothing in these tests takes this long.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// A running server.
pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    pub(super) broker: Arc<Broker>,
    shutdown: Shutdown,
    server: JoinHandle<()>,
    journal: Journal,
}

impl Gateway {
    pub(super) async fn start(folder: &Path) -> Self {
        Self::start_with(folder, |_| {}).await
    }

    pub(super) async fn start_with(
        folder: &Path,
        configure: impl FnOnce(&mut KafkaConfig),
    ) -> Self {
        Self::start_patient(folder, Patience::default(), configure).await
    }

    pub(super) async fn start_patient(
        folder: &Path,
        patience: Patience,
        configure: impl FnOnce(&mut KafkaConfig),
    ) -> Self {
        let mut config = KafkaConfig { listen: ([127, 0, 0, 1], 0).into(), ..Default::default() };
        configure(&mut config);
        let disk = Arc::new(RealDisk::open(folder).expect("the folder is free"));
        // Aborted ranges of earlier runs are read again.
        let options =
            JournalOptions { max_bytes: Some(64 << 20), aborted_ranges: 0, ..Default::default() };
        let (journal, state) = journal::open(disk, &options).expect("the journal opens");
        let options = BrokerOptions {
            default_partitions: config.default_partitions,
            auto_create_topics: config.auto_create_topics,
            max_message_bytes: 1_048_588,
            topic_defaults: crate::broker::TopicDefaults::default(),
        };
        let broker = Broker::open(journal.clone(), state, options).await.expect("the broker opens");
        let server = Server::bind(&config, Arc::clone(&broker)).await.expect("a free port");
        let server = server.with_patience(patience).with_data_folder(folder);
        let address = server.local_addr();
        let shutdown = Shutdown::new();
        let server = tokio::spawn(server.run(shutdown.clone()));
        Self { address, broker, shutdown, server, journal }
    }

    /// Stops in order; the folder can be opened again.
    pub(super) async fn stop(self) {
        self.shutdown.request();
        timeout(SOON, self.server).await.expect("the server drains").expect("and does not panic");
        drop(self.broker);
        let journal = self.journal;
        tokio::task::spawn_blocking(move || journal.close())
            .await
            .expect("closing does not panic")
            .expect("the journal closes");
    }

    pub(super) fn bootstrap(&self) -> String {
        self.address.to_string()
    }
}

/// One connection.
pub(super) struct Wire {
    stream: TcpStream,
    correlation: i32,
}

impl Wire {
    pub(super) async fn connect(gateway: &Gateway) -> Self {
        let stream = TcpStream::connect(gateway.address).await.expect("the server accepts");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, correlation: 0 }
    }

    /// One request and its response.
    pub(super) async fn call<R: RequestResponsePair>(
        &mut self,
        version: i16,
        request: &R,
    ) -> R::Response {
        let id = self.send(version, request).await;
        self.receive::<R>(version, id).await
    }

    /// Sends without waiting; returns the correlation id.
    pub(super) async fn send<R: KafkaRequest>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation += 1;
        let frame = frame(version, self.correlation, request);
        self.send_bytes(&frame).await;
        self.correlation
    }

    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the server reads");
    }

    /// Sends what may be refused while it is being sent.
    pub(super) async fn try_send_bytes(&mut self, bytes: &[u8]) {
        let _ =
            timeout(SOON, self.stream.write_all(bytes)).await.expect("the server does not hang");
    }

    pub(super) async fn receive<R: RequestResponsePair>(
        &mut self,
        version: i16,
        correlation: i32,
    ) -> R::Response {
        let mut frame = self.receive_frame().await.expect("an answer");
        assert_eq!(frame.get_i32(), correlation, "answers come in the order of requests");
        let version = ApiVersion::new(version);
        let flexible = R::is_flexible(version);
        if kafka_wire::response_header_version(R::API_KEY, version, flexible) > 0 {
            assert_eq!(frame.get_u8(), 0, "no tagged fields in the header");
        }
        let mut limits = codec::limits();
        limits.max_array_elements = 1_000_000;
        R::Response::decode_from_bytes(frame, version, limits).expect("a response")
    }

    /// The next frame without its length; `None` when the server closed.
    pub(super) async fn receive_frame(&mut self) -> Option<Bytes> {
        timeout(SOON, async {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length).await.ok()?;
            let length = u32::from_be_bytes(length);
            assert!(length < 64 << 20, "a frame of {length} bytes");
            let mut frame = BytesMut::zeroed(length as usize);
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(frame.freeze())
        })
        .await
        .expect("an answer or the end")
    }

    /// Waits until the server cuts the connection, without reading what it sent.
    pub(super) async fn expect_cut(&mut self) {
        let cut = self.stream.ready(tokio::io::Interest::ERROR);
        timeout(SOON, cut).await.expect("the server cuts").expect("a socket");
    }

    /// Waits until the server closes, without another answer.
    pub(super) async fn expect_close(&mut self) {
        assert!(self.receive_frame().await.is_none(), "the server answers instead of closing");
    }
}

/// A whole request frame.
pub(super) fn frame<R: KafkaRequest>(version: i16, correlation: i32, request: &R) -> Bytes {
    let mut frame = BytesMut::new();
    let limits = OutboundFrameLimits::new(64 << 20);
    let version = ApiVersion::new(version);
    encode_request(&mut frame, correlation, Some("test".into()), request, version, limits)
        .expect("a request");
    frame.freeze()
}

/// A frame with a header of the given kind and any body.
pub(super) fn raw_frame(api_key: i16, version: i16, flexible: bool, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    frame.put_i16(api_key);
    frame.put_i16(version);
    frame.put_i32(1);
    frame.put_i16(-1);
    if flexible {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    let length = u32::try_from(frame.len() - 4).expect("small");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

pub(super) fn batch(values: &[&str]) -> Batch {
    batch_at(1_000, values)
}

/// Records one millisecond apart.
pub(super) fn batch_at(first_ms: i64, values: &[&str]) -> Batch {
    let mut builder = BatchBuilder::default();
    for (value, ms) in values.iter().zip(first_ms..) {
        builder.push(ms, None, Some(value.as_bytes()), &[]);
    }
    builder.finish().expect("not empty")
}

pub(super) fn produce_request(acks: i16, parts: &[(&str, i32, Bytes)]) -> ProduceRequest {
    let mut request = ProduceRequest::default();
    request.acks = acks;
    request.timeout_ms = 1000;
    for (topic, index, records) in parts {
        let mut data = PartitionProduceData::default();
        data.index = *index;
        data.records = Some(records.clone());
        let mut topic_data = TopicProduceData::default();
        topic_data.name = (*topic).into();
        topic_data.partition_data = vec![data];
        request.topic_data.push(topic_data);
    }
    request
}

/// Error code and base offset of the only partition.
pub(super) fn produced(response: &ProduceResponse) -> (i16, i64) {
    let partition = &response.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

/// Appends values to partition 0 and waits until they are durable; returns the base offset.
pub(super) async fn append(wire: &mut Wire, topic: &str, values: &[&str]) -> i64 {
    append_to(wire, topic, 0, values).await
}

/// As [`append`], to any partition.
pub(super) async fn append_to(
    wire: &mut Wire,
    topic: &str,
    partition: i32,
    values: &[&str],
) -> i64 {
    let request = produce_request(-1, &[(topic, partition, batch(values).bytes().clone())]);
    let (code, base) = produced(&wire.call(9, &request).await);
    assert_eq!(code, 0);
    base
}

pub(super) async fn create(gateway: &Gateway, topic: &str, partitions: u32) {
    gateway
        .broker
        .create_topic(topic, Some(partitions), std::collections::BTreeMap::new())
        .await
        .expect("a new topic");
}

pub(super) fn no_transactions() -> InitProducerIdRequest {
    let mut request = InitProducerIdRequest::default();
    request.transactional_id = None;
    request
}

pub(super) async fn producer_id(wire: &mut Wire) -> i64 {
    let response = wire.call(4, &no_transactions()).await;
    assert_eq!((response.error_code, response.producer_epoch), (0, 0));
    response.producer_id
}

pub(super) fn metadata_request(topics: Option<&[&str]>, may_create: bool) -> MetadataRequest {
    let mut request = MetadataRequest::default();
    request.allow_auto_topic_creation = may_create;
    request.topics = topics.map(|topics| {
        topics
            .iter()
            .map(|&name| {
                let mut topic = MetadataRequestTopic::default();
                topic.name = Some(name.into());
                topic
            })
            .collect()
    });
    request
}
