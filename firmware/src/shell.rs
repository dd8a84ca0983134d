//! The node on a byte stream and a memory: what a board's main loop calls.

use embedded_io::{Read, ReadReady, Write};

use crate::{Event, Identity, IdentityStore, Node, Nvm, StorageOp, StorageOutcome};

/// A serial line (or any byte stream) and a non-volatile memory, on which a node runs. `FRAME` is
/// [`Node::FRAME_MAX`] of that node.
#[derive(Debug)]
pub struct Port<S, M, const FRAME: usize> {
    line: S,
    memory: M,
    store: IdentityStore,
    frame: [u8; FRAME],
}

impl<S, M, const FRAME: usize> Port<S, M, FRAME>
where
    S: Read + ReadReady + Write,
    M: Nvm,
{
    /// Reads the memory; give the identity to [`Node::new`].
    pub fn open(line: S, mut memory: M) -> (Self, Option<Identity>) {
        let (store, identity) = IdentityStore::open(&mut memory);
        (Self { line, memory, store, frame: [0; FRAME] }, identity)
    }

    /// Does everything that can be done now: storage, received bytes, due frames. Gives the tick of
    /// the next timer.
    ///
    /// `on_event` hears of each event before bytes that depend on it are sent.
    ///
    /// # Errors
    /// Those of the line. The node is told; go on with the next turn.
    pub fn turn<const C: usize, const R: usize, const B: usize, const I: usize, const E: usize>(
        &mut self,
        node: &mut Node<C, R, B, I, E>,
        now: u64,
        mut on_event: impl FnMut(Event),
    ) -> Result<Option<u64>, S::Error> {
        self.settle_storage(node, now);
        let received = self.receive(node, now);
        self.settle_storage(node, now);
        loop {
            let len = node.transmit(now, &mut self.frame);
            while let Some(event) = node.poll_event() {
                on_event(event);
            }
            match self.frame.get(..len) {
                Some(frame) if len > 0 => self.line.write_all(frame)?,
                _ => break,
            }
        }
        self.line.flush()?;
        received?;
        Ok(node.next_wake(now))
    }

    fn receive<const C: usize, const R: usize, const B: usize, const I: usize, const E: usize>(
        &mut self,
        node: &mut Node<C, R, B, I, E>,
        now: u64,
    ) -> Result<(), S::Error> {
        let mut bytes = [0; RECEIVE_CHUNK];
        // Bounded, so that a babbling line cannot keep the board from sampling.
        for _ in 0..RECEIVE_ROUNDS {
            let got = match self.line.read_ready() {
                Ok(false) => break,
                Ok(true) => self.line.read(&mut bytes),
                Err(error) => Err(error),
            };
            match got {
                Ok(0) => break,
                Ok(len) => node.receive(now, bytes.get(..len).unwrap_or_default()),
                Err(error) => {
                    node.line_error();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn settle_storage<
        const C: usize,
        const R: usize,
        const B: usize,
        const I: usize,
        const E: usize,
    >(
        &mut self,
        node: &mut Node<C, R, B, I, E>,
        now: u64,
    ) {
        while let Some(StorageOp::SaveIdentity(identity)) = node.storage_op() {
            let outcome = match self.store.save(&mut self.memory, identity) {
                Ok(()) => StorageOutcome::Saved,
                Err(_) => StorageOutcome::Failed,
            };
            node.storage_done(now, outcome);
        }
    }

    /// The line, for what a board does with it beside the link.
    pub fn line(&mut self) -> &mut S {
        &mut self.line
    }
}

/// Bytes taken from the line at a time.
const RECEIVE_CHUNK: usize = 32;
/// Chunks taken in one turn.
const RECEIVE_ROUNDS: usize = 8;

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, vec::Vec};

    use embedded_io::{ErrorKind, ErrorType};
    use headwater_protocol::{
        DeviceId, HostConfig, HostEvent, HostLink, Position, StreamId,
        item::{Cause, Channel},
    };

    use super::*;
    use crate::{Config, nvm::Sizes, testing::TornMemory};

    const CHANNELS: [Channel<'static>; 1] = [Channel {
        name: "level",
        unit: "m",
        mantissa: 1,
        exponent: -3,
        width_bits: 16,
        period_us: 100_000,
    }];

    type TestNode = Node<1, 16, 300, 8, 8>;
    type TestPort = Port<Wire, TornMemory, { TestNode::FRAME_MAX }>;

    /// A UART with some bytes in each direction.
    #[derive(Default)]
    struct Wire {
        received: VecDeque<u8>,
        sent: Vec<u8>,
        fail: bool,
    }

    impl ErrorType for Wire {
        type Error = ErrorKind;
    }

    impl Read for Wire {
        fn read(&mut self, out: &mut [u8]) -> Result<usize, ErrorKind> {
            if self.fail {
                return Err(ErrorKind::Other);
            }
            let len = out.len().min(self.received.len());
            for (to, from) in out.iter_mut().zip(self.received.drain(..len)) {
                *to = from;
            }
            Ok(len)
        }
    }

    impl ReadReady for Wire {
        fn read_ready(&mut self) -> Result<bool, ErrorKind> {
            Ok(self.fail || !self.received.is_empty())
        }
    }

    impl Write for Wire {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
            // A few at a time, as a UART's FIFO takes them.
            let len = bytes.len().min(5);
            self.sent.extend(&bytes[..len]);
            Ok(len)
        }

        fn flush(&mut self) -> Result<(), ErrorKind> {
            Ok(())
        }
    }

    fn config() -> Config {
        let id = DeviceId::new("shell-1").expect("legal");
        Config::new(id, 1_000_000, &CHANNELS, 100_000, Cause::Power)
    }

    /// Readings that a host takes from the port within ten seconds.
    fn deliver(port: &mut TestPort, node: &mut TestNode, events: &mut Vec<Event>) -> usize {
        let mut host = HostLink::new(HostConfig::default(), 1, 0);
        let mut durable = Position::START;
        let mut items = 0;
        for now in (0..10_000_000).step_by(10_000) {
            if now % 100_000 == 0 {
                node.record(now, &[5]);
            }
            let wake = port.turn(node, now, |event| events.push(event)).expect("no line error");
            assert!(wake.is_none_or(|wake| wake > now), "nothing is left that is due");
            let sent = core::mem::take(&mut port.line().sent);
            let mut bytes = &sent[..];
            while let Some(event) = host.receive(now, &mut bytes) {
                match event {
                    HostEvent::Hello(hello) if hello.stream.is_none() => {
                        host.assign(StreamId::new(7).expect("not 0"));
                    }
                    HostEvent::Hello(_) => {
                        let accept = headwater_protocol::Accept { window: 900, describe: false };
                        host.accept(durable, accept).expect("accepted");
                    }
                    HostEvent::Item(arrival) => {
                        durable = arrival.item.position;
                        items += 1;
                    }
                    _ => {}
                }
            }
            host.durable(now, StreamId::new(7).expect("not 0"), durable);
            let mut out = [0; HostLink::FRAME_MAX];
            let len = host.transmit(now, 0, &mut out);
            port.line().received.extend(&out[..len]);
        }
        items
    }

    #[test]
    fn a_board_delivers_and_is_the_same_device_after_a_reset() {
        let memory = TornMemory::new(Sizes::eeprom(256));
        let (mut port, identity) = TestPort::open(Wire::default(), memory);
        let mut node = TestNode::new(config(), identity);
        let mut events = Vec::new();
        let items = deliver(&mut port, &mut node, &mut events);
        assert!(items >= 9, "BOOT, SCHEMA and a block a second: {items}");

        let Port { memory, .. } = port;
        let (mut port, identity) = TestPort::open(Wire::default(), memory);
        let mut node = TestNode::new(config(), identity);
        port.turn(&mut node, 0, |event| events.push(event)).expect("no line error");
        let stream = StreamId::new(7).expect("not 0");
        assert!(events.ends_with(&[
            Event::Started { boot: 2, cause: Cause::Power },
            Event::Stream { boot: 2, stream }
        ]));
    }

    #[test]
    fn a_line_error_is_told_and_the_next_turn_goes_on() {
        let memory = TornMemory::new(Sizes::eeprom(256));
        let (mut port, identity) = TestPort::open(Wire::default(), memory);
        let mut node = TestNode::new(config(), identity);
        port.line().fail = true;
        assert_eq!(port.turn(&mut node, 0, |_| {}), Err(ErrorKind::Other));
        port.line().fail = false;
        assert!(deliver(&mut port, &mut node, &mut Vec::new()) >= 9);
    }
}
