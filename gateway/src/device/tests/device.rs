//! A device in the test's own hands: the real device end of the link over a queue in memory.

use std::{collections::VecDeque, io, time::Duration};

use headwater_protocol::{
    CommandStatus, DeviceConfig, DeviceEvent, DeviceId, DeviceLink, Item, ItemKind, ItemQueue,
    Position, Refusal, StreamId, frame,
    item::{BlockBuilder, Boot, Cause, Gap, GapReason, SchemaHash},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep_until, timeout},
};

use crate::device::schema::tests::{bodies, channel};

const TICK_HZ: u32 = 1_000_000;
/// Past it a test has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// See the module's documentation.
pub(super) struct TestDevice {
    pub(super) queue: Queue,
    pub(super) link: DeviceLink,
    pub(super) refusals: Vec<Refusal>,
    /// Every reading sampled: boot, seq, code.
    pub(super) ledger: Vec<(u32, u64, i32)>,
    /// And when, by its counter.
    pub(super) ticks: Vec<u64>,
    /// Commands taken, in order.
    pub(super) commands: Vec<String>,
    /// Whether it does what it is told and never says so.
    pub(super) is_mute: bool,
    last_command: u64,
    config: DeviceConfig,
    started: Instant,
    next_seq: u64,
}

/// Items until they are acknowledged.
pub(super) struct Queue {
    items: VecDeque<Owned>,
    next: Position,
    last: Option<Position>,
    /// The last item acknowledged.
    pub(super) released: Option<Position>,
    descriptions: Vec<(ItemKind, Vec<u8>)>,
}

struct Owned {
    position: Position,
    predecessor: Option<Position>,
    kind: ItemKind,
    body: Vec<u8>,
}

impl TestDevice {
    /// Powered on for the first time.
    pub(super) fn new(id: &str) -> Self {
        let mut config = DeviceConfig::new(DeviceId::new(id).expect("legal"), TICK_HZ);
        config.longest_silence_ms = 2000;
        config.retransmit_ms = 200;
        let mut device = Self {
            queue: Queue::new(Some(Position::START)),
            link: DeviceLink::new(config, None),
            refusals: Vec::new(),
            ledger: Vec::new(),
            ticks: Vec::new(),
            commands: Vec::new(),
            is_mute: false,
            last_command: 0,
            config,
            started: Instant::now(),
            next_seq: 0,
        };
        device.boot();
        device
    }

    /// Loses what is in RAM and starts again; identity, boot counter and ledger stay.
    pub(super) fn reset(&mut self) {
        self.link = DeviceLink::new(self.config, self.link.stream());
        self.queue.items.clear();
        self.queue.last = None;
        self.boot();
    }

    /// Starts again with everything in a memory that lasts.
    pub(super) fn restart(&mut self) {
        self.link = DeviceLink::new(self.config, self.link.stream());
        self.boot();
    }

    /// As if it had been switched on so much earlier.
    pub(super) fn aged(mut self, by: Duration) -> Self {
        self.started -= by;
        self
    }

    /// Loses its memory of stream and boots too.
    pub(super) fn erase(&mut self) {
        self.link = DeviceLink::new(self.config, None);
        self.queue = Queue::new(Some(Position::START));
        self.boot();
    }

    /// Another device with this one's memory.
    pub(super) fn copy_as(&self, id: &str) -> Self {
        let mut copy = Self::new(id);
        copy.link = DeviceLink::new(copy.config, self.link.stream());
        copy
    }

    fn boot(&mut self) {
        let (hash, parts) = bodies(&[channel("t", 625, -4)]);
        let boot = Boot {
            cause: Cause::Power,
            tick_hz: TICK_HZ,
            schema: SchemaHash(hash),
            last_wall_ms: None,
        };
        let mut body = [0; Boot::LEN_MAX];
        let len = boot.encode(&mut body).expect("fits");
        self.next_seq = 0;
        self.queue.next = Position::new(self.queue.next.boot + 1, 0);
        self.queue.descriptions = vec![(ItemKind::BOOT, body[..len].to_vec())];
        self.queue.descriptions.extend(parts.iter().map(|part| (ItemKind::SCHEMA, part.to_vec())));
        for (kind, body) in self.queue.descriptions.clone() {
            self.queue.push(kind, body);
        }
    }

    /// Samples so many readings and queues them as one block.
    pub(super) fn sample(&mut self, count: u64) {
        let mut block = BlockBuilder::<512, 1>::new(0);
        for _ in 0..count {
            let code = (self.next_seq * 7 + u64::from(self.queue.next.boot)) as i32;
            let tick = self.now();
            block.push(self.next_seq, tick, &[code]).expect("fits");
            self.ticks.push(tick);
            self.ledger.push((self.queue.next.boot, self.next_seq, code));
            self.next_seq += 1;
        }
        let mut body = [0; 600];
        let len = block.seal(&mut body).expect("fits");
        self.queue.push(ItemKind::BLOCK, body[..len].to_vec());
    }

    /// Drops so many readings and says so.
    pub(super) fn drop_readings(&mut self, count: u64) {
        let gap = Gap { first_seq: self.next_seq, count, reason: GapReason::OverflowNewest };
        let mut body = [0; Gap::LEN_MAX];
        let len = gap.encode(&mut body).expect("fits");
        self.next_seq += count;
        self.queue.push(ItemKind::GAP, body[..len].to_vec());
    }

    /// Queues an item that no gateway understands.
    pub(super) fn push_raw(&mut self, kind: ItemKind, body: &[u8]) {
        self.queue.push(kind, body.to_vec());
    }

    /// Forgets the oldest items, as if memory had lost them.
    pub(super) fn lose_oldest(&mut self, items: usize) {
        self.queue.items.drain(..items);
    }

    /// Whether everything queued was acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.items.is_empty()
    }

    /// As if a gateway had assigned it.
    pub(super) fn set_stream(&mut self, stream: StreamId) {
        self.link = DeviceLink::new(self.config, Some(stream));
    }

    pub(super) fn stream(&self) -> Option<StreamId> {
        self.link.stream()
    }

    /// Says at last what became of the last command.
    pub(super) fn finish_last(&mut self) {
        self.link.finish_command(self.last_command, CommandStatus::Done, b"late");
    }

    /// The line was made anew.
    pub(super) fn reconnected(&mut self) {
        let now = self.now();
        self.link.restart(now);
    }

    /// Talks until `done`; false if the line ended before.
    pub(super) async fn run(
        &mut self,
        io: &mut (impl AsyncRead + AsyncWrite + Unpin),
        done: impl FnMut(&Self) -> bool,
    ) -> bool {
        timeout(DEADLINE, self.talk(io, done)).await.expect("in time").is_ok()
    }

    async fn talk(
        &mut self,
        io: &mut (impl AsyncRead + AsyncWrite + Unpin),
        mut done: impl FnMut(&Self) -> bool,
    ) -> io::Result<()> {
        let mut out = [0; frame::ENCODED_MAX];
        let mut buffer = [0; 256];
        while !done(self) {
            let now = self.now();
            let len = self.link.transmit(now, &self.queue, &mut out);
            if len > 0 {
                io.write_all(&out[..len]).await?;
                continue;
            }
            let wake = self.link.next_wake(now, &self.queue);
            let wake = wake.map(|us| self.started + Duration::from_micros(us));
            tokio::select! {
                read = io.read(&mut buffer) => match read? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    len => self.receive(&buffer[..len]),
                },
                () = sleep_until(wake.unwrap_or(self.started + DEADLINE)) => {}
            }
        }
        Ok(())
    }

    fn receive(&mut self, mut bytes: &[u8]) {
        let now = self.now();
        while let Some(event) = self.link.receive(now, &mut bytes, &mut self.queue) {
            match event {
                DeviceEvent::StreamAssigned(stream) => self.link.set_stream(now, stream),
                DeviceEvent::Refused(refusal) => self.refusals.push(refusal),
                DeviceEvent::Command { id } => {
                    self.last_command = id;
                    self.commands.push(String::from_utf8_lossy(self.link.command()).into());
                    if !self.is_mute {
                        self.link.finish_command(id, CommandStatus::Done, b"ok");
                    }
                }
                _ => {}
            }
        }
    }

    /// Its counter.
    pub(super) fn now(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }
}

impl Queue {
    fn new(last: Option<Position>) -> Self {
        Self {
            items: VecDeque::new(),
            next: Position::START,
            last,
            released: None,
            descriptions: Vec::new(),
        }
    }

    /// Items that are not acknowledged.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    fn push(&mut self, kind: ItemKind, body: Vec<u8>) {
        let position = self.next;
        self.items.push_back(Owned { position, predecessor: self.last, kind, body });
        self.last = Some(position);
        self.next.item += 1;
    }
}

impl Default for TestDevice {
    fn default() -> Self {
        Self::new("d-1")
    }
}

impl ItemQueue for Queue {
    fn next(&self) -> Position {
        self.next
    }

    fn after(&self, position: Position) -> Option<Item<'_>> {
        let item = self.items.iter().find(|item| item.position > position)?;
        Some(Item {
            position: item.position,
            predecessor: item.predecessor,
            kind: item.kind,
            body: &item.body,
        })
    }

    fn release(&mut self, position: Position) {
        self.items.retain(|item| item.position > position);
        self.released = Some(position);
    }

    fn describe(&self, index: u8, out: &mut [u8]) -> Option<(ItemKind, usize)> {
        let (kind, body) = self.descriptions.get(usize::from(index))?;
        out.get_mut(..body.len())?.copy_from_slice(body);
        Some((*kind, body.len()))
    }
}
