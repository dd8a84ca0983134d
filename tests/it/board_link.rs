//! The board speaks the link: its image against the protocol's host side, without a gateway.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use headwater_protocol::{
    Accept, Arrival, HostConfig, HostEvent, HostLink, Position, StreamId,
    item::{Block, Content},
};
use headwater_sim::ledger::DeviceLedger;
use headwater_tests::{
    emulator::{Board, DEVICE},
    permit,
};

const DEADLINE: Duration = Duration::from_secs(60);

/// More than the board ever queues.
const WINDOW: u32 = 1 << 20;

#[test]
fn board_speaks_the_link() {
    let _permit = permit::waiting();
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::new(&folder.path().join("line.sock"));
    let mut board = Board::start(folder.path(), &host.socket);

    board.set_temperature(-12_500);
    host.serve_until("the temperature", |readings| readings.iter().any(|r| r.2 == -200));
    board.reset();
    host.serve_until("the second boot", |readings| readings.iter().any(|r| r.0 == 2));
    board.switch_off();
    board.switch_on();
    host.serve_until("the third boot", |readings| {
        readings.iter().filter(|r| r.0 == 3).count() >= 10
    });
    board.freeze();
    assert_ledger_holds(&board.ledger(), &host.readings);
}

/// What the host took is what the board sampled, and everything the board was told is durable is there.
fn assert_ledger_holds(ledger: &DeviceLedger, readings: &[(u32, u64, i64)]) {
    assert_eq!(ledger.runs.len(), 3);
    for run in &ledger.runs {
        assert_eq!(run.streams, [drawn().bits()], "boot {}", run.boot);
        let of_boot = |r: &&(u32, u64, i64)| u64::from(r.0) == run.boot;
        let taken: Vec<(u64, i64)> = readings.iter().filter(of_boot).map(|r| (r.1, r.2)).collect();
        let sampled = run.readings.iter().map(|(seq, codes)| (*seq, codes[0].unwrap()));
        let sampled: Vec<(u64, i64)> = sampled.take(taken.len()).collect();
        assert_eq!(taken, sampled, "boot {}", run.boot);
        let acknowledged = run.blocks.range(..=run.acknowledged.unwrap()).next_back();
        let (_, last) = acknowledged.expect("the last acknowledged item is a block or follows one");
        assert!(taken.len() as u64 >= last.end(), "boot {}", run.boot);
    }
}

/// A gateway that keeps its log in memory.
struct Host {
    socket: std::path::PathBuf,
    listener: UnixListener,
    link: Option<(HostLink, UnixStream)>,
    started: Instant,
    durable: Position,
    /// Boot, number, code.
    readings: Vec<(u32, u64, i64)>,
}

impl Host {
    fn new(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self {
            socket: socket.into(),
            listener,
            link: None,
            started: Instant::now(),
            durable: Position::START,
            readings: Vec::new(),
        }
    }

    fn serve_until(&mut self, what: &str, mut enough: impl FnMut(&[(u32, u64, i64)]) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !enough(&self.readings) {
            assert!(Instant::now() < deadline, "in vain for {what}: {:?}", self.readings);
            if let Ok((stream, _)) = self.listener.accept() {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
                let link = HostLink::new(HostConfig::default(), 7, self.now());
                self.link = Some((link, stream));
            }
            if let Some((link, stream)) = self.link.take() {
                self.link = Some(self.exchange(link, stream));
            }
        }
    }

    fn exchange(&mut self, mut link: HostLink, mut stream: UnixStream) -> (HostLink, UnixStream) {
        let now = self.now();
        let mut out = [0; HostLink::FRAME_MAX];
        loop {
            match link.transmit(now, 0, &mut out) {
                0 => break,
                // The other end may be switched off.
                len => drop(stream.write_all(&out[..len])),
            }
        }
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes).unwrap_or(0);
        let mut bytes = &bytes[..read];
        loop {
            let answer = match link.receive(now, &mut bytes) {
                None => break,
                Some(HostEvent::Hello(hello)) => {
                    assert_eq!(hello.device.as_str(), DEVICE);
                    Answer::Hello(hello.stream)
                }
                Some(HostEvent::Item(arrival)) => {
                    self.take(&arrival);
                    Answer::Durable(arrival.item.position)
                }
                Some(_) => continue,
            };
            match answer {
                Answer::Hello(None) => link.assign(drawn()),
                Answer::Hello(Some(_)) => {
                    let accept = Accept { window: WINDOW, describe: false };
                    link.accept(self.durable, accept).unwrap();
                }
                Answer::Durable(position) => {
                    self.durable = position;
                    link.durable(now, drawn(), position);
                }
            }
        }
        (link, stream)
    }

    fn take(&mut self, arrival: &Arrival<'_>) {
        let item = arrival.item;
        let boot = item.position.boot;
        match Content::decode(item.kind, item.body).unwrap() {
            Content::Block(block) => self.take_block(boot, &block),
            Content::Schema(schema) => {
                let channel = schema.channel;
                assert_eq!((channel.mantissa, channel.exponent), (625, -4));
            }
            _ => {}
        }
    }

    fn take_block(&mut self, boot: u32, block: &Block<'_>) {
        let mut rows = block.rows();
        while let Some((head, codes)) = rows.next_row() {
            self.readings.push((boot, head.seq, codes[0].into()));
        }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }
}

/// What this host draws for every device.
fn drawn() -> StreamId {
    StreamId::new(0xB0A2D).unwrap()
}

enum Answer {
    Hello(Option<StreamId>),
    Durable(Position),
}
