//! What clients say to a real Kafka, heard by a relay between them and kept once of each kind.
//!
//! The files are those of tests/fixtures/kafka-requests; README.md there has their format.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::{Value, json};

use crate::{
    ports,
    schema::{FrameHead, Schemas, replace_texts, topic_id, topic_ids},
};

/// Longer requests say nothing that shorter ones do not.
const MAX_KEPT_BYTES: usize = 1_500;
const MAX_FRAME_BYTES: usize = 64 << 20;

/// Requests whose answers tell ids of topics: Metadata, CreateTopics, DescribeTopicPartitions.
const TELL_IDS: [i16; 3] = [3, 19, 75];

/// A relay that listens in; what it heard is written when it is dropped.
#[derive(Debug)]
pub struct Recording {
    /// Where clients connect.
    pub address: SocketAddr,
    file: PathBuf,
    heard: Arc<Mutex<Heard>>,
    is_over: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Heard {
    schemas: Schemas,
    kinds: BTreeSet<String>,
    frames: Vec<u8>,
    topics: BTreeMap<String, String>,
}

/// Requests of a connection that are not answered yet.
type Unanswered = Arc<Mutex<VecDeque<FrameHead>>>;

impl Recording {
    /// Relays to `broker`, which has to tell its clients [`Recording::address`] as its own.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    pub fn start(file: PathBuf, folder: &Path, address: SocketAddr, broker: SocketAddr) -> Self {
        let heard = Arc::new(Mutex::new(Heard {
            schemas: Schemas::load(folder),
            kinds: BTreeSet::new(),
            frames: Vec::new(),
            topics: BTreeMap::new(),
        }));
        let is_over = Arc::new(AtomicBool::new(false));
        let listener = TcpListener::bind(address).expect("a reserved port");
        let recording =
            Self { address, file, heard: Arc::clone(&heard), is_over: Arc::clone(&is_over) };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                // Who finds the broker down sees its connection end.
                if let Ok(server) = TcpStream::connect(broker) {
                    let _ = relay(client, server, &heard);
                }
            }
        });
        recording
    }

    /// An address for one.
    #[must_use]
    pub fn reserve() -> SocketAddr {
        ports::reserve()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
        let written = fs::write(&self.file, &locked(&self.heard).frames);
        written.unwrap_or_else(|error| panic!("{}: {error}", self.file.display()));
    }
}

fn relay(client: TcpStream, server: TcpStream, heard: &Arc<Mutex<Heard>>) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let unanswered = Unanswered::default();
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    let (all, asked) = (Arc::clone(heard), Arc::clone(&unanswered));
    thread::spawn(move || {
        pass(from, to, |frame| {
            if let Some(head) = FrameHead::peek(frame) {
                locked(&all).keep(head, frame);
                locked(&asked).push_back(head);
            }
        });
    });
    let all = Arc::clone(heard);
    thread::spawn(move || {
        pass(server, client, |frame| {
            let correlation =
                frame.get(..4).map(|it| i32::from_be_bytes([it[0], it[1], it[2], it[3]]));
            let mut asked = locked(&unanswered);
            // Requests that are not answered come before.
            while let Some(head) = asked.pop_front() {
                if Some(head.correlation) == correlation {
                    locked(&all).learn(head, frame);
                    return;
                }
            }
        });
    });
    Ok(())
}

/// Passes frames on until either side ends, then ends both.
fn pass(mut from: TcpStream, mut to: TcpStream, mut listen: impl FnMut(&[u8])) {
    while let Ok(frame) = read(&mut from) {
        listen(&frame);
        let length = (frame.len() as u32).to_be_bytes();
        if to.write_all(&[&length, &frame[..]].concat()).is_err() {
            break;
        }
    }
    // Either may have ended already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

impl Heard {
    /// Keeps a request if none of its kind was heard before, with ids of topics that follow from their names.
    fn keep(&mut self, head: FrameHead, frame: &[u8]) {
        let Some(pair) = self.schemas.by_key(head.key) else { return };
        let Ok(mut body) = pair.decode_request(head.version, frame) else { return };
        let kind = format!("{} {} {}", head.key, head.version, kind(&body));
        if frame.len() > MAX_KEPT_BYTES || !self.kinds.insert(kind) {
            return;
        }
        replace_texts(&mut body, &self.topics);
        let Ok(frame) = pair.encode_request(head.version, 0, "", &body) else { return };
        self.frames.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        self.frames.extend_from_slice(&frame);
    }

    fn learn(&mut self, head: FrameHead, frame: &[u8]) {
        let Some(pair) = self.schemas.by_key(head.key).filter(|_| TELL_IDS.contains(&head.key))
        else {
            return;
        };
        if let Ok((_, answer)) = pair.decode_response(head.version, frame) {
            let ids = topic_ids(&answer);
            self.topics.extend(ids.into_iter().map(|(id, name)| (id, topic_id(&name))));
        }
    }
}

/// What a request has in common with others that a server would treat alike.
fn kind(value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Number(number) => number.as_i64().map_or(0, i64::signum).into(),
        Value::String(text) => json!(if text.is_empty() { "" } else { "text" }),
        Value::Array(elements) => match &elements[..] {
            [] => json!([]),
            [one] => json!([kind(one)]),
            [first, ..] => json!([kind(first), "more"]),
        },
        Value::Object(fields) => {
            let mut kinds: serde_json::Map<_, _> =
                fields.iter().map(|(name, value)| (name.clone(), kind(value))).collect();
            // Times with a meaning of their own, and codecs.
            for exact in ["Timestamp", "attributes", "ResourceType", "ConfigOperation"] {
                let small = fields.get(exact).filter(|it| it.as_i64().is_some_and(|it| it < 100));
                kinds.extend(small.map(|value| (exact.to_owned(), value.clone())));
            }
            Value::Object(kinds)
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
