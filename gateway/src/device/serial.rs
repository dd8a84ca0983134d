//! Serial ports: opening without resetting the board, and coming back after an unplug.
//!
//! A port is known by its configured path alone (best one below `/dev/serial/by-id/`). The file is closed
//! at the first sign of an unplug, because a held one makes the device come back under another name.

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    termios::{ControlModes, OptionalActions},
};
use tokio::time::sleep;
use tokio_serial::{SerialPortBuilderExt, SerialStream};

use super::{
    connection::{self, Ended, Patience},
    hub::Hub,
};
use crate::{Shutdown, config::SerialConfig};

/// First pause before a port is opened again; doubles up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause: how long a board that was plugged in waits for the gateway at worst.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A link that lived this long starts over with the shortest pause.
const STABLE: Duration = Duration::from_secs(5);

/// Keeps one port in use until shutdown.
pub(super) async fn supervise(config: SerialConfig, hub: Hub, shutdown: Shutdown) {
    let name = config.port.display().to_string();
    let mut pause = SHORTEST_PAUSE;
    let mut told = String::new();
    let mut tell = |news: String| {
        // One line per change: a port that stays away is not news.
        if news != told {
            tracing::info!(port = %name, "serial port: {news}");
            told = news;
        }
    };
    while !shutdown.is_requested() {
        let opened = Instant::now();
        match open(&config) {
            Ok(port) => {
                tell("open".into());
                let ended = connection::serve(
                    port,
                    format!("serial {name}"),
                    Patience::SERIAL,
                    &hub,
                    &shutdown,
                )
                .await;
                match ended {
                    Ended::Shutdown => return,
                    ended => tell(ended.to_string()),
                }
                if opened.elapsed() >= STABLE {
                    pause = SHORTEST_PAUSE;
                }
            }
            Err(error) => tell(error.to_string()),
        }
        tokio::select! {
            () = shutdown.requested() => return,
            () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Opens the port for ourselves alone.
pub(super) fn open(config: &SerialConfig) -> io::Result<SerialStream> {
    let path = config.port.to_str().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the port's path is not UTF-8")
    })?;
    // Held until the real open: a last close in between would drop DTR after all.
    let _held = keep_dtr(&config.port)?;
    tokio_serial::new(path, config.baud).open_native_async().map_err(io::Error::from)
}

/// Clears HUPCL, which lowers DTR and RTS when the port is closed: boards that wire them to their reset
/// would lose what they hold in RAM with every restart of the gateway.
fn keep_dtr(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let port = rustix::fs::open(path, flags, Mode::empty())?;
    let mut settings = rustix::termios::tcgetattr(&port)?;
    if settings.control_modes.contains(ControlModes::HUPCL) {
        settings.control_modes.remove(ControlModes::HUPCL);
        rustix::termios::tcsetattr(&port, OptionalActions::Now, &settings)?;
    }
    Ok(port)
}
