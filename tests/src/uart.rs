//! A device that has always something to say: the firmware's node in this process, on a PTY that is as fast as a UART.
//!
//! It measures how many bytes of item bodies become durable in a time, and what else the line was used for.

use std::{
    fmt,
    fmt::Write as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use headwater_firmware::{
    Config, Node, StorageOp, StorageOutcome,
    protocol::{
        DeviceId,
        item::{Cause, Channel},
    },
};
use headwater_sim::{compare, ledger::DeviceLedger};

use crate::{noise::Noise, pty::Pty, random::Random};

/// Start bit, eight bits, stop bit.
const BITS_A_BYTE: u64 = 10;
const BAUD: u64 = 115_200;
/// What the line carries in each direction.
pub const LINE_BYTES_PER_S: u64 = BAUD / BITS_A_BYTE;
/// The device's name.
pub const DEVICE: &str = "uart-1";
/// What it samples, as a comparison wants to know it.
#[must_use]
pub fn channels() -> Vec<compare::Channel> {
    vec![compare::Channel { name: CHANNELS[0].name.into(), mantissa: 1, exponent: 0 }]
}

/// What a gateway's configuration says of the port.
#[must_use]
pub fn serial_table(port: &Path) -> String {
    format!("[[device.serial]]\nport = {port:?}\nbaud = {BAUD}\n")
}

static CHANNELS: [Channel<'static>; 1] = [Channel {
    name: "random",
    unit: "",
    mantissa: 1,
    exponent: 0,
    width_bits: 31,
    period_us: PERIOD,
}];

const TICK_HZ: u32 = 1_000_000;
/// Microseconds between readings: about as many as the line carries, of codes that nothing compresses.
const PERIOD: u32 = 360;
/// Blocks are sealed when they are full.
const LINGER: u32 = u32::MAX;
/// As the simulated devices have it. The line is full only if this outlasts the gateway's slowest sync.
const QUEUE_BYTES: usize = 16_384;
/// Room for the block that is made, and the introduction of a start.
const KEPT_FREE_BYTES: usize = 1_500;
/// Bytes that go to the line at a time, as to the FIFO of a UART.
const FIFO_BYTES: usize = 16;
/// Between looks at the line.
const TURN: Duration = Duration::from_micros(500);
const FIRST_ANSWER: Duration = Duration::from_secs(30);
const DRAINING: Duration = Duration::from_secs(60);

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Goodput {
    /// Bytes of item bodies that the gateway said are durable.
    pub durable_bytes: u64,
    /// In this time.
    pub took: Duration,
    /// Bytes on the line to the gateway meanwhile, frames and all.
    pub spent: Spent,
    /// Items sent again.
    pub retransmissions: u32,
    /// Bits that flipped, in both directions.
    pub flipped: u64,
}

/// What the line to the gateway was used for, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Items for the first time.
    pub first: u64,
    /// Items sent again.
    pub again: u64,
    /// Everything else.
    pub other: u64,
}

impl Goodput {
    /// Of what the line could have carried.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.durable_bytes as f64 / self.line_bytes()
    }

    fn line_bytes(&self) -> f64 {
        self.took.as_secs_f64() * LINE_BYTES_PER_S as f64
    }
}

impl fmt::Display for Goodput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_line = |bytes: u64| 100.0 * bytes as f64 / self.line_bytes();
        let Spent { first, again, other } = self.spent;
        write!(
            f,
            "{:>6.0} B/s, {:.1} % of the line; of it items {:.1} %, items again {:.1} %, other frames {:.1} %, idle {:.1} %; {} \
             retransmissions, {} bits flipped",
            self.durable_bytes as f64 / self.took.as_secs_f64(),
            100.0 * self.share(),
            of_line(first),
            of_line(again),
            of_line(other),
            // A frame counts when it begins.
            (100.0 - of_line(first + again + other)).max(0.0),
            self.retransmissions,
            self.flipped,
        )
    }
}

/// The device; blocks take up to `ROWS` bytes of readings.
#[derive(Debug)]
pub struct Uart<const ROWS: usize> {
    node: Box<Node<1, ROWS, QUEUE_BYTES, 256, 16>>,
    pty: Pty,
    noise: Option<Noise>,
    random: Random,
    started: Instant,
    next_tick: u64,
    is_sampling: bool,
    /// The frame on its way, and how much of it has gone.
    frame: Vec<u8>,
    sent: usize,
    /// When each direction of the line has done what it was given.
    to_gateway: Duration,
    to_device: Duration,
    measured: Goodput,
    ledger: String,
}

impl<const ROWS: usize> Uart<ROWS> {
    /// Switches one on, on a port that a gateway opens as `port`.
    ///
    /// # Panics
    /// If a PTY cannot be made.
    #[must_use]
    pub fn new(port: &Path, random: Random, noise: Option<Noise>) -> Self {
        let id = DeviceId::new(DEVICE).expect("of its alphabet");
        let mut config = Config::new(id, TICK_HZ, &CHANNELS, PERIOD, Cause::Power);
        config.linger = LINGER;
        Self {
            node: Box::new(Node::new(config, None)),
            pty: Pty::behind(port),
            noise,
            random,
            started: Instant::now(),
            next_tick: 0,
            is_sampling: true,
            frame: Vec::new(),
            sent: 0,
            to_gateway: Duration::ZERO,
            to_device: Duration::ZERO,
            measured: Goodput::default(),
            ledger: String::new(),
        }
    }

    /// Sends for so long from the first acknowledgement on.
    ///
    /// # Panics
    /// If there is none.
    pub fn measure(&mut self, time: Duration) -> Goodput {
        self.turn_until("the first acknowledgement", FIRST_ANSWER, |it| {
            it.measured.durable_bytes > 0
        });
        let (began, retransmissions) = (Instant::now(), self.node.counters().retransmissions);
        let flipped = self.flipped();
        self.measured = Goodput::default();
        while began.elapsed() < time {
            self.turn();
        }
        self.measured.took = began.elapsed();
        self.measured.retransmissions = self.node.counters().retransmissions - retransmissions;
        self.measured.flipped = self.flipped() - flipped;
        self.measured.clone()
    }

    /// Samples no more and waits until everything is acknowledged; gives what the device says of itself.
    ///
    /// # Panics
    /// If it takes too long.
    #[must_use]
    pub fn drain(mut self) -> DeviceLedger {
        self.is_sampling = false;
        self.node.seal();
        self.turn_until("the last acknowledgement", DRAINING, |it| it.node.is_drained());
        DeviceLedger::parse(DEVICE, &self.ledger)
    }

    fn turn_until(&mut self, what: &str, deadline: Duration, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < deadline, "waited {deadline:?} in vain for {what}");
            self.turn();
        }
    }

    fn turn(&mut self) {
        let now = self.started.elapsed();
        while let Some(StorageOp::SaveIdentity(_)) = self.node.storage_op() {
            self.node.storage_done(ticks(now), StorageOutcome::Saved);
        }
        self.receive(now);
        self.sample();
        self.transmit(now);
        thread::sleep(TURN);
    }

    /// Keeps the queue full.
    fn sample(&mut self) {
        while self.is_sampling && self.node.queued().bytes + KEPT_FREE_BYTES < QUEUE_BYTES {
            let code = self.random.bits() as i32 >> 1;
            let seq = self.node.record(self.next_tick, &[code]);
            self.next_tick += u64::from(PERIOD);
            self.note(format_args!("R {} {seq} {code}", self.node.boot()));
            self.note_events();
        }
    }

    fn receive(&mut self, now: Duration) {
        let room = now.saturating_sub(self.to_device).as_nanos() / byte_time().as_nanos();
        let mut bytes = [0; 256];
        let room = bytes.len().min(room as usize);
        let read = self.pty.read(&mut bytes[..room]);
        let bytes = &mut bytes[..read];
        self.to_device = if read < room { now } else { self.to_device + byte_time() * read as u32 };
        self.noise.iter_mut().for_each(|noise| noise.disturb(bytes));
        let before = self.node.queued().bytes;
        self.node.receive(ticks(now), bytes);
        self.measured.durable_bytes += (before - self.node.queued().bytes) as u64;
        self.note_events();
    }

    fn transmit(&mut self, now: Duration) {
        while self.to_gateway <= now {
            if self.sent == self.frame.len() && !self.next_frame() {
                // What the line could have carried meanwhile is gone.
                self.to_gateway = now;
                return;
            }
            let end = self.frame.len().min(self.sent + FIFO_BYTES);
            let bytes = &mut self.frame[self.sent..end];
            self.noise.iter_mut().for_each(|noise| noise.disturb(bytes));
            self.pty.write(bytes);
            self.to_gateway += byte_time() * bytes.len() as u32;
            self.sent = end;
        }
    }

    /// Takes the next frame from the node, if it has one.
    fn next_frame(&mut self) -> bool {
        // The node has no more room for events than one frame brings.
        self.note_events();
        self.frame.resize(Node::<1, ROWS, QUEUE_BYTES, 256, 16>::FRAME_MAX, 0);
        let len = self.node.transmit(ticks(self.to_gateway), &mut self.frame);
        self.frame.truncate(len);
        self.sent = 0;
        self.note_events();
        let spent = &mut self.measured.spent;
        *match transmission(&self.frame) {
            Some(1) => &mut spent.first,
            Some(_) => &mut spent.again,
            None => &mut spent.other,
        } += len as u64;
        len > 0
    }

    fn note_events(&mut self) {
        while let Some(event) = self.node.poll_event() {
            self.note(format_args!("{event}"));
        }
    }

    fn note(&mut self, line: fmt::Arguments<'_>) {
        writeln!(self.ledger, "{line}").expect("a string takes everything");
    }

    fn flipped(&self) -> u64 {
        self.noise.as_ref().map_or(0, Noise::flipped)
    }
}

fn ticks(time: Duration) -> u64 {
    time.as_micros() as u64
}

fn byte_time() -> Duration {
    Duration::from_nanos(1_000_000_000 / LINE_BYTES_PER_S)
}

/// Which transmission of an item a frame is; `None` for other frames. Type, length and head hold no zeros, so that they stand
/// in the frame as they are.
fn transmission(frame: &[u8]) -> Option<u8> {
    const ITEM: u8 = 0x42;
    let mut plain = frame.iter().skip_while(|byte| **byte == 0).skip(1);
    if *plain.next()? != ITEM {
        return None;
    }
    plain.find(|byte| **byte < 0x80)?;
    plain.next().map(|head| head >> 5)
}
