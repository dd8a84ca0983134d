//! The board `lm3s6965evb` in QEMU: its image, its EEPROM file, its ledger file, and QMP to play its world.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use headwater_sim::ledger::DeviceLedger;
use serde_json::{Value, json};

use crate::{environment, process::Process, wait};

/// The device id that the image makes of [`MAC`].
pub const DEVICE: &str = "lm3s6965evb-525400484557";

const MAC: &str = "52:54:00:48:45:57";
const EEPROM_BYTES: usize = 8192;
const START: Duration = Duration::from_secs(60);
/// QMP answers at once unless the machine is very busy.
const ANSWER: Duration = Duration::from_secs(60);

/// A board on the desk: it keeps EEPROM and ledger while it is switched off.
#[derive(Debug)]
pub struct Board {
    folder: PathBuf,
    link: PathBuf,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    monitor: Monitor,
}

impl Board {
    /// A board with erased EEPROM, switched on; UART0 connects to the Unix socket `link`.
    ///
    /// # Panics
    /// If QEMU does not start.
    #[must_use]
    pub fn start(folder: &Path, link: &Path) -> Self {
        let mut board = Self { folder: folder.into(), link: link.into(), running: None };
        board.erase_eeprom();
        board.switch_on();
        board
    }

    /// Starts QEMU.
    ///
    /// # Panics
    /// If it does not start, or runs already.
    pub fn switch_on(&mut self) {
        assert!(self.running.is_none(), "the board is on");
        let socket = self.folder.join("qmp.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("a socket in the test's folder");
        let mut command = Command::new("qemu-system-arm");
        command
            .args(["-machine", "lm3s6965evb", "-nodefaults", "-display", "none"])
            .args(["-net", &format!("nic,macaddr={MAC}")])
            .args(["-chardev", &format!("socket,id=link,path={}", self.link.display())])
            .args(["-chardev", &format!("file,id=ledger,append=on,path={}", self.file("ledger"))])
            .args(["-serial", "chardev:link", "-serial", "chardev:ledger"])
            .args(["-qmp", &format!("unix:{}", socket.display())])
            .args(["-device", "tmp105,id=sensor,address=0x48,bus=i2c"])
            .args(["-device", "at24c-eeprom,address=0x50,bus=i2c,rom-size=8192,drive=eeprom"])
            .args(["-drive", &format!("if=none,id=eeprom,format=raw,file={}", self.file("eeprom"))])
            .arg("-kernel")
            .arg(environment::board_elf());
        let mut process = Process::start("qemu", &mut command, &self.folder.join("qemu.log"));
        listener.set_nonblocking(true).expect("a socket can be made so");
        let stream = wait::until("QEMU's monitor", START, || {
            assert!(process.is_running(), "QEMU ended: {}", process.output());
            listener.accept().ok().map(|(stream, _)| stream)
        });
        self.running = Some(Running { process, monitor: Monitor::new(stream) });
    }

    /// Takes the power away: SIGKILL.
    pub fn switch_off(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.process.kill();
        }
    }

    /// Another board's EEPROM, or one fresh from the factory.
    ///
    /// # Panics
    /// If the board is on.
    pub fn erase_eeprom(&mut self) {
        assert!(self.running.is_none(), "the board is on");
        fs::write(self.file("eeprom"), [0xFF; EEPROM_BYTES])
            .expect("the test's folder is writable");
    }

    /// What the sensor measures from now on; the sensor's steps are 62.5 millidegrees.
    ///
    /// # Panics
    /// If the board is off.
    pub fn set_temperature(&mut self, millidegrees: i64) {
        let arguments = json!({
            "path": "/machine/peripheral/sensor", "property": "temperature", "value": millidegrees
        });
        self.monitor().execute("qom-set", &arguments);
    }

    /// The reset button.
    ///
    /// # Panics
    /// If the board is off.
    pub fn reset(&mut self) {
        self.monitor().execute("system_reset", &json!({}));
    }

    /// Stops the processor's clock, so that the ledger no longer grows.
    ///
    /// # Panics
    /// If the board is off.
    pub fn freeze(&mut self) {
        self.monitor().execute("stop", &json!({}));
    }

    /// What the board says of itself so far.
    #[must_use]
    pub fn ledger(&self) -> DeviceLedger {
        // Before the first line there is no file, which is an empty ledger.
        DeviceLedger::read(DEVICE, Path::new(&self.file("ledger"))).unwrap_or_default()
    }

    fn monitor(&mut self) -> &mut Monitor {
        &mut self.running.as_mut().expect("the board is on").monitor
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// QEMU's control channel: JSON lines.
#[derive(Debug)]
struct Monitor {
    out: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Monitor {
    fn new(stream: UnixStream) -> Self {
        stream.set_nonblocking(false).expect("a socket can be made so");
        stream.set_read_timeout(Some(ANSWER)).expect("not zero");
        let lines = BufReader::new(stream.try_clone().expect("a descriptor is free"));
        let mut monitor = Self { out: stream, lines };
        let greeting = monitor.line();
        assert!(greeting.get("QMP").is_some(), "QEMU greets with {greeting}");
        monitor.execute("qmp_capabilities", &json!({}));
        monitor
    }

    fn execute(&mut self, command: &str, arguments: &Value) {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.out, "{request}").unwrap_or_else(|error| panic!("QEMU is gone: {error}"));
        let answer = loop {
            let line = self.line();
            if line.get("event").is_none() {
                break line;
            }
        };
        assert!(answer.get("return").is_some(), "{command} {arguments}: {answer}");
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line);
        read.unwrap_or_else(|error| panic!("QEMU does not answer: {error}"));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("QEMU said {line:?}: {error}"))
    }
}
