//! What a device keeps in RAM, as variables of an image: the length of each symbol is the size of a type on a Cortex-M0.

#![no_std]
#![no_main]

use core::{hint::black_box, panic::PanicInfo};

use headwater_firmware::{
    Node,
    protocol::{DeviceLink, item::BlockBuilder},
};

/// Only linked where something calls it.
#[panic_handler]
fn stop(_: &PanicInfo<'_>) -> ! {
    loop {}
}

#[expect(unsafe_code, reason = "the linker keeps what is reached from a symbol of this name")]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    black_box((&DEVICE_LINK, &BLOCK_BUILDER, &NODE_BESIDE_BUFFERS));
    loop {}
}

/// Announced buffers of the node that is measured: bytes of rows, bytes of items and their number.
const ROWS: usize = 40;
const BYTES: usize = 1024;
const ITEMS: usize = 16;
/// What an item takes beside its bytes.
const ITEM: usize = 12;

type OneChannel = Node<1, ROWS, BYTES, ITEMS, 0>;

static DEVICE_LINK: [u8; size_of::<DeviceLink>()] = [0; _];
static BLOCK_BUILDER: [u8; size_of::<BlockBuilder<ROWS, 1>>() - ROWS] = [0; _];
static NODE_BESIDE_BUFFERS: [u8; size_of::<OneChannel>() - ROWS - BYTES - ITEMS * ITEM] = [0; _];
