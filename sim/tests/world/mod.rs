//! Device, line and gateway of the fault simulation. Time is virtual, in microseconds; a seed
//! repeats a life.

use std::{collections::HashMap, fmt::Write as _};

use headwater_firmware::{
    Config, IdentityStore, Node, Schedule, StorageOp, StorageOutcome,
    nvm::{Nvm, Sizes},
    protocol::{
        Accept, DeviceId, HostConfig, HostEvent, HostLink, Item, NotAccepted, Position, StreamId,
        item::{Cause, Channel, Content, MISSING},
    },
};
use headwater_sim::{
    compare::{Entry, Logged},
    random::Random,
};
use serde_json::{Map, Value};

pub(crate) const CHANNELS: [Channel<'static>; 2] = [
    Channel {
        name: "temperature",
        unit: "degC",
        mantissa: 125,
        exponent: -3,
        width_bits: 16,
        period_us: PERIOD_US as u32,
    },
    Channel {
        name: "speed",
        unit: "m/s",
        mantissa: 1,
        exponent: 2,
        width_bits: 32,
        period_us: PERIOD_US as u32,
    },
];

type TestNode = Node<2, 64, 900, 24, 8>;

/// Everything there is.
pub(crate) struct World {
    pub(crate) noise: f64,
    now: u64,
    random: Random,
    device: Device,
    gateway: Gateway,
    /// Frames on their way up and down: when they arrive.
    up: Vec<(u64, Vec<u8>)>,
    down: Vec<(u64, Vec<u8>)>,
}

struct Device {
    node: TestNode,
    memory: Memory,
    schedule: Schedule,
    /// When its counter was 0.
    origin: u64,
    ledger: String,
    sampling: bool,
}

struct Gateway {
    link: Option<HostLink>,
    sessions: u32,
    stream: Option<StreamId>,
    streams: u64,
    log: Vec<Logged>,
    /// Appended positions: visible to nobody outside before they are durable.
    appended: HashMap<StreamId, Position>,
    /// When so many records and such a position become durable.
    commits: Vec<(u64, usize, StreamId, Position)>,
    durable_records: usize,
    durable: HashMap<StreamId, Position>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, 1);
        let mut device = Device {
            node: Node::new(config(Cause::Power), None),
            memory: Memory { bytes: [0xFF; 256], cut: None },
            schedule: Schedule::every(PERIOD_US, 0),
            origin: 0,
            ledger: String::new(),
            sampling: true,
        };
        device.power_up(0, Cause::Power);
        let gateway = Gateway {
            link: None,
            sessions: random.next_u64() as u32,
            stream: None,
            streams: 0,
            log: Vec::new(),
            appended: HashMap::new(),
            commits: Vec::new(),
            durable_records: 0,
            durable: HashMap::new(),
        };
        let mut world =
            Self { noise: 0.0, now: 0, random, device, gateway, up: Vec::new(), down: Vec::new() };
        world.replug();
        world
    }

    pub(crate) fn ledger(&self) -> &str {
        &self.device.ledger
    }

    pub(crate) fn log(&self) -> &[Logged] {
        &self.gateway.log[..self.gateway.durable_records]
    }

    pub(crate) fn unplug(&mut self) {
        self.gateway.link = None;
        self.up.clear();
        self.down.clear();
    }

    pub(crate) fn replug(&mut self) {
        self.unplug();
        self.gateway.plug(self.now);
        // A TCP device knows, a serial one does not; both must do.
        if self.random.unit() < 0.5 {
            let tick = self.now - self.device.origin;
            self.device.node.reconnected(tick);
        }
    }

    pub(crate) fn kill_gateway(&mut self) {
        self.gateway.crash();
        self.replug();
    }

    pub(crate) fn erase_memory(&mut self) {
        self.device.memory.bytes.fill(0xFF);
    }

    /// The board starts anew; with `torn` first a start whose identity write lost power after so
    /// many bytes.
    pub(crate) fn reset_device(&mut self, torn: Option<u64>) {
        if let Some(bytes) = torn {
            self.device.memory.cut = Some(bytes);
            let (mut store, identity) = IdentityStore::open(&mut self.device.memory);
            if let Some(identity) = identity {
                let _ = store.save(&mut self.device.memory, identity);
            }
            self.device.memory.cut = None;
        }
        self.device.power_up(self.now, Cause::Reset);
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        let end = self.now + ms * 1_000;
        while self.now < end {
            self.step();
            self.now = self.next_instant().clamp(self.now + 1, end);
        }
    }

    /// Samples no more, until everything is acknowledged.
    pub(crate) fn drain(&mut self) {
        self.device.sampling = false;
        self.device.node.seal();
        let deadline = self.now + 120_000_000;
        while !self.device.node.is_drained() {
            assert!(
                self.now < deadline,
                "stuck: {:?}\n{}",
                self.device.node.queued(),
                self.ledger()
            );
            self.pass_ms(10);
        }
    }

    fn next_instant(&self) -> u64 {
        let tick = self.now - self.device.origin;
        let node = self.device.node.next_wake(tick);
        let sample = self.device.sampling.then(|| self.device.schedule.next());
        let device = node.into_iter().chain(sample).map(|at| at.saturating_add(self.device.origin));
        let link = self.gateway.link.as_ref().and_then(|link| link.next_wake(self.now));
        let frames = self.up.iter().chain(&self.down).map(|(at, _)| *at);
        let commits = self.gateway.commits.iter().map(|(at, ..)| *at);
        device.chain(link).chain(frames).chain(commits).min().unwrap_or(u64::MAX)
    }

    fn step(&mut self) {
        loop {
            for frame in due(&mut self.up, self.now) {
                self.gateway.receive(self.now, &frame, &mut self.random);
            }
            self.gateway.commit(self.now);
            for frame in due(&mut self.down, self.now) {
                self.device.receive(self.now, &frame);
            }
            self.device.sample(self.now);
            let up = self.device.transmit(self.now);
            let down = self.gateway.transmit(self.now);
            if up.is_empty() && down.is_empty() {
                break;
            }
            if self.gateway.link.is_some() {
                let arrival = self.now + TRAVEL_US;
                distort(up, self.noise, arrival, &mut self.random, &mut self.up);
                distort(down, self.noise, arrival, &mut self.random, &mut self.down);
            }
        }
    }
}

/// Takes the frames that have arrived.
fn due(line: &mut Vec<(u64, Vec<u8>)>, now: u64) -> Vec<Vec<u8>> {
    let arrived = line.partition_point(|(at, _)| *at <= now);
    line.drain(..arrived).map(|(_, frame)| frame).collect()
}

/// Puts a frame on the line, or what noise makes of it.
fn distort(
    mut frame: Vec<u8>,
    noise: f64,
    arrival: u64,
    random: &mut Random,
    line: &mut Vec<(u64, Vec<u8>)>,
) {
    if frame.is_empty() {
        return;
    }
    if random.unit() < noise {
        let at = random.next_u64() as usize % frame.len();
        match random.next_u64() % 5 {
            0 => return,
            1 => frame[at] ^= 1 << (random.next_u64() % 8),
            2 => frame.truncate(at),
            3 => line.push((arrival, frame.clone())),
            _ => frame.insert(at, random.next_u64() as u8),
        }
    }
    line.push((arrival, frame));
}

fn config(cause: Cause) -> Config {
    let id = DeviceId::new("dev").expect("legal");
    Config { linger: 300_000, ..Config::new(id, 1_000_000, &CHANNELS, PERIOD_US as u32, cause) }
}

impl Device {
    fn power_up(&mut self, now: u64, cause: Cause) {
        let (_, identity) = IdentityStore::open(&mut self.memory);
        self.node = Node::new(config(cause), identity);
        self.schedule = Schedule::every(PERIOD_US, 0);
        self.origin = now;
        self.settle(now);
    }

    fn settle(&mut self, now: u64) {
        while let Some(StorageOp::SaveIdentity(identity)) = self.node.storage_op() {
            let (mut store, _) = IdentityStore::open(&mut self.memory);
            store.save(&mut self.memory, identity).expect("power is there");
            self.node.storage_done(now - self.origin, StorageOutcome::Saved);
        }
        while let Some(event) = self.node.poll_event() {
            // Writing to a String does not fail.
            let _ = writeln!(self.ledger, "{event}");
        }
    }

    fn sample(&mut self, now: u64) {
        while self.sampling
            && let Some(due) = self.schedule.due(now - self.origin)
        {
            let phase = (due.tick / PERIOD_US) as i32;
            let speed = if phase % 13 == 5 { MISSING } else { (phase % 29) * 100_003 };
            let seq = self.node.record(due.tick, &[170 + phase % 7, speed]);
            let _ = write!(self.ledger, "R {} {seq} {} ", self.node.boot(), 170 + phase % 7);
            let _ = if speed == MISSING {
                writeln!(self.ledger, "-")
            } else {
                writeln!(self.ledger, "{speed}")
            };
            self.settle(now);
        }
    }

    fn receive(&mut self, now: u64, bytes: &[u8]) {
        self.node.receive(now - self.origin, bytes);
        self.settle(now);
    }

    fn transmit(&mut self, now: u64) -> Vec<u8> {
        let mut out = [0; TestNode::FRAME_MAX];
        let len = self.node.transmit(now - self.origin, &mut out);
        self.settle(now);
        out[..len].into()
    }
}

impl Gateway {
    fn plug(&mut self, now: u64) {
        self.sessions = self.sessions.wrapping_add(1);
        self.stream = None;
        self.link = Some(HostLink::new(HostConfig::default(), self.sessions, now));
    }

    fn crash(&mut self) {
        self.log.truncate(self.durable_records);
        self.appended = self.durable.clone();
        self.commits.clear();
    }

    fn receive(&mut self, now: u64, mut bytes: &[u8], random: &mut Random) {
        let Some(mut link) = self.link.take() else { return };
        while let Some(event) = link.receive(now, &mut bytes) {
            match event {
                HostEvent::Hello(hello) => {
                    self.stream = hello.stream;
                    // An answer waits for appends of earlier connections.
                    self.commit(u64::MAX);
                    let durable = hello.stream.and_then(|stream| self.durable.get(&stream));
                    let accept = Accept { window: 2_000, describe: random.unit() < 0.3 };
                    match link.accept(durable.copied().unwrap_or(Position::START), accept) {
                        Ok(()) => {}
                        Err(NotAccepted::NoStream | NotAccepted::Behind) => {
                            self.streams += 1;
                            link.assign(StreamId::new(self.streams).expect("not 0"));
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
                HostEvent::Item(arrival) => {
                    let stream = self.stream.expect("accepted");
                    self.append(stream, &arrival.item);
                    let at = now + random.next_u64() % 50_000;
                    let at = self.commits.last().map_or(at, |(last, ..)| at.max(*last));
                    self.commits.push((at, self.log.len(), stream, arrival.item.position));
                }
                _ => {}
            }
        }
        self.link = Some(link);
    }

    fn append(&mut self, stream: StreamId, item: &Item<'_>) {
        let before = self.appended.insert(stream, item.position);
        assert!(before.is_none_or(|before| before < item.position), "the link yields each once");
        let boot = item.position.boot.into();
        let mut push = |seq, entry| {
            self.log.push(Logged { device: "dev".into(), stream: stream.bits(), boot, seq, entry });
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

    fn commit(&mut self, now: u64) {
        let done = self.commits.partition_point(|(at, ..)| *at <= now);
        for (at, records, stream, position) in self.commits.drain(..done) {
            self.durable_records = records;
            self.durable.insert(stream, position);
            if let Some(link) = &mut self.link {
                link.durable(at.min(now), stream, position);
            }
        }
    }

    fn transmit(&mut self, now: u64) -> Vec<u8> {
        let mut out = [0; HostLink::FRAME_MAX];
        let len = self.link.as_mut().map_or(0, |link| link.transmit(now, 0, &mut out));
        out[..len].into()
    }
}

fn values(codes: &[i32]) -> Map<String, Value> {
    let present = CHANNELS.iter().zip(codes).filter(|(_, code)| **code != MISSING);
    let value = |channel: &Channel<'_>, code: i32| {
        f64::from(code) * f64::from(channel.mantissa) * 10f64.powi(channel.exponent.into())
    };
    present.map(|(channel, code)| (channel.name.into(), value(channel, *code).into())).collect()
}

/// An EEPROM whose power goes after so many written bytes.
struct Memory {
    bytes: [u8; 256],
    cut: Option<u64>,
}

impl Nvm for Memory {
    type Error = ();

    fn sizes(&self) -> Sizes {
        Sizes::eeprom(256)
    }

    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), ()> {
        let from = self.bytes.get(address as usize..).ok_or(())?;
        out.copy_from_slice(from.get(..out.len()).ok_or(())?);
        Ok(())
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), ()> {
        let to = self.bytes.get_mut(address as usize..).ok_or(())?;
        for (to, from) in to.iter_mut().zip(bytes) {
            if self.cut == Some(0) {
                return Err(());
            }
            self.cut = self.cut.map(|left| left - 1);
            *to = *from;
        }
        Ok(())
    }
}

/// Ten readings a second.
const PERIOD_US: u64 = 100_000;
/// A frame's way over the line.
const TRAVEL_US: u64 = 3_000;
