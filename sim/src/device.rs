//! One simulated device: the firmware's node on a clock, a climate, a memory, a ledger and a line.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use headwater_firmware::{
    Command, Config, Event, IdentityStore, Node, Schedule, StorageOp, StorageOutcome,
    protocol::{
        CommandStatus, DeviceId,
        item::{Cause, Channel, MISSING},
    },
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    faults::{Fate, Faults},
    ledger::{LedgerFile, Line as LedgerLine},
    line::{Line, Serial},
    memory::FileMemory,
    random::Random,
    signal::{CLIMATE, Climate},
};

/// The node of a simulated device: blocks of up to 200 bytes of rows, and a queue for some minutes
/// of outage at ten readings a second.
pub type DeviceNode = Node<{ CLIMATE.len() }, 200, 16_384, 256, 16>;

/// How a device reaches its gateway.
#[derive(Clone, Debug)]
pub enum Attachment {
    /// Connects, and connects again.
    Tcp(SocketAddr),
    /// A pseudo-terminal behind `LINKS/<device id>`.
    Serial(PathBuf),
}

/// What all devices of a fleet share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Readings a second.
    pub rate_hz: f64,
    /// Readings wait this long for company in a block.
    pub linger: Duration,
    /// Seed of the fleet.
    pub seed: u64,
    /// Channel descriptors.
    pub channels: &'static [Channel<'static>],
    /// Where they connect.
    pub attachment: Attachment,
    /// After the end of sampling, how long the queue may take to empty.
    pub drain: Duration,
    /// What goes wrong.
    pub faults: Faults,
}

/// What a device did in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Readings sampled.
    pub sampled: u64,
    /// Readings in acknowledged blocks.
    pub acknowledged: u64,
    /// Readings dropped for want of room.
    pub dropped: u64,
    /// Devices whose queue was empty in the end.
    pub drained: u64,
    /// Connections made after the first.
    pub reconnects: u64,
    /// Resets by its faults.
    pub resets: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.sampled += other.sampled;
        self.acknowledged += other.acknowledged;
        self.dropped += other.dropped;
        self.drained += other.drained;
        self.reconnects += other.reconnects;
        self.resets += other.resets;
    }
}

/// A device that was switched on.
pub struct Device {
    number: u64,
    folder: PathBuf,
    fate: Fate,
    node: Box<DeviceNode>,
    schedule: Schedule,
    clock: Clock,
    climate: Climate,
    random: Random,
    memory: FileMemory,
    store: IdentityStore,
    ledger: LedgerFile,
    settings: Settings,
    sampling: bool,
    connection: Connection,
    backoff: Duration,
    outgoing: Outgoing,
    /// Blocks that are not acknowledged: item, readings.
    unacknowledged: VecDeque<(u64, u64)>,
    tally: Tally,
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

enum Connection {
    Up(Line),
    Connecting(Connecting),
    Down { until: Instant },
}

/// Bytes of frames that the line has not taken yet.
struct Outgoing {
    bytes: Box<[u8; OUTGOING_BYTES]>,
    sent: usize,
    len: usize,
}

/// What the device waited for.
enum Woken {
    Timer,
    Received(io::Result<usize>),
    Written(io::Result<usize>),
    Connected(io::Result<TcpStream>),
    Stop,
}

impl Device {
    /// Switches a device on: reads its memory and counts the start.
    pub fn start(number: u64, settings: Settings, folder: &Path) -> io::Result<Self> {
        let name = device_name(number);
        let id = DeviceId::new(&name).ok_or(io::ErrorKind::InvalidInput)?;
        let mut random = Random::new(settings.seed ^ 0x0064_6576_6963_6500, number);
        let mut memory = FileMemory::open(&memory_path(folder, &name))?;
        let (store, identity) = IdentityStore::open(&mut memory);
        let clock = Clock { origin: Instant::now(), ppm: random.between(-MAX_PPM, MAX_PPM) };
        let period = (f64::from(TICK_HZ) / settings.rate_hz).round().max(1.0) as u32;
        let cause = if identity.is_some() { Cause::Reset } else { Cause::Power };
        let mut config = Config::new(id, TICK_HZ, settings.channels, period, cause);
        config.commands = true;
        config.linger = (settings.linger.as_secs_f64() * f64::from(TICK_HZ)) as u32;
        // Rooms do not sample, nor seal their blocks, all at the same instant.
        let spread = period.max(config.linger.min(TICK_HZ));
        let connection = match &settings.attachment {
            Attachment::Tcp(_) => {
                // A fleet that was switched on at once does not connect at once.
                let spread = START_SPREAD.mul_f64(random.unit());
                Connection::Down { until: Instant::now() + spread }
            }
            Attachment::Serial(links) => {
                Connection::Up(Line::Serial(Serial::open(&links.join(&name))?))
            }
        };
        Ok(Self {
            number,
            folder: folder.into(),
            fate: Fate::new(settings.faults, settings.seed, number, Instant::now()),
            node: Box::new(Node::new(config, identity)),
            schedule: Schedule::every(period.into(), (random.unit() * f64::from(spread)) as u64),
            clock,
            climate: Climate::new(settings.seed, number),
            random,
            memory,
            store,
            ledger: LedgerFile::open(&folder.join(format!("{name}.ledger")))?,
            settings,
            sampling: true,
            connection,
            backoff: BACKOFF_MIN,
            outgoing: Outgoing { bytes: Box::new([0; OUTGOING_BYTES]), sent: 0, len: 0 },
            unacknowledged: VecDeque::new(),
            tally: Tally::default(),
        })
    }

    /// Lives until `stop` says so, through the resets that its faults bring; then samples no more, and ends when everything
    /// is acknowledged or the patience is over.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> io::Result<Tally> {
        while self.live(&mut stop).await? {
            self = self.reset()?;
        }
        Ok(self.tally)
    }

    /// Loses what is in RAM, sometimes the memory, too, and starts again.
    fn reset(mut self) -> io::Result<Self> {
        let path = memory_path(&self.folder, &device_name(self.number));
        if self.fate.erases(Instant::now()) {
            std::fs::remove_file(path)?;
        }
        let (fate, tally) = (self.fate.clone(), self.tally);
        let (number, settings, folder) = (self.number, self.settings.clone(), self.folder.clone());
        // Its ledger is closed before the next life opens it again.
        drop(self);
        let mut next = Self::start(number, settings, &folder)?;
        next.fate = fate;
        next.tally = tally;
        next.tally.resets += 1;
        Ok(next)
    }

    /// One life; whether a reset ended it.
    async fn live(&mut self, stop: &mut watch::Receiver<bool>) -> io::Result<bool> {
        let mut deadline = None;
        let mut received = [0; 512];
        loop {
            if self.sampling && *stop.borrow_and_update() {
                self.sampling = false;
                self.fate.rest();
                self.node.seal();
                deadline = Some(Instant::now() + self.settings.drain);
            }
            self.turn()?;
            let drained = self.node.is_drained();
            if !self.sampling && (drained || deadline.is_some_and(|end| end <= Instant::now())) {
                self.tally.drained = u64::from(drained);
                return Ok(false);
            }
            let wake = self.next_wake().min(deadline.unwrap_or_else(far_away));
            let wake = wake.min(self.fate.next().unwrap_or_else(far_away));
            let woken = self.wait(wake, &mut received, stop).await;
            self.handle(woken, &received)?;
            let now = Instant::now();
            if self.fate.resets(now) {
                return Ok(true);
            }
            if self.fate.cuts(now) && matches!(self.settings.attachment, Attachment::Tcp(_)) {
                self.lose_line(io::ErrorKind::ConnectionReset.into())?;
            }
        }
    }

    /// Everything that is due now, up to bytes that wait for the line.
    fn turn(&mut self) -> io::Result<()> {
        let now = self.clock.now();
        self.settle_storage(now);
        // The ledger hears of the start before the first reading.
        self.drain_events();
        while self.sampling
            && let Some(due) = self.schedule.due(now)
        {
            let codes = self.climate.sample(due.tick as f64 / f64::from(TICK_HZ));
            let seq = self.node.record(due.tick, &codes.map(|code| code.unwrap_or(MISSING)));
            let boot = self.node.boot().into();
            let codes = codes.iter().map(|code| code.map(i64::from)).collect();
            self.ledger.push(&LedgerLine::Reading { boot, seq, codes });
            self.tally.sampled += 1;
        }
        self.obey(now);
        if matches!(self.connection, Connection::Up(_)) {
            while let Some(room) = self.outgoing.room() {
                let len = self.node.transmit(now, room);
                if len == 0 {
                    break;
                }
                let carried = self.fate.carry(&room[..len]);
                let len = carried.len().min(room.len());
                room[..len].copy_from_slice(&carried[..len]);
                self.outgoing.len += len;
            }
        }
        self.drain_events();
        // Before the bytes go out: what the gateway can know, the ledger knows.
        self.ledger.flush()
    }

    /// Does what the gateway asks for: `seal` ends the block at hand, `say TEXT` writes a line to the log, `fail` fails.
    fn obey(&mut self, now: u64) {
        while let Some(Command { id, payload }) = self.node.poll_command() {
            let text = String::from_utf8_lossy(&payload);
            let status = match text.split_once(' ').unwrap_or((&text, "")) {
                ("seal", "") => {
                    self.node.seal();
                    CommandStatus::Done
                }
                ("say", line) => {
                    self.node.log(now, INFORMATIONAL, line);
                    CommandStatus::Done
                }
                ("fail", "") => CommandStatus::Failed,
                _ => CommandStatus::Unknown,
            };
            self.node.finish_command(id, status, text.as_bytes());
        }
    }

    fn settle_storage(&mut self, now: u64) {
        while let Some(StorageOp::SaveIdentity(identity)) = self.node.storage_op() {
            let outcome = match self.store.save(&mut self.memory, identity) {
                Ok(()) => StorageOutcome::Saved,
                Err(error) => {
                    tracing::warn!(?error, "memory refused");
                    StorageOutcome::Failed
                }
            };
            self.node.storage_done(now, outcome);
        }
    }

    fn drain_events(&mut self) {
        while let Some(event) = self.node.poll_event() {
            match event {
                Event::Sealed { item, count, .. } => self.unacknowledged.push_back((item, count)),
                Event::Dropped { count, .. } => self.tally.dropped += count,
                Event::Acknowledged { item, .. } => {
                    while let Some((_, count)) =
                        self.unacknowledged.pop_front_if(|(block, _)| *block <= item)
                    {
                        self.tally.acknowledged += count;
                    }
                }
                Event::Started { .. } | Event::Stream { .. } => {}
            }
            self.ledger.push(&event);
        }
    }

    fn next_wake(&self) -> Instant {
        let now = self.clock.now();
        let mut tick = if self.sampling { self.schedule.next() } else { u64::MAX };
        // Without a line, or with frames that it has not taken, the node's timers have nothing to
        // do but seal.
        if let Some(wake) = self.node.next_wake(now)
            && matches!(self.connection, Connection::Up(_))
            && self.outgoing.is_empty()
        {
            tick = tick.min(wake);
        }
        self.clock.instant(tick)
    }

    async fn wait(
        &mut self,
        wake: Instant,
        received: &mut [u8],
        stop: &mut watch::Receiver<bool>,
    ) -> Woken {
        let waiting = self.outgoing.waiting();
        let stopping = async {
            if self.sampling {
                // The sender lives as long as the fleet; if it is gone, so is the fleet.
                let _ = stop.changed().await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        match &mut self.connection {
            Connection::Up(line) => tokio::select! {
                read = line.read(received) => Woken::Received(read),
                written = line.write(waiting), if !waiting.is_empty() => Woken::Written(written),
                () = sleep_until(wake) => Woken::Timer,
                () = stopping => Woken::Stop,
            },
            Connection::Connecting(connecting) => tokio::select! {
                connected = connecting => Woken::Connected(connected),
                () = sleep_until(wake) => Woken::Timer,
                () = stopping => Woken::Stop,
            },
            Connection::Down { until } => tokio::select! {
                () = sleep_until(wake.min(*until)) => Woken::Timer,
                () = stopping => Woken::Stop,
            },
        }
    }

    fn handle(&mut self, woken: Woken, received: &[u8]) -> io::Result<()> {
        match woken {
            Woken::Timer | Woken::Stop => {}
            Woken::Received(Ok(0)) => self.lose_line(io::ErrorKind::UnexpectedEof.into())?,
            Woken::Received(Err(error))
            | Woken::Written(Err(error))
            | Woken::Connected(Err(error)) => {
                self.lose_line(error)?;
            }
            Woken::Received(Ok(len)) => {
                let bytes = self.fate.carry(received.get(..len).unwrap_or_default());
                self.node.receive(self.clock.now(), &bytes);
                self.drain_events();
                self.ledger.flush()?;
                if self.node.in_session() {
                    self.backoff = BACKOFF_MIN;
                }
            }
            Woken::Written(Ok(len)) => self.outgoing.take(len),
            Woken::Connected(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                self.connection = Connection::Up(Line::Tcp(stream));
                self.node.reconnected(self.clock.now());
            }
        }
        if let Connection::Down { until } = self.connection
            && until <= Instant::now()
            && let Attachment::Tcp(address) = self.settings.attachment
        {
            self.connection = Connection::Connecting(Box::pin(connect(address)));
        }
        Ok(())
    }

    fn lose_line(&mut self, error: io::Error) -> io::Result<()> {
        if matches!(self.settings.attachment, Attachment::Serial(_)) {
            // A pseudo-terminal has no end but that of the program.
            return Err(error);
        }
        self.tally.reconnects += u64::from(matches!(self.connection, Connection::Up(_)));
        self.outgoing.clear();
        // Jittered, so that a fleet does not come back as one.
        let pause = self.backoff.mul_f64(self.random.between(0.5, 1.0));
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        self.connection = Connection::Down { until: Instant::now() + pause };
        Ok(())
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    timeout(CONNECT_PATIENCE, TcpStream::connect(address)).await?
}

impl Outgoing {
    /// Room for one more frame, if there is.
    fn room(&mut self) -> Option<&mut [u8]> {
        if self.sent == self.len {
            (self.sent, self.len) = (0, 0);
        }
        let room = &mut self.bytes[self.len..];
        (room.len() >= DeviceNode::FRAME_MAX).then_some(room)
    }

    fn waiting(&self) -> &[u8] {
        &self.bytes[self.sent..self.len]
    }

    fn is_empty(&self) -> bool {
        self.sent == self.len
    }

    fn take(&mut self, len: usize) {
        self.sent = (self.sent + len).min(self.len);
    }

    fn clear(&mut self) {
        (self.sent, self.len) = (0, 0);
    }
}

/// A crystal that is off.
#[derive(Clone, Copy, Debug)]
struct Clock {
    origin: Instant,
    ppm: f64,
}

impl Clock {
    fn now(&self) -> u64 {
        let elapsed = self.origin.elapsed().as_secs_f64();
        (elapsed * f64::from(TICK_HZ) * (1.0 + self.ppm / 1e6)) as u64
    }

    fn instant(&self, tick: u64) -> Instant {
        let seconds = tick as f64 / f64::from(TICK_HZ) / (1.0 + self.ppm / 1e6);
        // A tick later rather than a tick too early, which would wake for nothing.
        let elapsed = Duration::try_from_secs_f64(seconds).unwrap_or(FAR_AWAY).min(FAR_AWAY);
        self.origin + elapsed + Duration::from_micros(2)
    }
}

fn memory_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.nvm"))
}

/// `sim-000001` and so on.
#[must_use]
pub fn device_name(number: u64) -> String {
    format!("sim-{number:06}")
}

fn far_away() -> Instant {
    Instant::now() + FAR_AWAY
}

/// Ticks per second of a device's counter: microseconds.
pub const TICK_HZ: u32 = 1_000_000;
/// Severity of RFC 5424.
const INFORMATIONAL: u8 = 6;
/// Largest error of a device's crystal, parts per million.
const MAX_PPM: f64 = 100.0;
/// Devices over TCP connect at a random instant within this time from the start.
const START_SPREAD: Duration = Duration::from_millis(300);
/// Between attempts to connect, doubled up to the maximum.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Largest pause between attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// For one attempt.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Frames that wait for the line, bytes: about two of the largest.
const OUTGOING_BYTES: usize = 1_024;
/// Longest sleep; a tick of `u64::MAX` is never.
const FAR_AWAY: Duration = Duration::from_secs(3_600);
