//! The gateway's end of a serial line: a PTY behind a stable link, as udev makes one.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};

/// The master of a PTY whose slave a gateway opens by a stable name.
#[derive(Debug)]
pub(crate) struct Pty {
    master: File,
    usage: Usage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Usage {
    /// Nobody has opened it yet.
    New,
    Open,
    /// Whoever had it open has closed it.
    Left,
}

impl Pty {
    /// A new PTY that `link` points to.
    pub(crate) fn behind(link: &Path) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a PTY is free");
        grantpt(&master).expect("a new PTY is ours");
        unlockpt(&master).expect("a new PTY is locked");
        let name = ptsname(&master, Vec::new()).expect("a PTY has a name");
        let path = PathBuf::from(name.to_str().expect("names of PTYs are ASCII"));
        make_raw(&path);
        let flags = rustix::fs::fcntl_getfl(&master).expect("an open descriptor has flags");
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK).expect("a PTY can wait or not");
        // Renamed into place, so that the name never is missing while a gateway looks for it.
        let fresh = link.with_extension("new");
        let _ = fs::remove_file(&fresh);
        symlink(&path, &fresh).expect("the test's folder is writable");
        fs::rename(&fresh, link).expect("the test's folder is writable");
        Self { master: File::from(master), usage: Usage::New }
    }

    /// Whether who had it open has closed it: then a new one is due.
    pub(crate) fn was_left(&self) -> bool {
        self.usage == Usage::Left
    }

    /// Reads what is there, 0 for nothing.
    pub(crate) fn read(&mut self, bytes: &mut [u8]) -> usize {
        match self.master.read(bytes) {
            Ok(read) => {
                self.usage = Usage::Open;
                read
            }
            Err(error) if is_pause(error.kind()) => {
                self.usage = Usage::Open;
                0
            }
            // The slave is closed.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                if self.usage == Usage::Open {
                    self.usage = Usage::Left;
                }
                0
            }
            Err(error) => panic!("PTY: {error}"),
        }
    }

    /// Writes, if somebody has it open.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        if self.usage == Usage::Open {
            // What a gateway that does not read has no room for is an overrun.
            let _ = self.master.write(bytes);
        }
    }
}

/// No echo and no line editing from the first byte on; opening and closing it once also makes reads of the master
/// tell whether somebody has it open.
fn make_raw(path: &Path) {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(path, flags, Mode::empty()).expect("a new PTY opens");
    let mut settings = tcgetattr(&slave).expect("a PTY is a terminal");
    settings.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &settings).expect("a PTY is a terminal");
}

/// Whether there is just nothing to read, or no room, now.
pub(crate) fn is_pause(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
