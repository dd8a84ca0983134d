//! A device as firmware would build it: a bounded queue, a block builder, memory that outlives a
//! reset or a power cut or neither.

use std::collections::VecDeque;

use headwater_protocol::{
    CommandStatus, DeviceConfig, DeviceEvent, DeviceId, DeviceLink, HOST_RECEIVE_MAX, ItemKind,
    ItemQueue, Position, StreamId,
    frame::{self, Progress},
    item::{Block, BlockBuilder, Boot, Cause, Channel, MISSING, NotTaken, Schema, SchemaHash},
    message::HostMessage,
};

use crate::{
    plant::Plant,
    queue::Queue,
    random::Random,
    truth::{Life, Place, Truth},
};

pub(crate) const TICK_HZ: u32 = 32_768;
/// Every board says that it is this one, unless it has been renamed.
pub(crate) const NAMES: [&str; 2] = ["sim-000001", "sim-000002"];
const CHANNELS: usize = 2;

type Builder = BlockBuilder<40, CHANNELS>;

/// What of a device's queue outlives what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// Neither a reset nor a power cut.
    None,
    /// A reset.
    Ram,
    /// Both.
    Flash,
}

/// What is written down: boot counter and stream, and the queue in flash.
#[derive(Debug)]
pub(crate) struct Image {
    life: Life,
    boot: u32,
    stream: Option<StreamId>,
    queue: Queue,
}

/// A simulated device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) link: DeviceLink,
    pub(crate) queue: Queue,
    memory: Memory,
    name: &'static str,
    longest_silence_ms: u32,
    listen_window_ms: u32,
    drop_newest: bool,
    plant: Plant,
    builder: Builder,
    /// Written down.
    boot: u32,
    stream: Option<StreamId>,
    life: Life,
    seq: u64,
    codes: [i32; CHANNELS],
    period_us: u64,
    linger_us: u64,
    /// Tick at time 0, in this boot.
    base: u64,
    next_sample: u64,
    pub(crate) sampling: bool,
    /// Commands, and when they will be done.
    work: VecDeque<(u64, u64)>,
    /// Until when it listens, if it does not always.
    pub(crate) listens_until: u64,
    /// What a planted bug looks at.
    sniffer: frame::Decoder<HOST_RECEIVE_MAX>,
    received: Position,
}

impl Device {
    /// A board that has never run.
    pub(crate) fn new(random: &mut Random, plant: Plant, truth: &mut Truth) -> Self {
        let listen_window_ms = random.pick(&[0, 0, 0, 600, 2_000]);
        let name = NAMES[0];
        let longest_silence_ms = random.pick(&[10_000, 3_000]);
        let mut device = Self {
            link: DeviceLink::new(DeviceConfig::new(DeviceId::new(name).unwrap(), TICK_HZ), None),
            queue: Queue::new(random.pick(&[200, 400, 1_000, 10_000])),
            memory: random.pick(&[Memory::None, Memory::Ram, Memory::Flash, Memory::Flash]),
            name,
            longest_silence_ms,
            listen_window_ms,
            drop_newest: random.one_in(3),
            plant,
            builder: Builder::new(0),
            boot: 0,
            stream: None,
            life: truth.new_life(),
            seq: 0,
            codes: [0; CHANNELS],
            period_us: random.between(5_000, 100_000),
            linger_us: random.between(20_000, 400_000),
            base: 0,
            next_sample: 0,
            sampling: true,
            work: VecDeque::new(),
            listens_until: 0,
            sniffer: frame::Decoder::new(),
            received: Position::START,
        };
        if device.listen_window_ms == 0 && random.one_in(3) {
            device.longest_silence_ms = 0;
        }
        device
    }

    fn config(&self) -> DeviceConfig {
        let config = DeviceConfig::new(DeviceId::new(self.name).unwrap(), TICK_HZ);
        DeviceConfig {
            longest_silence_ms: self.longest_silence_ms,
            listen_window_ms: self.listen_window_ms,
            ..config
        }
    }

    fn tick(&self, now: u64) -> u64 {
        self.base + now * u64::from(TICK_HZ) / 1_000_000
    }

    /// The first microsecond of a tick.
    fn time(&self, tick: u64) -> u64 {
        (tick.saturating_sub(self.base) * 1_000_000).div_ceil(u64::from(TICK_HZ))
    }

    /// Begins to run with what memory holds.
    pub(crate) fn start(&mut self, now: u64, cause: Cause, random: &mut Random, truth: &mut Truth) {
        if self.plant != Plant::BootNotKept || self.boot == 0 || random.one_in(2) {
            self.boot += 1;
        }
        self.seq = 0;
        self.base = random.pick(&[0, 0, 1 << 20, 1 << 50]);
        let period = (self.period_us * u64::from(TICK_HZ) / 1_000_000) as u32;
        self.builder = Builder::new(random.pick(&[0, period]));
        self.work.clear();
        self.listens_until = 0;
        self.received = Position::START;
        self.queue.hidden = Position::START;
        self.link = DeviceLink::new(self.config(), self.stream);
        if let Some(last) = self.queue.items.back() {
            self.link = self.link.clone().with_sent(last.position);
        }
        self.queue.next = Position::new(self.boot, 0);
        let schema = self.describe(cause, random);
        self.next_sample = now + self.period_us;
        truth.boot(self.life, self.boot, self.base, schema);
        if self.plant == Plant::StreamNotKept {
            self.stream = None;
        }
    }

    /// Queues BOOT and SCHEMA; channels may be others than in the boot before.
    fn describe(&mut self, cause: Cause, random: &mut Random) -> SchemaHash {
        let mantissa = random.pick(&[1, 2, 5]);
        let channel = |name| Channel {
            name,
            unit: "Cel",
            mantissa,
            exponent: -2,
            width_bits: 32,
            period_us: self.period_us as u32,
        };
        let channels: [_; CHANNELS] = ["one", "two"].map(channel);
        let hash = SchemaHash::of(&channels);
        let mut body = [0; Schema::LEN_MAX];
        let boot = Boot { cause, tick_hz: TICK_HZ, schema: hash, last_wall_ms: None };
        let len = boot.encode(&mut body).unwrap();
        self.queue.descriptions = vec![(ItemKind::BOOT, body[..len].to_vec())];
        for (index, channel) in (0..).zip(channels) {
            let schema = Schema { hash, index, count: CHANNELS as u8, channel };
            let len = schema.encode(&mut body).unwrap();
            self.queue.descriptions.push((ItemKind::SCHEMA, body[..len].to_vec()));
        }
        for (kind, body) in self.queue.descriptions.clone() {
            self.queue.push(kind, &body, (0, 0));
        }
        hash
    }

    /// The processor starts again.
    pub(crate) fn reset(&mut self, now: u64, random: &mut Random, truth: &mut Truth) {
        self.stop(self.memory != Memory::None, random, truth);
        self.start(now, Cause::Reset, random, truth);
    }

    /// Power goes.
    pub(crate) fn unplug(&mut self, random: &mut Random, truth: &mut Truth) {
        self.stop(self.memory == Memory::Flash, random, truth);
    }

    /// Power comes.
    pub(crate) fn plug(&mut self, now: u64, random: &mut Random, truth: &mut Truth) {
        self.start(now, Cause::Power, random, truth);
    }

    fn stop(&mut self, keeps: bool, random: &mut Random, truth: &mut Truth) {
        if keeps {
            self.queue.revive(random.below(self.queue.released_len() + 1));
            self.queue.last = self.queue.last.or(Some(Position::START));
        } else {
            truth.lost(self.life, &self.queue.places());
            self.queue.clear();
        }
    }

    /// Somebody erases the memory of a board without power.
    pub(crate) fn erase(&mut self, truth: &mut Truth) {
        truth.lost(self.life, &self.queue.places());
        self.life = truth.new_life();
        self.boot = 0;
        self.stream = None;
        self.queue.clear();
        self.queue.last = (self.memory == Memory::Flash).then_some(Position::START);
    }

    /// The board says that it is another one.
    pub(crate) fn rename(&mut self) {
        self.name = if self.name == NAMES[0] { NAMES[1] } else { NAMES[0] };
    }

    /// Somebody copies what is written down.
    pub(crate) fn image(&self, truth: &mut Truth) -> Image {
        let life = truth.fork(self.life, self.queue.next, self.stream);
        let mut queue = self.queue.clone();
        if self.memory != Memory::Flash {
            truth.lost(life, &queue.places());
            queue.clear();
        }
        Image { life, boot: self.boot, stream: self.stream, queue }
    }

    /// Somebody writes such a copy to a board without power.
    pub(crate) fn restore(&mut self, image: Image, truth: &mut Truth) {
        truth.lost(self.life, &self.queue.places());
        Image { life: self.life, boot: self.boot, stream: self.stream, queue: self.queue } = image;
        if self.memory != Memory::Flash {
            truth.lost(self.life, &self.queue.places());
            self.queue.clear();
        }
    }

    pub(crate) fn receive(
        &mut self,
        now: u64,
        mut bytes: &[u8],
        random: &mut Random,
        truth: &mut Truth,
    ) -> Result<(), String> {
        if self.listen_window_ms > 0 && now > self.listens_until {
            truth.counts.asleep += 1;
            return Ok(());
        }
        self.sniff(bytes, truth)?;
        while let Some(event) = self.link.receive(self.tick(now), &mut bytes, &mut self.queue) {
            match event {
                DeviceEvent::StreamAssigned(stream) => {
                    truth.assigned(stream, self.stream, self.life, self.floor())?;
                    self.stream = Some(stream);
                    self.link.set_stream(self.tick(now), stream);
                }
                DeviceEvent::Acknowledged(position) => {
                    truth.acknowledged(self.link.stream(), self.life, position)?;
                }
                DeviceEvent::SessionStarted => {
                    let stream = self.link.stream().ok_or("a session without a stream")?;
                    truth.session(stream, self.life, self.name)?;
                    if self.plant == Plant::StaleReceived {
                        self.queue.hidden = self.received;
                    }
                }
                DeviceEvent::Refused(_) => truth.counts.refusals += 1,
                DeviceEvent::WallTime(ms) => assert!(ms > 0),
                DeviceEvent::Command { id } => {
                    if self.link.command() != id.to_le_bytes() {
                        return Err(format!("command {id} says {:?}", self.link.command()));
                    }
                    if self.plant == Plant::DoneTooEarly {
                        self.link.finish_command(id, CommandStatus::Done, &id.to_be_bytes());
                    }
                    self.work.push_back((now + random.below(300_000), id));
                }
            }
        }
        Ok(())
    }

    /// The oldest reading that memory holds.
    fn floor(&self) -> Place {
        let end = Place { boot: self.boot, seq: self.builder_first() };
        self.queue.places().first().copied().unwrap_or(end)
    }

    /// The reading after the last one sealed.
    fn builder_first(&self) -> u64 {
        if self.builder.count() > 0 { self.builder.first_seq() } else { self.seq }
    }

    /// What planted bugs see of the host's frames.
    fn sniff(&mut self, bytes: &[u8], truth: &mut Truth) -> Result<(), String> {
        let looks = [Plant::StaleReceived, Plant::FreeReceived, Plant::CommandRepeated]
            .contains(&self.plant);
        for byte in bytes.iter().filter(|_| looks) {
            if self.sniffer.push(*byte) != Progress::Complete {
                continue;
            }
            let frame = self.sniffer.frame();
            match HostMessage::decode(frame.kind, frame.body) {
                Some(HostMessage::Ack(ack)) if self.link.in_session() => {
                    self.received = self.received.max(ack.received).min(self.link.in_flight());
                    if self.plant == Plant::FreeReceived {
                        self.queue.release(self.received);
                    }
                }
                Some(HostMessage::Command(command))
                    if self.plant == Plant::CommandRepeated && command.boot == self.boot =>
                {
                    truth.did(command.id, self.life, self.boot)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Samples, seals and does what is due.
    pub(crate) fn work(
        &mut self,
        now: u64,
        random: &mut Random,
        truth: &mut Truth,
    ) -> Result<(), String> {
        if self.sampling && now >= self.next_sample {
            self.next_sample += self.period_us;
            self.sample(now, random, truth);
            if random.one_in(100) {
                let line = truth.line_written(self.life, self.boot);
                let text = format!("{}.{}.{line}", self.life, self.boot);
                self.link.log(self.tick(now), random.below(8) as u8, &text);
            }
        }
        if self.builder.count() > 0 && (now >= self.seal_due() || !self.sampling) {
            self.seal(truth);
        }
        while let Some((_, id)) = self.work.pop_front_if(|(due, _)| *due <= now) {
            let status = match id % 8 {
                0 => CommandStatus::Failed,
                1 => CommandStatus::Unknown,
                _ => CommandStatus::Done,
            };
            if status == CommandStatus::Done && self.plant != Plant::CommandRepeated {
                truth.did(id, self.life, self.boot)?;
            }
            truth.ended(id, status);
            self.link.finish_command(id, status, &id.to_be_bytes());
        }
        Ok(())
    }

    fn sample(&mut self, now: u64, random: &mut Random, truth: &mut Truth) {
        for code in &mut self.codes {
            *code = match random.below(40) {
                0 => random.bits() as i32,
                _ => code.wrapping_add(random.below(9) as i32 - 4),
            };
        }
        let mut codes = self.codes;
        if random.one_in(30) {
            codes[random.below(CHANNELS as u64) as usize] = MISSING;
        }
        let tick = self.tick(now);
        match self.builder.push(self.seq, tick, &codes) {
            Ok(()) => {}
            Err(NotTaken::Full | NotTaken::Discontinuous) => {
                self.seal(truth);
                self.builder.push(self.seq, tick, &codes).unwrap();
            }
            Err(NotTaken::Channels) => unreachable!(),
        }
        truth.sampled(self.life, self.boot, self.seq, tick, &codes);
        self.seq += 1;
    }

    fn seal(&mut self, truth: &mut Truth) {
        let mut body = [0; Builder::LEN_MAX];
        let (first, count) = (self.builder.first_seq(), u64::from(self.builder.count()));
        let Some(len) = self.builder.seal(&mut body) else { return };
        truth.sealed(self.life, self.boot, first + count);
        if self.plant == Plant::RepackSent && self.repack(&body[..len]) {
            return;
        }
        let in_flight =
            if self.plant == Plant::DropInFlight { Position::START } else { self.link.in_flight() };
        while self.queue.bytes() + len > self.queue.capacity {
            truth.counts.overflows += 1;
            if self.drop_newest || !self.queue.drop_oldest(in_flight, self.plant) {
                self.queue.drop_newest(in_flight, first, count);
                return;
            }
        }
        self.queue.push(ItemKind::BLOCK, &body[..len], (first, count));
    }

    /// [`Plant::RepackSent`]: the last block takes these readings too.
    fn repack(&mut self, body: &[u8]) -> bool {
        let Some(last) = self.queue.items.back_mut().filter(|it| it.kind == ItemKind::BLOCK) else {
            return false;
        };
        let mut builder = BlockBuilder::<400, CHANNELS>::new(0);
        for body in [&last.body, body] {
            let block = Block::decode(body).unwrap();
            let mut rows = block.rows();
            while let Some((head, codes)) = rows.next_row() {
                if builder.push(head.seq, head.tick, codes).is_err() {
                    return false;
                }
            }
        }
        let mut out = [0; BlockBuilder::<400, CHANNELS>::LEN_MAX];
        last.readings.1 = builder.count().into();
        let len = builder.seal(&mut out).unwrap();
        last.body = out[..len].to_vec();
        true
    }

    pub(crate) fn transmit(&mut self, now: u64, out: &mut [u8]) -> usize {
        self.link.transmit(self.tick(now), &self.queue, out)
    }

    /// A frame is out at this time.
    pub(crate) fn listen(&mut self, from: u64) {
        self.listens_until = from + u64::from(self.listen_window_ms) * 1_000;
    }

    pub(crate) fn line_error(&mut self) {
        self.link.line_error();
    }

    pub(crate) fn remade(&mut self, now: u64) {
        self.link.restart(self.tick(now));
    }

    pub(crate) fn next_event(&self, now: u64, line_free: bool) -> Option<u64> {
        let link = self.link.next_wake(self.tick(now), &self.queue).filter(|_| line_free);
        let link = link.map(|tick| self.time(tick));
        let sample = self.sampling.then_some(self.next_sample);
        let seal = (self.builder.count() > 0).then(|| self.seal_due());
        let work = self.work.front().map(|(due, _)| *due);
        link.into_iter().chain(sample).chain(seal).chain(work).min()
    }

    fn seal_due(&self) -> u64 {
        self.time(self.builder.first_tick()) + self.linger_us
    }

    pub(crate) fn drained(&self) -> bool {
        self.queue.items.is_empty() && self.builder.count() == 0
    }
}
