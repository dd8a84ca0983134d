//! `board list`: one line a board.

use anyhow::Result;

use super::{
    emulate,
    package::{self, Package, Way},
};

/// Prints the boards.
pub(super) fn run() -> Result<()> {
    println!("{:<12} {:<13} {:<28} {:<14} flashed by", "board", "chip", "target", "QEMU runs it");
    for package in package::all()? {
        let emulated = if emulate::is_emulated(&package.name) { "yes" } else { "no" };
        let Package { name, chip, target, .. } = &package;
        println!("{name:<12} {chip:<13} {target:<28} {emulated:<14} {}", ways(&package));
    }
    Ok(())
}

/// The ways to flash a board, the handiest first.
fn ways(package: &Package) -> String {
    let ways: Vec<&str> = package.ways().map(Way::name).collect();
    if ways.is_empty() { "-".into() } else { ways.join(", ") }
}
