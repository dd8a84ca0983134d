//! A gateway without a disk: the link's host end over TCP and serial, its log a list in memory.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use headwater_firmware::protocol::{
    Accept, HostConfig, HostEvent, HostLink, Item, NotAccepted, Position, StreamId,
    item::{Content, MISSING},
};
use headwater_sim::{
    compare::{Entry, Logged},
    signal::CLIMATE,
};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener,
        unix::pipe::{Receiver, Sender},
    },
    task::AbortHandle,
    time::{sleep, timeout},
};

/// The stand-in.
pub(crate) struct Gateway {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    listener: AbortHandle,
}

#[derive(Default)]
struct Shared {
    log: Vec<Logged>,
    durable: HashMap<StreamId, Position>,
    streams: u64,
    sessions: u32,
    connections: Vec<AbortHandle>,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let serving = Arc::clone(&shared);
        let listener = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (read, write) = stream.into_split();
                let connection = tokio::spawn(serve(read, write, Arc::clone(&serving)));
                serving.lock().expect("whole").connections.push(connection.abort_handle());
            }
        });
        Self { address, shared, listener: listener.abort_handle() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn log(&self) -> Vec<Logged> {
        self.shared.lock().expect("whole").log.clone()
    }

    /// Ends all connections; what is durable stays.
    pub(crate) fn cut(&self) {
        let connections = std::mem::take(&mut self.shared.lock().expect("whole").connections);
        connections.iter().for_each(AbortHandle::abort);
    }

    /// Opens serial ports, once they are there.
    pub(crate) async fn plug(&self, ports: &[PathBuf]) {
        for port in ports {
            until(|| port.exists()).await;
            let (read, write) = open(port);
            let connection = tokio::spawn(serve(read, write, Arc::clone(&self.shared)));
            self.shared.lock().expect("whole").connections.push(connection.abort_handle());
        }
    }

    /// Waits for so many more records.
    pub(crate) async fn until_logged(&self, more: usize) {
        let len = || self.shared.lock().expect("whole").log.len();
        let goal = len() + more;
        until(|| len() >= goal).await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut();
    }
}

async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "in vain");
        sleep(Duration::from_millis(5)).await;
    }
}

fn open(port: &Path) -> (Receiver, Sender) {
    let port = std::fs::OpenOptions::new().read(true).write(true).open(port).expect("a port");
    rustix::io::ioctl_fionbio(&port, true).expect("non-blocking");
    let write = Sender::from_file_unchecked(port.try_clone().expect("clone")).expect("registered");
    (Receiver::from_file_unchecked(port).expect("registered"), write)
}

async fn serve(
    mut read: impl AsyncReadExt + Unpin,
    mut write: impl AsyncWriteExt + Unpin,
    shared: Arc<Mutex<Shared>>,
) {
    let origin = Instant::now();
    let now = || origin.elapsed().as_micros() as u64;
    let session = {
        let mut shared = shared.lock().expect("whole");
        shared.sessions += 1;
        shared.sessions
    };
    let mut link = HostLink::new(HostConfig::default(), session, now());
    let mut connection = Connection { device: String::new(), stream: None };
    let mut received = [0; 1_024];
    let mut out = [0; HostLink::FRAME_MAX];
    loop {
        loop {
            let len = link.transmit(now(), 0, &mut out);
            if len == 0 {
                break;
            }
            if write.write_all(&out[..len]).await.is_err() {
                return;
            }
        }
        let wake = link.next_wake(now()).map_or(1_000_000, |wake| wake.saturating_sub(now()));
        match timeout(Duration::from_micros(wake), read.read(&mut received)).await {
            Err(_) => {}
            Ok(Ok(0)) => return,
            Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
            Ok(Err(_)) => return,
            Ok(Ok(len)) => {
                let mut shared = shared.lock().expect("whole");
                connection.take(&mut link, now(), &received[..len], &mut shared);
            }
        }
    }
}

struct Connection {
    device: String,
    stream: Option<StreamId>,
}

impl Connection {
    fn take(&mut self, link: &mut HostLink, now: u64, mut bytes: &[u8], shared: &mut Shared) {
        while let Some(event) = link.receive(now, &mut bytes) {
            match event {
                HostEvent::Hello(hello) => {
                    self.device = hello.device.to_string();
                    self.stream = hello.stream;
                    let durable = hello.stream.and_then(|stream| shared.durable.get(&stream));
                    let accept = Accept { window: 8_192, describe: false };
                    match link.accept(durable.copied().unwrap_or(Position::START), accept) {
                        Ok(()) => {}
                        Err(NotAccepted::NoStream | NotAccepted::Behind) => {
                            shared.streams += 1;
                            link.assign(StreamId::new(shared.streams).expect("not 0"));
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
                HostEvent::Item(arrival) => {
                    let stream = self.stream.expect("accepted");
                    let expected = shared.durable.get(&stream);
                    assert!(expected.is_none_or(|durable| *durable < arrival.item.position));
                    self.append(stream, &arrival.item, shared);
                    shared.durable.insert(stream, arrival.item.position);
                }
                _ => {}
            }
        }
        if let Some(stream) = self.stream
            && let Some(durable) = shared.durable.get(&stream)
        {
            link.durable(now, stream, *durable);
        }
    }

    fn append(&self, stream: StreamId, item: &Item<'_>, shared: &mut Shared) {
        let mut push = |seq, entry| {
            shared.log.push(Logged {
                device: self.device.clone(),
                stream: stream.bits(),
                boot: item.position.boot.into(),
                seq,
                entry,
            });
        };
        match Content::decode(item.kind, item.body).expect("well formed") {
            Content::Block(block) => {
                let mut rows = block.rows();
                while let Some((head, codes)) = rows.next_row() {
                    push(head.seq, Entry::Reading(values(codes)));
                }
            }
            Content::Gap(gap) => push(gap.first_seq, Entry::Gap { count: gap.count }),
            _ => {}
        }
    }
}

fn values(codes: &[i32]) -> Map<String, Value> {
    CLIMATE
        .iter()
        .zip(codes)
        .filter(|(_, code)| **code != MISSING)
        .map(|(quantity, code)| {
            let value = f64::from(*code) * 10f64.powi(quantity.exponent.into());
            (quantity.name.to_owned(), Value::from(value))
        })
        .collect()
}
