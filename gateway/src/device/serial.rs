//! Serial ports: opening without resetting the board, and coming back after an unplug.
//!
//! A port is known by its path (best one below `/dev/serial/by-id/`), or is found again under whatever name by
//! a pattern or by what its USB device says ([`super::ports`]). The file is closed at the first sign of an unplug,
//! because a held one makes the device come back under another name; what is there under the old name may be
//! another board, and is looked up again.

use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock},
    termios::{ControlModes, OptionalActions},
};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep_until},
};
use tokio_serial::{SerialPortBuilderExt, SerialStream};

use super::{
    connection::{self, Patience},
    hub::Hub,
    ports::{Found, InUse, Roots, holder},
};
use crate::{Shutdown, config::SerialConfig};

/// First pause before a port is opened again; doubles up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause, and time between two looks: how long a board that was plugged in waits for the gateway at worst.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A link that lived this long starts over with the shortest pause.
const STABLE: Duration = Duration::from_secs(5);

/// Keeps the ports of one table in use until shutdown.
pub(super) async fn supervise(
    config: SerialConfig,
    roots: Roots,
    in_use: InUse,
    hub: Hub,
    shutdown: Shutdown,
) {
    let mut supervisor = Supervisor {
        config,
        roots,
        in_use,
        hub,
        shutdown: shutdown.clone(),
        ports: BTreeMap::new(),
        serving: JoinSet::new(),
        told: String::new(),
    };
    while !shutdown.is_requested() {
        supervisor.look();
        let wake = supervisor.next_look();
        tokio::select! {
            () = shutdown.requested() => break,
            Some(closed) = supervisor.serving.join_next() => {
                if let Ok(closed) = closed {
                    supervisor.closed(closed);
                }
            }
            () = sleep_until(wake) => {}
        }
    }
    while supervisor.serving.join_next().await.is_some() {}
}

struct Supervisor {
    config: SerialConfig,
    roots: Roots,
    in_use: InUse,
    hub: Hub,
    shutdown: Shutdown,
    ports: BTreeMap<PathBuf, Port>,
    serving: JoinSet<Closed>,
    /// What was said last of all of them.
    told: String,
}

/// A port that was found.
struct Port {
    is_serving: bool,
    /// Not to be opened before.
    due: Instant,
    pause: Duration,
    told: String,
}

/// A port that is not served any more.
struct Closed {
    path: PathBuf,
    /// How long it was open; none if it could not be opened.
    lived: Option<Duration>,
    why: String,
}

impl Supervisor {
    /// Opens what is there and due.
    fn look(&mut self) {
        let found = match self.roots.find(&self.config.ports) {
            Ok(Found { ports, too_many: 0 }) => ports,
            Ok(Found { ports, too_many }) => {
                self.tell(format!("{too_many} more match than the {} that are used", ports.len()));
                ports
            }
            Err(error) => return self.tell(error.to_string()),
        };
        self.ports.retain(|path, port| port.is_serving || found.contains(path));
        for path in found {
            let port = self.ports.entry(path.clone()).or_insert_with(Port::new);
            if port.is_serving || port.due > Instant::now() {
                continue;
            }
            let Some(reserved) = self.in_use.reserve(&path) else {
                port.wait();
                port.tell(&path, "another [[device.serial]] has it open".into());
                continue;
            };
            port.is_serving = true;
            let (baud, hub, shutdown) = (self.config.baud, self.hub.clone(), self.shutdown.clone());
            self.serving.spawn(async move {
                let closed = serve(path, baud, &hub, &shutdown).await;
                drop(reserved);
                closed
            });
        }
    }

    fn next_look(&self) -> Instant {
        let waiting = self.ports.values().filter(|port| !port.is_serving);
        // Also where nothing is expected: a look costs little, and none where a path says it all.
        let scan = Instant::now() + LONGEST_PAUSE;
        waiting.map(|port| port.due).fold(scan, Instant::min)
    }

    fn closed(&mut self, closed: Closed) {
        let Closed { path, lived, why } = closed;
        let Some(port) = self.ports.get_mut(&path) else { return };
        port.is_serving = false;
        if lived.is_some_and(|lived| lived >= STABLE) {
            port.pause = SHORTEST_PAUSE;
        }
        port.wait();
        if lived.is_some() {
            port.told.clear();
        }
        port.tell(&path, why);
    }

    fn tell(&mut self, news: String) {
        if self.told != news {
            tracing::warn!(ports = %self.config.ports, "serial ports: {news}");
            self.told = news;
        }
    }
}

impl Port {
    fn new() -> Self {
        let due = Instant::now();
        Self { is_serving: false, due, pause: SHORTEST_PAUSE, told: String::new() }
    }

    fn wait(&mut self) {
        self.due = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// One line per change: a port that stays away is not news.
    fn tell(&mut self, path: &Path, news: String) {
        if self.told != news {
            tracing::info!(port = %path.display(), "serial port: {news}");
            self.told = news;
        }
    }
}

/// Opens a port and serves whoever is on it, until it is gone.
async fn serve(path: PathBuf, baud: u32, hub: &Hub, shutdown: &Shutdown) -> Closed {
    let opened = Instant::now();
    match open(&path, baud) {
        Ok(port) => {
            let name = path.display().to_string();
            tracing::info!(port = %name, "serial port: open");
            let transport = format!("serial {name}");
            let ended = connection::serve(port, transport, Patience::SERIAL, hub, shutdown).await;
            Closed { path, lived: Some(opened.elapsed()), why: ended.to_string() }
        }
        Err(error) if is_busy(&error) => {
            let port = path.clone();
            // Reads many small files.
            let holder = spawn_blocking(move || holder(&port)).await.ok().flatten();
            let who = holder.as_deref().unwrap_or("another process");
            Closed { path, lived: None, why: format!("{who} has it open") }
        }
        Err(error) => Closed { path, lived: None, why: error.to_string() },
    }
}

/// Opens the port for ourselves alone: TIOCEXCL keeps others from opening it, and `flock` tells those who may
/// open it all the same (root) and ask.
pub(super) fn open(path: &Path, baud: u32) -> io::Result<SerialStream> {
    let text = path.to_str().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the port's path is not UTF-8")
    })?;
    // Held until the real open: a last close in between would drop DTR after all.
    let _held = keep_dtr(path)?;
    tokio_serial::new(text, baud).open_native_async().map_err(io::Error::from)
}

/// Whether somebody else has the port.
pub(super) fn is_busy(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::WouldBlock)
}

/// Clears HUPCL, which lowers DTR and RTS when the port is closed: boards that wire them to their reset
/// would lose what they hold in RAM with every restart of the gateway.
fn keep_dtr(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let port = rustix::fs::open(path, flags, Mode::empty())?;
    // Not the settings of a port that is another's. The lock itself is taken with the real open.
    flock(&port, FlockOperation::NonBlockingLockExclusive)?;
    flock(&port, FlockOperation::Unlock)?;
    let mut settings = rustix::termios::tcgetattr(&port)?;
    if settings.control_modes.contains(ControlModes::HUPCL) {
        settings.control_modes.remove(ControlModes::HUPCL);
        rustix::termios::tcsetattr(&port, OptionalActions::Now, &settings)?;
    }
    Ok(port)
}
