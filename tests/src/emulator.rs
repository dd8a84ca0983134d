//! The board `lm3s6965evb` in QEMU: its image, its EEPROM file, its ledger file, and QMP to play its world.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use headwater_sim::ledger::DeviceLedger;
use serde_json::json;

use crate::{environment, qemu::Machine, workbench::Emulated};

/// The device id that the image makes of [`MAC`].
pub const DEVICE: &str = "lm3s6965evb-525400484557";

const MAC: &str = "52:54:00:48:45:57";
const EEPROM_BYTES: usize = 8192;

/// A board on the desk: it keeps EEPROM and ledger while it is switched off.
#[derive(Debug)]
pub struct Board {
    folder: PathBuf,
    link: PathBuf,
    running: Option<Machine>,
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
        let mut command = Command::new("qemu-system-arm");
        command
            .args(["-machine", "lm3s6965evb", "-nodefaults", "-display", "none"])
            .args(["-net", &format!("nic,macaddr={MAC}")])
            .args(["-chardev", &format!("socket,id=link,path={}", self.link.display())])
            .args(["-chardev", &format!("file,id=ledger,append=on,path={}", self.file("ledger"))])
            .args(["-serial", "chardev:link", "-serial", "chardev:ledger"])
            .args(["-device", "tmp105,id=sensor,address=0x48,bus=i2c"])
            .args(["-device", "at24c-eeprom,address=0x50,bus=i2c,rom-size=8192,drive=eeprom"])
            .args(["-drive", &format!("if=none,id=eeprom,format=raw,file={}", self.file("eeprom"))])
            .arg("-kernel")
            .arg(environment::board_elf("lm3s6965evb"));
        self.running = Some(Machine::start(command, &self.folder));
    }

    /// Takes the power away: SIGKILL.
    pub fn switch_off(&mut self) {
        self.running = None;
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
        self.machine().execute("qom-set", &arguments);
    }

    /// The reset button.
    ///
    /// # Panics
    /// If the board is off.
    pub fn reset(&mut self) {
        self.machine().execute("system_reset", &json!({}));
    }

    /// Stops the processor's clock, so that the ledger no longer grows.
    ///
    /// # Panics
    /// If the board is off.
    pub fn freeze(&mut self) {
        self.machine().execute("stop", &json!({}));
    }

    /// What the board says of itself so far.
    #[must_use]
    pub fn ledger(&self) -> DeviceLedger {
        // Before the first line there is no file, which is an empty ledger.
        DeviceLedger::read(DEVICE, Path::new(&self.file("ledger"))).unwrap_or_default()
    }

    fn machine(&mut self) -> &mut Machine {
        self.running.as_mut().expect("the board is on")
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

impl Emulated for Board {
    fn start(folder: &Path, link: &Path) -> Self {
        Self::start(folder, link)
    }

    fn ledger(&self) -> DeviceLedger {
        self.ledger()
    }

    fn freeze(&mut self) {
        self.freeze();
    }
}
