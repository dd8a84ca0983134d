//! Serial ports: a pseudo-terminal that is unplugged and comes back under the same path.

use std::{io, os::fd::OwnedFd, os::unix::fs::symlink, path::Path, time::Duration};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{ControlModes, OptionalActions, tcgetattr, tcsetattr},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, unix::AsyncFd},
    task::JoinHandle,
};

use super::{
    device::TestDevice,
    folder,
    gateway::{Gateway, expected},
};
use crate::{
    config::SerialConfig,
    device::{
        ports::{InUse, Roots},
        serial,
    },
};

/// The board's side of a pseudo-terminal, reachable by a stable link.
struct Board {
    line: DuplexStream,
    pump: JoinHandle<()>,
    port: std::path::PathBuf,
}

impl Board {
    fn plug(link: &Path) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a pseudo-terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let port = Path::new(name.to_str().expect("UTF-8")).to_owned();
        rustix::fs::fcntl_setfl(&master, OFlags::NONBLOCK).expect("set");
        let _ = std::fs::remove_file(link);
        symlink(&port, link).expect("linked");
        let (line, far) = tokio::io::duplex(4096);
        #[expect(deprecated, reason = "its successor is unsafe, which the lints forbid")]
        let master = AsyncFd::new(master).expect("registered");
        Self { line, pump: tokio::spawn(pump(master, far)), port }
    }

    async fn unplug(self, link: &Path) {
        std::fs::remove_file(link).expect("removed");
        self.pump.abort();
        // Ends with the file closed.
        let _ = self.pump.await;
    }
}

async fn pump(master: AsyncFd<OwnedFd>, far: DuplexStream) {
    let (mut from_test, mut to_test) = tokio::io::split(far);
    let mut up = [0; 512];
    let mut down = [0; 512];
    loop {
        tokio::select! {
            guard = master.readable() => {
                let mut guard = guard.expect("readable");
                match guard.try_io(|fd| Ok(rustix::io::read(fd, &mut up)?)) {
                    Ok(Ok(len)) => to_test.write_all(&up[..len]).await.expect("taken"),
                    // EIO: nobody has the other side open.
                    Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(2)).await,
                    Err(_would_block) => {}
                }
            }
            read = from_test.read(&mut down) => {
                let mut rest = &down[..read.expect("readable")];
                while !rest.is_empty() {
                    let mut guard = master.writable().await.expect("writable");
                    let written: Result<io::Result<usize>, _> =
                        guard.try_io(|fd| Ok(rustix::io::write(fd, rest)?));
                    if let Ok(Ok(len)) = written {
                        rest = &rest[len..];
                    }
                }
            }
        }
    }
}

fn supervise(gateway: &Gateway, config: SerialConfig, in_use: &InUse) -> JoinHandle<()> {
    let (hub, shutdown) = (gateway.hub.clone(), gateway.shutdown.clone());
    tokio::spawn(serial::supervise(config, Roots::default(), in_use.clone(), hub, shutdown))
}

fn matching(folder: &Path, pattern: &str) -> SerialConfig {
    let ports = folder.join(pattern).display().to_string();
    toml::from_str(&format!("ports = '{ports}'")).expect("legal")
}

#[tokio::test]
async fn boards_are_found_under_whatever_name_and_served_once() {
    let folder = folder();
    let gateway = Gateway::open(folder.path()).await;
    let in_use = InUse::default();
    // Both tables mean the same boards.
    let ports = [
        supervise(&gateway, matching(folder.path(), "ttyACM*"), &in_use),
        supervise(&gateway, matching(folder.path(), "tty*"), &in_use),
    ];
    let mut devices = [TestDevice::default(), TestDevice::new("d-2")];
    for names in [["ttyACM0", "ttyACM1"], ["ttyACM5", "ttyACM0"]] {
        for ((device, name), id) in devices.iter_mut().zip(names).zip(["d-1", "d-2"]) {
            let link = folder.path().join(name);
            let mut board = Board::plug(&link);
            device.reconnected();
            device.sample(10);
            assert!(device.run(&mut board.line, TestDevice::is_empty).await);
            let transport = format!("serial {}", link.display());
            gateway.wait_status(id, |status| status.transport == transport).await;
            board.unplug(&link).await;
            gateway.wait_status(id, |status| !status.connected).await;
        }
    }
    for device in &devices {
        assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
    }
    gateway.shutdown.request();
    for ports in ports {
        ports.await.expect("no panic");
    }
    gateway.kill().await;
}

/// As pyserial with `exclusive=True` does it: nothing but a lock keeps root out.
#[tokio::test]
async fn a_port_that_another_has_locked_is_left_as_it_is() {
    let folder = folder();
    let link = folder.path().join("port");
    let board = Board::plug(&link);
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let theirs = rustix::fs::open(&board.port, flags, Mode::empty()).expect("opens");
    let mut settings = tcgetattr(&theirs).expect("a terminal");
    settings.control_modes.insert(ControlModes::HUPCL);
    tcsetattr(&theirs, OptionalActions::Now, &settings).expect("set");
    flock(&theirs, FlockOperation::NonBlockingLockExclusive).expect("locked");
    let refused = serial::open(&link, 9600).expect_err("locked");
    assert!(serial::is_busy(&refused), "{refused}");
    let settings = tcgetattr(&theirs).expect("a terminal");
    assert!(settings.control_modes.contains(ControlModes::HUPCL), "settings of another");
    drop(theirs);
    drop(serial::open(&link, 9600).expect("free"));
    board.unplug(&link).await;
}

#[tokio::test]
async fn a_board_that_is_unplugged_comes_back() {
    let folder = folder();
    let gateway = Gateway::open(folder.path()).await;
    let link = folder.path().join("port");
    // The port is not there yet.
    let ports = supervise(&gateway, SerialConfig::at(&link, 115_200), &InUse::default());
    let mut device = TestDevice::default();
    for round in 0..3 {
        let mut board = Board::plug(&link);
        device.reconnected();
        for _ in 0..10 {
            device.sample(10);
        }
        let left = if round == 2 { 0 } else { 4 };
        assert!(device.run(&mut board.line, |device| device.queue.len() <= left).await);
        board.unplug(&link).await;
        gateway.wait_status("d-1", |status| !status.connected).await;
    }
    assert_eq!(gateway.readings(device.stream()).await, expected(&device.ledger));
    gateway.shutdown.request();
    ports.await.expect("no panic");
    gateway.kill().await;
}

#[tokio::test]
async fn a_port_is_ours_alone_and_keeps_dtr_when_closed() {
    let folder = folder();
    let link = folder.path().join("port");
    let board = Board::plug(&link);
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    {
        let port = rustix::fs::open(&board.port, flags, Mode::empty()).expect("opens");
        let mut settings = tcgetattr(&port).expect("a terminal");
        settings.control_modes.insert(ControlModes::HUPCL);
        tcsetattr(&port, OptionalActions::Now, &settings).expect("set");
    }
    let port = serial::open(&link, 9600).expect("opens");
    let second = serial::open(&link, 9600).expect_err("a second open would steal bytes");
    assert!(serial::is_busy(&second), "{second}");
    drop(port);
    let again = rustix::fs::open(&board.port, flags, Mode::empty()).expect("opens");
    let settings = tcgetattr(&again).expect("a terminal");
    assert!(!settings.control_modes.contains(ControlModes::HUPCL));
    board.unplug(&link).await;
}
