//! One connection: bytes between a port and a [`HostLink`], and what the link's events lead to.

use std::{
    fmt,
    future::{Future, pending},
    io,
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use headwater_protocol::{
    Accept, Hello, HostConfig, HostCounters, HostEvent, HostLink, NotAccepted, NotSent, Refusal,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};

use super::{
    clock::{Clocks, Occasion},
    clocks_topic::ClocksTopic,
    command::Report,
    hub::{self, Claim, Control, Hub},
    intake::{Attempt, Durable, Intake},
    lines::Lines,
    stream::{HeldItem, Stream},
};
use crate::Shutdown;

/// Bytes of item bodies that a device may send ahead of what is durable: what one slow sync delays on a
/// fast serial line, and a bound of what a connection holds.
const WINDOW: u32 = 16 * 1024;
/// Bytes read at once.
const READ_BYTES: usize = 2048;
/// Time for a peer to take a frame; past it the connection is of no use.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stop, or an end, waits for appends that are on their way.
const DRAIN: Duration = Duration::from_secs(1);
/// How long the first items wait for an answer to the first clock question, so that a backlog gets its
/// sample times.
const CLOCK_PATIENCE: Duration = Duration::from_secs(1);
/// Silences that a device promised to avoid, in a row, before it counts as gone.
const SILENCES: u32 = 3;

/// What a peer may do before its connection is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until a device is accepted, and again after it has gone silent; none: for ever.
    pub(super) hello: Option<Duration>,
    /// Bad frames in a row; none: any number, a serial line may be noisy.
    pub(super) bad_frames: Option<u64>,
    /// Bytes without a valid frame among them; likewise.
    pub(super) bad_bytes: Option<u64>,
    /// HELLO frames within [`HELLO_SPAN`].
    pub(super) hellos: u64,
}

/// A peer that sends frames and is not accepted is closed after so many times [`Patience::hello`].
const REFUSALS: u32 = 6;
/// See [`Patience::hellos`].
const HELLO_SPAN: Duration = Duration::from_secs(10);

impl Patience {
    /// Whoever can reach the address can connect.
    pub(super) const TCP: Self = Self {
        hello: Some(Duration::from_secs(10)),
        bad_frames: Some(64),
        bad_bytes: Some(64 * 1024),
        hellos: 100,
    };
    /// The port is ours, and closing it would help nobody.
    pub(super) const SERIAL: Self =
        Self { hello: None, bad_frames: None, bad_bytes: None, hellos: u64::MAX };
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The gateway stops.
    Shutdown,
    /// Zero bytes: the peer closed, or the port was unplugged.
    Unplugged,
    /// Reading or writing failed.
    Io(io::Error),
    /// No device was accepted in time, or it fell silent.
    Silent,
    /// Noise, or more HELLO frames than any device sends.
    Garbage,
    /// The device is on another connection now, or was refused.
    TakenOver,
    /// The journal stopped.
    Poisoned,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown => f.write_str("the gateway stops"),
            Self::Unplugged => f.write_str("closed by the other side"),
            Self::Io(error) => error.fmt(f),
            Self::Silent => f.write_str("no device answers"),
            Self::Garbage => f.write_str("no frames of this protocol"),
            Self::TakenOver => {
                f.write_str("the device is on another connection now, or was refused")
            }
            Self::Poisoned => f.write_str("the journal stopped"),
        }
    }
}

/// Serves one device until the connection ends and every append of it has settled.
pub(super) async fn serve(
    io: impl AsyncRead + AsyncWrite,
    transport: String,
    patience: Patience,
    hub: &Hub,
    shutdown: &Shutdown,
) -> Ended {
    let (mut reader, mut writer) = tokio::io::split(io);
    let mut connection = Connection::new(hub.clone(), transport, patience);
    let mut buffer = [0; READ_BYTES];
    let ended = loop {
        if let Err(error) = connection.write(&mut writer).await {
            break Ended::Io(error);
        }
        if let Some(ended) = connection.step().await {
            break ended;
        }
        tokio::select! {
            () = shutdown.requested() => break Ended::Shutdown,
            wake = connection.wake() => {
                if let Some(ended) = connection.woken(wake) {
                    break ended;
                }
            }
            read = reader.read(&mut buffer) => match read {
                Ok(0) => break Ended::Unplugged,
                Ok(len) => connection.receive(buffer.get(..len).unwrap_or_default()),
                Err(error) => break Ended::Io(error),
            },
        }
    };
    connection.finish(&ended, &mut writer).await;
    ended
}

type Claiming = Pin<Box<dyn Future<Output = Result<Claim, Refusal>> + Send>>;

struct Connection {
    hub: Hub,
    transport: String,
    patience: Patience,
    link: HostLink,
    /// A HELLO that waits for its answer.
    hello: Option<Hello>,
    claiming: Option<Claiming>,
    claim: Option<Claim>,
    /// Present while a stream is accepted, or still settles.
    intake: Option<Intake>,
    clocks: Clocks,
    clocks_topic: ClocksTopic,
    /// Items wait for the first clock sample of this boot, until then.
    clock_wait: Option<(u32, Instant)>,
    /// Whether the device was told to stop.
    stopped: bool,
    silence: Duration,
    quiet_since: Instant,
    unaccepted_since: Instant,
    probes: Vec<oneshot::Sender<()>>,
    seen: HostCounters,
    bad_frames: u64,
    bad_bytes: u64,
    hellos: (Instant, u64),
    lines: Lines,
    /// What whoever hands out commands has to know.
    reports: Vec<Report>,
    /// The boot that was told last as being in session.
    told_boot: Option<u32>,
}

/// What a connection woke up for.
enum Wake {
    Durable(Result<Durable, crate::journal::Poisoned>),
    Claimed(Result<Claim, Refusal>),
    Control(Control),
    Timer,
}

impl Connection {
    fn new(hub: Hub, transport: String, patience: Patience) -> Self {
        let now = Instant::now();
        let link = HostLink::new(HostConfig::default(), hub.random() as u32, hub.mono_us());
        Self {
            hub,
            transport,
            patience,
            link,
            hello: None,
            claiming: None,
            claim: None,
            intake: None,
            clocks: Clocks::default(),
            clocks_topic: ClocksTopic::default(),
            clock_wait: None,
            stopped: false,
            silence: hub::DEFAULT_SILENCE,
            quiet_since: now,
            unaccepted_since: now,
            probes: Vec::new(),
            seen: HostCounters::default(),
            bad_frames: 0,
            bad_bytes: 0,
            hellos: (now, 0),
            lines: Lines::new(now),
            reports: Vec::new(),
            told_boot: None,
        }
    }

    /// Writes every frame that is due.
    async fn write(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut out = [0; HostLink::FRAME_MAX];
        loop {
            let now = self.hub.now();
            let len = self.link.transmit(now.mono_us, now.wall_ms.max(0) as u64, &mut out);
            let frame = out.get(..len).unwrap_or_default();
            if frame.is_empty() {
                return Ok(());
            }
            // No flush: nothing buffers here, and on a serial port it would block the thread until the
            // line has drained.
            timeout(WRITE_TIMEOUT, writer.write_all(frame))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        }
    }

    /// Feeds received bytes to the link.
    fn receive(&mut self, mut bytes: &[u8]) {
        let now_us = self.hub.mono_us();
        self.bad_bytes += bytes.len() as u64;
        while let Some(event) = self.link.receive(now_us, &mut bytes) {
            match event {
                HostEvent::Hello(hello) => self.hello = Some(hello),
                HostEvent::Item(arrival) => {
                    if let Some(intake) = &mut self.intake {
                        intake.push(HeldItem {
                            position: arrival.item.position,
                            kind: arrival.item.kind,
                            body: Bytes::copy_from_slice(arrival.item.body),
                            loss: arrival.loss,
                        });
                    }
                }
                HostEvent::Description(description) => {
                    if let Some(intake) = &mut self.intake {
                        intake.stream().describe(description, self.hub.library());
                    }
                }
                HostEvent::Time(sample) => self.clocks.sample(sample),
                HostEvent::Log(line) => {
                    self.lines.push(Instant::now(), self.hub.now().wall_ms, &line);
                }
                HostEvent::Result(outcome) => {
                    if let Some(claim) = &self.claim {
                        self.reports.push(Report::Result {
                            device: claim.device,
                            id: outcome.id,
                            boot: outcome.boot,
                            status: outcome.status,
                            payload: Bytes::copy_from_slice(outcome.payload),
                        });
                    }
                }
            }
        }
        self.count(now_us);
    }

    /// Does what can be done without waiting for anything: answers a HELLO, appends, checks the limits.
    async fn step(&mut self) -> Option<Ended> {
        self.answer_hello();
        self.tell().await;
        if let Some(ended) = self.append().await {
            return Some(ended);
        }
        if let Some(claim) = &self.claim {
            self.clocks_topic.tell(&self.hub, claim, &mut self.clocks, Occasion::Running);
            if let Some(drift) = self.clocks.drift() {
                claim.update(|status| status.set_drift(drift));
            }
        }
        self.overstepped()
    }

    /// Tells whoever hands out commands what it has to know.
    async fn tell(&mut self) {
        let boot = self.link.boot();
        if boot != self.told_boot {
            self.told_boot = boot;
            if let Some((boot, claim)) = boot.zip(self.claim.as_ref())
                && let Some(control) = claim.sender()
            {
                self.reports.push(Report::InSession { device: claim.device, boot, control });
            }
        }
        for report in self.reports.drain(..) {
            self.hub.report(report).await;
        }
    }

    /// Sends a command to the device.
    fn command(&mut self, boot: u32, id: u64, payload: &[u8]) {
        let sent = self.link.command(self.hub.mono_us(), boot, id, payload);
        if let Some((claim, error)) = self.claim.as_ref().zip(sent.err()) {
            let is_too_long = matches!(error, NotSent::TooLong(_));
            self.reports.push(Report::NotSent { device: claim.device, id, is_too_long });
        }
    }

    async fn append(&mut self) -> Option<Ended> {
        if let Some((boot, until)) = self.clock_wait {
            if !self.clocks.knows(boot) && Instant::now() < until {
                return None;
            }
            self.clock_wait = None;
        }
        let (intake, claim) = self.intake.as_mut().zip(self.claim.as_mut())?;
        match intake.due()? {
            Some(at) if at > Instant::now() => return None,
            _ => {}
        }
        match intake.append(&self.hub, claim, &mut self.clocks).await {
            Attempt::Done => self.set_stopped(false, ""),
            Attempt::Blocked(why) => self.set_stopped(true, &why),
            Attempt::Poisoned => {
                self.hub.poison();
                return Some(Ended::Poisoned);
            }
        }
        None
    }

    /// Closes the window while storage takes nothing, and opens it again.
    fn set_stopped(&mut self, stopped: bool, why: &str) {
        if self.stopped == stopped {
            return;
        }
        self.stopped = stopped;
        if stopped {
            tracing::warn!(transport = %self.transport, why, "device stopped: storage takes nothing now");
        }
        self.link.set_window(self.hub.mono_us(), self.window());
    }

    fn window(&self) -> u32 {
        if self.stopped { 0 } else { WINDOW }
    }

    /// Answers the last HELLO, once nothing of the stream before it is on its way.
    fn answer_hello(&mut self) {
        let Some(hello) = self.hello else { return };
        if self.hub.is_poisoned() {
            self.hello = None;
            return self.link.refuse(Refusal::Unavailable);
        }
        if self.claiming.is_some() {
            return;
        }
        let foreign = self.claim.as_ref().is_some_and(|claim| claim.device != hello.device);
        if let Some(intake) = &mut self.intake {
            let switched = foreign || Some(intake.stream().id) != hello.stream;
            if switched {
                // What waits belongs to a stream that this device has left, or to another device.
                intake.drop_held();
            }
            if !intake.is_settled() {
                return;
            }
            if switched {
                return self.part();
            }
        }
        if foreign {
            return self.part();
        }
        let Some(claim) = &self.claim else {
            let (hub, transport) = (self.hub.clone(), self.transport.clone());
            self.claiming = Some(Box::pin(async move { hub.claim(hello, transport).await }));
            return;
        };
        self.hello = None;
        self.intake = None;
        self.unaccepted_since = Instant::now();
        self.silence = hub::silence(&hello);
        let Some(stream) = hello.stream else {
            return self.assign();
        };
        let stream = match self.hub.stream(stream) {
            // A copied memory: the stream is another device's.
            Some(fact) if fact.device != hello.device => return self.assign(),
            Some(fact) => Stream::restore(stream, fact, self.hub.library()),
            None => Stream::new(stream, hello.device),
        };
        claim.set_stream(stream.id, self.silence);
        self.accept(hello, stream);
    }

    fn accept(&mut self, hello: Hello, stream: Stream) {
        let boot = hello.next.boot;
        // The log still holds the running boot's BOOT and SCHEMA, unless they were acknowledged already.
        let in_log = hello.oldest.boot != boot || hello.oldest.item == 0;
        let options = Accept { window: self.window(), describe: !in_log && !stream.decodes(boot) };
        match self.link.accept(stream.position, options) {
            Ok(()) => {
                self.clocks.follow(stream.id);
                self.intake = Some(Intake::new(stream));
                if !self.clocks.knows(boot) {
                    self.clock_wait = Some((boot, Instant::now() + CLOCK_PATIENCE));
                }
                if let Some(claim) = &self.claim {
                    claim.update(|status| status.boot = boot.into());
                }
            }
            Err(NotAccepted::Version) => self.link.refuse(Refusal::Version),
            Err(NotAccepted::NoStream | NotAccepted::Behind) => {
                tracing::warn!(
                    device = %hello.device,
                    stream = %stream.id,
                    durable = %stream.position,
                    next = %hello.next,
                    "the device's memory lies behind the log: it gets a new stream"
                );
                self.assign();
            }
            Err(NotAccepted::NoHello) => {}
        }
    }

    /// Draws a stream for the device; it becomes a fact with its first data.
    fn assign(&mut self) {
        self.link.assign(self.hub.draw_stream());
    }

    /// Resolves when something is to be done apart from reading.
    async fn wake(&mut self) -> Wake {
        let timer = self.next_timer();
        let Self { intake, claiming, claim, clocks_topic, .. } = self;
        tokio::select! {
            durable = durable(intake) => Wake::Durable(durable),
            claimed = claimed(claiming) => Wake::Claimed(claimed),
            control = control(claim) => Wake::Control(control),
            () = clocks_topic.created() => Wake::Timer,
            () = at(timer) => Wake::Timer,
        }
    }

    fn woken(&mut self, wake: Wake) -> Option<Ended> {
        match wake {
            Wake::Timer => {}
            Wake::Durable(Ok(durable)) => self.settled(durable),
            Wake::Durable(Err(poisoned)) => {
                tracing::error!(transport = %self.transport, %poisoned, "device link");
                self.hub.poison();
                return Some(Ended::Poisoned);
            }
            Wake::Claimed(result) => {
                self.claiming = None;
                match result {
                    Ok(claim) => {
                        self.clocks = claim.clocks();
                        self.claim = Some(claim);
                    }
                    Err(refusal) => {
                        self.hello = None;
                        self.link.refuse(refusal);
                    }
                }
            }
            Wake::Control(Control::Close) => return Some(Ended::TakenOver),
            Wake::Control(Control::Command { boot, id, payload }) => {
                self.command(boot, id, &payload);
            }
            Wake::Control(Control::Probe(reply)) => {
                self.link.ask(self.hub.mono_us());
                self.probes.push(reply);
            }
        }
        None
    }

    fn settled(&mut self, durable: Durable) {
        if let Some(stream) = self.intake.as_mut().map(|intake| intake.stream().id) {
            self.link.durable(self.hub.mono_us(), stream, durable.position);
        }
        let now_ms = self.hub.now().wall_ms;
        if let Some(claim) = &self.claim {
            claim.update(|status| {
                status.readings += durable.counts.readings;
                status.gap_readings =
                    status.gap_readings.saturating_add(durable.counts.gap_readings);
                status.boot = durable.position.boot.into();
                status.boots.merge(&durable.counts.boots);
                if let Some(sampled_ms) = durable.counts.sampled_ms {
                    status.backlog_ms = Some((now_ms - sampled_ms).max(0));
                }
            });
        }
    }

    /// Counts what the last bytes brought.
    fn count(&mut self, now_us: u64) {
        let counters = self.link.counters();
        let bad = counters.frame_errors + counters.message_errors;
        let new_bad = bad - self.seen.frame_errors - self.seen.message_errors;
        let duplicates = counters.duplicates - self.seen.duplicates;
        let crc_errors = counters.crc_errors - self.seen.crc_errors;
        let lines_lost = counters.lines_lost - self.seen.lines_lost;
        self.bad_frames += new_bad;
        if counters.frames > self.seen.frames {
            self.bad_frames = 0;
            self.bad_bytes = 0;
            self.quiet_since = Instant::now();
            if let Some(claim) = &self.claim {
                claim.heard(now_us);
                for probe in self.probes.drain(..) {
                    // The one who asked may have gone.
                    let _ = probe.send(());
                }
            }
        }
        if self.hellos.0.elapsed() > HELLO_SPAN {
            self.hellos = (Instant::now(), 0);
        }
        self.hellos.1 += counters.hellos - self.seen.hellos;
        let heard = counters.frames > self.seen.frames;
        self.seen = counters;
        if let Some(claim) = &self.claim {
            let wall_ms = self.hub.now().wall_ms;
            let (lines, too_many) = self.lines.take(claim.device);
            claim.update(|status| {
                status.frame_errors += new_bad;
                status.retransmits += duplicates;
                status.crc_errors += crc_errors;
                status.lines_lost += lines_lost + too_many;
                status.device_errors = counters.device_errors.into();
                status.device_overruns = counters.device_overruns.into();
                lines.into_iter().for_each(|line| status.keep_line(line));
                if heard {
                    status.last_seen_ms = wall_ms;
                    status.connected = true;
                }
            });
        }
    }

    /// Whether the peer went past what its transport allows; a silent device is let go.
    fn overstepped(&mut self) -> Option<Ended> {
        if self.patience.bad_frames.is_some_and(|most| self.bad_frames > most)
            || self.patience.bad_bytes.is_some_and(|most| self.bad_bytes > most)
            || self.hellos.1 > self.patience.hellos
        {
            return Some(Ended::Garbage);
        }
        if self.quiet_at()? > Instant::now() {
            return None;
        }
        if self.patience.hello.is_some() {
            return Some(Ended::Silent);
        }
        // A serial port stays open: the next board, or the same one, says HELLO when asked.
        self.quiet_since = Instant::now();
        if self.intake.as_ref().is_none_or(Intake::is_settled) {
            self.part();
        }
        None
    }

    /// When the peer counts as gone if nothing changes.
    fn quiet_at(&self) -> Option<Instant> {
        if self.intake.is_some() {
            return Some(self.quiet_since + self.silence * SILENCES);
        }
        let hello = self.patience.hello?;
        Some((self.quiet_since + hello).min(self.unaccepted_since + hello * REFUSALS))
    }

    /// Lets go of the device, with nothing of it on its way, and asks who is there.
    fn part(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.clocks_topic.tell(&self.hub, &claim, &mut self.clocks, Occasion::End);
            claim.keep_clocks(&self.clocks);
        }
        self.intake = None;
        self.unaccepted_since = Instant::now();
        self.hello = None;
        self.clocks = Clocks::default();
        self.clock_wait = None;
        self.link.restart(self.hub.mono_us(), self.hub.random() as u32);
    }

    fn next_timer(&self) -> Option<Instant> {
        let link = self.link.next_wake(self.hub.mono_us()).map(|us| self.hub.instant(us));
        let append =
            self.intake.as_ref().and_then(Intake::due).map(|at| {
                self.clock_wait.map(|(_, until)| until).or(at).unwrap_or_else(Instant::now)
            });
        [link, append, self.quiet_at()].into_iter().flatten().min()
    }

    /// Settles what is on its way and, if the peer is still there, tells it.
    async fn finish(mut self, ended: &Ended, writer: &mut (impl AsyncWrite + Unpin)) {
        if let Some(intake) = &mut self.intake {
            intake.drop_held();
        }
        let patience = match ended {
            // The device comes back at once; whoever claims it next waits for this.
            Ended::Shutdown => DRAIN,
            _ => Duration::MAX,
        };
        let settled = timeout(patience, async {
            while let Some(intake) = &mut self.intake
                && !intake.is_settled()
            {
                match intake.durable().await {
                    Ok(durable) => self.settled(durable),
                    Err(_) => return,
                }
            }
        });
        if settled.await.is_err() {
            tracing::warn!(transport = %self.transport, "stopped before the last items were durable");
        }
        if matches!(ended, Ended::Shutdown) {
            let _ = self.write(writer).await;
        }
        if let Some(claim) = &self.claim {
            self.clocks_topic.tell_last(&self.hub, claim, &mut self.clocks).await;
            claim.keep_clocks(&self.clocks);
        }
    }
}

async fn durable(intake: &mut Option<Intake>) -> Result<Durable, crate::journal::Poisoned> {
    match intake {
        Some(intake) => intake.durable().await,
        None => pending().await,
    }
}

async fn claimed(claiming: &mut Option<Claiming>) -> Result<Claim, Refusal> {
    match claiming {
        Some(claiming) => claiming.await,
        None => pending().await,
    }
}

async fn control(claim: &mut Option<Claim>) -> Control {
    match claim {
        Some(claim) => claim.control().await,
        None => pending().await,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
