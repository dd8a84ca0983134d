//! The firmware's node, and so the device end below it: what a board calls, called once with what the compiler cannot know.

#![no_std]
#![no_main]

use core::{hint::black_box, panic::PanicInfo};

use headwater_firmware::{
    Config, Identity, Node, StorageOutcome,
    protocol::{
        CommandStatus, DeviceId, StreamId,
        item::{Cause, Channel},
    },
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

const CHANNEL: Channel<'static> = Channel {
    name: "temperature",
    unit: "Cel",
    mantissa: 1,
    exponent: -2,
    width_bits: 16,
    period_us: 0,
};
static CHANNELS: [Channel<'static>; 2] = [CHANNEL; 2];

type Small = Node<2, 40, 1024, 16, 8>;

/// What calls the node, as a board's main loop does. Each call is a function of its own, so that the image's symbols tell
/// what it takes.
struct Board {
    node: Small,
    out: [u8; Small::FRAME_MAX],
}

fn run() -> Option<()> {
    let mut board = Board::new()?;
    loop {
        let now = black_box(0_u64);
        board.settle(now);
        board.record(now);
        board.receive(now, black_box(&[0_u8; 16]));
        let len = board.transmit(now);
        black_box(board.out.get(..len)?);
        black_box(board.next_wake(now));
        match black_box(0) {
            0 => board.node.line_error(),
            1 => board.node.reconnected(now),
            2 => board.node.seal(),
            _ => board.log(now, black_box("a line")),
        }
    }
}

impl Board {
    #[inline(never)]
    fn new() -> Option<Self> {
        let id = DeviceId::new(black_box("device"))?;
        let config = Config::new(id, black_box(32_768), &CHANNELS, black_box(0), Cause::Power);
        let identity = Identity { stream: StreamId::new(black_box(1))?, boot: black_box(1) };
        Some(Self { node: Node::new(config, Some(identity)), out: [0; _] })
    }

    #[inline(never)]
    fn settle(&mut self, now: u64) {
        if let Some(operation) = self.node.storage_op() {
            black_box(operation);
            self.node.storage_done(now, StorageOutcome::Saved);
        }
    }

    #[inline(never)]
    fn record(&mut self, tick: u64) {
        self.node.record(tick, black_box(&[1, 2]));
    }

    #[inline(never)]
    fn receive(&mut self, now: u64, bytes: &[u8]) {
        self.node.receive(now, bytes);
        if let Some(command) = self.node.poll_command() {
            self.node.finish_command(command.id, CommandStatus::Done, black_box(b"done"));
        }
        while let Some(event) = self.node.poll_event() {
            black_box(event);
        }
    }

    #[inline(never)]
    fn transmit(&mut self, now: u64) -> usize {
        self.node.transmit(now, &mut self.out)
    }

    #[inline(never)]
    fn next_wake(&self, now: u64) -> Option<u64> {
        self.node.next_wake(now)
    }

    #[inline(never)]
    fn log(&mut self, now: u64, text: &str) {
        self.node.log(now, 6, text);
    }
}
