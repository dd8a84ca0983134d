//! The test ledger (`tests/LEDGER.md`): what this board did, out of the gateway's sight, as lines in a ring of RAM.
//!
//! The chip has one UART, and that is the link's. Whoever wants the ledger reads the ring while the program runs: a debug
//! probe on a board, QEMU's monitor in a test. The ring is at the end of RAM (memory.x), all numbers little endian:
//! magic u32, bytes ever written u32 (wrapping), then [`BYTES`] bytes, byte number n at n modulo [`BYTES`]. A byte is there
//! before it is counted, so that a reader who takes the count first never reads one too many. Nobody waits for readers:
//! one that is more than a ring behind has missed something, and can tell by the count.
#![expect(unsafe_code, reason = "somebody outside of the program reads these bytes")]

use core::{
    fmt::{self, Write},
    mem::MaybeUninit,
    ptr,
};

use headwater_firmware::{Event, TORN_LINE_END, protocol::item::MISSING};

/// The ledger's writer; the only one.
pub struct Ledger {
    written: u32,
}

impl Ledger {
    /// Continues the ledger behind the line that a reset may have torn, or begins one where RAM holds none.
    pub fn take() -> Self {
        // SAFETY: as in `put`; any bit pattern is a u32.
        let (magic, written) = unsafe {
            (
                ptr::read_volatile((&raw const RING.magic).cast::<u32>()),
                ptr::read_volatile((&raw const RING.written).cast::<u32>()),
            )
        };
        let mut ledger = Self { written: if magic == MAGIC { written } else { 0 } };
        ledger.count();
        // SAFETY: as in `put`.
        unsafe { ptr::write_volatile((&raw mut RING.magic).cast(), MAGIC) };
        ledger.text(format_args!("{TORN_LINE_END}"));
        ledger
    }

    /// A reading, before anything else happens to it.
    pub fn reading(&mut self, boot: u32, seq: u64, codes: &[i32]) {
        self.text(format_args!("R {boot} {seq}"));
        for code in codes {
            match *code {
                MISSING => self.text(format_args!(" -")),
                code => self.text(format_args!(" {code}")),
            }
        }
        self.text(format_args!("\n"));
    }

    /// An event of the node.
    pub fn event(&mut self, event: Event) {
        self.text(format_args!("{event}\n"));
    }

    fn text(&mut self, text: fmt::Arguments<'_>) {
        // The ring takes everything.
        let _ = self.write_fmt(text);
    }

    fn put(&mut self, byte: u8) {
        let place = self.written as usize % BYTES;
        // SAFETY: the static is of this module, and only a `Ledger` touches it, of which there is one. The remainder
        // keeps the place within the array. Volatile, because of readers outside of the program.
        unsafe { ptr::write_volatile((&raw mut RING.bytes).cast::<u8>().add(place), byte) };
        self.written = self.written.wrapping_add(1);
        self.count();
    }

    fn count(&mut self) {
        // SAFETY: as in `put`.
        unsafe { ptr::write_volatile((&raw mut RING.written).cast(), self.written) };
    }
}

impl Write for Ledger {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.put(byte));
        Ok(())
    }
}

#[repr(C)]
struct Ring {
    magic: MaybeUninit<u32>,
    written: MaybeUninit<u32>,
    bytes: MaybeUninit<[u8; BYTES]>,
}

// SAFETY: `.ledger` is a section of memory.x, in RAM, not initialised at start.
#[unsafe(link_section = ".ledger")]
static mut RING: Ring = Ring {
    magic: MaybeUninit::uninit(),
    written: MaybeUninit::uninit(),
    bytes: MaybeUninit::uninit(),
};

/// Some seven seconds of readings, blocks and acknowledgements. A power of two, so that the count may wrap.
const BYTES: usize = 2048;
/// `HWlg`, little endian.
const MAGIC: u32 = 0x676C_5748;
