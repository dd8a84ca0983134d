//! The bridge against a broker that follows a script.

use std::{collections::BTreeMap, time::Duration};

use bytes::BytesMut;
use rumqttc::{
    ConnAck, ConnectReturnCode, Error, Packet, Publish, QoS, SubAck, SubscribeReasonCode,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::*;
use crate::{
    broker::tests::{
        full::fill,
        gate::{Gate, Sync},
        open, open_gated,
    },
    journal::Offset,
    record::{Batch, BatchBuilder, Record},
};

const DEADLINE: Duration = Duration::from_secs(60);
const GOOD: SubscribeReasonCode = SubscribeReasonCode::Success(QoS::AtLeastOnce);

/// A bridge that runs, and the listener that it connects to.
struct Fixture {
    broker: Arc<Broker>,
    watch: BridgeWatch,
    shutdown: Shutdown,
    task: JoinHandle<()>,
    listener: TcpListener,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let broker = open(folder.path()).await;
        Self::on(folder, broker, settings).await
    }

    /// On a disk whose syncs can be held up or made to fail.
    async fn gated() -> (Self, Gate) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (broker, gate) = open_gated(folder.path()).await;
        (Self::on(folder, broker, &[]).await, gate)
    }

    async fn on(folder: tempfile::TempDir, broker: Arc<Broker>, settings: &[(&str, &str)]) -> Self {
        let settings: BTreeMap<String, String> = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        broker.create_topic("mqtt", None, settings).await.expect("created");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound").to_string();
        let bridge = Bridge::new(config(&address, &["a/#", "b"]), Arc::clone(&broker));
        let (watch, shutdown) = (bridge.watch(), Shutdown::new());
        let task = tokio::spawn(bridge.run(shutdown.clone()));
        Self { broker, watch, shutdown, task, listener, _folder: folder }
    }

    /// The bridge's next connection.
    async fn accept(&self, session_present: bool) -> Peer {
        let (stream, _) =
            timeout(DEADLINE, self.listener.accept()).await.expect("in time").expect("accepted");
        let mut peer = Peer { stream, buffer: BytesMut::new() };
        match peer.next().await {
            Packet::Connect(connect) => {
                assert!(!connect.clean_session);
                assert_eq!(connect.client_id, "bridge-1");
            }
            other => panic!("{other:?} in place of CONNECT"),
        }
        peer.send(Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, session_present))).await;
        peer
    }

    async fn accept_new(&self) -> Peer {
        let mut peer = self.accept(false).await;
        peer.subscribe(vec![GOOD, GOOD]).await;
        peer
    }

    /// Appends of others until storage takes nothing more.
    async fn fill(&self) {
        let partition = self.broker.topic("mqtt").expect("there").partitions[0];
        fill(&self.broker, partition, |bytes| {
            let mut batch = BatchBuilder::default();
            batch.push(0, None, Some(&vec![b'x'; bytes]), &[]);
            batch.finish().expect("not empty")
        })
        .await;
    }

    async fn records(&self, topic: &str) -> Vec<Record> {
        let Some(topic) = self.broker.topic(topic) else { return Vec::new() };
        let partition = topic.partitions[0];
        let mut records = Vec::new();
        let mut next = Offset(0);
        while next < self.broker.ends(partition).durable {
            for bytes in self.broker.read(partition, next, 1 << 20).await.expect("readable") {
                records.extend(
                    Batch::parse_stored(bytes)
                        .expect("a batch")
                        .records(1 << 24)
                        .expect("readable"),
                );
            }
            next = Offset(records.last().map_or(0, |record| record.offset + 1));
        }
        records
    }

    async fn values(&self) -> Vec<String> {
        let records = self.records("mqtt").await;
        records.iter().map(|record| text(record.value.as_deref())).collect()
    }

    async fn wait(&self, is: impl Fn(&BridgeStatus) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !is(&self.watch.status()) {
            assert!(Instant::now() < end, "{:?}", self.watch.status());
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) {
        self.shutdown.request();
        timeout(Duration::from_secs(2), self.task).await.expect("within 2 s").expect("no panic");
    }
}

fn config(broker: &str, filters: &[&str]) -> BridgeConfig {
    BridgeConfig {
        broker: broker.into(),
        client_id: "bridge-1".into(),
        filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
        topic: "mqtt".into(),
        username: None,
        password: None,
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.expect("present").to_vec()).expect("UTF-8")
}

/// The broker's end of one connection.
struct Peer {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    async fn send(&mut self, packet: Packet) {
        let mut out = BytesMut::new();
        packet.write(&mut out, usize::MAX).expect("encodes");
        self.stream.write_all(&out).await.expect("sent");
    }

    /// The next packet but pings, which it answers.
    async fn next(&mut self) -> Packet {
        timeout(DEADLINE, async {
            loop {
                match Packet::read(&mut self.buffer, usize::MAX) {
                    Ok(Packet::PingReq) => self.send(Packet::PingResp).await,
                    Ok(packet) => return packet,
                    Err(Error::InsufficientBytes(_)) => {
                        let len = self.stream.read_buf(&mut self.buffer).await.expect("readable");
                        assert!(len > 0, "the bridge closed");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await
        .expect("in time")
    }

    async fn subscribe(&mut self, codes: Vec<SubscribeReasonCode>) {
        match self.next().await {
            Packet::Subscribe(subscribe) => {
                let filters: Vec<(&str, QoS)> = subscribe
                    .filters
                    .iter()
                    .map(|filter| (filter.path.as_str(), filter.qos))
                    .collect();
                assert_eq!(filters, [("a/#", QoS::AtLeastOnce), ("b", QoS::AtLeastOnce)]);
                self.send(Packet::SubAck(SubAck::new(subscribe.pkid, codes))).await;
            }
            other => panic!("{other:?} in place of SUBSCRIBE"),
        }
    }

    async fn publish(&mut self, packet_id: u16, payload: &str) {
        self.publish_as(packet_id, payload, |_| {}).await;
    }

    async fn publish_as(&mut self, packet_id: u16, payload: &str, change: impl Fn(&mut Publish)) {
        let qos = if packet_id == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let mut publish = Publish::new("a/b", qos, payload);
        publish.pkid = packet_id;
        change(&mut publish);
        self.send(Packet::Publish(publish)).await;
    }

    async fn acks(&mut self, count: usize) -> Vec<u16> {
        let mut ids = Vec::new();
        while ids.len() < count {
            match self.next().await {
                Packet::PubAck(puback) => ids.push(puback.pkid),
                other => panic!("{other:?} in place of PUBACK"),
            }
        }
        ids
    }
}

#[tokio::test]
async fn messages_become_records_and_are_acknowledged_in_order() {
    let fixture = Fixture::start(&[]).await;
    let mut peer = fixture.accept_new().await;
    let ids: Vec<u16> = (1..=500).map(|at| at * 31 % 65_535).collect();
    for id in &ids {
        peer.publish(*id, &id.to_string()).await;
    }
    assert_eq!(peer.acks(ids.len()).await, ids);
    let records = fixture.records("mqtt").await;
    assert_eq!(
        records.iter().map(|record| text(record.value.as_deref())).collect::<Vec<_>>(),
        ids.iter().map(ToString::to_string).collect::<Vec<_>>()
    );
    assert!(records.iter().all(|record| text(record.key.as_deref()) == "a/b"));
    assert!(records.iter().all(|record| record.headers.is_empty()));
    let status = fixture.watch.status();
    assert_eq!((status.received, status.acknowledged, status.rejected), (500, 500, 0));
    assert!(status.connected);
    fixture.stop().await;
}

#[tokio::test]
async fn unacknowledged_and_retained_messages_are_records_too() {
    let fixture = Fixture::start(&[]).await;
    let mut peer = fixture.accept_new().await;
    peer.publish(0, "fire and forget").await;
    peer.publish_as(1, "", |publish| publish.retain = true).await;
    assert_eq!(peer.acks(1).await, [1]);
    assert_eq!(fixture.values().await, ["fire and forget", ""]);
    let records = fixture.records("mqtt").await;
    assert_eq!(records[1].headers.len(), 1);
    assert_eq!(&records[1].headers[0].0[..], b"retain");
    fixture.stop().await;
}

#[tokio::test]
async fn what_was_in_flight_when_the_line_broke_is_not_lost() {
    let fixture = Fixture::start(&[]).await;
    let mut peer = fixture.accept_new().await;
    for id in 1..=20 {
        peer.publish(id, &id.to_string()).await;
    }
    drop(peer);
    // The session is there: no second SUBSCRIBE, and everything again with DUP.
    let mut peer = fixture.accept(true).await;
    for id in 1..=20 {
        peer.publish_as(id, &id.to_string(), |publish| publish.dup = true).await;
    }
    peer.publish(21, "21").await;
    assert_eq!(peer.acks(21).await, (1..=21).collect::<Vec<u16>>());
    let mut values = fixture.values().await;
    values.sort_unstable_by_key(|value| value.parse::<u16>().expect("a number"));
    values.dedup();
    assert_eq!(values, (1..=21).map(|id| id.to_string()).collect::<Vec<_>>());
    fixture.stop().await;
}

#[tokio::test]
async fn a_lost_session_is_subscribed_anew() {
    let fixture = Fixture::start(&[]).await;
    let peer = fixture.accept_new().await;
    fixture.wait(|status| status.connected).await;
    drop(peer);
    let mut peer = fixture.accept_new().await;
    peer.publish(1, "x").await;
    assert_eq!(peer.acks(1).await, [1]);
    fixture.stop().await;
}

#[tokio::test]
async fn a_message_that_cannot_be_stored_is_replaced_and_acknowledged_in_its_turn() {
    let fixture = Fixture::start(&[("max.message.bytes", "400")]).await;
    let mut peer = fixture.accept_new().await;
    let large = "x".repeat(1000);
    for (id, payload) in [(1, "before"), (2, &large), (3, "between"), (4, &large), (5, "after")] {
        peer.publish(id, payload).await;
    }
    assert_eq!(peer.acks(5).await, [1, 2, 3, 4, 5]);
    assert_eq!(fixture.values().await, ["before", "between", "after"]);
    let rejected = fixture.records("mqtt-rejected").await;
    assert_eq!(rejected.len(), 2);
    for record in rejected {
        assert_eq!((text(record.key.as_deref()), record.value), ("a/b".into(), None));
        let headers: BTreeMap<String, String> = record
            .headers
            .iter()
            .map(|(name, value)| (text(Some(name)), text(value.as_deref())))
            .collect();
        assert_eq!(headers["bytes"], "1000");
        assert_eq!(headers["source"], "bridge-1");
        assert!(headers["reason"].contains("max.message.bytes"), "{headers:?}");
    }
    assert_eq!(fixture.watch.status().rejected, 2);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_before_it_is_durable() {
    let (fixture, gate) = Fixture::gated().await;
    let mut peer = fixture.accept_new().await;
    gate.set(Sync::Wait);
    for id in 1..=50 {
        peer.publish(id, "x").await;
    }
    fixture.wait(|status| status.received == 50).await;
    let early = timeout(Duration::from_millis(500), peer.stream.read_buf(&mut peer.buffer)).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(fixture.watch.status().acknowledged, 0);
    gate.set(Sync::Pass);
    assert_eq!(peer.acks(50).await, (1..=50).collect::<Vec<_>>());
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_storage_holds_messages_and_drops_none() {
    let (fixture, gate) = Fixture::gated().await;
    let mut peer = fixture.accept_new().await;
    gate.set(Sync::Wait);
    fixture.fill().await;
    for id in 1..=50 {
        peer.publish(id, &format!("message {id}")).await;
    }
    fixture.wait(|status| status.blocked && status.last_error.is_some()).await;
    gate.set(Sync::Pass);
    assert_eq!(peer.acks(50).await, (1..=50).collect::<Vec<_>>());
    fixture.wait(|status| !status.blocked && status.last_error.is_none()).await;
    let values = fixture.values().await;
    let messages: Vec<&String> =
        values.iter().filter(|value| value.starts_with("message")).collect();
    assert_eq!(
        messages,
        (1..=50).map(|id| format!("message {id}")).collect::<Vec<_>>().iter().collect::<Vec<_>>()
    );
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_journal_stops_the_bridge_and_says_so() {
    let (fixture, gate) = Fixture::gated().await;
    let mut peer = fixture.accept_new().await;
    gate.set(Sync::Fail);
    peer.publish(1, "x").await;
    fixture
        .wait(|status| status.last_error.as_deref().is_some_and(|error| error.contains("planted")))
        .await;
    assert_eq!(peer.stream.read_buf(&mut peer.buffer).await.expect("closed"), 0);
    assert_eq!(fixture.watch.status().acknowledged, 0);
    fixture.stop().await;
}

#[tokio::test]
async fn a_refused_filter_is_reported() {
    let fixture = Fixture::start(&[]).await;
    let mut peer = fixture.accept(false).await;
    peer.subscribe(vec![GOOD, SubscribeReasonCode::Failure]).await;
    fixture
        .wait(|status| status.last_error.as_deref().is_some_and(|error| error.contains("\"b\"")))
        .await;
    // The other one serves on.
    peer.publish(1, "x").await;
    assert_eq!(peer.acks(1).await, [1]);
    fixture.stop().await;
}

#[tokio::test]
async fn a_broker_that_is_away_is_waited_for() {
    let fixture = Fixture::start(&[]).await;
    for _ in 0..2 {
        let (stream, _) = fixture.listener.accept().await.expect("accepted");
        drop(stream);
        fixture.wait(|status| !status.connected && status.last_error.is_some()).await;
    }
    let mut peer = fixture.accept_new().await;
    peer.publish(1, "x").await;
    assert_eq!(peer.acks(1).await, [1]);
    fixture.wait(|status| status.connected && status.last_error.is_none()).await;
    fixture.stop().await;
}

#[tokio::test]
async fn a_stop_says_goodbye_behind_the_last_acknowledgement() {
    let fixture = Fixture::start(&[]).await;
    let mut peer = fixture.accept_new().await;
    for id in 1..=10 {
        peer.publish(id, "x").await;
    }
    fixture.wait(|status| status.received == 10).await;
    fixture.shutdown.request();
    let mut acks = Vec::new();
    loop {
        match peer.next().await {
            Packet::PubAck(puback) => acks.push(puback.pkid),
            Packet::Disconnect => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(acks, (1..=acks.len() as u16).collect::<Vec<_>>());
    assert_eq!(fixture.values().await.len(), acks.len());
    fixture.stop().await;
}

#[tokio::test]
async fn an_impossible_configuration_is_reported() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broker = open(folder.path()).await;
    for (config, expect) in [
        (config("host:x", &["a"]), "port"),
        (config("host", &[]), "filters"),
        (config("host", &["a/#/b"]), "\"a/#/b\""),
        (BridgeConfig { client_id: String::new(), ..config("host", &["a"]) }, "client_id"),
    ] {
        let bridge = Bridge::new(config, Arc::clone(&broker));
        let (watch, shutdown) = (bridge.watch(), Shutdown::new());
        shutdown.request();
        bridge.run(shutdown).await;
        let error = watch.status().last_error.unwrap_or_default();
        assert!(error.contains(expect), "{error:?} says nothing of {expect}");
    }
}

#[test]
fn reads_addresses() {
    for (text, expect) in [
        ("127.0.0.1:1884", Some(("127.0.0.1", 1884))),
        ("broker.local", Some(("broker.local", 1883))),
        ("mqtt://broker.local:1", Some(("broker.local", 1))),
        ("[::1]:1884", Some(("[::1]", 1884))),
        ("[::1]", Some(("[::1]", 1883))),
        ("", None),
        (":1883", None),
        ("host:port", None),
        ("host:70000", None),
    ] {
        let expect = expect.map(|(host, port)| (host.to_owned(), port));
        assert_eq!(address(text).ok(), expect, "{text}");
    }
}
