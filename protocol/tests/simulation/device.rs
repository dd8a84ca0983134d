//! A device as firmware would build it: a bounded queue, a block builder, memory that outlives a
//! reset or does not.

use std::collections::VecDeque;

use headwater_protocol::{
    DeviceConfig, DeviceEvent, DeviceId, DeviceLink, Item, ItemKind, ItemQueue, Position, StreamId,
    item::{BlockBuilder, Boot, Cause, Gap, GapReason, MISSING, NotTaken, SchemaHash},
};

use crate::{
    random::Random,
    world::{Plant, Truth},
};

pub(crate) const TICK_HZ: u32 = 32_768;
pub(crate) const SCHEMA: SchemaHash = SchemaHash(0x1122_3344_5566_7788);
const CHANNELS: usize = 2;

type Builder = BlockBuilder<40, CHANNELS>;

#[derive(Clone, Debug)]
struct Stored {
    position: Position,
    predecessor: Option<Position>,
    kind: ItemKind,
    body: Vec<u8>,
    /// First reading and number of readings, for BLOCK and GAP.
    readings: (u64, u64),
}

/// The queue of un-acknowledged items.
#[derive(Debug)]
pub(crate) struct Queue {
    items: VecDeque<Stored>,
    /// Items released lately: a log in memory still holds them after a reset, because an
    /// acknowledgement writes nothing.
    released: VecDeque<Stored>,
    next: Position,
    last: Option<Position>,
    capacity: usize,
    boot_body: Vec<u8>,
}

impl ItemQueue for Queue {
    fn next(&self) -> Position {
        self.next
    }

    fn after(&self, position: Position) -> Option<Item<'_>> {
        let index = self.items.partition_point(|item| item.position <= position);
        self.items.get(index).map(|item| Item {
            position: item.position,
            predecessor: item.predecessor,
            kind: item.kind,
            body: &item.body,
        })
    }

    fn release(&mut self, position: Position) {
        while let Some(item) = self.items.pop_front_if(|item| item.position <= position) {
            self.released.push_back(item);
        }
        while self.released.len() > 8 {
            self.released.pop_front();
        }
    }

    fn describe(&self, index: u8, out: &mut [u8]) -> Option<(ItemKind, usize)> {
        (index == 0).then(|| {
            out[..self.boot_body.len()].copy_from_slice(&self.boot_body);
            (ItemKind::BOOT, self.boot_body.len())
        })
    }
}

impl Queue {
    fn push(&mut self, kind: ItemKind, body: &[u8], readings: (u64, u64)) {
        let (position, predecessor) = (self.next, self.last);
        self.items.push_back(Stored { position, predecessor, kind, body: body.to_vec(), readings });
        self.last = Some(position);
        self.next.item += 1;
    }

    fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.body.len() + 8).sum()
    }

    /// Turns the oldest block beyond `in_flight` into a gap, joined with the gap before it if there
    /// is one. False: there is no such block.
    fn drop_oldest(&mut self, in_flight: Position) -> bool {
        let found = self
            .items
            .iter()
            .position(|item| item.position > in_flight && item.kind == ItemKind::BLOCK);
        let Some(mut index) = found else { return false };
        let (mut first, mut count) = self.items[index].readings;
        if let Some(before) =
            index.checked_sub(1).map(|before| &self.items[before]).filter(|item| {
                item.kind == ItemKind::GAP
                    && item.position > in_flight
                    && item.position.boot == self.items[index].position.boot
            })
        {
            first = before.readings.0;
            count += before.readings.1;
            let predecessor = before.predecessor;
            index -= 1;
            self.items.remove(index);
            self.items[index].predecessor = predecessor;
        }
        let item = &mut self.items[index];
        item.kind = ItemKind::GAP;
        item.readings = (first, count);
        item.body = gap(first, count, GapReason::OverflowOldest);
        true
    }

    /// Records readings that found no room.
    fn drop_newest(&mut self, in_flight: Position, first: u64, count: u64) {
        let boot = self.next.boot;
        match self.items.back_mut() {
            Some(item)
                if item.kind == ItemKind::GAP
                    && item.position > in_flight
                    && item.position.boot == boot =>
            {
                item.readings.1 += count;
                item.body = gap(item.readings.0, item.readings.1, GapReason::OverflowNewest);
            }
            _ => {
                self.push(
                    ItemKind::GAP,
                    &gap(first, count, GapReason::OverflowNewest),
                    (first, count),
                );
            }
        }
    }
}

fn gap(first_seq: u64, count: u64, reason: GapReason) -> Vec<u8> {
    let mut body = [0; Gap::LEN_MAX];
    let len = Gap { first_seq, count, reason }.encode(&mut body).unwrap();
    body[..len].to_vec()
}

/// A simulated device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) link: DeviceLink,
    pub(crate) queue: Queue,
    /// Whether the queue outlives a reset.
    pub(crate) persistent: bool,
    drop_newest: bool,
    plant: Plant,
    builder: Builder,
    /// Persisted.
    boot: u32,
    stream: Option<StreamId>,
    /// Number of times the memory was erased.
    pub(crate) life: u32,
    seq: u64,
    codes: [i32; CHANNELS],
    period_us: u64,
    linger_us: u64,
    next_sample: u64,
    pub(crate) sampling: bool,
}

fn tick(now: u64) -> u64 {
    now * u64::from(TICK_HZ) / 1_000_000
}

impl Device {
    pub(crate) fn new(random: &mut Random, plant: Plant, truth: &mut Truth) -> Self {
        let persistent = random.one_in(2);
        let mut device = Self {
            link: DeviceLink::new(config(), None),
            queue: Queue {
                items: VecDeque::new(),
                released: VecDeque::new(),
                next: Position::START,
                last: None,
                capacity: random.pick(&[200, 400, 1_000, 10_000]),
                boot_body: Vec::new(),
            },
            persistent,
            drop_newest: random.one_in(3),
            plant,
            builder: Builder::new(0),
            boot: 0,
            stream: None,
            life: 0,
            seq: 0,
            codes: [0; CHANNELS],
            period_us: random.between(5_000, 100_000),
            linger_us: random.between(20_000, 400_000),
            next_sample: 0,
            sampling: true,
        };
        device.start(0, Cause::Power, random, truth);
        device
    }

    /// Power-up: what memory held is there, the rest is not.
    fn start(&mut self, now: u64, cause: Cause, random: &mut Random, truth: &mut Truth) {
        self.boot += 1;
        self.seq = 0;
        let period = random.pick(&[0, tick(self.period_us) as u32]);
        self.builder = Builder::new(period);
        self.link = DeviceLink::new(config(), self.stream);
        if self.persistent {
            let keep = random.below(self.queue.released.len() as u64 + 1) as usize;
            for item in self.queue.released.drain(..).rev().take(keep) {
                self.queue.items.push_front(item);
            }
            if let Some(last) = self.queue.items.back() {
                self.link = DeviceLink::new(config(), self.stream).with_sent(last.position);
            }
            self.queue.last = self.queue.last.or(Some(Position::START));
        } else {
            self.queue.items.clear();
            self.queue.last = None;
        }
        self.queue.released.clear();
        self.queue.next = Position::new(self.boot, 0);
        let mut body = [0; Boot::LEN_MAX];
        let boot = Boot { cause, tick_hz: TICK_HZ, schema: SCHEMA, last_wall_ms: None };
        let len = boot.encode(&mut body).unwrap();
        self.queue.boot_body = body[..len].to_vec();
        self.queue.push(ItemKind::BOOT, &body[..len], (0, 0));
        self.next_sample = now + self.period_us;
        truth.boot(self.life, self.boot);
    }

    pub(crate) fn reset(&mut self, now: u64, random: &mut Random, truth: &mut Truth) {
        if !self.persistent {
            truth.lost(self.life, self.boot);
        }
        self.start(now, Cause::Reset, random, truth);
    }

    pub(crate) fn erase(&mut self, now: u64, random: &mut Random, truth: &mut Truth) {
        truth.lost_all(self.life);
        self.life += 1;
        self.boot = 0;
        self.stream = None;
        self.queue.items.clear();
        self.queue.released.clear();
        self.queue.last = None;
        self.start(now, Cause::Power, random, truth);
    }

    pub(crate) fn receive(
        &mut self,
        now: u64,
        mut bytes: &[u8],
        truth: &mut Truth,
    ) -> Result<(), String> {
        while let Some(event) = self.link.receive(tick(now), &mut bytes, &mut self.queue) {
            match event {
                DeviceEvent::StreamAssigned(stream) => {
                    self.stream = Some(stream);
                    truth.streams.insert(stream, self.life);
                    self.link.set_stream(tick(now), stream);
                }
                DeviceEvent::Acknowledged(position) => {
                    truth.acknowledged(self.stream, self.life, position)?;
                }
                DeviceEvent::SessionStarted => truth.sessions += 1,
                DeviceEvent::Refused(_) => truth.refusals += 1,
                DeviceEvent::WallTime(ms) => assert!(ms > 0),
                DeviceEvent::Command { .. } => return Err("a command that nobody gave".into()),
            }
        }
        Ok(())
    }

    /// Samples and seals what is due.
    pub(crate) fn work(&mut self, now: u64, random: &mut Random, truth: &mut Truth) {
        if self.sampling && now >= self.next_sample {
            self.next_sample += self.period_us;
            self.sample(now, random, truth);
        }
        if self.builder.count() > 0 && (now >= self.seal_due() || !self.sampling) {
            self.seal(truth);
        }
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
        match self.builder.push(self.seq, tick(now), &codes) {
            Ok(()) => {}
            Err(NotTaken::Full | NotTaken::Discontinuous) => {
                self.seal(truth);
                self.builder.push(self.seq, tick(now), &codes).unwrap();
            }
            Err(NotTaken::Channels) => unreachable!(),
        }
        truth.sampled(self.life, self.boot, self.seq, tick(now), &codes);
        self.seq += 1;
    }

    fn seal(&mut self, truth: &mut Truth) {
        let mut body = [0; Builder::LEN_MAX];
        let (first, count) = (self.builder.first_seq(), u64::from(self.builder.count()));
        let Some(len) = self.builder.seal(&mut body) else { return };
        truth.sealed(self.life, self.boot, first + count);
        let in_flight =
            if self.plant == Plant::DropInFlight { Position::START } else { self.link.in_flight() };
        while self.queue.bytes() + len > self.queue.capacity {
            truth.overflows += 1;
            if self.drop_newest || !self.queue.drop_oldest(in_flight) {
                self.queue.drop_newest(in_flight, first, count);
                return;
            }
        }
        self.queue.push(ItemKind::BLOCK, &body[..len], (first, count));
    }

    pub(crate) fn transmit(&mut self, now: u64, out: &mut [u8]) -> usize {
        self.link.transmit(tick(now), &self.queue, out)
    }

    pub(crate) fn next_event(&self, now: u64, line_free: bool) -> Option<u64> {
        let link = self.link.next_wake(tick(now), &self.queue).filter(|_| line_free);
        // The first microsecond of that tick.
        let link = link.map(|at| (at * 1_000_000).div_ceil(u64::from(TICK_HZ)));
        let sample = self.sampling.then_some(self.next_sample);
        let seal = (self.builder.count() > 0).then(|| self.seal_due());
        link.into_iter().chain(sample).chain(seal).min()
    }

    fn seal_due(&self) -> u64 {
        let first = (self.builder.first_tick() * 1_000_000).div_ceil(u64::from(TICK_HZ));
        first + self.linger_us
    }

    pub(crate) fn drained(&self) -> bool {
        self.queue.items.is_empty() && self.builder.count() == 0
    }
}

fn config() -> DeviceConfig {
    DeviceConfig::new(DeviceId::new("sim-000001").unwrap(), TICK_HZ)
}
