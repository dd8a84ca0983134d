//! The host end and every decoder, called once with what the compiler cannot know.

#![no_std]
#![no_main]

use core::{hint::black_box, panic::PanicInfo};

use headwater_protocol::{
    Accept, HostConfig, HostEvent, HostLink, Position, Refusal, StreamId, item::Content,
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

fn run() -> Option<()> {
    let mut link = HostLink::new(HostConfig::default(), black_box(1), black_box(0));
    let mut out = [0; HostLink::FRAME_MAX];
    let mut was_hello = false;
    loop {
        let now = black_box(0_u64);
        let mut bytes = black_box(&[0_u8; 16][..]);
        while let Some(event) = link.receive(now, &mut bytes) {
            match event {
                HostEvent::Hello(hello) => {
                    black_box(hello);
                    was_hello = true;
                }
                HostEvent::Item(arrival) => {
                    black_box((arrival.loss, arrival.transmission));
                    decode(arrival.item.kind.0, arrival.item.body)?;
                }
                HostEvent::Description(description) => {
                    decode(description.kind.0, description.body)?;
                }
                HostEvent::Time(sample) => drop(black_box(sample)),
                HostEvent::Log(log) => drop(black_box(log)),
                HostEvent::Result(outcome) => drop(black_box(outcome)),
            }
        }
        if was_hello {
            was_hello = false;
            let durable = black_box(Position::START);
            let options = Accept { window: black_box(1_000), describe: black_box(true) };
            if black_box(link.accept(durable, options)).is_err() {
                link.refuse(black_box(Refusal::Limit));
            }
        }
        let stream = StreamId::new(black_box(1))?;
        match black_box(0) {
            0 => link.assign(stream),
            1 => link.durable(now, stream, black_box(Position::START)),
            2 => link.set_window(now, black_box(0)),
            3 => drop(black_box(link.command(now, black_box(1), now, black_box(b"command")))),
            4 => link.withdraw_command(),
            5 => link.ask(now),
            6 => link.restart(now, black_box(2)),
            _ => {}
        }
        let len = link.transmit(now, black_box(0), &mut out);
        black_box(out.get(..len)?);
        black_box((link.next_wake(now), link.boot(), link.stream(), link.counters()));
    }
}

fn decode(kind: u8, body: &[u8]) -> Option<()> {
    let content = Content::decode(headwater_protocol::ItemKind(kind), body).ok()?;
    if let Content::Block(block) = &content {
        let mut rows = block.rows();
        while let Some(row) = rows.next_row() {
            black_box(row);
        }
    }
    drop(black_box(content));
    Some(())
}
