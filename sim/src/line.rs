//! The byte stream of a simulated device: a TCP connection, or the master of a pseudo-terminal.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use tokio::{
    net::{
        TcpStream,
        unix::pipe::{Receiver, Sender},
    },
    time::{Duration, sleep},
};

/// A device's line to the gateway. Reading and writing may wait at the same time and may be cancelled.
#[derive(Debug)]
pub enum Line {
    /// A connection, which ends.
    Tcp(TcpStream),
    /// A serial line, which does not know whether anybody listens.
    Serial(Serial),
}

impl Line {
    /// Waits for bytes; 0 is the end of a connection.
    pub async fn read(&self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => loop {
                stream.readable().await?;
                match stream.try_read(out) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => return done,
                }
            },
            Self::Serial(serial) => serial.read(out).await,
        }
    }

    /// Waits until some bytes can be written.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => loop {
                stream.writable().await?;
                match stream.try_write(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => return done,
                }
            },
            Self::Serial(serial) => serial.write(bytes).await,
        }
    }
}

/// The device's end of a pseudo-terminal, with a link of stable name to the gateway's end.
#[derive(Debug)]
pub struct Serial {
    // tokio's pipes are plain file descriptors that are read and written when they are ready.
    input: Receiver,
    output: Sender,
    /// Whether the other end is open. Without it bytes go nowhere, as on a UART without a cable.
    plugged: AtomicBool,
    link: PathBuf,
}

impl Serial {
    /// Opens a pseudo-terminal and points `link` at its other end, replacing an older link.
    pub fn open(link: &Path) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        // Raw from the start: what is sent before the gateway sets its own modes must not come back as echo.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let other = rustix::fs::open(name.as_c_str(), flags, Mode::empty())?;
        let mut modes = tcgetattr(&other)?;
        modes.make_raw();
        tcsetattr(&other, OptionalActions::Now, &modes)?;
        drop(other);
        rustix::io::ioctl_fionbio(&master, true)?;
        match fs::remove_file(link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::os::unix::fs::symlink(Path::new(&*name.to_string_lossy()), link)?;
        let input = Receiver::from_owned_fd_unchecked(master.try_clone()?)?;
        let output = Sender::from_owned_fd_unchecked(master)?;
        Ok(Self { input, output, plugged: AtomicBool::new(false), link: link.to_owned() })
    }

    async fn read(&self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            self.input.readable().await?;
            match self.input.try_read(out) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_unplugged(&error) => {
                    self.plugged.store(false, Ordering::Relaxed);
                    // It stays "readable" as long as nobody has the other end open.
                    sleep(UNPLUGGED_POLL).await;
                }
                read => {
                    self.plugged.store(true, Ordering::Relaxed);
                    return read;
                }
            }
        }
    }

    async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if !self.plugged.load(Ordering::Relaxed) {
                return Ok(bytes.len());
            }
            self.output.writable().await?;
            match self.output.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_unplugged(&error) => self.plugged.store(false, Ordering::Relaxed),
                written => return written,
            }
        }
    }
}

/// What the master of a pseudo-terminal says while nobody has the other end open.
fn is_unplugged(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::IO)
}

impl Drop for Serial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.link);
    }
}

/// Between looks at an unplugged line.
const UNPLUGGED_POLL: Duration = Duration::from_millis(20);
