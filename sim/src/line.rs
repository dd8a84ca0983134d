//! The byte stream of a simulated device: a TCP connection, or the master of a pseudo-terminal.

use std::{
    fs, io,
    os::fd::OwnedFd,
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
    net::TcpStream,
    time::{Duration, sleep},
};

/// A device's line to the gateway. Reading and writing may wait at the same time and may be
/// cancelled.
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
    // Asked again and again instead of by readiness: once the other end was closed, epoll reports a
    // hang-up, which tokio takes as final, though the end may be opened again.
    master: OwnedFd,
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
        // Raw from the start: what is sent before the gateway sets its own modes must not come back
        // as echo.
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
        Ok(Self { master, plugged: AtomicBool::new(false), link: link.to_owned() })
    }

    async fn read(&self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = rustix::io::read(&self.master, &mut *out);
            // Nobody has the other end open.
            let unplugged = read == Err(Errno::IO);
            self.plugged.store(!unplugged, Ordering::Relaxed);
            match read {
                Err(Errno::IO) => sleep(UNPLUGGED_POLL).await,
                Err(Errno::AGAIN | Errno::INTR) => sleep(POLL).await,
                read => return Ok(read?),
            }
        }
    }

    async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if !self.plugged.load(Ordering::Relaxed) {
                return Ok(bytes.len());
            }
            match rustix::io::write(&self.master, bytes) {
                Err(Errno::AGAIN | Errno::INTR) => sleep(POLL).await,
                // Unplugged since the last look.
                Err(Errno::IO) => return Ok(bytes.len()),
                written => return Ok(written?),
            }
        }
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.link);
    }
}

/// Between looks for bytes: about what 115,200 baud bring in a block of a UART's FIFO.
const POLL: Duration = Duration::from_millis(3);
/// Between looks at an unplugged line.
const UNPLUGGED_POLL: Duration = Duration::from_millis(20);
