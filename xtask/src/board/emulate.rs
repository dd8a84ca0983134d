//! Boards that QEMU emulates: what it is started with.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

/// One machine of QEMU's.
struct Machine {
    /// Of the board and of the machine.
    name: &'static str,
    /// What else is on the board, and what to say about it; `link` is the chardev of the board's port.
    equip: fn(&mut Command, &Path) -> Result<String>,
}

const MACHINES: [Machine; 2] = [
    Machine { name: "lm3s6965evb", equip: equip_lm3s6965evb },
    Machine { name: "microbit", equip: equip_microbit },
];

/// Whether QEMU has a machine for the board.
pub(super) fn is_emulated(name: &str) -> bool {
    MACHINES.iter().any(|machine| machine.name == name)
}

/// Builds a board's image and runs it until it is interrupted.
pub(super) fn run(name: &str, connect: &str) -> Result<()> {
    let Some(machine) = MACHINES.iter().find(|machine| machine.name == name) else {
        let names: Vec<&str> = MACHINES.iter().map(|machine| machine.name).collect();
        bail!("QEMU emulates {} only", names.join(" and "));
    };
    let Some((host, port)) = connect.rsplit_once(':') else {
        bail!("{connect} is not HOST:PORT");
    };
    let elf = super::build(name)?;
    let mut command = Command::new("qemu-system-arm");
    command
        .args(["-machine", machine.name, "-nodefaults", "-display", "none"])
        .arg("-chardev")
        .arg(format!("socket,id=link,host={host},port={port},reconnect=1"))
        .args(["-serial", "chardev:link"])
        .arg("-kernel")
        .arg(&elf)
        .stdin(Stdio::null());
    let about = (machine.equip)(&mut command, &elf)?;
    println!("link to {connect}, {about}; end with ctrl-C");
    let status = command.status()?;
    if !status.success() {
        bail!("QEMU ended with {status}");
    }
    Ok(())
}

/// A tmp105, and an EEPROM that outlives the run.
fn equip_lm3s6965evb(command: &mut Command, elf: &Path) -> Result<String> {
    let eeprom = elf.with_extension("eeprom");
    if !eeprom.exists() {
        fs::write(&eeprom, [0xFF; EEPROM_BYTES])?;
    }
    command
        .args(["-net", "nic,macaddr=52:54:00:12:34:56", "-serial", "stdio"])
        .args(["-device", "tmp105,id=sensor,address=0x48,bus=i2c"])
        .args(["-device", "at24c-eeprom,address=0x50,bus=i2c,rom-size=8192,drive=eeprom"])
        .arg("-drive")
        .arg(format!("if=none,id=eeprom,format=raw,file={}", eeprom.display()));
    Ok(format!("memory in {}", eeprom.display()))
}

/// Nothing: its flash controller works, but QEMU forgets the flash.
fn equip_microbit(_: &mut Command, _: &Path) -> Result<String> {
    Ok("memory lasts over resets, not over the end of QEMU".into())
}

/// The EEPROM on the I2C bus of lm3s6965evb.
const EEPROM_BYTES: usize = 8192;
