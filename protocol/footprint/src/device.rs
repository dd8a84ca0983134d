//! The device end: everything that firmware calls, called once with what the compiler cannot know.

#![no_std]
#![no_main]

use core::{hint::black_box, panic::PanicInfo};

use headwater_protocol::{
    CommandStatus, DeviceConfig, DeviceEvent, DeviceId, DeviceLink, Item, ItemKind, ItemQueue,
    Position, StreamId, frame,
    item::{BlockBuilder, Boot, Cause, Channel, Gap, GapReason, ITEM_BODY_MAX, Schema, SchemaHash},
    message::HEAD_MAX,
};

/// Only linked where something calls it.
#[panic_handler]
fn stop(_: &PanicInfo<'_>) -> ! {
    loop {}
}

#[expect(unsafe_code, reason = "the linker keeps what is reached from a symbol of this name")]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    run();
    loop {}
}

/// Bits of the rows of a block, bytes.
const ROWS: usize = 40;

/// One item, and where the log is.
struct Queue {
    body: [u8; BlockBuilder::<ROWS, 2>::LEN_MAX],
    len: usize,
    next: Position,
    oldest: Position,
}

impl ItemQueue for Queue {
    fn next(&self) -> Position {
        self.next
    }

    fn after(&self, position: Position) -> Option<Item<'_>> {
        let body = self.body.get(..self.len)?;
        (position < self.oldest).then_some(Item {
            position: self.oldest,
            predecessor: self.oldest.adjacent(),
            kind: ItemKind::BLOCK,
            body,
        })
    }

    fn release(&mut self, position: Position) {
        self.oldest = position;
    }

    fn describe(&self, index: u8, out: &mut [u8]) -> Option<(ItemKind, usize)> {
        let channel = Channel {
            name: black_box("temperature"),
            unit: "Cel",
            mantissa: 1,
            exponent: -2,
            width_bits: 16,
            period_us: 0,
        };
        let schema = SchemaHash::of(&[channel]);
        match index {
            0 => {
                let boot = Boot { cause: Cause::Power, tick_hz: 1000, schema, last_wall_ms: None };
                Some((ItemKind::BOOT, boot.encode(out)?))
            }
            1 => {
                let schema = Schema { hash: schema, index: 0, count: 1, channel };
                Some((ItemKind::SCHEMA, schema.encode(out)?))
            }
            _ => None,
        }
    }
}

/// What calls the link, as a board's main loop does. Each call is a function of its own, so that the image's symbols tell
/// what it takes.
struct Device {
    link: DeviceLink,
    builder: BlockBuilder<ROWS, 2>,
    queue: Queue,
    out: [u8; frame::encoded_max(HEAD_MAX + ITEM_BODY_MAX)],
}

fn run() -> Option<()> {
    let mut device = Device::new()?;
    loop {
        let now = black_box(0_u64);
        device.receive(now, black_box(&[0_u8; 16]));
        device.record(now, now, black_box(&[1, 2]));
        match black_box(0) {
            0 => device.line_error(),
            1 => device.restart(now),
            2 => device.log(now, black_box("a line")),
            3 => device.gap(now),
            _ => device.builder.clear(),
        }
        let len = device.transmit(now);
        black_box(device.out.get(..len)?);
        black_box(device.next_wake(now));
        let Device { link, builder, .. } = &device;
        black_box((link.in_flight(), link.counters(), link.stream(), link.in_session()));
        black_box((builder.count(), builder.first_seq(), builder.first_tick()));
    }
}

impl Device {
    #[inline(never)]
    fn new() -> Option<Self> {
        let id = DeviceId::new(black_box("device"))?;
        let config = DeviceConfig::new(id, black_box(32_768));
        let stream = StreamId::new(black_box(1));
        let (next, oldest) = (black_box(Position::START), black_box(Position::START));
        Some(Self {
            link: DeviceLink::new(config, stream).with_sent(black_box(Position::START)),
            builder: BlockBuilder::new(black_box(0)),
            queue: Queue { body: [0; _], len: 0, next, oldest },
            out: [0; _],
        })
    }

    #[inline(never)]
    fn receive(&mut self, now: u64, mut bytes: &[u8]) {
        while let Some(event) = self.link.receive(now, &mut bytes, &mut self.queue) {
            match event {
                DeviceEvent::StreamAssigned(stream) => self.link.set_stream(now, stream),
                DeviceEvent::Command { id } => {
                    black_box(self.link.command());
                    self.link.finish_command(id, CommandStatus::Done, black_box(b"done"));
                }
                other => drop(black_box(other)),
            }
        }
    }

    #[inline(never)]
    fn record(&mut self, seq: u64, tick: u64, codes: &[i32]) {
        if self.builder.push(seq, tick, codes).is_err() {
            self.seal();
        }
    }

    #[inline(never)]
    fn seal(&mut self) {
        self.queue.len = self.builder.seal(&mut self.queue.body).unwrap_or_default();
    }

    #[inline(never)]
    fn gap(&mut self, first_seq: u64) {
        let gap = Gap { first_seq, count: 1, reason: GapReason::OverflowOldest };
        self.queue.len = gap.encode(&mut self.queue.body).unwrap_or_default();
    }

    #[inline(never)]
    fn transmit(&mut self, now: u64) -> usize {
        self.link.transmit(now, &self.queue, &mut self.out)
    }

    #[inline(never)]
    fn next_wake(&mut self, now: u64) -> Option<u64> {
        self.link.next_wake(now, &self.queue)
    }

    #[inline(never)]
    fn line_error(&mut self) {
        self.link.line_error();
    }

    #[inline(never)]
    fn restart(&mut self, now: u64) {
        self.link.restart(now);
    }

    #[inline(never)]
    fn log(&mut self, now: u64, text: &str) {
        self.link.log(now, 6, text);
    }
}
