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
    io::{Interest, unix::AsyncFd},
    net::TcpStream,
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
    master: AsyncFd<OwnedFd>,
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
        let master = AsyncFd::with_interest(master, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { master, plugged: AtomicBool::new(false), link: link.to_owned() })
    }

    async fn read(&self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.master.readable().await?;
            let read = ready.try_io(|master| match rustix::io::read(master.get_ref(), &mut *out) {
                // Nobody has the other end open; the next byte through it makes the master readable again.
                Err(Errno::IO) => {
                    self.plugged.store(false, Ordering::Relaxed);
                    Err(Errno::WOULDBLOCK.into())
                }
                read => Ok(read?),
            });
            if let Ok(read) = read {
                self.plugged.store(true, Ordering::Relaxed);
                return read;
            }
        }
    }

    async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if !self.plugged.load(Ordering::Relaxed) {
                return Ok(bytes.len());
            }
            let mut ready = self.master.writable().await?;
            let written = ready.try_io(|master| match rustix::io::write(master.get_ref(), bytes) {
                Err(Errno::IO) => {
                    self.plugged.store(false, Ordering::Relaxed);
                    Ok(bytes.len())
                }
                written => Ok(written?),
            });
            if let Ok(written) = written {
                return written;
            }
        }
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.link);
    }
}
