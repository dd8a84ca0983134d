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

    /// Does everything that can be done now: storage, received bytes, due frames. Gives the tick of the next timer.
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
