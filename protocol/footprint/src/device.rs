//! The device end: everything that firmware calls, called once with what the compiler cannot know.

#![no_std]
#![no_main]

use core::{hint::black_box, panic::PanicInfo};

use headwater_protocol::{
    CommandStatus, DeviceConfig, DeviceEvent, DeviceId, DeviceLink, Item, ItemKind, ItemQueue,
    Position, StreamId, frame,
    item::{BlockBuilder, Boot, Cause, Channel, Gap, GapReason, ITEM_BODY_MAX, Schema, SchemaHash},
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

fn run() -> Option<()> {
    let id = DeviceId::new(black_box("device"))?;
    let config = DeviceConfig::new(id, black_box(32_768));
    let stream = StreamId::new(black_box(1));
    let mut link: DeviceLink =
        DeviceLink::new(config, stream).with_sent(black_box(Position::START));
    let mut builder = BlockBuilder::<ROWS, 2>::new(black_box(0));
    let (next, oldest) = (black_box(Position::START), black_box(Position::START));
    let mut queue = Queue { body: [0; _], len: 0, next, oldest };
    let mut out = [0; frame::encoded_max(ITEM_BODY_MAX)];
    loop {
        let now = black_box(0_u64);
        let mut bytes = black_box(&[0_u8; 16][..]);
        while let Some(event) = link.receive(now, &mut bytes, &mut queue) {
            match event {
                DeviceEvent::StreamAssigned(stream) => link.set_stream(now, stream),
                DeviceEvent::Command { id } => {
                    black_box(link.command());
                    link.finish_command(id, CommandStatus::Done, black_box(b"done"));
                }
                other => drop(black_box(other)),
            }
        }
        match black_box(0) {
            0 => link.line_error(),
            1 => link.restart(now),
            2 => link.log(now, 6, black_box("a line")),
            3 => {
                let gap = Gap { first_seq: now, count: 1, reason: GapReason::OverflowOldest };
                queue.len = gap.encode(&mut queue.body)?;
            }
            4 => builder.clear(),
            _ if builder.push(now, now, black_box(&[1, 2])).is_err() => {
                queue.len = builder.seal(&mut queue.body)?;
            }
            _ => {}
        }
        let len = link.transmit(now, &queue, &mut out);
        black_box(out.get(..len)?);
        black_box((link.next_wake(now, &queue), link.in_flight(), link.counters()));
        black_box((builder.count(), builder.first_seq(), builder.first_tick()));
        black_box((link.stream(), link.in_session()));
    }
}
