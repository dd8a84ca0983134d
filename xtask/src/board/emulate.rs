//! The board that QEMU emulates: what it is started with.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

/// Whether QEMU has a machine for the board.
pub(super) fn is_emulated(name: &str) -> bool {
    name == EMULATED
}

/// Builds the board's image and runs it until it is interrupted.
pub(super) fn run(name: &str, connect: &str) -> Result<()> {
    if !is_emulated(name) {
        bail!("QEMU emulates {EMULATED} only");
    }
    let Some((host, port)) = connect.rsplit_once(':') else {
        bail!("{connect} is not HOST:PORT");
    };
    let elf = super::build(name)?;
    let eeprom = elf.with_extension("eeprom");
    if !eeprom.exists() {
        fs::write(&eeprom, [0xFF; EEPROM_BYTES])?;
    }
    println!("link to {connect}, memory in {}; end with ctrl-C", eeprom.display());
    let status = Command::new("qemu-system-arm")
        .args(["-machine", EMULATED, "-nodefaults", "-display", "none"])
        .args(["-net", "nic,macaddr=52:54:00:12:34:56"])
        .arg("-chardev")
        .arg(format!("socket,id=link,host={host},port={port},reconnect=1"))
        .args(["-serial", "chardev:link", "-serial", "stdio"])
        .args(["-device", "tmp105,id=sensor,address=0x48,bus=i2c"])
        .args(["-device", "at24c-eeprom,address=0x50,bus=i2c,rom-size=8192,drive=eeprom"])
        .arg("-drive")
        .arg(format!("if=none,id=eeprom,format=raw,file={}", eeprom.display()))
        .arg("-kernel")
        .arg(&elf)
        .stdin(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("QEMU ended with {status}");
    }
    Ok(())
}

/// The board with an emulator: QEMU 7.2 has its sensor and its EEPROM too.
const EMULATED: &str = "lm3s6965evb";
/// The EEPROM on its I2C bus.
const EEPROM_BYTES: usize = 8192;
