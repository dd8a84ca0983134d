//! `cargo xtask board`: the packages below `firmware/boards/`, each a workspace of its own.

mod footprint;
mod image;
mod package;
mod toolchain;

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};
use image::Image;
use package::Package;

use crate::workspace;

/// What can be done with a board.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Board {
    /// Name the boards
    List,
    /// Build a board's image and print where it is
    #[command(after_help = "Example:\n  cargo xtask board build lm3s6965evb")]
    Build {
        /// Folder below firmware/boards
        name: String,
    },
    /// Flash and RAM of every board and of link and node alone, by section; fails if the link can panic or a bar is passed
    Size,
    /// Run a board in QEMU until it is interrupted: its link goes to a gateway, its ledger to the terminal
    #[command(after_help = "Example:\n  headwater serve &\n  cargo xtask board run lm3s6965evb")]
    Run {
        /// A board that QEMU emulates
        name: String,
        /// Device address of the gateway
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7411")]
        connect: String,
    },
}

/// Runs one of the commands.
pub(crate) fn run(board: &Board) -> Result<()> {
    match board {
        Board::List => list(),
        Board::Build { name } => {
            println!("{}", build(name)?.display());
            Ok(())
        }
        Board::Size => size(),
        Board::Run { name, connect } => emulate(name, connect),
    }
}

/// Builds the board's image; returns the path of its ELF file.
pub(crate) fn build(name: &str) -> Result<PathBuf> {
    let package = Package::open(name)?;
    Ok(toolchain::build(&package, &[&package.name])?.remove(0))
}

/// The formatting check of every board and of the link's images: `cargo fmt --all` in the root does not reach them.
pub(crate) fn format_checks() -> Result<Vec<Command>> {
    let check = |package: &Package| {
        let mut command = workspace::cargo(&["fmt", "--check", "--manifest-path"]);
        command.arg(package.folder.join("Cargo.toml"));
        command
    };
    Ok(package::all()?.iter().chain([&footprint::package()?]).map(check).collect())
}

/// Builds every board and prints what its image takes; so for link and node, which have bars.
pub(crate) fn size() -> Result<()> {
    for package in package::all()? {
        let image = Image::read(&build(&package.name)?)?;
        println!("{} ({})\n{image}", package.name, package.target);
    }
    footprint::check()
}

fn list() -> Result<()> {
    for package in package::all()? {
        println!("{:<16} {:<24} {}", package.name, package.target, package.description);
    }
    Ok(())
}

fn emulate(name: &str, connect: &str) -> Result<()> {
    if name != EMULATED {
        bail!("QEMU emulates {EMULATED} only");
    }
    let Some((host, port)) = connect.rsplit_once(':') else {
        bail!("{connect} is not HOST:PORT");
    };
    let elf = build(name)?;
    let eeprom = elf.with_extension("eeprom");
    if !eeprom.exists() {
        std::fs::write(&eeprom, [0xFF; EEPROM_BYTES])?;
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
