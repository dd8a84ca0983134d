//! The serial line between a board and the gateway, as something that can be cut and disturbed.
//!
//! The gateway's end is a PTY behind a stable link, as udev makes one; the board's end is a Unix socket that the
//! emulator connects to. Nothing is kept for an end that is not there: what a UART sends into the void is gone.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    noise::Noise,
    pty::{Pty, is_pause},
    wait,
};

/// How the two ends are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joint {
    /// Bytes pass.
    Joined,
    /// Both ends are there, and what one sends never arrives.
    Silent,
    /// The board is heard and hears nothing: what it sends becomes durable, and no acknowledgement arrives.
    Deaf,
    /// The adapter is pulled: the gateway's port hangs up and its name disappears.
    Unplugged,
}

/// A line between a gateway and a board.
#[derive(Debug)]
pub struct SerialLine {
    port: PathBuf,
    socket: PathBuf,
    shared: Arc<Mutex<Shared>>,
    carrier: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    wanted: Option<Joint>,
    actual: Option<Joint>,
    noise: Option<Noise>,
}

impl SerialLine {
    /// A joined line with its two ends in `folder`.
    ///
    /// # Panics
    /// If the folder cannot hold them.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let (port, socket) = (folder.join("tty-board"), folder.join("line.sock"));
        let listener = UnixListener::bind(&socket).expect("a socket in the test's folder");
        listener.set_nonblocking(true).expect("a socket can be made so");
        let shared =
            Arc::new(Mutex::new(Shared { wanted: Some(Joint::Joined), actual: None, noise: None }));
        let carrier = Carrier {
            shared: shared.clone(),
            port: port.clone(),
            listener,
            gateway: None,
            board: None,
        };
        let carrier = thread::spawn(|| carrier.run());
        let line = Self { port, socket, shared, carrier: Some(carrier) };
        line.set(Joint::Joined);
        line
    }

    /// The port that the gateway opens.
    #[must_use]
    pub fn port(&self) -> &Path {
        &self.port
    }

    /// The socket that the emulator connects to.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Disturbs all bytes from now on, in both directions.
    pub fn disturb(&self, noise: Noise) {
        lock(&self.shared).noise = Some(noise);
    }

    /// Bits that the noise has flipped so far.
    #[must_use]
    pub fn flipped(&self) -> u64 {
        lock(&self.shared).noise.as_ref().map_or(0, Noise::flipped)
    }

    /// Cuts or joins; done when it returns.
    ///
    /// # Panics
    /// If a PTY cannot be made.
    pub fn set(&self, joint: Joint) {
        lock(&self.shared).wanted = Some(joint);
        wait::for_condition("the serial line", ANSWER, || lock(&self.shared).actual == Some(joint));
    }
}

impl Drop for SerialLine {
    fn drop(&mut self) {
        lock(&self.shared).wanted = None;
        if let Some(carrier) = self.carrier.take() {
            // Its panic, if any, has been printed.
            let _ = carrier.join();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn disturb(&mut self, bytes: &mut [u8]) {
        if let Some(noise) = &mut self.noise {
            noise.disturb(bytes);
        }
    }
}

/// Carries bytes until nobody wants a line any more.
struct Carrier {
    shared: Arc<Mutex<Shared>>,
    port: PathBuf,
    listener: UnixListener,
    gateway: Option<Pty>,
    board: Option<UnixStream>,
}

impl Carrier {
    fn run(mut self) {
        while let Some(joint) = self.follow() {
            self.accept();
            self.carry_to_board(joint);
            self.carry_to_gateway(joint);
        }
        let _ = fs::remove_file(&self.port);
    }

    /// Makes or breaks the gateway's end as wanted; `None` ends the line.
    fn follow(&mut self) -> Option<Joint> {
        let wanted = lock(&self.shared).wanted?;
        if wanted == Joint::Unplugged {
            if self.gateway.take().is_some() {
                let _ = fs::remove_file(&self.port);
            }
        } else if self.gateway.as_ref().is_none_or(Pty::was_left) {
            // Also after the gateway has closed it: its exclusive mode would outlive it on a PTY, unlike on a real port.
            self.gateway = Some(Pty::behind(&self.port));
        }
        lock(&self.shared).actual = Some(wanted);
        Some(wanted)
    }

    fn accept(&mut self) {
        // A new connection is a new emulator: the old one is dead.
        if let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(false).expect("a socket can be made so");
            stream.set_read_timeout(Some(PACE)).expect("not zero");
            stream.set_write_timeout(Some(PACE)).expect("not zero");
            self.board = Some(stream);
        }
    }

    fn carry_to_board(&mut self, joint: Joint) {
        let mut bytes = [0; CHUNK];
        let read = self.gateway.as_mut().map_or(0, |pty| pty.read(&mut bytes));
        if let (Joint::Joined, Some(board)) = (joint, &mut self.board) {
            lock(&self.shared).disturb(&mut bytes[..read]);
            // A board that does not listen loses bytes, as it would on a wire.
            let _ = board.write_all(&bytes[..read]);
        }
    }

    /// Waits for bytes of the board for at most [`PACE`], and so paces the loop.
    fn carry_to_gateway(&mut self, joint: Joint) {
        let Some(board) = &mut self.board else {
            thread::sleep(PACE);
            return;
        };
        let mut bytes = [0; CHUNK];
        match board.read(&mut bytes) {
            Ok(0) => self.board = None,
            Ok(read) => {
                if let (Joint::Joined | Joint::Deaf, Some(pty)) = (joint, &mut self.gateway) {
                    lock(&self.shared).disturb(&mut bytes[..read]);
                    pty.write(&bytes[..read]);
                }
            }
            Err(error) if is_pause(error.kind()) => {}
            Err(_) => self.board = None,
        }
    }
}

/// For the carrier to get its turn on a busy machine.
const ANSWER: Duration = Duration::from_secs(60);
const CHUNK: usize = 4096;
/// What the line adds to the way of a byte at most.
const PACE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::{Mode, OFlags};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn open(port: &Path) -> File {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        File::from(rustix::fs::open(port, flags, Mode::empty()).expect("opens"))
    }

    /// Sends until it arrives: what is sent before the carrier sees both ends is lost by design.
    fn arrives(mut from: impl Write, mut to: impl Read) -> bool {
        let mut bytes = [0; 16];
        (0..50).any(|_| {
            from.write_all(b"x").expect("sent");
            thread::sleep(Duration::from_millis(5));
            to.read(&mut bytes).is_ok_and(|read| read > 0)
        })
    }

    #[test]
    fn a_line_passes_bytes_goes_silent_hangs_up_and_comes_back() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let line = SerialLine::new(folder.path());
        let board = UnixStream::connect(line.socket()).expect("connects");
        board.set_read_timeout(Some(Duration::from_millis(1))).expect("not zero");
        let gateway = open(line.port());
        assert!(arrives(&gateway, &board) && arrives(&board, &gateway));

        line.set(Joint::Silent);
        while (&gateway).read(&mut [0; 16]).is_ok() || (&board).read(&mut [0; 16]).is_ok() {}
        assert!(!arrives(&gateway, &board) && !arrives(&board, &gateway));

        line.set(Joint::Deaf);
        assert!(!arrives(&gateway, &board) && arrives(&board, &gateway));

        line.set(Joint::Unplugged);
        assert!(!line.port().exists());
        wait::for_condition("the hang-up", DEADLINE, || {
            matches!((&gateway).read(&mut [0; 16]), Ok(0))
        });

        line.set(Joint::Joined);
        let gateway = open(line.port());
        assert!(arrives(&gateway, &board) && arrives(&board, &gateway));
    }
}
