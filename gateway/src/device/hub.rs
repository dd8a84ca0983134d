//! What all connections share: who is live where, the devices ever seen, new streams, the time base.
//!
//! A device id is *claimed* by one connection at a time, and the claim is held until every append of that
//! connection has settled: whoever claims next reads positions that will not move under it.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use headwater_protocol::{DeviceId, Hello, Refusal, StreamId};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{
    DeviceStatus,
    clock::{Clocks, Now},
    command::Report,
    facts::{self, StreamFact},
    registry::{Admission, Profile, ProfileEdit, ProfileError},
    roster::Roster,
    schema::Library,
};
use crate::{
    broker::{AppendRequest, Broker, TopicError, partition_for_key, space},
    config::{DeviceHeader, UnknownDevices},
    journal::PartitionId,
};

/// Devices that may be known at once; one more is refused.
pub(super) const MAX_DEVICES: usize = 10_000;
/// A device that promises no sign of life counts as live for this long after its last frame.
pub(super) const DEFAULT_SILENCE: Duration = Duration::from_secs(30);
/// How long the live holder of a device id has to answer a HELLO-REQ.
const PROBE: Duration = Duration::from_secs(1);
/// How long a connection that was told to close may take to settle its appends.
const SETTLE: Duration = Duration::from_secs(10);

/// Shared by all connections; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Hub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    broker: Arc<Broker>,
    topic: String,
    clocks_topic: String,
    max_devices: usize,
    reports: mpsc::Sender<Report>,
    roster: Roster,
    library: Library,
    origin: Instant,
    random: RandomState,
    draws: AtomicU64,
    poisoned: AtomicBool,
    devices: Mutex<BTreeMap<String, Entry>>,
}

/// How devices are taken in.
#[derive(Clone, Debug)]
pub(super) struct HubOptions {
    /// Topic of the readings.
    pub(super) topic: String,
    /// Topic of their clocks.
    pub(super) clocks_topic: String,
    /// Devices that may be known at once; one more is refused.
    pub(super) max_devices: usize,
    /// What becomes of unknown ones.
    pub(super) unknown: UnknownDevices,
    /// What records tell of their device.
    pub(super) headers: Vec<DeviceHeader>,
}

#[derive(Debug, Default)]
struct Entry {
    status: DeviceStatus,
    live: Option<Live>,
    clocks: Clocks,
    /// Whether the journal knows the device; one that never sent anything is forgotten with its connection.
    durable: bool,
}

/// The connection that holds a device id.
#[derive(Debug)]
struct Live {
    token: u64,
    stream: Option<StreamId>,
    control: mpsc::Sender<Control>,
    heard_us: Arc<AtomicU64>,
    silence: Duration,
}

/// What one connection asks of another.
#[derive(Debug)]
pub(super) enum Control {
    /// Ask the device for a sign of life; the answer tells that one came.
    Probe(oneshot::Sender<()>),
    /// The device is elsewhere now.
    Close,
    /// Send a command to the device.
    Command {
        /// The boot that it is meant for.
        boot: u32,
        /// Its number.
        id: u64,
        /// What to do.
        payload: Bytes,
    },
}

impl Hub {
    /// Reads what the journal knows of devices, and drops schemas that no stream uses any more.
    pub(super) async fn open(
        broker: Arc<Broker>,
        options: HubOptions,
        reports: mpsc::Sender<Report>,
    ) -> io::Result<Self> {
        let HubOptions { topic, clocks_topic, max_devices, unknown, headers } = options;
        if let Err(error) = broker.ensure_topic(&topic).await {
            // A full disk keeps no gateway from starting; the first reading tries again.
            if !matches!(error, TopicError::Append(_)) {
                return Err(io::Error::other(error));
            }
            tracing::warn!(%topic, %error, "the readings' topic is not created yet");
        }
        let mut used = BTreeSet::new();
        let mut boots = BTreeMap::new();
        for (key, value) in broker.facts(space::DEVICE_STREAM) {
            let (stream, fact) = StreamFact::stream(&key)
                .zip(StreamFact::read(&value))
                .ok_or_else(|| unreadable("stream", &key))?;
            used.extend(fact.boot.map(|boot| boot.schema));
            boots.insert(stream, fact.position.boot);
        }
        let (library, unused) =
            Library::load(&broker, &used).map_err(|key| unreadable("schema", &key))?;
        if !unused.is_empty() {
            let facts = unused.into_iter().map(|key| facts::deleted(space::SCHEMA, key)).collect();
            let request = AppendRequest { batches: Vec::new(), facts };
            // Housekeeping: what cannot be dropped now is dropped at the next start.
            if let Err(error) = broker.append(request) {
                tracing::debug!(%error, "unused schemas stay");
            }
        }
        let devices = known_devices(&broker, &boots)?;
        let roster = Roster::load(&broker, unknown, headers, max_devices)
            .map_err(|key| unreadable("profile", &key))?;
        let inner = Inner {
            broker,
            topic,
            clocks_topic,
            max_devices,
            reports,
            library,
            origin: Instant::now(),
            random: RandomState::new(),
            draws: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            devices: Mutex::new(devices),
            roster,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The broker.
    pub(super) fn broker(&self) -> &Broker {
        &self.inner.broker
    }

    /// Tells whoever hands out commands.
    pub(super) async fn report(&self, report: Report) {
        // Nobody listens any more when the gateway stops.
        let _ = self.inner.reports.send(report).await;
    }

    /// The schemas of all streams.
    pub(super) fn library(&self) -> &Library {
        &self.inner.library
    }

    /// The partition of a device's readings.
    pub(super) async fn partition(&self, device: DeviceId) -> Result<PartitionId, TopicError> {
        let name = &self.inner.topic;
        let topic = match self.inner.broker.topic(name) {
            Some(topic) => topic,
            None => self.inner.broker.ensure_topic(name).await?,
        };
        let index = partition_for_key(device.as_bytes(), topic.partitions.len());
        topic.partitions.get(index).copied().ok_or(TopicError::IllegalPartitions(0))
    }

    /// The topic of clocks.
    pub(super) fn clocks_topic(&self) -> &str {
        &self.inner.clocks_topic
    }

    /// The two clocks at this moment.
    pub(super) fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_us: self.mono_us(), wall_ms: wall.as_millis() as i64 }
    }

    /// Microseconds on the links' clock.
    pub(super) fn mono_us(&self) -> u64 {
        // Starts at 1 s, so that a first sample may lie before it.
        self.inner.origin.elapsed().as_micros() as u64 + 1_000_000
    }

    /// An instant of the links' clock.
    pub(super) fn instant(&self, mono_us: u64) -> Instant {
        self.inner.origin + Duration::from_micros(mono_us.saturating_sub(1_000_000))
    }

    /// 64 bits that nobody can foresee and that were not drawn before.
    pub(super) fn random(&self) -> u64 {
        self.inner.random.hash_one(self.inner.draws.fetch_add(1, Ordering::Relaxed))
    }

    /// A stream that the journal does not know.
    pub(super) fn draw_stream(&self) -> StreamId {
        loop {
            if let Some(stream) = StreamId::new(self.random())
                && self.stream(stream).is_none()
            {
                return stream;
            }
        }
    }

    /// What is known of a stream, as of the last admitted append.
    pub(super) fn stream(&self, stream: StreamId) -> Option<StreamFact> {
        let value = self.inner.broker.fact(space::DEVICE_STREAM, &StreamFact::key(stream))?;
        StreamFact::read(&value)
    }

    /// The streams of a device, the last used at the end.
    pub(super) fn streams(&self, device: DeviceId) -> Vec<StreamId> {
        self.inner
            .broker
            .fact(space::DEVICE, device.as_bytes())
            .and_then(|value| facts::read_device(&value))
            .unwrap_or_default()
    }

    /// The journal stopped: nothing will be acknowledged until a restart.
    pub(super) fn poison(&self) {
        self.inner.poisoned.store(true, Ordering::Relaxed);
    }

    /// Whether it did.
    pub(super) fn is_poisoned(&self) -> bool {
        self.inner.poisoned.load(Ordering::Relaxed)
    }

    /// All devices by id.
    pub(super) fn status(&self) -> Vec<DeviceStatus> {
        let mut all: BTreeMap<String, DeviceStatus> =
            self.devices().iter().map(|(id, entry)| (id.clone(), entry.status.clone())).collect();
        self.inner.roster.show(&mut all);
        all.into_values().collect()
    }

    /// Headers that a device's records get.
    pub(super) fn headers(&self, device: DeviceId) -> Vec<(String, String)> {
        self.inner.roster.headers(device)
    }

    /// Changes what is said of a device; durable when this returns. One that is refused now loses its connection.
    pub(super) async fn edit(&self, id: &str, edit: &ProfileEdit) -> Result<Profile, ProfileError> {
        let next = self.inner.roster.edit(&self.inner.broker, id, edit).await?;
        if next.admission == Admission::Refused {
            let devices = self.devices();
            if let Some(live) = devices.get(id).and_then(|entry| entry.live.as_ref()) {
                // A full queue holds a Close already, or the connection is about to look at its deadline.
                let _ = live.control.try_send(Control::Close);
            }
        }
        Ok(next)
    }

    /// Claims the device of a HELLO for a connection, taking it over from one that does not answer any
    /// more or that carries the same stream.
    pub(super) async fn claim(&self, hello: Hello, transport: String) -> Result<Claim, Refusal> {
        let is_known = self.devices().get(hello.device.as_str()).is_some_and(|entry| entry.durable);
        let now_ms = self.now().wall_ms;
        if !self.inner.roster.admits(hello.device, &transport, is_known, now_ms) {
            return Err(Refusal::Forbidden);
        }
        loop {
            let holder = match self.try_claim(&hello, &transport) {
                Ok(claim) => return Ok(claim),
                Err(Busy::Refused(refusal)) => return Err(refusal),
                Err(Busy::Held { holder, answers: false }) => holder,
                Err(Busy::Held { holder, answers: true }) => {
                    if answers_probe(&holder).await {
                        return Err(Refusal::Duplicate);
                    }
                    holder
                }
            };
            tracing::info!(device = %hello.device, %transport, "device taken over from another connection");
            // A full queue holds a Close already, or the holder is about to look at its deadline.
            let _ = holder.try_send(Control::Close);
            if timeout(SETTLE, holder.closed()).await.is_err() {
                return Err(Refusal::Unavailable);
            }
        }
    }

    fn try_claim(&self, hello: &Hello, transport: &str) -> Result<Claim, Busy> {
        let now_us = self.mono_us();
        let mut devices = self.devices();
        let id = hello.device.as_str();
        if !devices.contains_key(id) && devices.len() >= self.inner.max_devices {
            return Err(Busy::Refused(Refusal::Limit));
        }
        let entry = devices.entry(id.to_owned()).or_default();
        if let Some(live) = &entry.live {
            let silent_us = now_us.saturating_sub(live.heard_us.load(Ordering::Relaxed));
            let same = live.stream.is_some() && live.stream == hello.stream;
            let answers = !same && u128::from(silent_us) <= live.silence.as_micros();
            return Err(Busy::Held { holder: live.control.clone(), answers });
        }
        let token = self.random();
        // A Close and a few probes; more are not of interest.
        let (sender, control) = mpsc::channel(4);
        let sender_of_claim = sender.clone();
        let heard_us = Arc::new(AtomicU64::new(now_us));
        entry.live = Some(Live {
            token,
            stream: hello.stream,
            control: sender,
            heard_us: Arc::clone(&heard_us),
            silence: silence(hello),
        });
        entry.status.device = id.to_owned();
        entry.status.transport = transport.to_owned();
        entry.status.connected = true;
        Ok(Claim {
            hub: self.clone(),
            device: hello.device,
            token,
            control,
            sender: sender_of_claim.downgrade(),
            heard_us,
            streams: self.streams(hello.device),
        })
    }

    fn devices(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Every change is a whole one: a panic elsewhere leaves nothing half done here.
        self.inner.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a device may be silent and still count as live.
pub(super) fn silence(hello: &Hello) -> Duration {
    match hello.longest_silence_ms {
        0 => DEFAULT_SILENCE,
        ms => Duration::from_millis(ms.into()),
    }
}

async fn answers_probe(holder: &mpsc::Sender<Control>) -> bool {
    let (reply, answered) = oneshot::channel();
    if holder.try_send(Control::Probe(reply)).is_err() {
        return false;
    }
    matches!(timeout(PROBE, answered).await, Ok(Ok(())))
}

enum Busy {
    Refused(Refusal),
    Held {
        holder: mpsc::Sender<Control>,
        /// Whether the holder may still be alive and carries another stream, so that it has to be asked.
        answers: bool,
    },
}

/// Devices of the journal, for the page.
fn known_devices(
    broker: &Broker,
    boots: &BTreeMap<StreamId, u32>,
) -> io::Result<BTreeMap<String, Entry>> {
    let mut devices = BTreeMap::new();
    for (key, value) in broker.facts(space::DEVICE) {
        let (device, streams) = DeviceId::from_bytes(&key)
            .zip(facts::read_device(&value))
            .ok_or_else(|| unreadable("device", &key))?;
        let last = streams.last();
        let status = DeviceStatus {
            device: device.to_string(),
            stream: last.map(ToString::to_string).unwrap_or_default(),
            boot: last.and_then(|stream| boots.get(stream)).copied().unwrap_or_default().into(),
            ..DeviceStatus::default()
        };
        devices.insert(device.to_string(), Entry { status, durable: true, ..Entry::default() });
    }
    for (key, value) in broker.facts(space::DEVICE_CLOCK) {
        let fits = facts::read_clocks(&value).ok_or_else(|| unreadable("clocks", &key))?;
        let device = DeviceId::from_bytes(&key).ok_or_else(|| unreadable("clocks", &key))?;
        if let Some(entry) = devices.get_mut(device.as_str()) {
            if let Some(newest) = fits.last() {
                entry.status.set_drift(newest.drift());
            }
            entry.clocks = Clocks::restore(fits);
        }
    }
    Ok(devices)
}

/// Going on without such a fact would take items a second time.
fn unreadable(what: &str, key: &[u8]) -> io::Error {
    let key = key.escape_ascii();
    let why = format!("fact of {what} {key} is not readable; was it written by a later version?");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The right to feed one device's streams; given back when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    hub: Hub,
    /// The device.
    pub(super) device: DeviceId,
    token: u64,
    control: mpsc::Receiver<Control>,
    sender: mpsc::WeakSender<Control>,
    heard_us: Arc<AtomicU64>,
    /// The device's streams as of the last admitted append, the last used at the end.
    pub(super) streams: Vec<StreamId>,
}

impl Claim {
    /// What another connection asks; never resolves to anything else.
    pub(super) async fn control(&mut self) -> Control {
        match self.control.recv().await {
            Some(control) => control,
            None => std::future::pending().await,
        }
    }

    /// The way for others to ask something of this connection.
    pub(super) fn sender(&self) -> Option<mpsc::Sender<Control>> {
        self.sender.upgrade()
    }

    /// A valid frame came.
    pub(super) fn heard(&self, mono_us: u64) {
        self.heard_us.store(mono_us, Ordering::Relaxed);
    }

    /// The stream that this connection carries now.
    pub(super) fn set_stream(&self, stream: StreamId, silence: Duration) {
        self.entry(|entry| {
            if let Some(live) = &mut entry.live {
                live.stream = Some(stream);
                live.silence = silence;
            }
            entry.status.stream = stream.to_string();
            entry.status.connected = true;
        });
    }

    /// The device's first data were admitted: its entry stays.
    pub(super) fn set_durable(&self) {
        self.entry(|entry| entry.durable = true);
    }

    /// Changes what the page shows.
    pub(super) fn update(&self, change: impl FnOnce(&mut DeviceStatus)) {
        self.entry(|entry| change(&mut entry.status));
    }

    /// What an earlier connection learned of the device's clock.
    pub(super) fn clocks(&self) -> Clocks {
        let mut clocks = Clocks::default();
        self.entry(|entry| clocks = entry.clocks.clone());
        clocks
    }

    /// Leaves what this connection learned to the next.
    pub(super) fn keep_clocks(&self, clocks: &Clocks) {
        self.entry(|entry| entry.clocks = clocks.clone());
    }

    fn entry(&self, change: impl FnOnce(&mut Entry)) {
        let mut devices = self.hub.devices();
        if let Some(entry) = devices.get_mut(self.device.as_str())
            && entry.live.as_ref().is_some_and(|live| live.token == self.token)
        {
            change(entry);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut forget = false;
        self.entry(|entry| {
            entry.live = None;
            entry.status.connected = false;
            forget = !entry.durable;
        });
        if forget {
            self.hub.devices().remove(self.device.as_str());
        }
    }
}
