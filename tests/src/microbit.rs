//! The board `microbit` in QEMU: its image, its flash, and the ledger in its RAM.
//!
//! QEMU emulates the flash controller but keeps nothing of the flash when it ends. A power cut therefore stops the
//! processor between two instructions, takes the pages of the memory out, and kills QEMU; the next start puts them back. A
//! *reset* within one process would put them back once more, so there is no reset button here: a board that resets itself
//! because of a panic would be seen using a boot twice.

use std::{
    fmt::Debug,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::Duration,
};

use headwater_sim::{compare::Channel, ledger::DeviceLedger};
use serde_json::json;

use crate::{environment, qemu::Machine, workbench::Emulated};

/// The device id that the image makes of the number that QEMU gives each chip.
pub const DEVICE: &str = "microbit-1234567800000003";

/// The pages of the memory: firmware/boards/microbit/src/flash.rs.
const MEMORY: u32 = 0x3_F000;
const MEMORY_BYTES: usize = 4_096;

/// The ledger: firmware/boards/microbit/src/ledger.rs.
const RING: u32 = 0x2000_37F0;
const RING_HEAD: usize = 8;
const RING_BYTES: usize = 2_048;
const RING_MAGIC: u32 = 0x676C_5748;
/// What the board may write while the ring is being read.
const RING_MARGIN: usize = 256;
/// Between looks at the ring, which holds seven seconds.
const LOOKS: Duration = Duration::from_millis(100);

/// Channels of the board, in schema order.
#[must_use]
pub fn channels() -> Vec<Channel> {
    vec![
        Channel { name: "counter".into(), mantissa: 1, exponent: 0 },
        Channel { name: "acceleration".into(), mantissa: 1, exponent: -3 },
    ]
}

/// A board on the desk: it keeps flash and ledger while it is switched off.
#[derive(Debug)]
pub struct Microbit {
    folder: PathBuf,
    link: PathBuf,
    powered: Arc<Mutex<Option<Powered>>>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Powered {
    machine: Machine,
    folder: PathBuf,
    /// Bytes of the ring that are in the ledger's file.
    read: u32,
}

impl Emulated for Microbit {
    fn start(folder: &Path, link: &Path) -> Self {
        let mut board = Self {
            folder: folder.into(),
            link: link.into(),
            powered: Arc::default(),
            reader: None,
        };
        fs::write(folder.join("flash"), [0xFF; MEMORY_BYTES]).expect("the folder is writable");
        board.switch_on();
        board
    }

    fn ledger(&self) -> DeviceLedger {
        // Before the first line there is no file, which is an empty ledger.
        DeviceLedger::read(DEVICE, &self.folder.join("ledger")).unwrap_or_default()
    }

    fn freeze(&mut self) {
        self.lock().as_mut().expect("the board is on").freeze();
    }
}

impl Microbit {
    /// Starts QEMU, with the memory as it was.
    ///
    /// # Panics
    /// If it does not start, or runs already.
    pub fn switch_on(&mut self) {
        assert!(self.lock().is_none(), "the board is on");
        let flash = self.folder.join("flash");
        let mut command = Command::new("qemu-system-arm");
        command
            // Stopped before the first instruction, so that a cut may come at any of them.
            .args(["-machine", "microbit", "-nodefaults", "-display", "none", "-S"])
            .args(["-chardev", &format!("socket,id=link,path={}", self.link.display())])
            .args(["-serial", "chardev:link"])
            .arg("-device")
            .arg(format!("loader,file={},addr={MEMORY:#x},force-raw=on", flash.display()))
            .arg("-kernel")
            .arg(environment::board_elf("microbit"));
        let mut machine = Machine::start(command, &self.folder);
        machine.execute("cont", &json!({}));
        *self.lock() = Some(Powered { machine, folder: self.folder.clone(), read: 0 });
        let powered = self.powered.clone();
        self.reader = Some(thread::spawn(move || {
            while lock(&powered).as_mut().map(Powered::read_ledger).is_some() {
                thread::sleep(LOOKS);
            }
        }));
    }

    /// Takes the power away, between two instructions.
    ///
    /// # Panics
    /// If the board is off.
    pub fn cut_power(&mut self) {
        let mut powered = self.lock().take().expect("the board is on");
        powered.freeze();
        powered.save(MEMORY, MEMORY_BYTES, "flash");
        drop(powered);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the ledger's reader is well");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Powered>> {
        lock(&self.powered)
    }
}

fn lock<T: Debug>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("the ledger's reader is well")
}

impl Powered {
    /// Stops the processor; the ledger is complete up to there.
    fn freeze(&mut self) {
        self.machine.execute("stop", &json!({}));
        self.read_ledger();
    }

    /// Appends what the board has written since the last look to the ledger's file.
    fn read_ledger(&mut self) {
        let bytes = self.save(RING, RING_HEAD + RING_BYTES, "ring");
        let (head, ring) = bytes.split_at(RING_HEAD);
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        if word(0) != RING_MAGIC {
            // The program has not come that far.
            return;
        }
        let fresh = word(4).wrapping_sub(self.read) as usize;
        assert!(fresh <= RING_BYTES - RING_MARGIN, "the ledger's reader is {fresh} bytes behind");
        let place = |number: usize| (self.read as usize).wrapping_add(number) % RING_BYTES;
        let text: Vec<u8> = (0..fresh).map(|number| ring[place(number)]).collect();
        let file = File::options().create(true).append(true).open(self.folder.join("ledger"));
        let written = file.and_then(|mut file| file.write_all(&text));
        written.expect("the test's folder is writable");
        self.read = word(4);
    }

    /// Takes a piece of the board's memory, as its processor sees it, into a file of the test's folder.
    fn save(&mut self, address: u32, bytes: usize, name: &str) -> Vec<u8> {
        let path = self.folder.join(name);
        // Without the processor it is the machine's memory, in which this chip's is not.
        let arguments = json!({
            "val": address, "size": bytes, "filename": path.display().to_string(), "cpu-index": 0
        });
        self.machine.execute("memsave", &arguments);
        let saved = fs::read(&path).expect("QEMU wrote it");
        assert_eq!(saved.len(), bytes, "{name}");
        saved
    }
}

impl Drop for Microbit {
    fn drop(&mut self) {
        // Ends the reader; its panic, if any, has been printed.
        if let Ok(mut powered) = self.powered.lock() {
            *powered = None;
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
