//! A gateway reduced to journal, broker and device room, in a folder that outlives it.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use headwater_protocol::StreamId;
use tokio::{
    io::DuplexStream,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    Shutdown,
    broker::{
        Broker,
        tests::{full::fill, gate::Gate, open, open_on},
    },
    config::UnknownDevices,
    device::{
        DeviceStatus,
        command::{self, Topics},
        connection::{self, Ended, Patience},
        hub::{Hub, HubOptions},
    },
    journal::{Offset, RealDisk},
    record::{Batch, BatchBuilder},
};

pub(super) const TOPIC: &str = "readings";
pub(super) const CLOCKS: &str = "device-clocks";
pub(super) const COMMANDS: &str = "device-commands";
pub(super) const RESULTS: &str = "device-results";
/// Smaller than a window, so that both ends have to wait for each other.
const PIPE_BYTES: usize = 1024;
const DEADLINE: Duration = Duration::from_secs(60);

/// See the module's documentation.
pub(super) struct Gateway {
    pub(super) broker: Arc<Broker>,
    pub(super) hub: Hub,
    pub(super) shutdown: Shutdown,
    connections: JoinSet<Ended>,
    commands: JoinSet<()>,
}

/// A record of the readings' topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The device, or what else the key is.
    pub(super) device: String,
    pub(super) at_ms: i64,
    pub(super) value: serde_json::Value,
    pub(super) headers: BTreeMap<String, String>,
}

pub(super) fn options() -> HubOptions {
    HubOptions {
        topic: TOPIC.into(),
        clocks_topic: CLOCKS.into(),
        max_devices: 100,
        unknown: UnknownDevices::Accept,
        headers: Vec::new(),
    }
}

impl Gateway {
    pub(super) async fn open(folder: &Path) -> Self {
        Self::with_devices(folder, 100).await
    }

    pub(super) async fn with_devices(folder: &Path, most: usize) -> Self {
        Self::on(open(folder).await, most).await
    }

    /// On a disk whose syncs can be held up or made to fail.
    pub(super) async fn gated(folder: &Path) -> (Self, Gate) {
        let gate = Gate::new();
        let disk = RealDisk::open(folder).expect("not open");
        let broker = open_on(gate.before(disk)).await;
        (Self::on(broker, 100).await, gate)
    }

    pub(super) async fn on(broker: Arc<Broker>, most: usize) -> Self {
        Self::with_options(broker, HubOptions { max_devices: most, ..options() }).await
    }

    pub(super) async fn with_options(broker: Arc<Broker>, options: HubOptions) -> Self {
        let (sender, reports) = tokio::sync::mpsc::channel(command::MAX_REPORTS);
        let hub = Hub::open(Arc::clone(&broker), options, sender).await.expect("opens");
        let shutdown = Shutdown::new();
        let topics = Topics { commands: COMMANDS.into(), results: RESULTS.into() };
        let mut commands = JoinSet::new();
        commands.spawn(command::run(topics, hub.clone(), reports, shutdown.clone()));
        Self { broker, hub, shutdown, connections: JoinSet::new(), commands }
    }

    /// A new connection; the device's end of it.
    pub(super) fn connect(&mut self) -> DuplexStream {
        self.connect_with(Patience::TCP)
    }

    pub(super) fn connect_with(&mut self, patience: Patience) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let (hub, shutdown) = (self.hub.clone(), self.shutdown.clone());
        self.connections.spawn(async move {
            connection::serve(ours, "test".into(), patience, &hub, &shutdown).await
        });
        theirs
    }

    /// How the next connection ended.
    pub(super) async fn ended(&mut self) -> Ended {
        let ended = tokio::time::timeout(DEADLINE, self.connections.join_next()).await;
        ended.expect("in time").expect("a connection").expect("no panic")
    }

    /// Cuts everything off in mid-flight, as far as that is possible within a process.
    pub(super) async fn kill(mut self) {
        self.connections.shutdown().await;
        self.commands.shutdown().await;
        drop(self.hub);
        assert_eq!(Arc::strong_count(&self.broker), 1, "somebody still holds the broker");
    }

    pub(super) fn status(&self, device: &str) -> Option<DeviceStatus> {
        self.hub.status().into_iter().find(|status| status.device == device)
    }

    /// Waits until the page says what it should.
    pub(super) async fn wait_status(&self, device: &str, is: impl Fn(&DeviceStatus) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !self.status(device).is_some_and(|status| is(&status)) {
            assert!(Instant::now() < end, "{:?}", self.status(device));
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Appends of others until storage takes nothing more.
    pub(super) async fn fill(&self) {
        let topic = self.broker.ensure_topic(TOPIC).await.expect("there");
        fill(&self.broker, topic.partitions[0], |bytes| {
            let mut batch = BatchBuilder::default();
            let value = vec![b'x'; bytes];
            batch.push(0, Some(b"other"), Some(&value), &[(b"stream", b"-"), (b"gap", b"0")]);
            batch.finish().expect("not empty")
        })
        .await;
    }

    /// Every durable record of the readings' topic.
    pub(super) async fn lines(&self) -> Vec<Line> {
        self.lines_of(TOPIC).await
    }

    /// Every durable record of a topic; none if it is not there.
    pub(super) async fn lines_of(&self, topic: &str) -> Vec<Line> {
        let Some(topic) = self.broker.topic(topic) else { return Vec::new() };
        let partition = topic.partitions[0];
        let mut lines = Vec::new();
        let mut next = Offset(0);
        while next < self.broker.ends(partition).durable {
            for bytes in self.broker.read(partition, next, 1 << 20).await.expect("readable") {
                let batch = Batch::parse_stored(bytes).expect("a batch");
                for record in batch.records(1 << 24).expect("readable") {
                    next = Offset(record.offset + 1);
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
                    let key = record.key.expect("a key");
                    if &key[..] == b"other" {
                        continue;
                    }
                    lines.push(Line {
                        device: text(&key),
                        at_ms: record.timestamp,
                        value: serde_json::from_slice(&record.value.expect("a value"))
                            .expect("JSON"),
                        headers: record
                            .headers
                            .iter()
                            .map(|(name, value)| {
                                (text(name), text(value.as_deref().unwrap_or_default()))
                            })
                            .collect(),
                    });
                }
            }
        }
        lines
    }

    /// The readings of a stream in the order of the log: boot, seq, value.
    pub(super) async fn readings(&self, stream: Option<StreamId>) -> Vec<(u32, u64, f64)> {
        let stream = stream.expect("a stream").to_string();
        let lines = self.lines().await;
        let of_stream = lines.iter().filter(|line| line.headers["stream"] == stream);
        of_stream
            .filter(|line| !line.headers.contains_key("gap"))
            .map(|line| {
                (
                    line.headers["boot"].parse().expect("a number"),
                    line.headers["seq"].parse().expect("a number"),
                    line.value["t"].as_f64().expect("a number"),
                )
            })
            .collect()
    }

    /// The gap records of a device in the order of the log: boot, seq, count, reason.
    pub(super) async fn gaps(&self, device: &str) -> Vec<(u32, u64, u64, String)> {
        let lines = self.lines().await;
        lines
            .iter()
            .filter(|line| line.device == device && line.headers.contains_key("gap"))
            .map(|line| {
                (
                    line.headers["boot"].parse().expect("a number"),
                    line.headers["seq"].parse().expect("a number"),
                    line.headers["gap"].parse().expect("a number"),
                    line.value["gap"]["reason"].as_str().expect("a text").to_owned(),
                )
            })
            .collect()
    }
}

/// A ledger's readings as the log has them.
pub(super) fn expected(ledger: &[(u32, u64, i32)]) -> Vec<(u32, u64, f64)> {
    ledger.iter().map(|(boot, seq, code)| (*boot, *seq, f64::from(*code) * 0.0625)).collect()
}
