//! Clients that mean harm, by the thousand: whoever means well goes on, and memory stays small.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use headwater::{
    journal::{fuzz::mutated, sim::Random},
    kafka::fuzz::examples,
    record::{BatchBuilder, Compression},
};
use headwater_tests::{
    batch::{self, Numbered},
    gateway::Gateway,
    permit, wait,
    wire::Wire,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the gateway may take, whatever it is sent.
const MAX_RSS_KIB: u64 = 64 * 1024;
const DEADLINE: Duration = Duration::from_secs(90);
/// Clients that never finish a request.
const UNFINISHED: usize = 2_000;
/// Mutated frames, and the threads that send them.
const MUTATED: usize = 100_000;
const ATTACKERS: u64 = 4;
/// A mutated Fetch may ask for a long wait, which is legal: nobody waits for it.
const ANSWERS_WITHIN: Duration = Duration::from_millis(50);
/// Requests of each loop.
const REQUESTS: usize = 20_000;
/// A bomb's records, decompressed: well above what the gateway ever decompresses of a batch.
const BOMB_BYTES: usize = 20 << 20;

const PRODUCE: (i16, i16) = (0, 7);
/// ApiVersions 0, by which an attacker knows that its frame was digested.
const ARE_YOU_THERE: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff];
const THERE: [u8; 4] = [0x7f, 0xff, 0xff, 0xff];

const METADATA: (i16, i16) = (3, 1);
const OFFSET_COMMIT: (i16, i16) = (8, 2);
const JOIN_GROUP: (i16, i16) = (11, 4);
const CREATE_TOPICS: (i16, i16) = (19, 2);

const NONE: i16 = 0;
const MESSAGE_TOO_LARGE: i16 = 10;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const MEMBER_ID_REQUIRED: i16 = 79;

/// Somebody who appends a record and reads it back, over and over; any error ends it.
struct Neighbour {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<()>>,
}

impl Neighbour {
    fn start(address: SocketAddr) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (asked, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = thread::spawn(move || {
            let mut wire = Wire::connect(address)?;
            wire.create_topic("neighbour", 1)?
                .map_err(|code| io::Error::other(format!("{code:?}")))?;
            while !asked.load(Ordering::Relaxed) {
                let round = counted.load(Ordering::Relaxed);
                let value = round.to_be_bytes().to_vec();
                wire.produce("neighbour", 0, &batch::encode(&[value], 0, Numbered::NOT))?;
                let produced = wire.produced()?;
                let fetched = wire.fetch("neighbour", &[(0, round as i64)], 1_000)?;
                let is_there = fetched.iter().any(|it| it.code == NONE && !it.records.is_empty());
                if produced.code != NONE || produced.base_offset != round as i64 || !is_there {
                    return Err(io::Error::other(format!("{produced:?}, then {fetched:?}")));
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let neighbour = Self { stop, rounds, thread };
        neighbour.goes_on();
        neighbour
    }

    /// Waits until it did some more.
    fn goes_on(&self) {
        let from = self.rounds.load(Ordering::Relaxed);
        wait::for_condition("a neighbour that goes on", DEADLINE, || {
            self.rounds.load(Ordering::Relaxed) >= from + 20 || self.thread.is_finished()
        });
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap();
    }
}

fn check_memory(gateway: &mut Gateway, what: &str) {
    let peak = gateway.process().peak_rss_kib();
    println!("{what}: peak RSS {:.1} MiB", peak as f64 / 1024.0);
    assert!(peak < MAX_RSS_KIB, "peak RSS {peak} KiB");
    let output = gateway.process().output();
    assert!(!output.contains("panicked"), "{output}");
}

/// Sockets of both ends of thousands of connections.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

#[test]
fn thousands_that_never_finish_a_request() {
    let _permit = permit::computing();
    raise_open_files();
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start_with(folder.path(), "max_connections = 2100", "");
    let neighbour = Neighbour::start(gateway.kafka);
    // Half of a Metadata request whose rest never comes, or comes byte by byte.
    let mut metadata = vec![0, 0, 0, 100];
    metadata.extend([METADATA.0.to_be_bytes(), METADATA.1.to_be_bytes()].concat());
    metadata.resize(50, b'x');
    let mut clients: Vec<TcpStream> = Vec::new();
    for number in 0..UNFINISHED {
        let mut client = TcpStream::connect(gateway.kafka).unwrap();
        client.set_nodelay(true).unwrap();
        let _ = client.write_all(&metadata[..1 + number % metadata.len()]);
        clients.push(client);
        if number % 200 == 0 {
            neighbour.goes_on();
        }
    }
    for _ in 0..5 {
        let second = Instant::now() + Duration::from_secs(1);
        for client in clients.iter_mut().step_by(2) {
            let _ = client.write_all(b"x");
        }
        neighbour.goes_on();
        thread::sleep(second.saturating_duration_since(Instant::now()));
    }
    // Somebody new is served as well.
    Wire::connect(gateway.kafka).unwrap().ends("neighbour", 0).unwrap();
    check_memory(&mut gateway, "unfinished requests");
    drop(clients);
    neighbour.goes_on();
    neighbour.stop();
}

#[test]
fn mutated_frames_of_every_request() {
    let _permit = permit::computing();
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path(), "");
    let neighbour = Neighbour::start(gateway.kafka);
    let address = gateway.kafka;
    let golden: Arc<Vec<Vec<u8>>> = Arc::new(examples());
    let attackers = (0..ATTACKERS).map(|seed| {
        let golden = Arc::clone(&golden);
        thread::spawn(move || {
            let mut random = Random(seed + 1);
            let (mut open, mut digested) = (None, 0);
            for _ in 0..MUTATED / ATTACKERS as usize {
                let valid = &golden[random.below(golden.len() as u64) as usize];
                let mut frame = mutated(valid, &mut random);
                if random.below(4) != 0 && frame.len() > 4 {
                    // Most mutations of the head name something that nobody serves.
                    frame[..4].copy_from_slice(&valid[..4]);
                }
                let mut stream = open.take().unwrap_or_else(|| connect(address));
                if is_digested(&mut stream, &frame).unwrap_or(false) {
                    digested += 1;
                    open = Some(stream);
                }
            }
            digested
        })
    });
    let attackers: Vec<JoinHandle<usize>> = attackers.collect();
    let digested: usize = attackers.into_iter().map(|it| it.join().unwrap()).sum();
    println!(
        "{MUTATED} mutated frames, {digested} of them digested, the others ended their connection"
    );
    assert!(digested > MUTATED / 10);
    neighbour.goes_on();
    check_memory(&mut gateway, "mutated frames");
    neighbour.stop();
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(ANSWERS_WITHIN)).unwrap();
    stream
}

/// Sends a frame and a question; whether the question was answered.
fn is_digested(stream: &mut TcpStream, frame: &[u8]) -> io::Result<bool> {
    stream.write_all(&[&(frame.len() as u32).to_be_bytes(), frame, &ARE_YOU_THERE].concat())?;
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        io::copy(&mut stream.take(length as u64 - 4), &mut io::sink())?;
        if head[4..] == THERE {
            return Ok(true);
        }
    }
}

#[test]
fn loops_of_producer_ids_and_of_fresh_groups() {
    let _permit = permit::computing();
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path(), "");
    let neighbour = Neighbour::start(gateway.kafka);
    let mut wire = Wire::connect(gateway.kafka).unwrap();
    let mut last = -1;
    for _ in 0..REQUESTS {
        let (code, id, _) = wire.init_producer_id().unwrap();
        assert!(code == NONE && id > last, "{code}: {id} after {last}");
        last = id;
    }
    neighbour.goes_on();
    let mut joins = BTreeMap::new();
    for number in 0..REQUESTS {
        let code = join(&mut wire, &format!("join-{number}"));
        *joins.entry(code).or_insert(0) += 1;
    }
    println!("joins by error code: {joins:?}");
    assert!(
        joins.keys().all(|code| [MEMBER_ID_REQUIRED, COORDINATOR_NOT_AVAILABLE].contains(code))
    );
    neighbour.goes_on();
    let mut commits = BTreeMap::new();
    for number in 0..REQUESTS {
        let code = commit(&mut wire, &format!("commit-{number}"));
        *commits.entry(code).or_insert(0) += 1;
    }
    println!("commits by error code: {commits:?}");
    assert!(commits.contains_key(&NONE));
    // A group that was there before goes on.
    assert_eq!(commit(&mut wire, "commit-0"), NONE);
    check_memory(&mut gateway, "ids and groups");
    neighbour.goes_on();
    neighbour.stop();
}

/// JoinGroup that asks for an id first; the error code.
fn join(wire: &mut Wire, group: &str) -> i16 {
    let mut body = string(group);
    body.extend(10_000_i32.to_be_bytes());
    body.extend(10_000_i32.to_be_bytes());
    body.extend(string(""));
    body.extend(string("consumer"));
    body.extend(1_i32.to_be_bytes());
    body.extend(string("range"));
    body.extend(0_i32.to_be_bytes());
    code_at(&wire.ask(JOIN_GROUP, &body).unwrap(), 4)
}

/// OffsetCommit of somebody who is no member; the error code.
fn commit(wire: &mut Wire, group: &str) -> i16 {
    let mut body = string(group);
    body.extend((-1_i32).to_be_bytes());
    body.extend(string(""));
    body.extend((-1_i64).to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(string("neighbour"));
    body.extend(1_i32.to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    body.extend(1_i64.to_be_bytes());
    body.extend(string(""));
    let answer = wire.ask(OFFSET_COMMIT, &body).unwrap();
    code_at(&answer, answer.len() - 2)
}

#[test]
fn bombs_of_all_codecs() {
    let _permit = permit::computing();
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(folder.path(), "");
    let neighbour = Neighbour::start(gateway.kafka);
    let mut wire = Wire::connect(gateway.kafka).unwrap();
    // Topics whose batches are looked into.
    for (topic, setting, value) in
        [("plain", "compression.type", "uncompressed"), ("compacted", "cleanup.policy", "compact")]
    {
        let mut body = 1_i32.to_be_bytes().to_vec();
        body.extend(string(topic));
        body.extend(1_i32.to_be_bytes());
        body.extend(1_i16.to_be_bytes());
        body.extend(0_i32.to_be_bytes());
        body.extend(1_i32.to_be_bytes());
        body.extend(string(setting));
        body.extend(string(value));
        body.extend(10_000_i32.to_be_bytes());
        body.push(0);
        let answer = wire.ask(CREATE_TOPICS, &body).unwrap();
        // Throttle time, one topic, its name, then its code.
        assert_eq!(code_at(&answer, 4 + 4 + 2 + topic.len()), NONE, "{topic}");
    }
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut bomb = BatchBuilder::compressed(codec);
        bomb.push(0, Some(b"key"), Some(&vec![0; BOMB_BYTES]), &[]);
        let bomb = bomb.finish().unwrap();
        println!("{codec:?}: {} bytes", bomb.bytes().len());
        for topic in ["plain", "compacted"] {
            for _ in 0..10 {
                let code = produce(&mut wire, topic, bomb.bytes());
                assert_eq!(code, MESSAGE_TOO_LARGE, "{codec:?} {topic}");
            }
        }
        neighbour.goes_on();
    }
    check_memory(&mut gateway, "bombs");
    neighbour.stop();
}

/// Produce of one batch, in a version that knows all codecs; the error code.
fn produce(wire: &mut Wire, topic: &str, batch: &[u8]) -> i16 {
    let mut body = (-1_i16).to_be_bytes().to_vec();
    body.extend((-1_i16).to_be_bytes());
    body.extend(10_000_i32.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(string(topic));
    body.extend(1_i32.to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    body.extend((batch.len() as i32).to_be_bytes());
    body.extend(batch);
    // One topic, its name, one partition, its index, then its code.
    code_at(&wire.ask(PRODUCE, &body).unwrap(), 4 + 2 + topic.len() + 4 + 4)
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as i16).to_be_bytes(), text.as_bytes()].concat()
}

fn code_at(answer: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([answer[at], answer[at + 1]])
}
